"""Loops, branches and structured losses against Paddle 1.8.5 (tests/golden/make_paddle185/control.py says more)."""

from __future__ import annotations

import control_programs
import pytest
from records import check_op, check_var
from trees import assert_same, golden

import fluidc.frontend as fluid


@pytest.mark.parametrize("name", control_programs.CASES)
def test_records_are_paddles(name: str) -> None:
    _, main, _ = control_programs.built_program(fluid, name)
    theirs = golden("control")[name]["record"]
    assert [block.parent_idx for block in main.blocks] == [block["parent"] for block in theirs]
    for block, wanted in zip(main.blocks, theirs, strict=True):
        assert [op.type for op in block.ops] == [op["type"] for op in wanted["ops"]]
        for op, wanted_op in zip(block.ops, wanted["ops"], strict=True):
            check_op(op, wanted_op)
        assert set(block.vars) == set(wanted["vars"])
        for var_name, var in block.vars.items():
            check_var(var, wanted["vars"][var_name])


ON_CPU = (
    "crf_padded", "crf_sequences", "while_memory", "while_growing", "dynamic_rnn", "dynamic_rnn_attention", "if_else",
    "dynamic_rnn_undefined_beyond", "if_else_undefined_beyond", "ctc_sequences", "hsigmoid", "nce_seeded",
)  # fmt: skip
RUNS = [
    *((name, target) for name in control_programs.CASES for target in ("reference", "onnx")),
    *(
        pytest.param(name, "cpu", marks=[] if name in ON_CPU else pytest.mark.nightly)
        for name in control_programs.CASES
    ),
]


@pytest.mark.parametrize(("name", "target"), RUNS)
def test_as_paddle(name: str, target: str) -> None:
    want = golden("control")[name]
    got = control_programs.run(fluid, name, fluid.Executor(fluid.CPUPlace(), target=target))
    assert_same(got["outs"], want["outs"], rtol=1e-5, atol=1e-6)
    assert got["lods"] == want["lods"]
    assert_same(got["grads"], want["grads"], rtol=1e-4, atol=1e-5)
