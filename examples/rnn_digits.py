"""A recurrent net reads a handwritten digit row by row: eight rows of eight pixels through a StaticRNN."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

import fluidc.frontend as fluid

images, labels = map(np.asarray, load_digits(return_X_y=True))
# Time first, as StaticRNN reads it: [8 rows, n, 8 pixels].
x = (images / 16.0).astype("float32").reshape(-1, 8, 8)
y = labels.astype("int64").reshape(-1, 1)
order = np.random.default_rng(0).permutation(len(x))
x, y = x[order], y[order]
split = 1437

fluid.default_startup_program().random_seed = 1
image = fluid.layers.data("image", shape=[8, 8], dtype="float32")
label = fluid.layers.data("label", shape=[1], dtype="int64")
rows = fluid.layers.transpose(image, perm=[1, 0, 2])
rnn = fluid.layers.StaticRNN()
with rnn.step():
    row = rnn.step_input(rows)
    previous = rnn.memory(shape=[-1, 48], batch_ref=row)
    hidden = fluid.layers.fc([row, previous], size=48, act="tanh")
    rnn.update_memory(previous, hidden)
    rnn.step_output(hidden)
states = rnn()
assert isinstance(states, fluid.Variable)  # a list where several outputs are stacked
last = fluid.layers.slice(states, axes=[0], starts=[7], ends=[8])
logits = fluid.layers.fc(fluid.layers.reshape(last, [-1, 48]), size=10)
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
accuracy = fluid.layers.accuracy(fluid.layers.softmax(logits), label)
test_program = fluid.default_main_program().clone(for_test=True)
fluid.optimizer.Adam(learning_rate=0.01).minimize(loss)

exe = fluid.Executor(fluid.CPUPlace())
exe.run(fluid.default_startup_program())
for epoch in range(12):
    losses = []
    for start in range(0, split - 95, 96):
        feed = {"image": x[start : start + 96], "label": y[start : start + 96]}
        losses.append(exe.run(feed=feed, fetch_list=[loss]))
    if epoch % 4 == 0:
        print(f"epoch {epoch:2d}  loss {np.mean(losses):.3f}")
(test_accuracy,) = exe.run(test_program, feed={"image": x[split:], "label": y[split:]}, fetch_list=[accuracy])
print(f"test accuracy {test_accuracy[0]:.3f}")
