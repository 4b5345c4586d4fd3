"""The private step against DP-SGD written out by hand, example by example, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from small_modules import plain_mlp, private_mlp, two_biases

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.types import static_shape
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.runtime import keystream

CLIP, LOT, SIGMA, RATE = 1.0, 16.0, 1.1, 0.5
KEY, DRAW = np.arange(8, dtype=np.uint32), 5
BATCH = 16
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def target() -> Module:
    module = private_mlp(clip=CLIP, lot=LOT, sigma=SIGMA)
    return run_passes(module, pipeline(module, batch=BATCH))


def parameters(rng: np.random.Generator) -> Arrays:
    shapes = {"w0": (8, 4), "b0": (4,), "w1": (4, 3)}
    state = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return state | {"lr": np.array([RATE], np.float32)}


def lot_state(module: Module) -> Arrays:
    return {d.name: np.zeros(static_shape(d.type.shape), np.float32) for d in module.state if d.kind == "lot"}


def clipped_sums(state: Arrays, x: np.ndarray, y: np.ndarray) -> Arrays:
    """Sum of clipped per-example gradients; the loop of the paper's Algorithm 1."""
    sums = {name: np.zeros(value.shape) for name, value in state.items() if name != "lr"}
    for row, label in zip(x.astype(np.float64), y[:, 0], strict=True):
        hidden = np.tanh(row @ state["w0"] + state["b0"])
        scores = hidden @ state["w1"]
        delta = np.exp(scores - scores.max())
        delta /= delta.sum()
        delta[label] -= 1
        back = (state["w1"] @ delta) * (1 - hidden**2)
        gradient = {"w0": np.outer(row, back), "b0": back, "w1": np.outer(hidden, delta)}
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        for name, g in gradient.items():
            sums[name] += g * min(1.0, CLIP / norm)
    return sums


def noise(state: Arrays) -> Arrays:
    """Standard normals per parameter: streams are numbered by sorted name."""
    drawn: Arrays = {}
    for tensor, name in enumerate(sorted(n for n in state if n != "lr")):
        count = state[name].size
        words = keystream.words(
            KEY, domain=keystream.Domain.GRADIENT, tensor=tensor, draw=DRAW, count_blocks=keystream.blocks_for(count)
        )
        drawn[name] = keystream.normals_from_words(words, count).reshape(state[name].shape)
    return drawn


def padded(x: np.ndarray, y: np.ndarray, junk: float) -> Arrays:
    """A physical batch whose dead rows hold ``junk``."""
    rows = len(x)
    images = np.full((BATCH, 8), junk, np.float32)
    labels = np.zeros((BATCH, 1), np.int64)
    images[:rows], labels[:rows] = x, y
    return {"x": images, "y": labels, "mask": np.arange(BATCH) < rows}


