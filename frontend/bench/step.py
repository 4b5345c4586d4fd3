"""One training step of a model: its program, its weights, its batch, and a function that takes the step."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ... import frontend as fluid
from ...compiler.driver import Compiled, Source
from ...compiler.ir.types import static_shape
from ...runtime.engine import Buffer, Engine, aligned_copy, aligned_zeros
from ...runtime.keystream import Key
from ...runtime.manifest import Manifest, numpy_dtype
from ...runtime.stepper import Stepper
from ..lower import lower
from .models import Model

LEARNING_RATE = 1e-3
CLIP = 1.0
SIGMA = 1.0

Arrays = Mapping[str, NDArray[np.generic]]
Step = Callable[[], float]
"""Takes one step; returns the loss before it."""


def source(model: Model, batch: int, *, private: bool) -> Source:
    """One training step with the mean of softmax cross entropy: plain SGD, or Dpsgd with a lot of ``batch`` rows."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 1
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), warnings.catch_warnings():
        warnings.simplefilter("ignore", fluid.PrivacyWarning)
        logits = model.logits()
        label = fluid.layers.data("label", [1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
        if private:
            fluid.optimizer.Dpsgd(LEARNING_RATE, clip=CLIP, batch_size=batch, sigma=SIGMA).minimize(loss)
        else:
            fluid.optimizer.SGD(LEARNING_RATE).minimize(loss)
    return lower(main, startup=startup, fetches=(loss.name,), infer_fetches=(loss.name,))


def feeds(model: Model, batch: int) -> dict[str, NDArray[np.generic]]:
    """A batch of random examples."""
    rng = np.random.default_rng(0)
    # On boundaries of cache lines, as loaders lay them out: engines copy other arrays first.
    return {
        "x": aligned_copy(model.rows(rng, batch)),
        "label": aligned_copy(rng.integers(0, model.classes, (batch, 1))),
    }


def weights(program: Source) -> dict[str, NDArray[np.generic]]:
    """Random parameters, the same for every program of a model: scales near 1, biases near 0, weights by fan-in."""
    made: dict[str, NDArray[np.generic]] = {}
    for declared in program.module.state:
        if not declared.trainable:
            continue
        name, shape = str(declared.name), static_shape(declared.type.shape)
        drawn = np.random.default_rng(list(name.encode())).normal(size=shape)
        if len(shape) == 1:
            drawn = 0.1 * drawn + (1.0 if name.endswith(".scale") else 0.0)
        elif name != "words.w":
            drawn *= (shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))) ** -0.5
        made[name] = drawn.astype(np.float32)
    return made


def state(manifest: Manifest, given: Arrays) -> dict[str, Buffer]:
    """Buffers of a program's state: the ``given`` `weights`, and the learning rate."""
    made: dict[str, Buffer] = {}
    for spec in manifest.state:
        dtype = numpy_dtype(spec.dtype, spec.name)
        if spec.kind == "lot":
            made[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
        elif spec.trainable:
            made[spec.name] = Buffer(aligned_copy(given[spec.name]))
        else:
            made[spec.name] = Buffer(aligned_copy(np.full(spec.shape, LEARNING_RATE, dtype)))
    return made


def take_steps(
    manifest: Manifest, engine: Engine, buffers: dict[str, Buffer], batch: Arrays, key: Key | None = None
) -> Step:
    """A function that takes steps on one batch; private ones with a fresh key each, as in training, or a known one."""
    stepper = Stepper(manifest, engine, buffers)
    (fetch,) = manifest.fetches
    if manifest.privacy is None:
        return lambda: float(stepper.run("step", batch)[fetch].reshape(()))
    draws = itertools.count()
    return lambda: float(stepper.run_lot(batch, key=key or os.urandom(32), draw=next(draws))[fetch].reshape(()))


def step_of(compiled: Compiled, batch: Arrays, key: Key | None = None) -> Step:
    """`take_steps` of a program just compiled, from fresh weights."""
    return take_steps(
        compiled.manifest, compiled.built.engine(), state(compiled.manifest, weights(compiled.source)), batch, key
    )
