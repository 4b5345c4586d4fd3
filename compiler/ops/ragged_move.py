"""Tokens of rows of different lengths, moved: their neighbours, the other way round, taken from or put elsewhere.

All are linear and come in pairs, each the transpose of the other: ``context`` and ``context_grad``, ``take`` and
``place``; ``reverse`` is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import Dim, DType, RaggedType, TensorType, static_shape
from .base import Array, Op, OpBuilder
from .emit import Expr, Loops, OnnxEmitter, OnnxRagged, RaggedTensor, Scalar, Tensor, TvmEmitter
from .loops import each
from .onnx_rows import Rows
from .ragged import RaggedArray, each_feature, row_numbers


@dataclass(frozen=True, eq=False)
class Context(Op):
    """Every token's neighbours in its row: [T, size, …] holds the tokens ``first``, ``first + 1``, … places after it;
    ``pad_value`` beyond the row."""

    name: ClassVar[str] = "ragged.context"

    x: Value
    first: int
    size: int
    pad_value: float = 0.0

    def infer(self) -> TensorType:
        if self.size < 1:
            raise self.fail(f"takes at least one neighbour, not {self.size}")
        data = self.x.ragged.data
        return data.with_shape((data.shape[0], self.size, *data.shape[1:]))

    def evaluate(self, x: RaggedArray) -> Array:
        out = np.full((len(x.data), self.size, *x.data.shape[1:]), self.pad_value, x.data.dtype)
        for row, around in zip(x.rows(), RaggedArray(out, x.offsets).rows(), strict=True):
            for k in range(self.size):
                here, there = _overlap(len(row), self.first + k)
                around[here, k] = row[there]
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else b(ContextGrad(ct, self.x, self.first)),)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor) -> Tensor:
        numbers, dtype = row_numbers(t, self.x.ragged, x), self.x.type.dtype

        def element(i: Expr, k: Expr, *rest: Expr) -> Scalar:
            at, inside = _within(t, x, numbers[i], t.cast(i, DType.I64) + t.cast(k, DType.I64) + self.first)
            return t.select(inside, x.data[(at, *rest)], t.const(self.pad_value, dtype))

        return t.compute(self.result.tensor.shape, dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged) -> str:
        rows = Rows(o, self.x.ragged, x)
        data, axis = rows.padded(x[0], self.pad_value), o.ints(1)
        around = [o.node("Gather", data, _near(rows, self.first + k), axis=0) for k in range(self.size)]
        return o.node("Concat", *(o.node("Unsqueeze", tokens, axis) for tokens in around), axis=1)


@dataclass(frozen=True, eq=False)
class ContextGrad(Op):
    """What the neighbourhoods ``ct`` [T, size, …] hold of every token, added up: divided as ``rows``."""

    name: ClassVar[str] = "ragged.context_grad"

    ct: Value
    rows: Value
    first: int

    def infer(self) -> RaggedType:
        ct, rows = self.ct.tensor, self.rows.ragged
        if ct.rank < 2 or ct.shape[0] != rows.data.shape[0] or not isinstance(ct.shape[1], int):
            raise self.fail(f"{ct} has not the neighbours of each token of {rows}")
        return RaggedType(ct.with_shape((ct.shape[0], *ct.shape[2:])), rows.count)

    def evaluate(self, ct: Array, rows: RaggedArray) -> RaggedArray:
        out = np.zeros((ct.shape[0], *ct.shape[2:]), ct.dtype)
        found = RaggedArray(out, rows.offsets)
        for row, around in zip(found.rows(), RaggedArray(ct, rows.offsets).rows(), strict=True):
            for k in range(ct.shape[1]):
                here, there = _overlap(len(row), self.first + k)
                row[there] += around[here, k]
        return found

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None or not needs[0]:
            return None, None
        return b(Context(ct, self.first, static_shape(self.ct.tensor.shape[1:2])[0])), None

    def to_tvm(self, t: TvmEmitter, ct: Tensor, rows: RaggedTensor) -> tuple[Tensor, Tensor]:
        numbers, kind = row_numbers(t, self.rows.ragged, rows), self.result.ragged
        (size,) = static_shape(self.ct.tensor.shape[1:2])

        def element(i: Expr, *rest: Expr) -> Scalar:
            total: Any = None
            for k in range(size):
                at, inside = _within(t, rows, numbers[i], t.cast(i, DType.I64) - (self.first + k))
                part = t.select(inside, ct[(at, k, *rest)], t.const(0, kind.dtype))
                total = part if total is None else total + part
            return total

        return t.compute(kind.data.shape, kind.dtype, element), rows.offsets

    def to_onnx(self, o: OnnxEmitter, ct: str, rows: OnnxRagged) -> OnnxRagged:
        own = Rows(o, self.result.ragged, rows)
        (size,) = static_shape(self.ct.tensor.shape[1:2])
        total = ""
        for k in range(size):
            part = o.node("Squeeze", o.node("Slice", ct, o.ints(k), o.ints(k + 1), o.ints(1)), o.ints(1))
            moved = o.node("Gather", own.padded(part, 0.0), _near(own, -(self.first + k)), axis=0)
            total = o.node("Add", total, moved) if total else moved
        return total, rows[1]


@dataclass(frozen=True, eq=False)
class Reverse(Op):
    """The tokens of every row from the last to the first."""

    name: ClassVar[str] = "ragged.reverse"

    x: Value

    def infer(self) -> RaggedType:
        return self.x.ragged

    def evaluate(self, x: RaggedArray) -> RaggedArray:
        out = np.empty_like(x.data)
        for row, turned in zip(x.rows(), RaggedArray(out, x.offsets).rows(), strict=True):
            turned[:] = row[::-1]
        return RaggedArray(out, x.offsets)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else b(Reverse(ct)),)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor) -> tuple[Tensor, Tensor]:
        numbers, kind = row_numbers(t, self.x.ragged, x), self.x.ragged

        def element(i: Expr, *rest: Expr) -> Scalar:
            row = numbers[i]
            at, _ = _within(t, x, row, x.offsets[row] + x.offsets[row + 1] - 1 - t.cast(i, DType.I64))
            return x.data[(at, *rest)]

        return t.compute(kind.data.shape, kind.dtype, element), x.offsets

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged) -> OnnxRagged:
        rows = Rows(o, self.x.ragged, x)
        ends = o.node("Sub", o.node("Add", rows.starts, rows.stops), o.scalar(1, DType.I64))
        return o.node("Gather", x[0], o.node("Sub", rows.spread(ends), rows.places), axis=0), x[1]


@dataclass(frozen=True, eq=False)
class Take(Op):
    """Rows as long as those of ``rows`` [M]; row i holds ``x`` [T, …] from ``starts[i]`` on, and 0 beyond ``x``.

    ``disjoint`` says that no token is taken twice, by which its gradient may be written by several threads.
    """

    name: ClassVar[str] = "ragged.take"

    x: Value
    starts: Value
    rows: Value
    disjoint: bool = False

    def infer(self) -> RaggedType:
        x, rows = self.x.tensor, self.rows.ragged
        if x.rank == 0 or self.starts.type != TensorType(DType.I64, (rows.count,)):
            raise self.fail(f"takes tokens and one i64 start per row of {rows}, not {x} and {self.starts.type}")
        return RaggedType(x.with_shape((rows.data.shape[0], *x.shape[1:])), rows.count)

    def evaluate(self, x: Array, starts: Array, rows: RaggedArray) -> RaggedArray:
        out = np.zeros((len(rows.data), *x.shape[1:]), x.dtype)
        for start, row in zip(starts, RaggedArray(out, rows.offsets).rows(), strict=True):
            places = start + np.arange(len(row))
            inside = (places >= 0) & (places < len(x))
            row[inside] = x[places[inside]]
        return RaggedArray(out, rows.offsets)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None or not needs[0]:
            return None, None, None
        return b(Place(ct, self.starts, self.x.tensor.shape[0], self.disjoint)), None, None

    def to_tvm(self, t: TvmEmitter, x: Tensor, starts: Tensor, rows: RaggedTensor) -> tuple[Tensor, Tensor]:
        numbers, kind = row_numbers(t, self.rows.ragged, rows), self.result.ragged
        last = t.extent(self.x.tensor.shape[0]) - 1

        def element(i: Expr, *rest: Expr) -> Scalar:
            row = numbers[i]
            at = starts[row] + t.cast(i, DType.I64) - rows.offsets[row]
            inside = (at >= 0) & (at <= last)
            safe = t.minimum(t.maximum(at, t.const(0, DType.I64)), last)
            return t.select(inside, x[(safe, *rest)], t.const(0, kind.dtype))

        return t.compute(kind.data.shape, kind.dtype, element), rows.offsets

    def to_onnx(self, o: OnnxEmitter, x: str, starts: str, rows: OnnxRagged) -> OnnxRagged:
        kind = self.x.tensor
        at = _moved(Rows(o, self.rows.ragged, rows), starts, o.extent(kind.shape[0]))
        behind = o.full((1, *kind.shape[1:]), 0, kind.dtype)
        return o.node("Gather", o.node("Concat", x, behind, axis=0), at, axis=0), rows[1]


@dataclass(frozen=True, eq=False)
class Place(Op):
    """Row i of ``x`` [M rows] added to zeros [size, …] from ``starts[i]`` on; what lies beyond is dropped.

    ``disjoint`` says that no two rows meet.
    """

    name: ClassVar[str] = "ragged.place"

    x: Value
    starts: Value
    size: Dim
    disjoint: bool = False

    def infer(self) -> TensorType:
        x = self.x.ragged
        if self.starts.type != TensorType(DType.I64, (x.count,)):
            raise self.fail(f"takes one i64 start per row of {x}, not {self.starts.type}")
        return x.data.with_shape((self.size, *x.data.shape[1:]))

    def evaluate(self, x: RaggedArray, starts: Array) -> Array:
        out = np.zeros(static_shape(self.result.tensor.shape), x.data.dtype)
        for start, row in zip(starts, x.rows(), strict=True):
            places = start + np.arange(len(row))
            inside = (places >= 0) & (places < len(out))
            out[places[inside]] += row[inside]
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else b(Take(ct, self.starts, self.x, self.disjoint)), None)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor, starts: Tensor) -> Tensor:
        kind, shape = self.x.ragged, self.result.tensor.shape
        size = t.extent(self.size)

        def write(loops: Loops, out: Tensor) -> None:
            each(t, loops, shape, lambda *i: loops.store(out, i, t.const(0, kind.dtype)))

            def row(i: Expr) -> None:
                def token(k: Expr) -> None:
                    at = starts[i] + k

                    def add(*rest: Expr) -> None:
                        value = x.data[(x.offsets[i] + k, *rest)]
                        loops.store(out, (at, *rest), out[(at, *rest)] + value)

                    loops.when((at >= 0) & (at < size), lambda: each_feature(loops, shape[1:], add))

                loops.serial(x.offsets[i + 1] - x.offsets[i], token, independent=True)

            if self.disjoint:
                loops.parallel(kind.count, row)
            else:
                loops.serial(kind.count, row)

        (out,) = t.loops([(shape, kind.dtype)], write)
        return out

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged, starts: str) -> str:
        kind, rows = self.result.tensor, Rows(o, self.x.ragged, x)
        at = o.expand(rows.beside(_moved(rows, starts, o.extent(self.size)), rows.tokens), rows.kind.data.shape)
        behind = o.full((1, *kind.shape[1:]), 0, kind.dtype)
        zeros = o.node("Concat", o.full(kind.shape, 0, kind.dtype), behind, axis=0)
        total = o.node("ScatterElements", zeros, at, x[0], axis=0, reduction="add")
        return o.node("Slice", total, o.ints(0), o.ints(-1), o.ints(0))


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Places of a row that have a token ``shift`` places after them, and where that stands."""
    low, high = max(0, -shift), min(length, length - shift)
    return (slice(low, high), slice(low + shift, high + shift)) if low < high else (slice(0, 0), slice(0, 0))


