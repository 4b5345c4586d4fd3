"""Handwritten digits (real data, shipped with scikit-learn): one MLP trained plainly and with privacy.

python examples/digits.py                 trains both and prints their test accuracy
python examples/digits.py --data DIR      also writes train.npz and test.npz for `fluidc run`
fluidc compile examples/digits.py -o digits.fluidc             compiles the private one (the last minimised)
fluidc compile examples/digits.py:plain -o plain.fluidc
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fluidc.frontend as fluid

DELTA = 1e-4
TRAIN_SIZE = 1437  # 80 % of 1797; stated to Dpsgd as a public number
STEPS = 100


def load() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Train and test set: images f32[n, 64] in [0, 1] (the range 0..16 is public), labels i64[n, 1]."""
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    x = (images / 16.0).astype("float32")
    y = labels.astype("int64").reshape(-1, 1)
    parts = train_test_split(x, y, train_size=TRAIN_SIZE, random_state=0, stratify=y)
    x_train, x_test, y_train, y_test = map(np.asarray, parts)
    return {"image": x_train, "label": y_train}, {"image": x_test, "label": y_test}


def network() -> tuple[fluid.Variable, fluid.Variable]:
    """An MLP 64-64-10; returns the mean loss and the accuracy."""
    image = fluid.layers.data("image", [64], dtype="float32")
    label = fluid.layers.data("label", [1], dtype="int64")
    hidden = fluid.layers.fc(image, 64, act="tanh")
    logits = fluid.layers.fc(hidden, 10)
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
    accuracy = fluid.layers.accuracy(fluid.layers.softmax(logits), label)
    return loss, accuracy


def build(seed: int, optimizer: fluid.optimizer.Optimizer) -> tuple[fluid.Program, fluid.Program, list[str]]:
    """The training program, its startup program and the names to fetch."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = seed
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        loss, accuracy = network()
        optimizer.minimize(loss)
    return main, startup, [loss.name, accuracy.name]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", type=Path, help="write train.npz and test.npz into this directory")
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()

train, test = load()
if args.data is not None:
    args.data.mkdir(parents=True, exist_ok=True)
    np.savez(args.data / "train.npz", image=train["image"], label=train["label"])
    np.savez(args.data / "test.npz", image=test["image"], label=test["label"])

plain, plain_startup, fetches = build(args.seed, fluid.optimizer.Momentum(learning_rate=0.1, momentum=0.9))
# Full batch: q = 1.  sigma is left out, so it is calibrated from epsilon, delta and max_steps.
private, private_startup, _ = build(
    args.seed,
    fluid.optimizer.Dpsgd(
        learning_rate=8.0, clip=1.0, batch_size=TRAIN_SIZE, sigma=None,
        dataset_size=TRAIN_SIZE, delta=DELTA, max_steps=STEPS, epsilon=8.0,
    ),
)  # fmt: skip


def accuracy_of(program: fluid.Program, exe: fluid.Executor) -> float:
    """Accuracy on the test set."""
    _, accuracy = exe.run(program, feed=test, fetch_list=fetches)
    return float(accuracy[0])


exe = fluid.Executor(fluid.CPUPlace())

tests = plain.clone(for_test=True), private.clone(for_test=True)
with fluid.scope_guard(fluid.Scope()):
    exe.run(plain_startup)
    batches = fluid.io.batch(fluid.io.shuffle(lambda: zip(*train.values(), strict=True), 1437), 64, drop_last=True)
    feeder = fluid.DataFeeder(["image", "label"], fluid.CPUPlace(), program=plain)
    for _ in range(30):
        for rows in batches():
            exe.run(plain, feed=feeder.feed(rows), fetch_list=fetches)
    print(f"plain    test accuracy {accuracy_of(tests[0], exe):.3f}")

with fluid.scope_guard(fluid.Scope()):
    exe.run(private_startup)
    for lot in fluid.privacy.poisson_batches(train, private):
        exe.run(private, feed=lot, fetch_list=fetches)
    spent = fluid.privacy.spent(private)
    print(f"private  test accuracy {accuracy_of(tests[1], exe):.3f} at {spent}")
