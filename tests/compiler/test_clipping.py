"""Clipping per group, automatic and by quantile: one step against the formulas written out in float64.

The oracle knows the noise, since it knows the key: what the step adds beyond the clipped sums must be that noise times
the standard deviation that the mode asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from small_modules import AUTOMATIC, PARAMETERS, PER_GROUP, QUANTILE, clipped_mlp

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.target import build
from fluidc.compiler.errors import PrivacyError
from fluidc.compiler.ir.clipping import clip_groups, gradient_sigma, quantile_sigma
from fluidc.compiler.ir.core import Module, PrivacyConfig, StateName
from fluidc.compiler.ir.types import static_shape
from fluidc.compiler.ops.state import state_of
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.runtime import keystream
from fluidc.runtime.engine import Engine, aligned_copy
from fluidc.runtime.keystream import Domain

KEY, DRAW = np.arange(8, dtype=np.uint32), 5
BATCH, LOT, SIGMA, RATE = 16, 16.0, 1.1, 0.5
MODES = {"per-group": PER_GROUP, "automatic": AUTOMATIC, "quantile": QUANTILE}
Arrays = dict[str, np.ndarray]
NOISE = {"key": KEY, "draw": np.array(DRAW, np.uint64)}


@pytest.fixture(scope="module")
def targets() -> dict[str, Module]:
    made = {name: clipped_mlp(config) for name, config in MODES.items()}
    return {name: run_passes(module, pipeline(module, batch=BATCH)) for name, module in made.items()}


@dataclass
class Step:
    """One step by hand: the sums before the noise, the noise's standard deviation, and the next bound."""

    sums: Arrays
    std: Mapping[str, float]
    votes: float


def example_gradients(state: Arrays, x: np.ndarray, y: np.ndarray) -> list[Arrays]:
    found: list[Arrays] = []
    for row, label in zip(x.astype(np.float64), y[:, 0], strict=True):
        hidden = np.tanh(row @ state["w0"].astype(np.float64) + state["b0"])
        scores = hidden @ state["w1"]
        delta = np.exp(scores - scores.max())
        delta /= delta.sum()
        delta[label] -= 1
        back = (state["w1"] @ delta) * (1 - hidden**2)
        found.append({"w0": np.outer(row, back), "b0": back, "w1": np.outer(hidden, delta)})
    return found


def norm(gradient: Arrays, names: tuple[str, ...]) -> float:
    return math.sqrt(sum(float((gradient[name] ** 2).sum()) for name in names))


def by_group(state: Arrays, gradients: list[Arrays]) -> Step:
    groups = ((("w0", "b0"), 1.0), (("w1",), 0.5))
    sums = {name: np.zeros(shape) for name, shape in PARAMETERS.items()}
    std: dict[str, float] = {}
    for names, bound in groups:
        for gradient in gradients:
            for name in names:
                sums[name] += gradient[name] * min(1.0, bound / norm(gradient, names))
        std |= {name: SIGMA * bound * math.sqrt(2) for name in names}
    return Step(sums, std, 0.0)


def automatically(state: Arrays, gradients: list[Arrays]) -> Step:
    sums = {name: np.zeros(shape) for name, shape in PARAMETERS.items()}
    for gradient in gradients:
        for name in sums:
            sums[name] += gradient[name] / (norm(gradient, tuple(sums)) + 0.01)
    return Step(sums, dict.fromkeys(sums, SIGMA), 0.0)


def by_quantile(state: Arrays, gradients: list[Arrays]) -> Step:
    bound = float(state["dp_clip_0"][0])
    sums = {name: np.zeros(shape) for name, shape in PARAMETERS.items()}
    norms = [norm(gradient, tuple(sums)) for gradient in gradients]
    for gradient, length in zip(gradients, norms, strict=True):
        for name in sums:
            sums[name] += gradient[name] * min(1.0, bound / length)
    sigma: float = (SIGMA**-2 - (2 * 0.8) ** -2) ** -0.5
    return Step(sums, dict.fromkeys(sums, sigma * bound), sum(0.5 if n <= bound else -0.5 for n in norms))


ORACLES: dict[str, Callable[[Arrays, list[Arrays]], Step]] = {
    "per-group": by_group,
    "automatic": automatically,
    "quantile": by_quantile,
}


def normals(domain: Domain, tensor: int, count: int, draw: int = DRAW) -> np.ndarray:
    blocks = keystream.blocks_for(count)
    words = keystream.words(KEY, domain=domain, tensor=tensor, draw=draw, count_blocks=blocks)
    return keystream.normals_from_words(words, count)


