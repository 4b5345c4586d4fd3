"""Clipped sums of many models against gradients of single examples, taken one by one by the plain route."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from private_models import MODELS
from single_examples import NOISE, clipped_sums, draw, example_gradients
from stateless import Compiled, without_state

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Module, PrivacyConfig
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline


@cache
def compiled(name: str, clip: float) -> Module:
    # lot = 1 and sigma = 0: the "noisy mean" that is fetched is the clipped sum itself.
    module = MODELS[name].module(PrivacyConfig(clip=clip, lot=1.0, sigma=0.0))
    return run_passes(module, pipeline(module))


@pytest.mark.parametrize("clip", [0.1, 1.0, 1e4])
@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("name", MODELS)
def test_clipped_sum_equals_single_examples(name: str, rows: int, clip: float) -> None:
    model = MODELS[name]
    state, feeds, padded = draw(model, rows, rows + 3, seed=rows)
    expected, scale = clipped_sums(example_gradients(name, state, feeds, rows), clip)
    out = Reference(compiled(name, clip)).run("step", padded | NOISE, dict(state))
    error = np.sqrt(sum(np.square(out[f"g_{p}"] - expected[p]).sum() for p in state))
    assert error <= 1e-5 * scale


@cache
def exported() -> Compiled:
    return Compiled([without_state(compiled(name, 1.0), name) for name in MODELS], "onnx")


@pytest.mark.parametrize("name", MODELS)
def test_clipped_sum_in_onnx_runtime(name: str) -> None:
    """Of a lot with padding; of the same lot in another order; of none."""
    model, order = MODELS[name], np.random.default_rng(1).permutation(36)
    state, feeds, padded = draw(model, 33, 36, seed=7)
    expected, scale = clipped_sums(example_gradients(name, state, feeds, 33), 1.0)
    for lot in (padded, {key: value[order] for key, value in padded.items()}):
        out = exported().run(name, lot | NOISE | state)
        error = np.sqrt(sum(np.square(out[f"g_{p}"] - expected[p]).sum() for p in state))
        assert error <= 1e-5 * scale
    out = exported().run(name, padded | {"mask": np.zeros(36, np.bool_)} | NOISE | state)
    assert not any(value.any() for value in out.values())


@pytest.mark.parametrize("name", MODELS)
def test_no_live_row_gives_zero(name: str) -> None:
    model = MODELS[name]
    state, _, padded = draw(model, 1, 4, seed=5)
    padded["mask"][:] = False
    out = Reference(compiled(name, 1.0)).run("step", padded | NOISE, dict(state))
    assert not any(np.asarray(value).any() for value in out.values())


@pytest.mark.parametrize("name", [n for n, m in MODELS.items() if "x" in m.feeds])
@pytest.mark.parametrize("value", [1e4, 1e18, 1e30, np.nan, np.inf])
def test_one_example_moves_the_sum_by_at_most_c(name: str, value: float) -> None:
    model, clip = MODELS[name], 0.5
    module = Reference(compiled(name, clip))
    state, _, padded = draw(model, 9, 9, seed=3)
    padded["x"][4] *= value

    def sums(mask: np.ndarray) -> np.ndarray:
        out = module.run("step", padded | {"mask": mask} | NOISE, dict(state))
        return np.concatenate([np.asarray(v, np.float64).ravel() for v in out.values()])

    everyone = np.ones(9, np.bool_)
    with_row, without = sums(everyone), sums(everyone & (np.arange(9) != 4))
    assert np.isfinite(with_row).all()
    assert np.linalg.norm(with_row - without) <= clip * (1 + 2.0**-11)
