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

import fluidc.frontend as fluid
from fluidc.frontend.framework import Operator, OpRole, Program

FOLDER = Path(__file__).parent / "golden"
GOLDENS: dict[str, Any] = {
    **json.loads((FOLDER / "programs.json").read_text()),
    **json.loads((FOLDER / "layers.json").read_text()),
}
CASES = {**fluid_programs.CASES, **layer_programs.CASES}

# Attributes of Paddle's kernels that do not change what an op means, by op ("*": any op).
NOT_KEPT = {
    "*": {"str_value", "force_cpu", "in_dtype", "out_dtype", "data_format", "is_test", "infer_flags", "decrease_axis"},
    "mul": {"scale_x", "scale_y", "scale_out"},
    "matmul": {"head_number", "fused_reshape_Out", "fused_transpose_Out"},
    "lookup_table": {
        "epmap",
        "height_sections",
        "table_names",
        "trainer_id",
        "remote_prefetch",
        "grad_inplace",
    },
    "lookup_table_v2": {"epmap", "height_sections", "table_names", "trainer_id", "remote_prefetch"},
    "one_hot": {"dtype"},
    "one_hot_v2": {"dtype"},
    "uniform_random": {"diag_num", "diag_step", "diag_val"},
    "uniform_random_batch_size_like": {"diag_num", "diag_step", "diag_val"},
    "assign_value": {"bool_values", "fp32_values", "int32_values", "int64_values"},
    "pool2d": {"adaptive"},
    "batch_norm": {"trainable_statistics"},
    "cos_sim": {"@ALL_KERNELS_MUST_COMPUTE_RUNTIME_SHAPE@"},
    "arg_max": {"keepdims", "dtype"},
    "arg_min": {"keepdims", "dtype"},
    "fill_any_like": {"dtype"},
    "equal": {"axis"},
    "adam": {"min_row_size_to_use_multithread"},
    "while": {"skip_eager_deletion_vars"},
    "conditional_block": {"skip_eager_deletion_vars"},
    "recurrent": {"skip_eager_deletion_vars"},
}
# Attributes that only fluidc has: numbers that it folds when the program is built.
ADDED = {"assign_value": {"values"}, "range": {"values"}, "linspace": {"values"}}
# Slots whose order Paddle takes from a set.
UNORDERED = {("recurrent", "parameters"), ("while", "X"), ("while", "Out"), ("conditional_block", "Input")}


def build(name: str) -> tuple[Program, Program]:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        CASES[name](fluid)
    return main, startup


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return int(value) if isinstance(value, fluid.VarType) else value


def slots(op: str, args: dict[str, list[str]]) -> dict[str, list[str]]:
    return {slot: sorted(names) if (op, slot) in UNORDERED else names for slot, names in sorted(args.items()) if names}


def check_op(mine: Operator, theirs: dict[str, Any]) -> None:
    assert mine.type == theirs["type"]
    assert slots(mine.type, mine.inputs) == slots(mine.type, theirs["in"])
    assert slots(mine.type, mine.outputs) == slots(mine.type, theirs["out"])
    kept = {n: plain(v) for n, v in mine.attrs.items() if n not in ADDED.get(mine.type, set())}
    for name, value in kept.items():
        if name == "sub_block":
            assert theirs["attrs"][name] == {"block": value}
        elif isinstance(value, float):
            assert theirs["attrs"][name] == pytest.approx(value, rel=1e-6), name
        else:
            assert theirs["attrs"][name] == value, name
    dropped = set(theirs["attrs"]) - set(kept)
    assert dropped <= NOT_KEPT["*"] | NOT_KEPT.get(mine.type, set())


def check_var(mine: Any, theirs: list[Any] | None) -> None:
    if theirs is None:
        assert mine.type is fluid.VarType.STEP_SCOPES
        return
    shape, dtype, persistable, lod_level, stop_gradient = theirs
    # Paddle declares with x's type what it computes as a boolean.
    assert mine.dtype.name == ("BOOL" if mine.name.startswith(("isinf_", "isnan_")) else dtype)
    # Paddle multiplies open extents (-6), and leaves open what fluidc infers.
    assert len(mine.shape) == len(shape)
    assert all(m == t or t <= 0 for m, t in zip(mine.shape, shape)), (mine.shape, shape)
    assert (mine.persistable, mine.lod_level, mine.stop_gradient) == (persistable, lod_level, stop_gradient)


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
