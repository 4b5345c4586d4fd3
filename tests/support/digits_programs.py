"""The digits MLP as programs, and the batches that tests train it on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

import fluidc.frontend as fluid

BATCH = 64
PARAMETERS = ("fc_0.w_0", "fc_0.b_0", "fc_1.w_0", "fc_1.b_0")


@dataclass(frozen=True)
class Programs:
    """A training program with its startup program and the name of its loss."""

    main: fluid.Program
    startup: fluid.Program
    loss: str


def digits(optimizer: fluid.optimizer.Optimizer | None = None) -> Programs:
    """MLP 64-64-10, seeded; Momentum if no optimizer is given."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 7
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        image = fluid.layers.data("image", [64], dtype="float32")
        label = fluid.layers.data("label", [1], dtype="int64")
        logits = fluid.layers.fc(fluid.layers.fc(image, 64, act="tanh"), 10)
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
        (optimizer or fluid.optimizer.Momentum(learning_rate=0.1, momentum=0.9)).minimize(loss)
    return Programs(main, startup, loss.name)


def private_digits() -> Programs:
    """The same under Dpsgd."""
    return digits(fluid.optimizer.Dpsgd(learning_rate=0.5, clip=1.0, batch_size=BATCH, sigma=1.0))


def batches(count: int) -> Iterator[dict[str, np.ndarray]]:
    """``count`` batches, the same ones every time."""
    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16.0).astype("float32"), labels.astype("int64").reshape(-1, 1)
    rng = np.random.default_rng(0)
    for _ in range(count):
        chosen = rng.choice(len(x), BATCH, replace=False)
        yield {"image": x[chosen], "label": y[chosen]}
