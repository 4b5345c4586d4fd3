"""The arbiter of private gradients: float64 gradients of batches of one example each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from private_models import MODELS, Model

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Module
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline

Arrays = dict[str, np.ndarray]


@cache
def plain(name: str) -> Module:
    """The model without privacy."""
    module = MODELS[name].module(None)
    return run_passes(module, pipeline(module))


def example_gradients(name: str, state: Arrays, feeds: Arrays, rows: int) -> Arrays:
    """[rows, *shape] per parameter, in float64: each example is a batch of its own."""
    model = Reference(plain(name), promote=True)
    wide = {name: value.astype(np.float64) for name, value in state.items()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in state}
    for i in range(rows):
        one = {name: value[i : i + 1] for name, value in feeds.items()}
        out = model.run("step", {n: v.astype(np.float64) if v.dtype.kind == "f" else v for n, v in one.items()}, wide)
        for name in state:
            found[name].append(np.asarray(out[f"g_{name}"]))
    return {name: np.stack(values) for name, values in found.items()}


def clipped_sums(gradients: Mapping[str, np.ndarray], clip: float) -> tuple[Arrays, float]:
    """The sums, and the total of the clipped norms that tolerances are relative to."""
    rows = len(next(iter(gradients.values())))
    norms = np.sqrt(sum(np.square(g.reshape(rows, -1)).sum(axis=1) for g in gradients.values()))
    factor = np.minimum(1.0, clip / norms)
    sums = {name: np.einsum("i,i...->...", factor, g) for name, g in gradients.items()}
    return sums, float((factor * norms).sum())


def draw(model: Model, rows: int, physical: int, seed: int) -> tuple[Arrays, Arrays, Arrays]:
    rng = np.random.default_rng(seed)
    state = {name: rng.normal(size=shape).astype(np.float32) for name, shape in model.parameters.items()}
    feeds = {name: sample(rng, rows) for name, (_, sample) in model.feeds.items()}
    padded = {name: np.zeros((physical, *value.shape[1:]), value.dtype) for name, value in feeds.items()}
    for name, value in feeds.items():
        padded[name][:rows] = value
        if value.dtype.kind == "f":
            padded[name][rows:] = np.nan
    padded["mask"] = np.arange(physical) < rows
    return state, feeds, padded


NOISE = {"key": np.zeros(8, np.uint32), "draw": np.array(0, np.uint64)}
