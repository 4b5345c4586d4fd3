"""Rows of different lengths (LoD): pooling rows to vectors, and back.

A ragged value of type ``ragged<f32[T,D], N>`` is a pair of buffers (``ir.types.RaggedType``).  Ops take it
apart (``ragged.data``) and put it together (``ragged.like``), so that everything that treats tokens alike is
an ordinary op on the data.  A lowering rule with a ragged result returns its data and offsets.

There are no rules for kinds: private programs take padded examples instead of ragged feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, RaggedType, Shape, TensorType
from .base import Array, Op, OpBuilder
from .emit import Expr, Loops, OnnxEmitter, OnnxRagged, RaggedTensor, Scalar, Tensor, TvmEmitter
from .onnx_rows import Rows

Pooling = Literal["sum", "average", "sqrt", "max", "first", "last"]


@dataclass(frozen=True, eq=False)
class RaggedArray:
    """A ragged value in numpy: ``data`` [T, …] and ``offsets`` i64[N + 1].

    Row i is ``data[offsets[i]:offsets[i + 1]]``.
    """

    data: Array
    offsets: Array

    @staticmethod
    def of(rows: Sequence[Array]) -> RaggedArray:
        """The rows joined; at least one row, all with equal trailing extents."""
        lengths = [len(row) for row in rows]
        return RaggedArray(np.concatenate(rows), np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))

    def rows(self) -> list[Array]:
        """Views of the rows."""
        return [self.data[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]


@dataclass(frozen=True, eq=False)
class Data(Op):
    """The tokens of all rows, f32[T, …]."""

    name: ClassVar[str] = "ragged.data"

    x: Value

    def infer(self) -> TensorType:
        return self.x.ragged.data

    def evaluate(self, x: RaggedArray) -> Array:
        return x.data

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else b(Like(ct, self.x)),)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor) -> Tensor:
        return x.data

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged) -> str:
        return x[0]


@dataclass(frozen=True, eq=False)
class Like(Op):
    """``data`` [T, …] divided into the rows of ``rows``."""

    name: ClassVar[str] = "ragged.like"

    data: Value
    rows: Value

    def infer(self) -> RaggedType:
        rows = self.rows.ragged
        if self.data.tensor.rank == 0 or self.data.tensor.shape[0] != rows.data.shape[0]:
            raise self.fail(f"{self.data.type} has not one entry per token of {rows}")
        return RaggedType(self.data.tensor, rows.count)

    def evaluate(self, data: Array, rows: RaggedArray) -> RaggedArray:
        return RaggedArray(data, rows.offsets)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else b(Data(ct)), None)

    def to_tvm(self, t: TvmEmitter, data: Tensor, rows: RaggedTensor) -> tuple[Tensor, Tensor]:
        return data, rows.offsets

    def to_onnx(self, o: OnnxEmitter, data: str, rows: OnnxRagged) -> OnnxRagged:
        return data, rows[1]


@dataclass(frozen=True, eq=False)
class FromLengths(Op):
    """``data`` [T, …] divided into rows of ``lengths`` i64[N]; the lengths are taken to add up to T.

    Compiled code does not check them, but no row reaches beyond the data.
    """

    name: ClassVar[str] = "ragged.from_lengths"

    data: Value
    lengths: Value

    def infer(self) -> RaggedType:
        data, lengths = self.data.tensor, self.lengths.tensor
        if data.rank == 0 or lengths.dtype is not DType.I64 or lengths.rank != 1:
            raise self.fail(f"takes tokens and the lengths i64[N] of their rows, not {data} and {lengths}")
        return RaggedType(data, lengths.shape[0])

    def evaluate(self, data: Array, lengths: Array) -> RaggedArray:
        if lengths.size and (lengths.min() < 0 or lengths.sum() != len(data)):
            raise self.fail(f"lengths that add up to {int(lengths.sum())} do not divide {len(data)} tokens")
        return RaggedArray(data, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64))

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None or not needs[0] else b(Data(ct)), None)

    def to_tvm(self, t: TvmEmitter, data: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        count = self.result.ragged.count

        tokens = t.extent(data.shape[0])

        def write(loops: Loops, out: Tensor) -> None:
            def row(i: Expr) -> None:
                length = t.minimum(t.maximum(lengths[i], t.const(0, DType.I64)), tokens)
                loops.store(out, i + 1, t.minimum(out[i] + length, tokens))

            loops.store(out, 0, t.const(0, DType.I64))
            loops.serial(count, row)

        (offsets,) = t.loops([(self.result.ragged.offsets.shape, DType.I64)], write)
        return data, offsets

    def to_onnx(self, o: OnnxEmitter, data: str, lengths: str) -> OnnxRagged:
        tokens = o.extent(self.data.tensor.shape[0])
        within = o.node("Clip", lengths, o.scalar(0, DType.I64), tokens)
        stops = o.node("Min", o.node("CumSum", within, o.scalar(0, DType.I64)), tokens)
        return data, o.node("Concat", o.ints(0), stops, axis=0)


@dataclass(frozen=True, eq=False)
class Lengths(Op):
    """The number of tokens of every row, i64[N]."""

    name: ClassVar[str] = "ragged.lengths"
    no_vjp: ClassVar[str] = "integer output"

    x: Value

    def infer(self) -> TensorType:
        return TensorType(DType.I64, (self.x.ragged.count,))

    def evaluate(self, x: RaggedArray) -> Array:
        return np.diff(x.offsets)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor) -> Tensor:
        def length(i: Expr) -> Scalar:
            return x.offsets[i + 1] - x.offsets[i]

        return t.compute((self.x.ragged.count,), DType.I64, length)

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged) -> str:
        return Rows(o, self.x.ragged, x).lengths


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """One vector per row, f32[N, …]: the ``sum``, ``average``, ``sqrt`` (sum over the root of the length), ``max``,
    ``first`` or ``last`` of its tokens; ``pad_value`` for a row without tokens."""

    name: ClassVar[str] = "ragged.pool"

    x: Value
    how: Pooling
    pad_value: float = 0.0

    def infer(self) -> TensorType:
        if self.how not in get_args(Pooling):
            raise self.fail(f"pools by {', '.join(get_args(Pooling))}, not by {self.how!r}")
        kind = self.x.ragged
        if not kind.dtype.is_float:
            raise self.fail(f"pools floating-point tokens, not {kind}")
        return kind.data.with_shape((kind.count, *kind.data.shape[1:]))

    def evaluate(self, x: RaggedArray) -> Array:
        kind = x.data.dtype
        out = np.full((len(x.offsets) - 1, *x.data.shape[1:]), self.pad_value, kind)
        for i, row in enumerate(x.rows()):
            if len(row):
                out[i] = _pooled(self.how, row)
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else b(PoolGrad(self.x, ct, self.how)),)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor) -> Tensor:
        kind, dtype = self.x.ragged, self.x.type.dtype

        def write(loops: Loops, out: Tensor) -> None:
            def row(i: Expr, *rest: Expr) -> None:
                start, stop = x.offsets[i], x.offsets[i + 1]
                index = (i, *rest)

                def filled() -> None:
                    _pool_row(t, loops, self.how, dtype, x.data, start, stop, rest, out, index)

                def empty() -> None:
                    loops.store(out, index, t.const(self.pad_value, dtype))

                loops.when(start < stop, filled, empty)

            if t.many_threads or self.how in ("first", "last") or all(d == 1 for d in kind.data.shape[1:]):
                _rows(loops, kind, row)
            else:
                loops.parallel(kind.count, lambda i: _pool_tokens(t, loops, self, x, i, out))

        (out,) = t.loops([(self.result.tensor.shape, dtype)], write)
        return out

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged) -> str:
        rows, (data, _) = Rows(o, self.x.ragged, x), x
        if self.how in ("first", "last"):
            return o.node("Gather", rows.padded(data, self.pad_value), rows.ends(self.how == "last"), axis=0)
        if self.how == "max":
            found = rows.greatest(data)
        else:
            found = rows.total(data)
            if self.how == "sum" and self.pad_value == 0.0:
                return found
            if self.how != "sum":
                found = o.node("Div", found, _scale_onnx(rows, self.how))
        filled = rows.beside(rows.filled, self.x.ragged.count)
        return o.node("Where", filled, found, o.scalar(self.pad_value, self.x.type.dtype))


def _scale_onnx(rows: Rows, how: Pooling) -> str:
    """What the sum of every row is divided by."""
    lengths = rows.o.cast(rows.beside(rows.lengths, rows.kind.count), rows.kind.dtype)
    return rows.o.node("Sqrt", lengths) if how == "sqrt" else lengths


def _pooled(how: Pooling, row: Array) -> Array:
    match how:
        case "sum":
            return row.sum(axis=0, dtype=row.dtype)
        case "average":
            return (row.sum(axis=0, dtype=row.dtype) / len(row)).astype(row.dtype)
        case "sqrt":
            return (row.sum(axis=0, dtype=row.dtype) / np.sqrt(len(row))).astype(row.dtype)
        case "max":
            return row.max(axis=0)
        case "first":
            return row[0]
        case "last":
            return row[-1]


def _rows(loops: Loops, kind: RaggedType, body: Any) -> None:
    """``body(i, *rest)`` for every row i and every index of the trailing axes; rows in parallel."""

    def nest(index: tuple[Expr, ...], shape: Sequence[Any]) -> None:
        if shape:
            loops.serial(shape[0], lambda j: nest((*index, j), shape[1:]), independent=True)
        else:
            body(*index)

    loops.parallel(kind.count, lambda i: nest((i,), kind.data.shape[1:]))


def _scale(t: TvmEmitter, how: Pooling, length: Expr, dtype: DType) -> Expr:
    """What a row's sum is divided by."""
    as_float = t.cast(length, dtype)
    return t.call("sqrt", as_float) if how == "sqrt" else as_float