def _within(t: TvmEmitter, x: RaggedTensor, row: Expr, place: Expr) -> tuple[Expr, Expr]:
    """A place kept inside the row, so that nothing else is read, and whether it was inside."""
    start, last = x.offsets[row], x.offsets[row + 1] - 1
    return t.maximum(t.minimum(place, last), start), (place >= start) & (place <= last)


def _near(rows: Rows, shift: int) -> str:
    """i64[T]: the place ``shift`` after each token; T where that is beyond its row."""
    o = rows.o
    at = o.node("Add", rows.places, o.scalar(shift, DType.I64))
    inside = o.node(
        "And", o.node("LessOrEqual", rows.spread(rows.starts), at), o.node("Less", at, rows.spread(rows.stops))
    )
    return o.node("Where", inside, at, rows.count)


def _moved(rows: Rows, starts: str, size: str) -> str:
    """i64[T]: where each token lies if its row begins at ``starts``; ``size`` where that is outside [0, size)."""
    o = rows.o
    at = o.node("Add", rows.places, rows.spread(o.node("Sub", starts, rows.starts)))
    inside = o.node("And", o.node("GreaterOrEqual", at, o.scalar(0, DType.I64)), o.node("Less", at, size))
    return o.node("Where", inside, at, size)


OPS: tuple[type[Op], ...] = (Context, ContextGrad, Reverse, Take, Place)
