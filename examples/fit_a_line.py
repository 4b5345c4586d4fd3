"""Linear regression on scikit-learn's diabetes data (442 patients, 10 features, disease progression)."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

import fluidc.frontend as fluid

features, target = map(np.asarray, load_diabetes(return_X_y=True))
x = (features / features.std(axis=0)).astype("float32")
y = ((target - target.mean()) / target.std()).astype("float32").reshape(-1, 1)
split = 354
train, test = (x[:split], y[:split]), (x[split:], y[split:])

features_in = fluid.layers.data("x", shape=[10], dtype="float32")
target_in = fluid.layers.data("y", shape=[1], dtype="float32")
prediction = fluid.layers.fc(features_in, size=1)
cost = fluid.layers.square_error_cost(input=prediction, label=target_in)
loss = fluid.layers.mean(cost)
test_program = fluid.default_main_program().clone(for_test=True)
fluid.optimizer.SGD(learning_rate=0.02).minimize(loss)

place = fluid.CPUPlace()
exe = fluid.Executor(place)
exe.run(fluid.default_startup_program())
feeder = fluid.DataFeeder([features_in, target_in], place)
reader = fluid.io.batch(fluid.io.shuffle(lambda: zip(*train, strict=True), buf_size=split), batch_size=59)
for epoch in range(60):
    losses = [exe.run(feed=feeder.feed(rows), fetch_list=[loss]) for rows in reader()]
    if epoch % 20 == 0:
        print(f"epoch {epoch:2d}  loss {np.mean(losses):.3f}")

(test_loss,) = exe.run(test_program, feed={"x": test[0], "y": test[1]}, fetch_list=[loss.name])
print(f"test loss {test_loss[0]:.3f} (the mean predicts with {np.var(test[1]):.3f})")
