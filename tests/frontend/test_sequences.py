"""Sequence layers give Paddle 1.8.5's results, lengths and gradients: the calls of tests/support/sequence_cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sequence_cases import CASES, Placed, cost, fed, place, set_parameters
from trees import golden

import fluidc.frontend as fluid
from fluidc.frontend.framework import Program

GOLDEN = golden("sequences")


def run(names: Sequence[str], target: str) -> dict[str, dict[str, Any]]:
    """The results, offsets and gradients of cases, all in one program."""
    main, startup, scope = Program(), Program(), fluid.Scope()
    cases: list[Placed] = []
    asked: list[tuple[str, Any]] = []
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        losses: list[Any] = []
        for name in names:
            placed = place(fluid, name)
            cases.append(placed)
            loss = cost(fluid, placed)
            if loss is not None:
                losses.append(loss)
                wants = zip(placed.wanted, GOLDEN[name]["grads"], strict=True)
                asked += [(name, x) for x, want in wants if want is not None]
        grads = fluid.gradients(losses, [x for _, x in asked]) if losses else []
    assert all(grad is not None for grad in grads)
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        if startup.global_block().ops:
            exe.run(startup)
        feeds: dict[str, Any] = {}
        for placed in cases:
            set_parameters(fluid, scope, placed)
            feeds |= fed(fluid, placed.feeds)
        fetches = [out for placed in cases for out in placed.outs] + grads
        values = exe.run(main, feed=feeds, fetch_list=fetches, return_numpy=False)
    found: dict[str, dict[str, Any]] = {}
    for placed in cases:
        outs, values = values[: len(placed.outs)], values[len(placed.outs) :]
        found[placed.name] = {
            "outs": [np.array(out) for out in outs],
            "lods": [out.lod() for out in outs],
            "shapes": [list(out.shape) for out in placed.outs],
            "grads": [],
        }
    for (name, _), value in zip(asked, values, strict=True):
        found[name]["grads"].append(np.array(value))
    return found


def check(name: str, found: dict[str, Any]) -> None:
    want = GOLDEN[name]
    assert found["lods"] == want["lods"], name
    grads = [grad for grad in want["grads"] if grad is not None]
    for kind, mine, theirs in (("out", found["outs"], want["outs"]), ("grad", found["grads"], grads)):
        assert len(mine) == len(theirs), name
        for i, (have, wanted) in enumerate(zip(mine, theirs, strict=True)):
            assert have.dtype == wanted.dtype, (name, kind, i)
            np.testing.assert_allclose(have, wanted, rtol=1e-5, atol=2e-6, err_msg=f"{name} {kind} {i}")


def test_every_case_has_its_golden() -> None:
    assert list(GOLDEN) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_paddles(name: str) -> None:
    found = run([name], "reference")[name]
    check(name, found)
    # Of the padded ones Paddle says 1, and means that it does not know.
    if not name.startswith("pad"):
        assert found["shapes"] == GOLDEN[name]["shapes"]


def test_in_onnx_they_are_too() -> None:
    found = run(list(CASES), "onnx")
    for name in CASES:
        check(name, found[name])


COMPILED = (
    "pool_max", "pool2_sqrt", "conv_pool", "row_conv", "concat", "expand_sequences", "expand_outer", "pad_row", "unpad",
    "reshape_across", "reverse", "scatter", "slice", "enumerate", "mask", "append", "position", "attention",
)  # fmt: skip


@pytest.mark.parametrize(
    "names", [pytest.param(COMPILED, id="some"), pytest.param(list(CASES), id="all", marks=pytest.mark.nightly)]
)
def test_compiled_they_are_too(names: Sequence[str]) -> None:
    for start in range(0, len(names), 20):
        part = names[start : start + 20]
        found = run(part, "cpu")
        for name in part:
            check(name, found[name])
