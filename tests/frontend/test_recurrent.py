"""Recurrent layers against Paddle 1.8.5: what is recorded, outputs, and the gradients of inputs and parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from records import check_op, check_var
from recurrent_programs import CASES, DECODED, LENGTHS, RECORDED, cost, feeds, values
from trees import golden

import fluidc.frontend as fluid

GOLDEN = golden("recurrent")


def programs(name: str) -> tuple[Any, Any, list[Any]]:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        outs = list(CASES[name](fluid))
    return main, startup, outs


@pytest.mark.parametrize("name", RECORDED)
def test_records_are_paddles(name: str) -> None:
    main, _, _ = programs(name)
    for block, theirs in zip(main.blocks, GOLDEN[name]["record"], strict=True):
        assert [op.type for op in block.ops] == [op["type"] for op in theirs["ops"]]
        for op, wanted in zip(block.ops, theirs["ops"], strict=True):
            check_op(op, wanted)
        assert set(block.vars) == set(theirs["vars"])
        for var_name, var in block.vars.items():
            check_var(var, theirs["vars"][var_name])


RUNS = [*((name, target) for name in sorted(CASES) for target in ("reference", "onnx")), ("one_of_each", "cpu")]


@pytest.mark.parametrize(("name", "target"), RUNS)
def test_numbers_are_paddles(name: str, target: str) -> None:
    main, startup, outs = programs(name)
    scope = fluid.Scope()
    with fluid.program_guard(main, startup), fluid.scope_guard(scope):
        total = cost(fluid, outs)
        pairs = fluid.backward.append_backward(total)
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        exe.run(startup)
        for parameter, value in values(main).items():
            scope.var(parameter).get_tensor().set(value, fluid.CPUPlace())
        feed = {
            k: array if lengths is None else fluid.create_lod_tensor(array, [lengths], fluid.CPUPlace())
            for k, (array, lengths) in feeds(main).items()
        }
        fetches = [*outs, total, *(g for _, g in pairs)]
        found = exe.run(main, feed=feed, fetch_list=fetches, return_numpy=False)
    for out, tensor, wanted in zip(outs, found, GOLDEN[name]["outputs"], strict=False):
        np.testing.assert_allclose(np.asarray(tensor), wanted, rtol=1e-5, atol=1e-6, err_msg=out.name)
        assert tensor.recursive_sequence_lengths() == ([LENGTHS] if out.lod_level else [])
    np.testing.assert_allclose(np.asarray(found[len(outs)]), GOLDEN[name]["cost"], rtol=1e-5)
    mine = {p.name: np.asarray(g) for (p, _), g in zip(pairs, found[len(outs) + 1 :], strict=True)}
    assert set(mine) == set(GOLDEN[name]["gradients"])
    for parameter, wanted in GOLDEN[name]["gradients"].items():
        np.testing.assert_allclose(mine[parameter], wanted, rtol=2e-5, atol=2e-5, err_msg=parameter)


@pytest.mark.parametrize("name", sorted(DECODED))
def test_decoded_is_what_paddle_decodes(name: str) -> None:
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup), fluid.scope_guard(scope):
        outs = DECODED[name](fluid)
        exe = fluid.Executor(fluid.CPUPlace(), target="reference")
        exe.run(startup)
        for parameter, value in values(main, 2.0).items():
            scope.var(parameter).get_tensor().set(value, fluid.CPUPlace())
        feed = {k: array for k, (array, _) in feeds(main).items()}
        found = exe.run(main, feed=feed, fetch_list=outs)
    for n, (mine, wanted) in enumerate(zip(found, GOLDEN["decoded"][name], strict=True)):
        assert mine.shape == wanted.shape, n
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6, err_msg=str(n))


def test_every_golden_has_its_case() -> None:
    assert set(GOLDEN) == {*CASES, "decoded"}
    assert set(GOLDEN["decoded"]) == set(DECODED)
