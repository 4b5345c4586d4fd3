"""mechanism="discrete" from module to numbers: exact integers, checked bounds, sums that do not know their order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from small_modules import private_mlp

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.target import BuildOptions, build
from fluidc.compiler.errors import PrivacyError
from fluidc.compiler.ir.core import Module, PrivacyConfig, StateName
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.types import static_shape
from fluidc.compiler.ops import OPSET
from fluidc.compiler.ops.apart import contracted, product, rows_apart
from fluidc.compiler.ops.dp import ClipFactor
from fluidc.compiler.ops.state import state_of
from fluidc.compiler.passes.discrete import check_grid
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.runtime.engine import aligned_copy

CLIP, LOT, SIGMA, RATE, BITS = 0.5, 16.0, 1.1, 0.5, 20
BATCH = 19  # no multiple of any vector width
SHAPES = {"w0": (8, 4), "b0": (4,), "w1": (4, 3)}
Arrays = dict[str, np.ndarray]
Run = Callable[[str, Arrays, Arrays], Arrays]
"""Runs a function of the module on state, which it changes, and arguments by name."""


@cache
def target_module(bits: int = BITS, batch: int = BATCH) -> Module:
    module = private_mlp(clip=CLIP, lot=LOT, sigma=SIGMA)
    assert module.privacy is not None
    module = replace(module, privacy=replace(module.privacy, mechanism="discrete", slack=0.0, grid_bits=bits))
    return run_passes(module, pipeline(module, batch=batch))


@cache
def runner(target: str) -> Run:
    module = target_module()
    if target == "reference":
        reference = Reference(module)
        return lambda function, state, arguments: reference.run(function, arguments, state)
    engine = build(module, target, BuildOptions()).engine()

    def run(function: str, state: Arrays, arguments: Arrays) -> Arrays:
        declared = module.function(function)
        held = {name: aligned_copy(state[name]) for name in state_of(module, declared)}
        given = [aligned_copy(arguments[param.name]) for param in declared.params]
        values = engine.call(function, [engine.tensor(x) for x in (*held.values(), *given)])
        state.update(held)
        return dict(zip([out.name for out in declared.outputs], values, strict=True))

    return run


TARGETS = pytest.mark.parametrize("target", ["reference", "cpu"])


def fresh(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    state = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    lots = {d.name: np.zeros(static_shape(d.type.shape), np.int64) for d in target_module().state if d.kind == "lot"}
    return state | lots | {"lr": np.array([RATE], np.float32)}


def examples(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=(rows, 8))).astype(np.float32), rng.integers(0, 3, (rows, 1))


def batch(x: np.ndarray, y: np.ndarray, rows: list[int] | np.ndarray, junk: float = 0.0) -> Arrays:
    """A physical batch: the rows named, anywhere in it (-1: a dead row of ``junk``)."""
    images, labels = np.full((BATCH, 8), junk, np.float32), np.zeros((BATCH, 1), np.int64)
    place = np.full(BATCH, -1)
    place[: len(rows)] = rows
    live = place >= 0
    images[live], labels[live] = x[place[live]], y[place[live]]
    return {"x": images, "y": labels, "mask": live}


def sums(run: Run, batches: list[Arrays], seed: int = 0) -> Arrays:
    """The integers of a lot, accumulated batch by batch."""
    state = fresh(seed)
    for arguments in batches:
        run("accumulate", state, arguments)
    return {name: state[f"lot/{name}" if f"lot/{name}" in state else lot_name(name)] for name in SHAPES}


def lot_name(name: str) -> str:
    return next(d.name for d in target_module().state if d.kind == "lot" and d.name.endswith(name))


def gradients(state: Arrays, row: np.ndarray, label: int) -> Arrays:
    """One example's gradient, in float64."""
    row, w0, w1 = row.astype(np.float64), state["w0"].astype(np.float64), state["w1"].astype(np.float64)
    hidden = np.tanh(row @ w0 + state["b0"])
    delta = np.exp(hidden @ w1 - (hidden @ w1).max())
    delta /= delta.sum()
    delta[label] -= 1
    back = (w1 @ delta) * (1 - hidden**2)
    return {"w0": np.outer(row, back), "b0": back, "w1": np.outer(hidden, delta)}