def _pool_row(
    t: TvmEmitter,
    loops: Loops,
    how: Pooling,
    dtype: DType,
    data: Tensor,
    start: Expr,
    stop: Expr,
    rest: tuple[Expr, ...],
    out: Tensor,
    index: tuple[Expr, ...],
) -> None:
    if how in ("first", "last"):
        loops.store(out, index, data[(start if how == "first" else stop - 1, *rest)])
        return
    total = loops.local(dtype)
    loops.store(total, 0, data[(start, *rest)])

    def step(k: Expr) -> None:
        token = data[(start + 1 + k, *rest)]
        loops.store(total, 0, t.maximum(total[0], token) if how == "max" else total[0] + token)

    loops.serial(stop - start - 1, step)
    loops.store(out, index, total[0] if how in ("max", "sum") else total[0] / _scale(t, how, stop - start, dtype))


def _pool_tokens(t: TvmEmitter, loops: Loops, op: Pool, x: RaggedTensor, i: Expr, out: Tensor) -> None:
    """Pool row i token by token, in the order of memory: the features of a token lie beside each other."""
    start, stop, dtype = x.offsets[i], x.offsets[i + 1], op.x.type.dtype
    shape = op.x.ragged.data.shape[1:]

    def filled() -> None:
        each_feature(loops, shape, lambda *j: loops.store(out, (i, *j), x.data[(start, *j)]))

        def token(k: Expr) -> None:
            def join(*j: Expr) -> None:
                value, known = x.data[(start + 1 + k, *j)], out[(i, *j)]
                loops.store(out, (i, *j), t.maximum(known, value) if op.how == "max" else known + value)

            each_feature(loops, shape, join)

        loops.serial(stop - start - 1, token)
        if op.how in ("average", "sqrt"):
            scale = _scale(t, op.how, stop - start, dtype)
            each_feature(loops, shape, lambda *j: loops.store(out, (i, *j), out[(i, *j)] / scale))

    def empty() -> None:
        each_feature(loops, shape, lambda *j: loops.store(out, (i, *j), t.const(op.pad_value, dtype)))

    loops.when(start < stop, filled, empty)


