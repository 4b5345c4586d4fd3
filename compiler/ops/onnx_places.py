"""Reading and adding at places given as data, in ONNX nodes.

ONNX counts negative places from the end, and ONNX Runtime fails at others outside; compiled code of every target gives
NaN (0 in integers) for what is read there and ignores what is written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ..ir.types import Dim, DType, Shape, TensorType, numel
from .base import Op
from .emit import OnnxEmitter
from .onnx_forms import NUMBERS, SINGLE_AND_DOUBLE, computed, kernel_type

SCATTERED = SINGLE_AND_DOUBLE | {DType.I32, DType.I64}
"""Element types that are selected and added at places."""


@dataclass(frozen=True)
class Places:
    """Places along an axis.

    Attributes:
        op: Whose nodes these are.
        o: Where they go.
        name: The places, as the graph calls them.
        kind: Their type.
        extent: Of the axis.
    """

    op: Op
    o: OnnxEmitter
    name: str
    kind: TensorType
    extent: Dim

    @cached_property
    def index(self) -> str:
        """The places in i64."""
        return self.name if self.kind.dtype is DType.I64 else self.o.cast(self.name, DType.I64)

    @cached_property
    def end(self) -> str:
        """The extent, i64[]."""
        return self.o.extent(self.extent)

    @cached_property
    def safe(self) -> str:
        """The places, those outside moved to the nearest one inside."""
        o, zero = self.o, self.o.scalar(0, DType.I64)
        last = self.o.scalar(self.extent - 1, DType.I64) if isinstance(self.extent, int) else ""
        last = last or o.node("Sub", self.end, o.scalar(1, DType.I64))
        return o.node("Clip", self.index, zero, last)

    @cached_property
    def inside(self) -> str:
        """bool: which places are inside."""
        return self.o.node("Equal", self.index, self.safe)

    @cached_property
    def or_behind(self) -> str:
        """Places of an axis with one element more, which takes what is outside: its last place is -1, too."""
        return self.o.node("Clip", self.index, self.o.scalar(-1, DType.I64), self.end)

    def read(self, found: str, dtype: DType, inside: str) -> str:
        """What was found at safe places, where ``inside`` holds; it broadcasts to ``found``."""
        op, o = self.op, self.o
        wide = kernel_type(op, dtype, NUMBERS)
        if wide.is_float:
            single = DType.F64 if wide is DType.F64 else DType.F32
            factor = o.node("Where", inside, o.scalar(1, single), o.scalar(math.nan, single))
            factor = factor if wide is single else o.cast(factor, wide)
        else:
            factor = o.cast(inside, wide)
        return computed(op, o, dtype, NUMBERS, partial(o.node, "Mul", factor), found)

    def beside(self, x: str, axes: int) -> str:
        """``x`` of the places' shape with axes of extent 1 behind."""
        return self.o.reshape(x, (*self.kind.shape, *(1,) * axes)) if axes else x


def scattered(
    o: OnnxEmitter, x: str, kind: TensorType, axis: int, places: str, updates: str, updated: Shape, adds: bool
) -> str:
    """``x`` of a type with rows added, or written, at ``places`` of an axis, in their order.

    Args:
        o: Where nodes go.
        x: What they are added to.
        kind: Its type.
        axis: Of ``x``.
        places: i64, `Places.or_behind`: what is outside goes to a row that is cut off again.
        updates: The rows; their axes are those of ``x`` with those of the places for ``axis``.
        updated: Their shape.
        adds: Whether they are added.
    """
    before, extent, after = numel(kind.shape[:axis]), kind.shape[axis], numel(kind.shape[axis + 1 :])
    rank = len(updated) - len(kind.shape) + 1
    count = numel(updated[axis : axis + rank])
    reduction = "add" if adds else None
    if before == 1 and isinstance(after, int):
        # One axis is scattered along faster than two.
        data = o.node("Concat", o.reshape(x, (numel(kind.shape),)), o.full((after,), 0, kind.dtype), axis=0)
        first = o.node("Mul", o.reshape(places, (count, 1)), o.scalar(after, DType.I64))
        index = o.node("Reshape", o.node("Add", first, o.array(np.arange(after))), o.ints(-1))
        flat = o.reshape(updates, (numel(updated),))
        found = o.node("ScatterElements", data, index, flat, axis=0, reduction=reduction)
        return o.reshape(o.node("Slice", found, o.ints(0), o.ints(-after)), kind.shape)
    data = o.node("Concat", o.reshape(x, (before, extent, after)), o.full((before, 1, after), 0, kind.dtype), axis=1)
    index = o.expand(o.reshape(places, (1, count, 1)), (before, count, after))
    rows = o.reshape(updates, (before, count, after))
    found = o.node("ScatterElements", data, index, rows, axis=1, reduction=reduction)
    return o.reshape(o.node("Slice", found, o.ints(0), o.ints(-1), o.ints(1)), kind.shape)
