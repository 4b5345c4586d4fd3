"""Record and replay on neighbouring lots: what one example can change, on every target, for 500 pairs of each model.

Two lots differ in one bit of the mask, flipped in place; the row itself may hold anything.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from private_models import MODELS
from private_runs import classifying, rows, trained
from stateless import Compiled, without_state

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Module, Output, PrivacyConfig
from fluidc.compiler.ops.dp import ClipFactor
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
CLIP, ROWS, PAIRS, SLACK = 0.5, 16, 500, 2.0**-10
FACTORS = (1.0, 1e1, 1e3, 1e6, 1e12, 1e18, 1e24, 1e30, 0.0, math.nan, math.inf, -math.inf)
NAMES = ("mlp", "embedding", "tied", "lenet", "recurrent", "attention", "auto_encoder", "arithmetic")
QUICK = ("mlp", "embedding", "tied", "arithmetic")
NOISE = {"key": np.zeros(8, np.uint32), "draw": np.array(0, np.uint64)}


@cache
def module_of(name: str) -> Module:
    """The step with its clip factors as an output; lot 1 and no noise, so gradients are the clipped sums."""
    module = MODELS[name].module(PrivacyConfig(clip=CLIP, lot=1.0, sigma=0.0))
    module = run_passes(module, pipeline(module, batch=ROWS))
    step = module.function("step")
    factors = tuple(Output("c", op.result) for op in step.ops if isinstance(op, ClipFactor))
    return replace(module, functions=(replace(step, outputs=(*step.outputs, *factors)),))


@cache
def engine(target: str) -> Compiled:
    return Compiled([without_state(module_of(name), name) for name in NAMES], target)


def runner(name: str, target: str, state: Arrays) -> Run:
    if target == "reference":
        reference = Reference(module_of(name))
        return lambda feeds: reference.run("step", feeds | NOISE, dict(state))
    return lambda feeds: engine(target).run(name, NOISE | state | feeds)


@pytest.mark.parametrize(
    ("name", "target"),
    [(name, "cpu") for name in NAMES]
    + [pytest.param(n, "onnx", marks=() if n in QUICK else pytest.mark.nightly) for n in NAMES]
    + [pytest.param(n, "reference", marks=() if n in QUICK else pytest.mark.nightly) for n in NAMES],
)
def test_one_bit_of_the_mask_moves_the_sums_by_at_most_c(name: str, target: str) -> None:
    """The norms of the change, the factors of all other examples, and that nothing becomes NaN."""
    model, rng = MODELS[name], np.random.default_rng(20)
    state = {n: rng.normal(size=shape).astype(np.float32) for n, shape in model.parameters.items()}
    run = runner(name, target, state)
    largest = 0.0
    for pair in range(PAIRS):
        feeds = {n: draw(rng, ROWS) for n, (_, draw) in model.feeds.items()}
        row, factor = int(rng.integers(ROWS)), FACTORS[pair % len(FACTORS)]
        for value in feeds.values():
            if value.dtype.kind == "f":
                value[row] = value[row] * np.float32(factor) if math.isfinite(factor) else factor
        mask = rng.random(ROWS) < 0.7
        mask[row] = False
        without = run(feeds | {"mask": mask})
        mask[row] = True
        with_it = run(feeds | {"mask": mask})
        changes = [with_it[f"g_{n}"].astype(np.float64) - without[f"g_{n}"] for n in state]
        moved = math.sqrt(sum(float(np.sum(change**2)) for change in changes))
        assert moved <= CLIP * (1 + SLACK / 2), (pair, factor)
        others = np.arange(ROWS) != row
        np.testing.assert_array_equal(with_it["c"][others], without["c"][others])
        assert without["c"][row] == 0
        assert all(np.isfinite(value).all() for out in (with_it, without) for value in out.values())
        largest = max(largest, moved)
    assert largest > CLIP / 2, "no pair came near the bound"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_ops_run_for_both_lots(name: str) -> None:
    """Call for call in numpy; compiled code has no branch on data (its ops have no regions but counted loops)."""
    model, rng = MODELS[name], np.random.default_rng(21)
    state = {n: rng.normal(size=shape).astype(np.float32) for n, shape in model.parameters.items()}
    run, feeds = runner(name, "reference", state), {n: draw(rng, ROWS) for n, (_, draw) in model.feeds.items()}
    for n, value in feeds.items():
        if value.dtype.kind == "f":
            feeds[n][3] = np.nan
    run(feeds | {"mask": np.ones(ROWS, np.bool_)})  # what is bound once is bound
    traces: list[list[types.CodeType]] = []
    for live in (True, False):
        trace: list[types.CodeType] = []

        def profile(frame: types.FrameType, event: str, _: object, trace: list[types.CodeType] = trace) -> None:
            if event == "call" and frame.f_code.co_name == "evaluate":
                trace.append(frame.f_code)

        mask = np.ones(ROWS, np.bool_)
        mask[3] = live
        sys.setprofile(profile)
        try:
            run(feeds | {"mask": mask})
        finally:
            sys.setprofile(None)
        traces.append(trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 10


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_training_goes_on_with_an_example_that_is_not_finite(target: str, value: float, tmp_path: Path) -> None:
    """Its row counts as zero: the run is the one of a data set in which the row's gradient vanishes."""
    session, _ = classifying(target).session()
    data = rows(90)
    data["x"][[3, 50, 89]] = value
    result = session.train(data, steps=12, run_dir=tmp_path)
    assert result.step == 12
    assert all(np.isfinite(array).all() for array in trained(session).values())


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_a_row_of_nan_gives_the_update_of_the_lot_without_it(target: str) -> None:
    """Bit for bit, whatever its own feeds hold."""
    found = []
    for poisoned in (True, False):
        session, _ = classifying(target).session(seed=1)
        lot = rows(8)
        if poisoned:
            lot["x"][7] = math.nan
        else:
            lot = {name: value[:7] for name, value in lot.items()}
        session.model.stepper.run_lot(lot, key=bytes(32), draw=0)
        found.append(trained(session))
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)