def each_feature(loops: Loops, shape: Shape, body: Callable[..., None], *index: Expr) -> None:
    """``body(*index)`` for every index of ``shape``, row-major, by one thread."""
    if shape:
        loops.serial(shape[0], lambda j: each_feature(loops, shape[1:], body, *index, j), independent=True)
    else:
        body(*index)


def row_numbers(t: TvmEmitter, kind: RaggedType, x: RaggedTensor) -> Tensor:
    """The row of every token, i64[T]; tokens that no row has count to the last one."""
    tokens = t.extent(kind.data.shape[0])

    def write(loops: Loops, out: Tensor) -> None:
        def row(i: Expr) -> None:
            number = t.cast(i, DType.I64)
            loops.serial(x.offsets[i + 1] - x.offsets[i], lambda k: loops.store(out, x.offsets[i] + k, number))

        loops.parallel(kind.count, row)
        end = x.offsets[t.extent(kind.count)]
        last = t.extent(kind.count) - 1
        loops.serial(tokens - end, lambda k: loops.store(out, end + k, last))

    (numbers,) = t.loops([(kind.data.shape[:1], DType.I64)], write)
    return numbers


@dataclass(frozen=True, eq=False)
class PoolGrad(Op):
    """The cotangent of the tokens of ``ragged.pool``; for ``max`` it goes to the first of equal tokens."""

    name: ClassVar[str] = "ragged.pool_grad"

    x: Value
    ct: Value
    how: Pooling

    def infer(self) -> RaggedType:
        kind = self.x.ragged
        wanted = kind.data.with_shape((kind.count, *kind.data.shape[1:]))
        if self.ct.type != wanted:
            raise self.fail(f"the cotangent is {wanted}, not {self.ct.type}")
        return kind

    def evaluate(self, x: RaggedArray, ct: Array) -> RaggedArray:
        grad = np.zeros_like(x.data)
        for row, out, seed in zip(x.rows(), RaggedArray(grad, x.offsets).rows(), ct, strict=True):
            if not len(row):
                continue
            match self.how:
                case "sum":
                    out[:] = seed
                case "average":
                    out[:] = seed / len(row)
                case "sqrt":
                    out[:] = seed / np.sqrt(len(row))
                case "max":
                    np.put_along_axis(out, row.argmax(axis=0)[None], seed[None], axis=0)
                case "first":
                    out[0] = seed
                case "last":
                    out[-1] = seed
        return RaggedArray(grad, x.offsets)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        """Linear in ``ct``; its transpose pools the cotangent of the tokens at the tokens that were taken."""
        (ct,) = cts
        if ct is None or not needs[1]:
            return None, None
        if self.how == "max":
            return None, b(PoolTaken(self.x, ct))
        return None, b(Pool(ct, self.how))

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor, ct: Tensor) -> tuple[Tensor, Tensor]:
        kind, dtype = self.x.ragged, self.x.type.dtype
        numbers = row_numbers(t, kind, x)
        taken = _taken(t, kind, x) if self.how == "max" else None

        def element(at: Expr, *rest: Expr) -> Scalar:
            row = numbers[at]
            seed, place = ct[(row, *rest)], t.cast(at, DType.I64)
            start, stop = x.offsets[row], x.offsets[row + 1]
            if self.how == "sum":
                return seed
            if self.how in ("average", "sqrt"):
                return seed / _scale(t, self.how, stop - start, dtype)
            chosen = taken[(row, *rest)] if taken is not None else start if self.how == "first" else stop - 1
            return t.select(place.eq(chosen), seed, t.const(0, dtype))

        return t.compute(kind.data.shape, dtype, element), x.offsets

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged, ct: str) -> OnnxRagged:
        rows, (data, offsets) = Rows(o, self.x.ragged, x), x
        if self.how == "sum":
            return rows.spread(ct), offsets
        if self.how in ("average", "sqrt"):
            return rows.spread(o.node("Div", ct, _scale_onnx(rows, self.how))), offsets
        if self.how == "max":
            taken = rows.spread(rows.taken(data))
        else:
            taken = rows.beside(rows.spread(rows.ends(self.how == "last")), rows.tokens)
        here = o.node("Equal", rows.beside(rows.places, rows.tokens), taken)
        return o.node("Where", here, rows.spread(ct), o.scalar(0, self.x.type.dtype)), offsets


