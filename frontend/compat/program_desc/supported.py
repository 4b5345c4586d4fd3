"""What of an imported program cannot be compiled: all of it at once, before anything is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...host_types import HOST_TYPES
from ...lower import rules
from ...op_role import OpRole
from .errors import ProgramDescError, shown
from .op_protos import op_protos
from .records import Record

_SLOTS: Mapping[str, tuple[str, ...]] = {
    "adam": ("Beta1Tensor", "Beta2Tensor"),
    "batch_norm": ("MomentumTensor",),
    "clip": ("Min", "Max"),
    "bilinear_interp": ("OutSize", "SizeTensor", "Scale"),
    "conv2d": ("ResidualData",),
    "conv2d_transpose": ("Bias",),
    "crop": ("Offsets",),
    "crop_tensor": ("Shape", "Offsets", "ShapeTensor", "OffsetsTensor"),
    "depthwise_conv2d": ("ResidualData",),
    "dropout": ("Seed",),
    "nearest_interp": ("OutSize", "SizeTensor", "Scale"),
    "pad2d": ("Paddings",),
}
"""Inputs that a rule does not take: what Paddle lets be a Variable, and here is a number."""

_CONV = {"fuse_relu": (False,), "fuse_brelu": (False,), "fuse_activation": ("",), "fuse_residual_connection": (False,)}
_ATTRS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "conv2d": _CONV,
    "conv2d_transpose": {"fuse_relu": (False,), "fuse_activation": ("",)},
    "depthwise_conv2d": _CONV,
    "gru_unit": {"activation": (2,), "gate_activation": (1,)},  # tanh and sigmoid
    "lookup_table": {"is_distributed": (False,)},
    "lookup_table_v2": {"is_distributed": (False,)},
    "matmul": {"head_number": (1,), "fused_reshape_Out": ([],), "fused_transpose_Out": ([],)},
    "pool2d": {"pooling_type": ("max", "avg")},
}
"""Values of attributes that a rule takes."""

_NOT_SAVED = {"py_func", "py_func_grad"}
"""Ops whose functions are no part of a file."""

_NOT_OURS = ("feed", "fetch", "backward")


def check_supported(blocks: Iterable[Sequence[Record]], source: str) -> None:
    """Refuse a program with ops that cannot be compiled.

    Args:
        blocks: Its ops, before or after gradient ops were replaced; those are not looked at.
        source: What messages call it.

    Raises:
        ProgramDescError: All of the ops are listed, with their numbers.
    """
    found: Counter[str] = Counter()
    optimizers = False
    known = rules().keys() | HOST_TYPES.keys() - _NOT_SAVED
    for op in (op for block in blocks for op in block):
        if op.type in _NOT_OURS or op.role is OpRole.BACKWARD:
            continue
        reasons = _reasons(op) if op.type in known else [shown(op.type)]
        optimizers |= op.type not in known and op.role is OpRole.OPTIMIZE
        found.update(reasons)
    if found:
        listed = ", ".join(f"{count} x {reason}" for reason, count in sorted(found.items(), key=lambda item: item[0]))
        hint = "save a part of the model without them, or write them with other layers"
        if optimizers:
            hint = "minimize anew: save the program with clone(for_test=True), or save_inference_model; " + hint
        raise ProgramDescError(f"the program has ops that cannot be compiled: {listed}", source, hint)


def _reasons(op: Record) -> list[str]:
    """What of one op is not supported."""
    proto = op_protos().get(op.type)
    refused = _SLOTS.get(op.type, ())
    slots = [slot for slot in op.inputs if slot in refused or (proto is not None and slot not in proto.inputs)]
    allowed = _ATTRS.get(op.type, {})
    attrs = [name for name, values in allowed.items() if name in op.attrs and op.attrs[name] not in values]
    return [
        *(f"{op.type} with the input {shown(slot)}" for slot in slots),
        *(f"{op.type} with {name}={shown(str(op.attrs[name]))}" for name in attrs),
        *(f"{op.type} with the attribute {shown(name)} of a later version" for name in op.unknown),
    ]
