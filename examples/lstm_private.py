"""An LSTM reads a handwritten digit row by row, under Dpsgd: eight rows of eight pixels through a StaticRNN.

The cell's weights are read at every step of every example; no gradient of a single example is ever stored.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fluidc.frontend as fluid

TRAIN_SIZE = 1437  # 80 % of 1797; stated to Dpsgd as a public number
UNITS = 48

images, labels = map(np.asarray, load_digits(return_X_y=True))
x = (images / 16.0).astype("float32").reshape(-1, 8, 8)  # the range 0..16 is public
y = labels.astype("int64").reshape(-1, 1)
parts = train_test_split(x, y, train_size=TRAIN_SIZE, random_state=0, stratify=y)
x_train, x_test, y_train, y_test = map(np.asarray, parts)

fluid.default_startup_program().random_seed = 1
image = fluid.layers.data("image", shape=[8, 8], dtype="float32")
label = fluid.layers.data("label", shape=[1], dtype="int64")
rows = fluid.layers.transpose(image, perm=[1, 0, 2])  # time first, as StaticRNN reads it
rnn = fluid.layers.StaticRNN()
with rnn.step():
    row = rnn.step_input(rows)
    hidden = rnn.memory(shape=[-1, UNITS], batch_ref=row)
    cell = rnn.memory(shape=[-1, UNITS], batch_ref=row)
    new_hidden, new_cell = fluid.layers.lstm_unit(row, hidden, cell, forget_bias=1.0)
    rnn.update_memory(hidden, new_hidden)
    rnn.update_memory(cell, new_cell)
    rnn.step_output(new_hidden)
states = rnn()
assert isinstance(states, fluid.Variable)  # a list where several outputs are stacked
features = fluid.layers.reshape(fluid.layers.transpose(states, perm=[1, 0, 2]), [-1, 8 * UNITS])
logits = fluid.layers.fc(features, size=10)
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
accuracy = fluid.layers.accuracy(fluid.layers.softmax(logits), label)
test_program = fluid.default_main_program().clone(for_test=True)
# Poisson sampling, 512 examples per lot on average; sigma is calibrated from epsilon, delta and max_steps.
fluid.optimizer.Dpsgd(
    learning_rate=4.0, clip=1.0, batch_size=512, sigma=None,
    dataset_size=TRAIN_SIZE, delta=1e-4, max_steps=150, epsilon=8.0,
).minimize(loss)  # fmt: skip

exe = fluid.Executor(fluid.CPUPlace())
exe.run(fluid.default_startup_program())
for lot in fluid.privacy.poisson_batches({"image": x_train, "label": y_train}):
    exe.run(feed=lot, fetch_list=[loss])
(test_accuracy,) = exe.run(test_program, feed={"image": x_test, "label": y_test}, fetch_list=[accuracy])
print(f"test accuracy {test_accuracy[0]:.3f} at {fluid.privacy.spent()}")