@TARGETS
def test_sums_are_the_clipped_gradients_in_units_of_the_grid(target: str) -> None:
    x, y = examples(BATCH)
    found = sums(runner(target), [batch(x, y, np.arange(BATCH))])
    expect = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for row, label in zip(x, y[:, 0], strict=True):
        gradient = gradients(fresh(), row, label)
        norm = math.sqrt(sum(float(np.sum(g * g)) for g in gradient.values()))
        for name, g in gradient.items():
            expect[name] += g * min(1.0, CLIP * (1 - 2.0**-10) / norm) / (CLIP / 2**BITS)
    for name, value in expect.items():
        assert found[name].dtype == np.int64
        # Truncation takes less than one unit from every row, float32 gradients a few more.
        assert np.abs(found[name] - value).max() < BATCH * (1 + 2**BITS * 3e-7), name


@TARGETS
def test_any_partition_and_order_of_a_lot_gives_the_same_integers(target: str) -> None:
    run, rng = runner(target), np.random.default_rng(3)
    x, y = examples(2 * BATCH + 5)
    x[4] *= 1e4
    expect = sums(run, [batch(x, y, part) for part in np.split(np.arange(len(x)), [BATCH, 2 * BATCH])])
    assert all(np.any(value) for value in expect.values())
    for _ in range(8):
        order, cuts = rng.permutation(len(x)), np.sort(rng.integers(0, len(x), 5))
        batches: list[Arrays] = []
        for part in np.split(order, cuts):
            for some in np.split(part, range(BATCH, len(part), BATCH)):
                places = np.full(BATCH, -1)
                places[np.sort(rng.permutation(BATCH)[: len(some)])] = some  # dead rows in between, of junk
                batches.append(batch(x, y, places, junk=float(rng.choice([0.0, np.nan, np.inf, 1e38]))))
        found = sums(run, batches)
        for name, value in expect.items():
            np.testing.assert_array_equal(found[name], value)


@TARGETS
def test_one_example_moves_the_integers_by_at_most_k(target: str) -> None:
    """Sensitivity, with nothing left to rounding: norms in Python's integers."""
    run = runner(target)
    x, y = examples(BATCH)
    for row, factor in enumerate([0.0, 1e-30, 1e-6, 1.0, 1e3, 1e10, 1e30, 1e37, np.nan, np.inf]):
        x[row] = x[row] * factor if math.isfinite(factor) else factor
        with_it = sums(run, [batch(x, y, np.arange(BATCH))])
        places = np.arange(BATCH)
        places[row] = -1
        without = sums(run, [batch(x, y, places, junk=np.nan)])
        moved = [int(v) for name in SHAPES for v in (with_it[name] - without[name]).reshape(-1)]
        assert sum(v * v for v in moved) <= 4**BITS
        if 1.0 <= factor <= 1e10:
            assert sum(v * v for v in moved) > (0.99 * 2**BITS) ** 2  # clipped to the bound, not to less
        if not math.isfinite(factor):
            assert not any(moved)


