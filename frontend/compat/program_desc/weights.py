"""Which persistable variables of a ProgramDesc are parameters; the file does not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...op_role import OpRole
from ...vartype import VarType
from .records import Record

if TYPE_CHECKING:
    from .building import Draft

_STATISTICS: Mapping[str, tuple[str, ...]] = {
    "auc": ("StatPos", "StatNeg"),
    "batch_norm": ("Mean", "Variance"),
    "center_loss": ("Centers", "CenterUpdateRate"),
    "data_norm": ("BatchSize", "BatchSum", "BatchSquareSum"),
    "label_smooth": ("PriorDist",),
    "spectral_norm": ("U", "V"),
}
"""Slots of running statistics, and of what else no optimizer updates: parameters that are frozen."""


def parameters_of(draft: Draft, kept: Sequence[int], trainable: Callable[[str], bool] | None = None) -> dict[str, bool]:
    """Names of the parameters, and whether they are trained.

    A parameter is a persistable tensor of floating point that the forward part reads, and that nothing but an optimizer
    writes; or running statistics, which are never trained. Of the others those are trained that the program's
    optimizers update, or all where it has none.

    Args:
        draft: A program whose gradient ops are backward records.
        kept: The blocks that are used.
        trainable: Says which are trained instead.
    """
    ops = [record for number in kept for record in draft.blocks[number]]
    updated = {name for op in ops if op.role is OpRole.OPTIMIZE for name in op.inputs.get("Param", ())}
    updated |= {name for op in ops if op.type == "backward" for name in op.attrs["parameters"]}
    written = {name for op in ops if not _is_update(op) for name in op.writes}
    forward = [op for op in ops if op.role is OpRole.FORWARD]
    read: dict[str, None] = dict.fromkeys(name for op in forward for name in op.reads)
    statistics = {name for op in forward for slot in _STATISTICS.get(op.type, ()) for name in op.inputs.get(slot, ())}
    found: dict[str, bool] = {}
    for name in [*read, *sorted(updated - read.keys())]:
        var = draft.variables[0].get(name)
        if var is None or not var.persistable or var.kind is not VarType.LOD_TENSOR:
            continue
        if var.dtype is None or not var.dtype.is_float or any(d < 0 for d in var.shape):
            continue
        if name in statistics:
            found[name] = False
        elif name in updated or name not in written:
            learns = name in updated if updated else True
            found[name] = learns if trainable is None else trainable(name)
    return found


def _is_update(op: Record) -> bool:
    """Whether the op updates a parameter in place."""
    return op.role is OpRole.OPTIMIZE and op.inputs.get("Param", []) == op.outputs.get("ParamOut", [])
