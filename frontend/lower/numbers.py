"""Shapes, axes and counts that a record takes from variables: what is known of them when the program is lowered.

Fluid lets a shape be a Variable.  Of most it is plain where they come from: constants, and extents of other Variables.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, RaggedType, numel
from ...compiler.ops.elementwise import Add, Cast, Fill, Mul, Sub
from ...compiler.ops.shape import Concat, Extent, Reshape, Slice
from ...compiler.ops.state import Read
from .context import OpLowering

_MOST = 64
"""Elements that are looked at; a shape has fewer."""

Number = Dim | float


def elements(o: OpLowering, value: Value) -> list[Number] | None:
    """The elements of a small tensor, row by row, as far as constants and extents tell; None if they do not."""
    op, kind = value.op, value.type
    if op is None or isinstance(kind, RaggedType):
        return None
    if isinstance(op, Fill):
        count = 1
        for extent in kind.shape:
            if not isinstance(extent, int):
                return None
            count *= extent
        filled: list[Number] = [op.value] * count if count <= _MOST else []
        return filled or None
    if isinstance(op, Extent):
        return [op.dim]
    if isinstance(op, Reshape):
        return elements(o, op.x)
    if isinstance(op, Cast):
        found = elements(o, op.x)
        integer = kind.dtype.is_integer
        return None if found is None else [int(n) if integer and isinstance(n, float) else n for n in found]
    if isinstance(op, Add | Sub | Mul):
        return _combined(op, elements(o, op.x), elements(o, op.y))
    if isinstance(op, Concat) and kind.rank == 1:
        parts = [elements(o, x) for x in op.xs]
        return [n for part in parts if part is not None for n in part] if None not in parts else None
    if isinstance(op, Slice) and op.x.tensor.rank == 1 and isinstance(op.start, int) and isinstance(op.stop, int):
        found = elements(o, op.x)
        return None if found is None else found[op.start : op.stop : op.step]
    if isinstance(op, Read) and str(op.state) in o.function.shared.initial:
        array = o.function.shared.initial[str(op.state)]
        return array.reshape(-1).tolist() if array.size <= _MOST else None
    return None


def _combined(op: Add | Sub | Mul, x: list[Number] | None, y: list[Number] | None) -> list[Number] | None:
    """The sum, difference or product of known elements; extents that are open can only be multiplied."""
    if not x or not y or not (len(x) == len(y) or len(y) == 1 or len(x) == 1):
        return None
    count = max(len(x), len(y))
    found: list[Number] = []
    for p, q in zip(x * (count // len(x)), y * (count // len(y)), strict=True):
        if isinstance(p, int | float) and isinstance(q, int | float):
            found.append(p + q if isinstance(op, Add) else p - q if isinstance(op, Sub) else p * q)
        elif isinstance(op, Mul) and not isinstance(p, float) and not isinstance(q, float):
            found.append(numel((p, q)))
        else:
            return None
    return found


def numbers(o: OpLowering, slot: str) -> list[Number]:
    """The elements of all variables in a slot, one after the other.

    Raises:
        LoweringError: They are computed from data.
    """
    found: list[Number] = []
    for name, value in zip(o.op.input(slot), o.ins(slot), strict=True):
        known = elements(o, value)
        if known is None:
            raise o.error(
                f"{slot} is the Variable {name}, whose value is computed when the program runs",
                "give numbers, or extents of layers.shape: what is compiled has fixed shapes but for the batch",
            )
        found += known
    return found


def dims(o: OpLowering, slots: Iterable[str], attr: str) -> list[Dim]:
    """Integers of the first of the slots that is filled, else of the attribute."""
    for slot in slots:
        if o.has(slot):
            return [int(n) if isinstance(n, float) else n for n in numbers(o, slot)]
    return [int(n) for n in o.attr(attr)]


def integers(o: OpLowering, slots: Iterable[str], attr: str) -> list[int]:
    """As `dims`, where no extent may be open."""
    found: list[int] = []
    for n in dims(o, slots, attr):
        if not isinstance(n, int):
            raise o.error(f"{attr} holds the open extent {n}", "state a number")
        found.append(n)
    return found


def integer(o: OpLowering, slot: str, attr: str, default: int | None = None) -> int:
    """One integer, of a slot or else of an attribute."""
    if not o.has(slot):
        value = o.attr(attr, default)
        return int(value)
    found = numbers(o, slot)
    if len(found) != 1 or not isinstance(found[0], int | float):
        raise o.error(f"{slot} holds {found}", "give one number")
    return int(found[0])