def expected(mode: str, state: Arrays, x: np.ndarray, y: np.ndarray, draw: int = DRAW) -> Arrays:
    """The state after one step."""
    step = ORACLES[mode](state, example_gradients(state, x, y))
    after: Arrays = {}
    for tensor, name in enumerate(sorted(PARAMETERS)):
        z = normals(Domain.GRADIENT, tensor, state[name].size, draw).reshape(state[name].shape)
        after[name] = state[name] - RATE * (step.sums[name] + step.std[name] * z) / LOT
    if mode == "quantile":
        share = 0.5 + (step.votes + 0.8 * normals(Domain.QUANTILE, 0, 1, draw)[0]) / LOT
        after["dp_clip_0"] = np.clip(state["dp_clip_0"] * np.exp(-0.3 * (share - 0.4)), 0.01, 100.0)
    return after


def start(module: Module, rows: int, bound: float = 1.0) -> tuple[Arrays, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    state = {name: rng.normal(size=shape).astype(np.float32) for name, shape in PARAMETERS.items()}
    state["lr"] = np.array([RATE], np.float32)
    for declared in module.state:
        if declared.kind == "lot":
            state[declared.name] = np.zeros(static_shape(declared.type.shape), np.float32)
        elif declared.name == "dp_clip_0":
            state[declared.name] = np.array([bound], np.float32)
    return state, (2 * rng.normal(size=(rows, 8))).astype(np.float32), rng.integers(0, 3, (rows, 1))


def padded(x: np.ndarray, y: np.ndarray, junk: float = 0.0) -> Arrays:
    images, labels = np.full((BATCH, 8), junk, np.float32), np.zeros((BATCH, 1), np.int64)
    images[: len(x)], labels[: len(x)] = x, y
    return {"x": images, "y": labels, "mask": np.arange(BATCH) < len(x)}


def compare(found: Arrays, wanted: Arrays) -> None:
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=3e-6, err_msg=name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("rows", "junk"), [(1, 0.0), (11, np.nan), (16, 0.0), (7, 1e30)])
def test_a_step_is_the_formula(targets: dict[str, Module], mode: str, rows: int, junk: float) -> None:
    state, x, y = start(targets[mode], rows)
    wanted = expected(mode, state, x, y)
    Reference(targets[mode]).run("step", padded(x, y, junk) | NOISE, state)
    compare(state, wanted)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [0, 1, 33])
def test_accumulating_and_applying_is_the_formula(targets: dict[str, Module], mode: str, rows: int) -> None:
    """Lots beyond the physical batch, and the empty one, which adds noise and moves the bound all the same."""
    module = targets[mode]
    state, x, y = start(module, rows)
    wanted = expected(mode, state, x, y)
    for first in range(0, rows, BATCH):
        Reference(module).run("accumulate", padded(x[first : first + BATCH], y[first : first + BATCH]), state)
    Reference(module).run("apply", NOISE, state)
    compare(state, wanted)
    assert not any(state[d.name].any() for d in module.state if d.kind == "lot")


def test_the_bound_follows_the_quantile(targets: dict[str, Module]) -> None:
    """Forty steps: the trajectory of the oracle, at whose end about 40 % of the norms are below the bound."""
    module = targets["quantile"]
    state, x, y = start(module, 16, bound=20.0)
    state["lr"][0] = 0.0
    for draw in range(40):
        wanted = expected("quantile", state, x, y, draw)["dp_clip_0"]
        Reference(module).run("step", padded(x, y) | NOISE | {"draw": np.array(draw, np.uint64)}, state)
        np.testing.assert_allclose(state["dp_clip_0"], wanted, rtol=1e-6)
    norms = [norm(g, tuple(PARAMETERS)) for g in example_gradients(state, x, y)]
    assert 0.2 <= np.mean(np.array(norms) <= state["dp_clip_0"][0]) <= 0.6


@pytest.mark.parametrize(("bound", "wanted"), [(1e6, 100.0), (1e-9, 0.01)])
def test_the_bound_stays_in_its_range(targets: dict[str, Module], bound: float, wanted: float) -> None:
    state, x, y = start(targets["quantile"], 11, bound)
    Reference(targets["quantile"]).run("step", padded(x, y) | NOISE, state)
    assert state["dp_clip_0"][0] == np.float32(wanted)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [1e10, 1e30, np.nan])