@dataclass(frozen=True, eq=False)
class PoolTaken(Op):
    """The entries of ``y`` at the tokens that ``max`` pooling of ``x`` takes; 0 for a row without tokens."""

    name: ClassVar[str] = "ragged.pool_taken"

    x: Value
    y: Value

    def infer(self) -> TensorType:
        kind = self.x.ragged
        if self.y.type != kind:
            raise self.fail(f"operands of different types, {kind} and {self.y.type}")
        return kind.data.with_shape((kind.count, *kind.data.shape[1:]))

    def evaluate(self, x: RaggedArray, y: RaggedArray) -> Array:
        out = np.zeros((len(x.offsets) - 1, *x.data.shape[1:]), x.data.dtype)
        for i, (row, values) in enumerate(zip(x.rows(), y.rows(), strict=True)):
            if len(row):
                out[i] = np.take_along_axis(values, row.argmax(axis=0)[None], axis=0)[0]
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return None, None if ct is None else b(PoolGrad(self.x, ct, "max"))

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor, y: RaggedTensor) -> Tensor:
        kind, dtype = self.x.ragged, self.x.type.dtype

        taken = _taken(t, kind, x)

        def element(i: Expr, *rest: Expr) -> Scalar:
            # Of a row without tokens the place is the next row's, which need not be there.
            place = t.minimum(taken[(i, *rest)], t.extent(kind.data.shape[0]) - 1)
            return t.select(x.offsets[i] < x.offsets[i + 1], y.data[(place, *rest)], t.const(0, dtype))

        return t.compute(self.result.tensor.shape, dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged, y: OnnxRagged) -> str:
        rows = Rows(o, self.x.ragged, x)
        return o.node("GatherElements", rows.padded(y[0], 0.0), rows.taken(x[0]), axis=0)


