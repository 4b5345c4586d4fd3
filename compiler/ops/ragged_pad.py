"""Rows of different lengths beside each other, each filled up to one width, and back.

The width is an extent: fixed, or a symbol that a parameter binds (the longest row, say).  A row that is longer is cut,
and what was cut is 0 when tokens are taken back.  With ``reverse`` a row's last token stands first: a recurrence that
runs backwards over tokens of which the last ones are missing runs forwards over these.  With ``steps_first`` axis 0
runs over the tokens of a row, and axis 1 over rows: [width, N, …].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import Dim, DType, RaggedType, Shape, TensorType
from .base import Array, Op, OpBuilder
from .emit import Expr, Loops, OnnxEmitter, OnnxRagged, RaggedTensor, Tensor, TvmEmitter
from .onnx_rows import Rows
from .ragged import Lengths, RaggedArray


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """The tokens of every row, then ``pad_value``: [N, width, …]."""

    name: ClassVar[str] = "ragged.pad"

    x: Value
    width: Dim
    pad_value: float = 0.0
    reverse: bool = False
    steps_first: bool = False

    def infer(self) -> TensorType:
        kind = self.x.ragged
        leading = (self.width, kind.count) if self.steps_first else (kind.count, self.width)
        return kind.data.with_shape((*leading, *kind.data.shape[1:]))

    def evaluate(self, x: RaggedArray) -> Array:
        width = self.result.tensor.shape[0 if self.steps_first else 1]
        assert isinstance(width, int)
        out = np.full((len(x.offsets) - 1, width, *x.data.shape[1:]), self.pad_value, x.data.dtype)
        for place, row in zip(out, x.rows(), strict=True):
            place[: len(row)] = (row[::-1] if self.reverse else row)[:width]
        return np.ascontiguousarray(out.swapaxes(0, 1)) if self.steps_first else out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else b(Unpad(ct, self.x, self.reverse, self.steps_first)),)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor) -> Tensor:
        kind, dtype = self.x.ragged, self.x.type.dtype

        def write(loops: Loops, out: Tensor) -> None:
            def token(i: Expr, k: Expr) -> None:
                start, stop, step = x.offsets[i], x.offsets[i + 1], t.cast(k, DType.I64)
                place = (k, i) if self.steps_first else (i, k)
                at = stop - 1 - step if self.reverse else start + step

                def filled() -> None:
                    _each(loops, kind.data.shape[1:], lambda *j: loops.store(out, (*place, *j), x.data[(at, *j)]))

                def empty() -> None:
                    value = t.const(self.pad_value, dtype)
                    _each(loops, kind.data.shape[1:], lambda *j: loops.store(out, (*place, *j), value))

                loops.when(step < stop - start, filled, empty)

            loops.parallel(kind.count, lambda i: loops.serial(self.width, lambda k: token(i, k), independent=True))

        (out,) = t.loops([(self.result.tensor.shape, dtype)], write)
        return out

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged) -> str:
        rows, (data, _) = Rows(o, self.x.ragged, x), x
        column = o.ints(-1, 1)
        starts, stops = rows.starts, rows.stops
        steps = o.node("Range", o.scalar(0, DType.I64), o.extent(self.width), o.scalar(1, DType.I64))
        if self.steps_first:
            steps = o.node("Reshape", steps, column)
        else:
            starts, stops = o.node("Reshape", starts, column), o.node("Reshape", stops, column)
        at = o.node("Add", starts, steps)
        within = o.node("Less", at, stops)
        if self.reverse:
            at = o.node("Sub", o.node("Sub", stops, o.scalar(1, DType.I64)), steps)
        place = o.node("Where", within, at, rows.count)
        return o.node("Gather", rows.padded(data, self.pad_value), place, axis=0)


@dataclass(frozen=True, eq=False)
class Unpad(Op):
    """The tokens of ``x`` [N, width, …] that the rows of ``rows`` have, divided into these rows."""

    name: ClassVar[str] = "ragged.unpad"

    x: Value
    rows: Value
    reverse: bool = False
    steps_first: bool = False

    @property
    def width(self) -> Dim:
        """Tokens of a row of ``x``."""
        return self.x.tensor.shape[0 if self.steps_first else 1]

    def infer(self) -> RaggedType:
        rows, kind = self.rows.ragged, self.x.tensor
        if kind.rank < 2 or kind.shape[1 if self.steps_first else 0] != rows.count:
            raise self.fail(f"{kind} has not one row of tokens per row of {rows}")
        return RaggedType(kind.with_shape((rows.data.shape[0], *kind.shape[2:])), rows.count)

    def evaluate(self, x: Array, rows: RaggedArray) -> RaggedArray:
        out = np.zeros((len(rows.data), *x.shape[2:]), x.dtype)
        by_row = x.swapaxes(0, 1) if self.steps_first else x
        for place, row in zip(RaggedArray(out, rows.offsets).rows(), by_row, strict=True):
            (place[::-1] if self.reverse else place)[: len(row)] = row[: len(place)]
        return RaggedArray(out, rows.offsets)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (
            None if ct is None or not needs[0] else b(Pad(ct, self.width, 0.0, self.reverse, self.steps_first)),
            None,
        )

    def to_tvm(self, t: TvmEmitter, x: Tensor, rows: RaggedTensor) -> tuple[Tensor, Tensor]:
        kind, dtype = self.result.ragged, self.x.type.dtype
        width = t.extent(self.width)

        def write(loops: Loops, out: Tensor) -> None:
            def token(i: Expr, k: Expr) -> None:
                at = rows.offsets[i + 1] - 1 - k if self.reverse else rows.offsets[i] + k
                place = (k, i) if self.steps_first else (i, k)

                def kept() -> None:
                    _each(loops, kind.data.shape[1:], lambda *j: loops.store(out, (at, *j), x[(*place, *j)]))

                def cut() -> None:
                    none = t.const(0, dtype)
                    _each(loops, kind.data.shape[1:], lambda *j: loops.store(out, (at, *j), none))

                loops.when(k < width, kept, cut)

            def row(i: Expr) -> None:
                length = rows.offsets[i + 1] - rows.offsets[i]
                loops.serial(length, lambda k: token(i, k), independent=True)

            loops.parallel(kind.count, row)

        (out,) = t.loops([(kind.data.shape, dtype)], write)
        return out, rows.offsets

    def to_onnx(self, o: OnnxEmitter, x: str, rows: OnnxRagged) -> OnnxRagged:
        own, kind = Rows(o, self.rows.ragged, rows), self.x.tensor
        if self.reverse:
            after = o.node("Sub", own.stops, o.scalar(1, DType.I64))
            at = o.node("Sub", own.spread(after), own.places)
        else:
            at = o.node("Sub", own.places, own.spread(own.starts))
        # One token more behind every row, which is what was cut.
        axis = 0 if self.steps_first else 1
        behind = o.full((*kind.shape[:axis], 1, *kind.shape[axis + 1 :]), 0, kind.dtype)
        wide = o.node("Concat", x, behind, axis=axis)
        within = o.node("Min", at, o.extent(self.width))
        column = o.ints(-1, 1)
        parts = [o.node("Reshape", own.numbers, column), o.node("Reshape", within, column)]
        index = o.node("Concat", *(parts[::-1] if self.steps_first else parts), axis=1)
        return o.node("GatherND", wide, index), rows[1]


def _each(loops: Loops, shape: Shape, body: Callable[..., None], *index: Expr) -> None:
    """``body(*index)`` for every index of ``shape``."""
    if shape:
        loops.serial(shape[0], lambda j: _each(loops, shape[1:], body, *index, j), independent=True)
    else:
        body(*index)


def step_mask(b: OpBuilder, rows: Value, width: Dim, dtype: DType) -> Value:
    """1 where row i of ``rows`` has a token at step t, else 0, as ``dtype`` [width, N]."""
    count = rows.ragged.count
    steps = b.iota((width, count), 0, DType.I64)
    return b.cast(b.less(steps, b.broadcast(b(Lengths(rows)), (width, count))), dtype)


OPS: tuple[type[Op], ...] = (Pad, Unpad)
