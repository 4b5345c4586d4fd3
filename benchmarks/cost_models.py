"""The three models of ``private_cost``, as fluid programs: plain SGD and Dpsgd."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import fluidc.frontend as fluid
from fluidc.compiler.driver import Source
from fluidc.frontend.framework import Variable
from fluidc.frontend.lower import lower
from fluidc.runtime.engine import Array, aligned_copy, aligned_zeros
from fluidc.runtime.manifest import Manifest, numpy_dtype
from fluidc.runtime.stepper import Stepper

BATCH = 256
LEARNING_RATE = 1e-3
VOCABULARY, TOKENS, WIDTH = 10_000, 64, 64
Batch = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Model:
    """A classifier: its logits from a fresh data variable, and random batches to feed it."""

    classes: int
    logits: Callable[[], Variable]
    batch: Callable[[np.random.Generator], NDArray[np.generic]]


def _mlp() -> Variable:
    x = fluid.layers.data("x", [784], dtype="float32")
    hidden = fluid.layers.fc(fluid.layers.fc(x, 512, act="relu"), 256, act="relu")
    return fluid.layers.fc(hidden, 10)


def _cnn() -> Variable:
    """The network of Opacus' MNIST example."""
    x = fluid.layers.data("x", [1, 28, 28], dtype="float32")
    h = fluid.layers.conv2d(x, 16, 8, stride=2, padding=3, act="relu")
    h = fluid.layers.pool2d(h, 2, "max", 1)
    h = fluid.layers.conv2d(h, 32, 4, stride=2, act="relu")
    h = fluid.layers.pool2d(h, 2, "max", 1)
    return fluid.layers.fc(fluid.layers.fc(h, 32, act="relu"), 10)


def _embedding() -> Variable:
    """Mean of the tokens' embeddings, then one linear layer."""
    x = fluid.layers.data("x", [TOKENS], dtype="int64")
    words = fluid.embedding(x, [VOCABULARY, WIDTH])
    return fluid.layers.fc(fluid.layers.reduce_mean(words, dim=1), 2)


MODELS = {
    "mlp": Model(10, _mlp, lambda rng: rng.normal(size=(BATCH, 784)).astype(np.float32)),
    "cnn": Model(10, _cnn, lambda rng: rng.normal(size=(BATCH, 1, 28, 28)).astype(np.float32)),
    # Frequent words first, as in text: within a document words repeat.
    "embedding": Model(2, _embedding, lambda rng: np.minimum(rng.zipf(1.3, (BATCH, TOKENS)), VOCABULARY) - 1),
}


def source(name: str, *, private: bool) -> Source:
    """One training step of a model, with softmax cross entropy."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 1
    model = MODELS[name]
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        logits = model.logits()
        label = fluid.layers.data("label", [1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
        if private:
            fluid.optimizer.Dpsgd(learning_rate=LEARNING_RATE, clip=1.0, batch_size=BATCH, sigma=1.0).minimize(loss)
        else:
            fluid.optimizer.SGD(learning_rate=LEARNING_RATE).minimize(loss)
    return lower(main, startup=startup, fetches=(loss.name,), infer_fetches=(loss.name,))


def feeds(name: str) -> Batch:
    """A batch of random examples."""
    rng = np.random.default_rng(0)
    model = MODELS[name]
    return {"x": model.batch(rng), "label": rng.integers(0, model.classes, (BATCH, 1))}


def state(manifest: Manifest) -> dict[str, Array]:
    """Small random weights, and the learning rate."""
    rng = np.random.default_rng(1)
    made: dict[str, Array] = {}
    for spec in manifest.state:
        dtype = numpy_dtype(spec.dtype, spec.name)
        if spec.kind == "lot":
            made[spec.name] = aligned_zeros(spec.shape, dtype)
        elif spec.trainable:
            made[spec.name] = aligned_copy(rng.normal(scale=0.05, size=spec.shape).astype(dtype))
        else:
            made[spec.name] = aligned_copy(np.full(spec.shape, LEARNING_RATE, dtype))
    return made


def step(stepper: Stepper, name: str, *, private: bool) -> Callable[[], object]:
    """One step on a batch of random examples; private ones with a fresh key each, as in training."""
    batch = feeds(name)
    if not private:
        return lambda: stepper.run("step", batch)
    draws = itertools.count()
    return lambda: stepper.run_lot(batch, key=os.urandom(32), draw=next(draws))