def _taken(t: TvmEmitter, kind: RaggedType, x: RaggedTensor) -> Tensor:
    """The first place of the greatest of every row's tokens, i64[N, …]; its first token's where it has none."""

    def write(loops: Loops, out: Tensor) -> None:
        shape = kind.data.shape[1:]

        def better(at: Expr, index: tuple[Expr, ...], rest: tuple[Expr, ...]) -> None:
            found = x.data[(out[index], *rest)] < x.data[(at, *rest)]
            loops.when(found, lambda: loops.store(out, index, at))

        def row(i: Expr, *rest: Expr) -> None:
            start, stop = x.offsets[i], x.offsets[i + 1]
            loops.store(out, (i, *rest), start)
            loops.serial(stop - start, lambda k: better(start + k, (i, *rest), rest))

        def tokens(i: Expr) -> None:
            start, stop = x.offsets[i], x.offsets[i + 1]
            each_feature(loops, shape, lambda *j: loops.store(out, (i, *j), start))
            loops.serial(stop - start, lambda k: each_feature(loops, shape, lambda *j: better(start + k, (i, *j), j)))

        if t.many_threads:
            _rows(loops, kind, row)
        else:
            loops.parallel(kind.count, tokens)

    (taken,) = t.loops([((kind.count, *kind.data.shape[1:]), DType.I64)], write)
    return taken