def test_one_example_moves_every_sum_by_at_most_its_bound(targets: dict[str, Module], mode: str, value: float) -> None:
    module = targets[mode]
    first, x, y = start(module, 11)
    x[4] = value

    def sums(batch: Arrays) -> Arrays:
        state = {name: array.copy() for name, array in first.items()}
        Reference(module).run("accumulate", batch, state)
        kept = [name for name in (*PARAMETERS, "dp_clip_0") if f"lot/{name}" in state]
        return {name: state[f"lot/{name}"].astype(np.float64) for name in kept}

    with_row = padded(x, y)
    without = sums(with_row | {"mask": with_row["mask"] & (np.arange(BATCH) != 4)})
    moved = {name: float(np.linalg.norm(array - without[name])) for name, array in sums(with_row).items()}
    assert all(map(math.isfinite, moved.values()))
    if mode == "per-group":
        assert math.hypot(moved["w0"], moved["b0"]) <= 1 + 2.0**-11
        assert moved["w1"] <= 0.5 * (1 + 2.0**-11)
    else:
        assert math.hypot(*(moved[name] for name in PARAMETERS)) <= 1 + 2.0**-11
    assert moved.get("dp_clip_0", 0.0) == (0.0 if mode != "quantile" or not math.isfinite(value) else 0.5)


def run_on(engine: Engine, module: Module, function: str, given: Arrays, state: Arrays) -> None:
    """Call compiled code on copies of the state, which then take its place."""
    called = module.function(function)
    held = {name: aligned_copy(state[name]) for name in state_of(module, called)}
    arguments = [aligned_copy(np.asarray(given[param.name])) for param in called.params]
    engine.call(function, [engine.tensor(array) for array in (*held.values(), *arguments)])
    state.update(held)


@pytest.mark.parametrize("mode", MODES)
def test_cpu_agrees_with_the_reference(targets: dict[str, Module], mode: str) -> None:
    module = targets[mode]
    engine = build(module, "cpu", BuildOptions()).engine()
    for rows, functions in ((11, ("step",)), (16, ("accumulate", "apply")), (0, ("apply",))):
        state, x, y = start(module, rows)
        other = {name: array.copy() for name, array in state.items()}
        for function in functions:
            given = padded(x, y) | NOISE
            Reference(module).run(function, given, state)
            run_on(engine, module, function, given, other)
        compare(other, {name: array for name, array in state.items() if name in (*PARAMETERS, "dp_clip_0")})


@pytest.mark.parametrize(
    ("sigma", "sigma_b", "wanted"), [(1.0, 12.8, 1.0007638), (1.0, 5.0, 1.0050378), (0.0, 1.0, 0.0)]
)
def test_noise_beside_a_noisy_count(sigma: float, sigma_b: float, wanted: float) -> None:
    assert quantile_sigma(sigma, sigma_b) == pytest.approx(wanted, abs=1e-7)
    config = replace(QUANTILE, sigma=sigma, sigma_b=sigma_b)
    assert gradient_sigma(config) == quantile_sigma(sigma, sigma_b)
    if sigma:  # what both releases cost together is what sigma alone would
        assert gradient_sigma(config) ** -2 + (0.5 / sigma_b) ** 2 == pytest.approx(sigma**-2)


@pytest.mark.parametrize("sigma_b", [0.55, 0.1])
def test_a_count_that_costs_too_much_is_refused(sigma_b: float) -> None:
    with pytest.raises(PrivacyError, match="not above sigma/2"):
        quantile_sigma(1.1, sigma_b)


NAMES = tuple(map(StateName, PARAMETERS))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(PER_GROUP, groups=(NAMES[:1], NAMES[1:2])), "'w1' is in no clip group"),
        (replace(PER_GROUP, groups=(NAMES, NAMES[:1])), "'w0' is in 2 clip groups"),
        (replace(PER_GROUP, groups=(NAMES, (StateName("w9"),))), "'w9' is not a trainable"),
        (replace(PER_GROUP, clip=1.0), "the bounds of the groups make"),
        (replace(PER_GROUP, clips=(1.0,)), "2 groups and 1 bounds"),
        (replace(PER_GROUP, clips=(1.0, -0.5)), "not positive"),
        (replace(PER_GROUP, clipping="flat"), "'flat' with 2 groups"),
        (replace(AUTOMATIC, gamma=0.0), "gamma=0"),
        (replace(AUTOMATIC, clipping="flat"), "gamma=0.01"),
        (replace(QUANTILE, bound=StateName("")), "the bound's state"),
        (replace(QUANTILE, clip=200.0), "not ordered"),
        (replace(QUANTILE, eta=0.0), "eta=0"),
        (replace(QUANTILE, quantile=1.0), "quantile=1"),
        (replace(QUANTILE, sigma_b=0.5), "not above sigma/2"),
        (replace(QUANTILE, clipping="median"), "unknown clipping"),
    ],
)
def test_constants_that_contradict_each_other_are_refused(config: PrivacyConfig, message: str) -> None:
    with pytest.raises(PrivacyError, match=message):
        clip_groups(config, PARAMETERS)
    module = clipped_mlp(config)
    with pytest.raises(PrivacyError, match=message):
        run_passes(module, pipeline(module))
