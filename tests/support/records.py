"""Whether what fluidc records of an op or a variable is what Paddle 1.8.5 records (tests/frontend/make_goldens.py)."""

from __future__ import annotations

from typing import Any

import pytest

import fluidc.frontend as fluid
from fluidc.frontend.framework import Operator

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
    "hierarchical_sigmoid": {"epmap", "height_sections", "table_names", "trainer_id", "remote_prefetch"},
    "nce": {"epmap", "height_sections", "table_names", "trainer_id", "remote_prefetch", "custom_neg_classes"},
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
UNORDERED = {
    ("recurrent", "parameters"),
    ("while", "X"),
    ("while", "Out"),
    ("conditional_block", "Input"),
    ("conditional_block", "Out"),
}


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
        assert mine.type in (fluid.VarType.STEP_SCOPES, fluid.VarType.LOD_RANK_TABLE)
        return
    shape, dtype, persistable, lod_level, stop_gradient = theirs
    # Paddle declares with x's type what it computes as a boolean.
    assert mine.dtype.name == ("BOOL" if mine.name.startswith(("isinf_", "isnan_")) else dtype)
    # Paddle multiplies open extents (-6), and leaves open what fluidc infers.
    assert len(mine.shape) == len(shape)
    assert all(m == t or t <= 0 for m, t in zip(mine.shape, shape)), (mine.shape, shape)
    assert (mine.persistable, mine.lod_level, mine.stop_gradient) == (persistable, lod_level, stop_gradient)
