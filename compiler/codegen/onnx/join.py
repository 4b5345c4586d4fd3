"""Sums of padded pieces as concatenations, for ONNX Runtime: it fuses neither Pad nor Add into anything.

The gradient of a value that was taken apart by slices, as an LSTM's gates are, is such a sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...ir.core import Module, OpBase, Value
from ...ops.construct import OpBuilder
from ...ops.elementwise import Add
from ...ops.shape import Concat, Pad
from ...passes.dce import Dce
from ...passes.rewrite import rewrite


def joined(module: Module) -> Module:
    """The module with sums of pads that fill an axis without overlap as one ``concat`` each, up to signs of zeros."""
    return Dce().run(module.map_functions(lambda function: rewrite(function, _concatenated)))


def _concatenated(b: OpBuilder, op: OpBase) -> Sequence[Value] | None:
    if not isinstance(op, Add):
        return None
    pieces = list(_pieces(op.result))
    if any(not isinstance(piece, Pad) for piece in pieces):
        return None
    pads = [piece for piece in pieces if isinstance(piece, Pad)]
    axis = _padded_axis(pads)
    if axis is None:
        return None
    pads.sort(key=lambda pad: _start(pad, axis))
    end = 0
    for pad in pads:
        size = pad.x.tensor.shape[axis]
        if _start(pad, axis) != end or not isinstance(size, int):
            return None
        end += size
    if end != op.result.tensor.shape[axis]:
        return None
    return b.emit(Concat(tuple(pad.x for pad in pads), axis))


def _pieces(value: Value) -> Iterator[OpBase | None]:
    """What a sum adds up; every piece has the shape of the sum."""
    op = value.op
    if isinstance(op, Add) and op.x.type == op.y.type:
        yield from _pieces(op.x)
        yield from _pieces(op.y)
    else:
        yield op


def _padded_axis(pads: Sequence[Pad]) -> int | None:
    """The axis along which all of them are padded with zeros; None where one is padded otherwise."""
    found: set[int] = set()
    for pad in pads:
        axes = {axis for axis, ends in enumerate(zip(pad.low, pad.high, strict=True)) if ends != (0, 0)}
        if pad.value != 0 or any(pad.gaps) or len(axes) != 1:
            return None
        found |= axes
    return found.pop() if len(found) == 1 else None


def _start(pad: Pad, axis: int) -> int:
    """Where a piece starts along the axis; -1 where that is not fixed."""
    low = pad.low[axis]
    return low if isinstance(low, int) else -1