@dataclass(frozen=True, eq=False)
class Expand(Op):
    """Row i of ``x`` [N, …] repeated for every token of row i of ``rows``."""

    name: ClassVar[str] = "ragged.expand"

    x: Value
    rows: Value

    def infer(self) -> RaggedType:
        rows, kind = self.rows.ragged, self.x.tensor
        if kind.rank == 0 or kind.shape[0] != rows.count:
            raise self.fail(f"{kind} has not one entry per row of {rows}")
        return RaggedType(kind.with_shape((rows.data.shape[0], *kind.shape[1:])), rows.count)

    def evaluate(self, x: Array, rows: RaggedArray) -> RaggedArray:
        return RaggedArray(np.repeat(x, np.diff(rows.offsets), axis=0), rows.offsets)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None or not needs[0] else b(Pool(ct, "sum")), None)

    def to_tvm(self, t: TvmEmitter, x: Tensor, rows: RaggedTensor) -> tuple[Tensor, Tensor]:
        kind, numbers = self.result.ragged, row_numbers(t, self.rows.ragged, rows)

        def element(i: Expr, *rest: Expr) -> Scalar:
            return x[(numbers[i], *rest)]

        return t.compute(kind.data.shape, kind.dtype, element), rows.offsets

    def to_onnx(self, o: OnnxEmitter, x: str, rows: OnnxRagged) -> OnnxRagged:
        return Rows(o, self.rows.ragged, rows).spread(x), rows[1]


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """Softmax over the tokens of each row, for every index of the trailing axes apart."""

    name: ClassVar[str] = "ragged.softmax"

    x: Value

    def infer(self) -> RaggedType:
        if not self.x.ragged.dtype.is_float:
            raise self.fail(f"takes floating-point tokens, not {self.x.type}")
        return self.x.ragged

    def evaluate(self, x: RaggedArray) -> RaggedArray:
        out = np.empty_like(x.data)
        for row, result in zip(x.rows(), RaggedArray(out, x.offsets).rows(), strict=True):
            if len(row):
                powers = np.exp(row - row.max(axis=0))
                result[:] = powers / powers.sum(axis=0, dtype=row.dtype)
        return RaggedArray(out, x.offsets)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        """``y * (ct - sum over the row of y * ct)``."""
        (ct,) = cts
        if ct is None:
            return (None,)
        y, seed = b(Data(self.result)), b(Data(ct))
        product = b.mul(y, seed)
        row_sum = b(Data(b(Expand(b(Pool(b(Like(product, self.x)), "sum")), self.x))))
        return (b(Like(b.sub(product, b.mul(y, row_sum)), self.x)),)

    def to_tvm(self, t: TvmEmitter, x: RaggedTensor) -> tuple[Tensor, Tensor]:
        kind, dtype = self.x.ragged, self.x.type.dtype

        def write(loops: Loops, out: Tensor) -> None:
            def row(i: Expr, *rest: Expr) -> None:
                start, stop = x.offsets[i], x.offsets[i + 1]

                def filled() -> None:
                    top, total = loops.local(dtype), loops.local(dtype)
                    loops.store(top, 0, x.data[(start, *rest)])
                    loops.store(total, 0, t.const(0, dtype))

                    def highest(k: Expr) -> None:
                        loops.store(top, 0, t.maximum(top[0], x.data[(start + k, *rest)]))

                    def power(k: Expr) -> None:
                        loops.store(out, (start + k, *rest), t.call("exp", x.data[(start + k, *rest)] - top[0]))
                        loops.store(total, 0, total[0] + out[(start + k, *rest)])

                    def divide(k: Expr) -> None:
                        loops.store(out, (start + k, *rest), out[(start + k, *rest)] / total[0])

                    for body in (highest, power, divide):
                        loops.serial(stop - start, body)

                loops.when(start < stop, filled)

            _rows(loops, kind, row)

        (out,) = t.loops([(kind.data.shape, dtype)], write)
        return out, x.offsets

    def to_onnx(self, o: OnnxEmitter, x: OnnxRagged) -> OnnxRagged:
        rows, (data, offsets) = Rows(o, self.x.ragged, x), x
        powers = o.node("Exp", o.node("Sub", data, rows.spread(rows.greatest(data))))
        return o.node("Div", powers, rows.spread(rows.total(powers))), offsets


OPS: tuple[type[Op], ...] = (Data, FromLengths, Like, Lengths, Pool, PoolGrad, PoolTaken, Expand, Softmax)
