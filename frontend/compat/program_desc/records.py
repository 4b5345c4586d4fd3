"""Ops as a ProgramDesc holds them, before they belong to a Program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...op_role import OpRole
from ...vartype import VarType
from .attributes import AttrType, read_attr
from .errors import ProgramDescError, shown
from .op_protos import op_protos

LOSS = 256
"""Bit of ``op_role``: the op computes a loss, or begins its gradient."""

_ROLES = OpRole.BACKWARD | OpRole.OPTIMIZE | OpRole.LR_SCHED | LOSS

_DTYPES = ("dtype", "in_dtype", "out_dtype")
"""Attributes that hold element types; -1 is none."""

_KERNELS = (
    "workspace_size_MB", "exhaustive_search", "skip_eager_deletion_vars", "remote_prefetch", "trainer_id", "epmap",
    "height_sections", "table_names", "pserver_num", "mkldnn_data_type", "@ALL_KERNELS_MUST_COMPUTE_RUNTIME_SHAPE@",
    "is_sparse_grad", "with_quant_attr", "is_test",
)  # fmt: skip
"""Attributes that choose a kernel or a machine, and remarks of tools; what an op computes is the same."""

_BOOKKEEPING = ("op_role", "op_role_var", "op_namescope")
_REMARKS = ("op_callstack", "op_device")


@dataclass
class Record:
    """One op of a file.

    Attributes:
        type: Paddle's op type, or ``backward``.
        inputs, outputs: Slots that hold names.
        attrs: Those that say what the op computes; unknown ones of known ops are in ``unknown``.
        role: Its `OpRole`, without the bit for losses.
        is_loss: Whether it computes a loss, or begins its gradient.
        updates: ``op_role_var``: parameters and their gradients by turns.
        namescope: Where it was written.
        position: Its number in the block of the file.
        unknown: Attributes that Paddle 1.8.5 does not have, and that may matter.
    """

    type: str
    inputs: dict[str, list[str]]
    outputs: dict[str, list[str]]
    attrs: dict[str, Any] = field(default_factory=dict[str, Any])
    role: OpRole = OpRole.FORWARD
    is_loss: bool = False
    updates: tuple[str, ...] = ()
    namescope: str = "/"
    position: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def reads(self) -> list[str]:
        """Names of all inputs."""
        return [name for names in self.inputs.values() for name in names]

    @property
    def writes(self) -> list[str]:
        """Names of all outputs."""
        return [name for names in self.outputs.values() for name in names]

    @property
    def sub_block(self) -> int | None:
        """The number of the block that belongs to the op."""
        return self.attrs.get("sub_block")


def records_of(message: Any, source: str) -> list[Record]:
    """The ops of a block message.

    Raises:
        ProgramDescError: An attribute that cannot be understood.
    """
    return [_record(op, position, source) for position, op in enumerate(message.ops)]


def _record(message: Any, position: int, source: str) -> Record:
    where = f"{source}: {shown(message.type)}, op {position}"
    values: dict[str, Any] = {}
    unknown: list[str] = []
    proto = op_protos().get(message.type)
    for attr in message.attrs:
        name = attr.name
        if name in _REMARKS:
            continue
        if name in _BOOKKEEPING or proto is None or name in proto.attrs:
            values[name] = read_attr(attr, where)
            expected = None if proto is None else proto.attrs.get(name)
            if expected is not None:
                values[name] = _as(expected, AttrType(attr.type), values[name], name, where)
        elif not (name in _KERNELS or name.startswith(("use_", "Scale_")) or "threshold" in name or _is_neutral(attr)):
            unknown.append(name)
    role = values.get("op_role", 0)
    if not isinstance(role, int) or role & ~_ROLES:
        what = f"op_role is {role}, which is none of a program for one machine"
        raise ProgramDescError(what, where, "save the program that was written, before a transpiler divided it")
    updates = values.get("op_role_var", [])
    return Record(
        message.type,
        _slots(message.inputs, where),
        _slots(message.outputs, where),
        {name: _typed(name, value, where) for name, value in values.items() if name not in _BOOKKEEPING},
        # A parameter's own learning rate is computed for its optimizer and for the schedule (18).
        next((kind for kind in (OpRole.BACKWARD, OpRole.OPTIMIZE, OpRole.LR_SCHED) if role & kind), OpRole.FORWARD),
        bool(role & LOSS),
        tuple(updates) if isinstance(updates, list) else (),
        str(values.get("op_namescope", "/")),
        position,
        tuple(unknown),
    )


_INTEGERS = (AttrType.INT, AttrType.LONG)
_LISTS = (AttrType.INTS, AttrType.LONGS)


def _as(expected: AttrType, found: AttrType, value: Any, name: str, where: str) -> Any:
    """The value as the type that the op declares; older versions wrote some in another."""
    if expected is found or {expected, found} <= set(_INTEGERS) or {expected, found} <= set(_LISTS):
        return value
    if expected is AttrType.FLOAT and found in _INTEGERS:
        return float(value)
    if expected is AttrType.BOOLEAN and found in _INTEGERS:
        return bool(value)
    if expected in _INTEGERS and found is AttrType.BOOLEAN:
        return int(value)
    raise ProgramDescError(
        f"attribute {shown(name)} is of type {found.name}, and should be {expected.name}",
        where,
        "the file is damaged, or of a version of Paddle other than 1.x",
    )


def _is_neutral(attr: Any) -> bool:
    """Whether an attribute that 1.8.5 lacks says nothing: false, 0, empty, or not set."""
    return not any(bool(value) for descriptor, value in attr.ListFields() if descriptor.name not in ("name", "type"))


def _typed(name: str, value: Any, where: str) -> Any:
    if name not in _DTYPES or not isinstance(value, int) or value < 0:
        return value
    try:
        return VarType(value)
    except ValueError:
        what = f"{name} is {value}, which is no element type of Paddle 1.8.5"
        raise ProgramDescError(what, where, "save the model with Paddle 1.8") from None


def _slots(messages: Sequence[Any], where: str) -> dict[str, list[str]]:
    slots: dict[str, list[str]] = {}
    for slot in messages:
        if slot.parameter in slots:
            raise ProgramDescError(f"the slot {shown(slot.parameter)} is there twice", where, "the file is damaged")
        if slot.arguments:
            slots[slot.parameter] = list(slot.arguments)
    return slots


def kept_blocks(blocks: Mapping[int, Sequence[Record]]) -> list[int]:
    """Numbers of the blocks that the global block's ops need, itself included, in order."""
    found, todo = {0}, list(blocks[0])
    while todo:
        number = todo.pop().sub_block
        if number is not None and number not in found:
            found.add(number)
            todo += blocks[number]
    return sorted(found)
