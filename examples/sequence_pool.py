"""Sequences of different lengths: which of two kinds of tokens is more frequent, by embedding and pooling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import fluidc.frontend as fluid

rng = np.random.default_rng(0)
VOCABULARY = 20


def sequences(count: int) -> tuple[fluid.LoDTensor, np.ndarray]:
    """``count`` sequences of 3 to 9 word ids; label 1 where ids below 10 are in the majority."""
    lengths = rng.choice([3, 5, 7, 9], size=count)
    ids = rng.integers(0, VOCABULARY, size=(int(lengths.sum()), 1))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    low = [2 * (ids[a:b] < VOCABULARY // 2).sum() > b - a for a, b in pairwise(starts)]
    words = fluid.create_lod_tensor(ids.astype("int64"), [lengths.tolist()], fluid.CPUPlace())
    return words, np.asarray(low, "int64").reshape(-1, 1)


fluid.default_startup_program().random_seed = 1
words = fluid.layers.data("words", shape=[1], dtype="int64", lod_level=1)
label = fluid.layers.data("label", shape=[1], dtype="int64")
embedded = fluid.layers.embedding(words, size=[VOCABULARY, 16])
pooled = fluid.layers.sequence_pool(embedded, "average")
logits = fluid.layers.fc(pooled, size=2)
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
accuracy = fluid.layers.accuracy(fluid.layers.softmax(logits), label)
fluid.optimizer.Adam(learning_rate=0.05).minimize(loss)

exe = fluid.Executor(fluid.CPUPlace())
exe.run(fluid.default_startup_program())
accuracies = []
for step in range(120):
    ids, labels = sequences(64)
    step_loss, step_accuracy = exe.run(feed={"words": ids, "label": labels}, fetch_list=[loss, accuracy])
    accuracies.append(step_accuracy[0])
    if step % 40 == 0:
        print(f"step {step:3d}  loss {step_loss[0]:.3f}  accuracy {step_accuracy[0]:.2f}")
print(f"last batch: accuracy {accuracies[-1]:.2f}")