@TARGETS
def test_a_step_is_accumulate_and_apply_bit_for_bit(target: str) -> None:
    run, rng = runner(target), np.random.default_rng(5)
    x, y = examples(7)
    noise = {
        name: rng.normal(scale=SIGMA * 2**BITS, size=shape).round().astype(np.int64) for name, shape in SHAPES.items()
    }
    rows = batch(x, y, np.arange(7), junk=np.inf)
    fused, split = fresh(), fresh()
    run("step", fused, rows | noise)
    integers = sums(run, [rows])
    run("accumulate", split, rows)
    run("apply", split, noise)
    for name in SHAPES:
        np.testing.assert_array_equal(fused[name], split[name])
        assert not np.any(split[lot_name(name)])
        unit = Fraction(CLIP) / 2**BITS / int(LOT)
        mean = [float((int(s) + int(n)) * unit) for s, n in zip(integers[name].flat, noise[name].flat, strict=True)]
        expect = fresh()[name] - RATE * np.reshape(mean, SHAPES[name])
        np.testing.assert_allclose(fused[name], expect, rtol=1e-6, atol=1e-7)


@TARGETS
def test_an_empty_lot_releases_noise(target: str) -> None:
    state = fresh()
    noise = {name: np.full(shape, 2**BITS, np.int64) for name, shape in SHAPES.items()}
    runner(target)("apply", state, noise)
    for name in SHAPES:
        np.testing.assert_allclose(state[name], fresh()[name] - RATE * CLIP / LOT, rtol=1e-6, atol=1e-7)


def test_the_module_reads_back_from_its_text() -> None:
    text = to_text(target_module())
    assert "grid_bits=20}" in text
    assert to_text(parse(text, OPSET)) == text


def test_both_targets_agree_to_float_precision() -> None:
    x, y = examples(BATCH)
    one, other = (sums(runner(target), [batch(x, y, np.arange(BATCH))]) for target in ("reference", "cpu"))
    for name in SHAPES:
        assert np.abs(one[name] - other[name]).max() < BATCH * 2**BITS * 3e-7


@pytest.mark.parametrize(
    ("bits", "count", "fits"), [(21, 2**22, 20), (20, 2**22 + 1, 19), (30, 5, 29), (0, 10, 29), (31, 1, 30)]
)
def test_grids_that_could_overflow_are_refused(bits: int, count: int, fits: int) -> None:
    privacy = PrivacyConfig(1.0, 16.0, 1.0, mechanism="discrete", slack=0.0, grid_bits=bits)
    with pytest.raises(PrivacyError) as caught:
        check_grid(privacy, {"w": count - 1, "b": 1} if count > 1 else {"w": 1})
    assert f"{count:,} trained numbers" in caught.value.what
    assert f"'grid_bits': {fits}" in (caught.value.hint or "")
    check_grid(replace(privacy, grid_bits=fits), {"w": count})
    assert 2 * fits + math.log2(count) <= 62


def test_the_worst_case_of_the_check_stays_inside_64_bits() -> None:
    """Every element beyond the grid, in as many elements as the compiler allows."""
    for bits, count in ((20, 2**22), (30, 4), (29, 2**4), (1, 2**60)):
        assert count * (4**bits + 1) < 2**63


def test_the_clip_target_leaves_room_for_float_norms() -> None:
    factor = next(op for op in target_module().function("step").ops if isinstance(op, ClipFactor))
    assert factor.clip == CLIP * (1 - 2.0**-10)
    assert factor.params == (StateName("w0"), StateName("b0"), StateName("w1"))


def test_products_in_numpy_do_not_depend_on_the_place_of_a_row() -> None:
    rng = np.random.default_rng(7)
    x, w = rng.normal(size=(61, 300)).astype(np.float32), rng.normal(size=(300, 70)).astype(np.float32)
    images, filters = rng.normal(size=(9, 5, 11)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    order, few = rng.permutation(61), rng.permutation(9)[:4]
    with rows_apart(True):
        np.testing.assert_array_equal(product(x, w)[order], product(x[order], w))
        seen = contracted(filters, images, ((1,), (1,)))
        np.testing.assert_array_equal(seen[:, few], contracted(filters, images[few], ((1,), (1,))))
    np.testing.assert_allclose(seen, contracted(filters, images, ((1,), (1,))), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(product(x, w), x.astype(float) @ w, rtol=1e-3, atol=1e-3)