def draw(rows: int) -> tuple[Arrays, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    x = (3 * rng.normal(size=(rows, 8))).astype(np.float32)
    return parameters(rng), x, rng.integers(0, 3, (rows, 1))


@pytest.mark.parametrize("rows", [1, 2, 11, 16])
@pytest.mark.parametrize("junk", [0.0, np.nan, np.inf, 1e30])
def test_step_equals_the_algorithm(target: Module, rows: int, junk: float) -> None:
    before, x, y = draw(rows)
    state = before | lot_state(target)
    noisy = {"key": KEY, "draw": np.array(DRAW, np.uint64)}
    Reference(target).run("step", padded(x, y, junk) | noisy, state)
    sums, z = clipped_sums(before, x, y), noise(before)
    for name, total in sums.items():
        expected = before[name] - RATE * (total + SIGMA * CLIP * z[name]) / LOT
        np.testing.assert_allclose(state[name], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("cut", [0, 3, 11])
def test_accumulate_and_apply_equal_one_step(target: Module, cut: int) -> None:
    before, x, y = draw(11)
    noisy = {"key": KEY, "draw": np.array(DRAW, np.uint64)}
    fused = before | lot_state(target)
    Reference(target).run("step", padded(x, y, 0.0) | noisy, fused)
    parts = before | lot_state(target)
    for piece in (slice(0, cut), slice(cut, None)):
        if len(x[piece]):
            Reference(target).run("accumulate", padded(x[piece], y[piece], 0.0), parts)
    Reference(target).run("apply", noisy, parts)
    for name in before:
        np.testing.assert_allclose(parts[name], fused[name], rtol=0, atol=1e-6)
    assert not parts["lot/w0"].any()


def test_an_empty_lot_still_adds_noise(target: Module) -> None:
    before, _, _ = draw(1)
    state = before | lot_state(target)
    Reference(target).run("apply", {"key": KEY, "draw": np.array(DRAW, np.uint64)}, state)
    z = noise(before)
    np.testing.assert_allclose(state["w0"], before["w0"] - RATE * SIGMA * CLIP * z["w0"] / LOT, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [1e10, 1e30, np.nan, np.inf])
def test_one_example_moves_the_sum_by_at_most_c(target: Module, value: float) -> None:
    before, x, y = draw(11)

    def sums(batch: Arrays) -> np.ndarray:
        state = before | lot_state(target)
        Reference(target).run("accumulate", batch, state)
        return np.concatenate([state[f"lot/{name}"].ravel() for name in ("w0", "b0", "w1")]).astype(np.float64)

    x[4] = value
    with_row = padded(x, y, 0.0)
    without = with_row | {"mask": with_row["mask"] & (np.arange(BATCH) != 4)}
    moved = np.linalg.norm(sums(with_row) - sums(without))
    assert moved <= CLIP * (1 + 2.0**-11)
    assert np.isfinite(sums(with_row)).all()


def test_fetched_mean_counts_live_rows_only(target: Module) -> None:
    before, x, y = draw(11)
    noisy = {"key": KEY, "draw": np.array(DRAW, np.uint64)}
    means: list[np.ndarray] = []
    for junk in (0.0, np.nan):
        out = Reference(target).run("step", padded(x, y, junk) | noisy, before | lot_state(target))
        means.append(np.asarray(out["mean"]))
    np.testing.assert_array_equal(means[0], means[1])
    hidden = np.tanh(x.astype(np.float64) @ before["w0"] + before["b0"]) @ before["w1"]
    logp = hidden - np.log(np.exp(hidden).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(means[0], -np.take_along_axis(logp, y, 1).mean(), rtol=1e-5)


def test_plain_step_is_one_gradient_step() -> None:
    module = plain_mlp()
    target = run_passes(module, pipeline(module))
    before, x, y = draw(11)
    state = dict(before)
    Reference(target).run("step", {"x": x, "y": y}, state)
    sums = _mean_gradient(before, x, y)
    for name, gradient in sums.items():
        np.testing.assert_allclose(state[name], before[name] - RATE * gradient, rtol=0, atol=2e-6)


def _mean_gradient(state: Arrays, x: np.ndarray, y: np.ndarray) -> Arrays:
    """By central differences of the mean loss, in float64."""

    def loss(values: Arrays) -> float:
        scores = np.tanh(x @ values["w0"] + values["b0"]) @ values["w1"]
        logp = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return float(-np.take_along_axis(logp, y, 1).mean())

    wide = {name: value.astype(np.float64) for name, value in state.items() if name != "lr"}
    gradients: Arrays = {}
    for name, value in wide.items():
        gradient = gradients[name] = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            kept = value[index]
            value[index] = kept + 1e-6
            high = loss(wide)
            value[index] = kept - 1e-6
            gradient[index] = (high - loss(wide)) / 2e-6
            value[index] = kept
    return gradients


def test_parameters_of_equal_gradients_have_a_lot_sum_each() -> None:
    """Their clipped sums are one value; noise and lot sums are not."""
    module = two_biases()
    target = run_passes(module, pipeline(module, batch=BATCH))
    rng = np.random.default_rng(3)
    shapes = {"w0": (8, 4), "b0": (4,), "b1": (4,)}
    before = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    before |= {"lr": np.array([RATE], np.float32)}
    rows = {"x": rng.normal(size=(BATCH, 8)).astype(np.float32), "mask": np.ones(BATCH, np.bool_)}
    noisy = {"key": KEY, "draw": np.array(DRAW, np.uint64)}
    fused, parts = before | lot_state(target), before | lot_state(target)
    Reference(target).run("step", rows | noisy, fused)
    Reference(target).run("accumulate", rows, parts)
    np.testing.assert_array_equal(parts["lot/b0"], parts["lot/b1"])
    assert parts["lot/b0"].any()
    Reference(target).run("apply", noisy, parts)
    for name in shapes:
        np.testing.assert_allclose(parts[name], fused[name], rtol=0, atol=1e-6)
    moved = [fused[name] - before[name] for name in ("b0", "b1")]
    assert np.abs(moved[0] - moved[1]).max() > 1e-2, "the noise of each is its own"
