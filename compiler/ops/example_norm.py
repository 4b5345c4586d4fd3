"""Per-example squared norms of matrices that are sums of outer products, without forming the matrices.

    |sum_t x_t ⊗ d_t|²  =  sum_ts <x_t, x_s> <d_t, d_s>     Gram form, T² (d + p) products
                        =  sum_jk (sum_t x_tj d_tk)²        direct form, T d p products, nothing stored

Source: Goodfellow (2015); Li et al. (ICLR'22) and Bu et al. (NeurIPS'22) for the Gram form over time and pixels.
Both forms run in float64 and are never underestimates (privacy documentation §4).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from ..ir.core import StateName, Value
from ..ir.stage import Stage
from ..ir.types import DType, Shape, TensorType
from .base import Array, Op
from .emit import Expr, Index, Loops, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .factors import fixed
from .kinds import ExampleKind, Kind, default_kind
from .loops import each
from .norm_bound import gram_roundoff, guarded, lower_guarded, onnx_guarded
from .onnx_forms import wide_operand

NO_VJP = "the private update is not differentiated"
F64 = DType.F64


@dataclass(frozen=True, eq=False)
class NormSq(Op):
    """The squared norms ``x`` (f64[N]) of the per-example gradients of ``param``, and how they were computed.

    ``rule`` is the cost model's choice; ``flops`` and ``bytes`` are what it predicts for one example, the clipped
    sum included; ``others`` are the plans that it did not take.
    """

    name: ClassVar[str] = "dp.norm_sq"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP

    x: Value
    param: StateName
    rule: str = ""
    flops: int = 0
    bytes: int = 0
    others: tuple[str, ...] = ()

    def infer(self) -> TensorType:
        if self.x.tensor.rank != 1 or self.x.type.dtype is not F64:
            raise self.fail(f"squared norms are f64[N], not {self.x.type}")
        return self.x.tensor

    def evaluate(self, x: Array) -> Array:
        return x

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return kinds[0]

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        def element(value: Expr) -> Scalar:
            return value

        return t.pointwise(element, x)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        return x


@dataclass(frozen=True, eq=False)
class _Outer(Op):
    """Base: blocks of outer products, one block per read of the parameter; block k has T_k tokens.

    ``lefts[k]`` is ``f32[N, T_k, d]``, or integers ``[N, T_k]`` that stand for unit vectors; ``rights[k]`` is
    ``f32[N, T_k, p]``.  ``padding[k]`` is the id of block k that counts for nothing, -1 for none.
    """

    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP

    lefts: tuple[Value, ...]
    rights: tuple[Value, ...]
    padding: tuple[int, ...] = ()

    def infer(self) -> TensorType:
        if not self.lefts or len(self.lefts) != len(self.rights) or len(self.padding) not in (0, len(self.lefts)):
            raise self.fail(f"{len(self.lefts)} left and {len(self.rights)} right blocks, {len(self.padding)} paddings")
        batch = self.rights[0].tensor.shape[:1]
        for left, right in zip(self.lefts, self.rights, strict=True):
            x, d = left.tensor, right.tensor
            if d.rank != 3 or not d.dtype.is_float or d.shape[:1] != batch or x.shape[:2] != d.shape[:2]:
                raise self.fail(f"blocks are [N, T, d] and [N, T, p], not {x} and {d}")
            if not (x.rank == 3 and x.dtype is d.dtype) and not (x.rank == 2 and x.dtype.is_integer):
                raise self.fail(f"left vectors are {d.dtype.value}[N, T, d] or integers [N, T], not {x}")
            if not all(isinstance(extent, int) for extent in (*x.shape[1:], *d.shape[1:])):
                raise self.fail(f"only the batch is symbolic, in {x} and {d}")
        dense = {x.tensor.shape[2] for x in self.lefts if x.tensor.rank == 3}
        if len(dense) > 1 or len({d.tensor.shape[2] for d in self.rights}) > 1:
            raise self.fail("blocks are of one matrix: their vectors have the same extents")
        return TensorType(F64, batch)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (*_, last) = kinds
        if isinstance(last, ExampleKind) and last.axis == 0 and all(kind == last for kind in kinds):
            return last
        return default_kind(self, kinds)

    @property
    def terms(self) -> int:
        """T: outer products of all blocks together."""
        return sum(fixed(d.tensor.shape[1]) for d in self.rights)

    @property
    def columns(self) -> int:
        return fixed(self.rights[0].tensor.shape[2])

    @property
    def rows(self) -> int:
        """d, or 1 where all blocks hold ids: their inner products are exact."""
        return next((fixed(x.tensor.shape[2]) for x in self.lefts if x.tensor.rank == 3), 1)

    def ignored(self, block: int) -> int:
        return self.padding[block] if self.padding else -1

    def _joined(self, parts: Sequence[Value], width: int) -> TensorType:
        """The type of the vectors of several blocks, one block behind the other."""
        count = sum(fixed(part.tensor.shape[1]) for part in parts)
        return TensorType(self.rights[0].type.dtype, (self.result.tensor.shape[0], count, width))


@dataclass(frozen=True, eq=False)
class GramNormSq(_Outer):
    """``f64[N]``: Gram form.  Its terms have signs: a bound on the rounding error is added where they cancel."""

    name = "dp.gram_norm_sq"

    @property
    def roundoff(self) -> float:
        return gram_roundoff(self.rows, self.columns, self.terms)

    def evaluate(self, lefts: tuple[Array, ...], rights: tuple[Array, ...]) -> Array:
        n = rights[0].shape[0]
        squares, lengths = np.zeros(n), np.zeros(n)
        with np.errstate(all="ignore"):
            for i in range(n):
                blocks = [self._tokens(x[i], d[i], k) for k, (x, d) in enumerate(zip(lefts, rights, strict=True))]
                for x, d in blocks:
                    lengths[i] += np.sum(_lengths(x) * np.sqrt(np.einsum("tp,tp->t", d, d)))
                    squares[i] += sum(_pair(x, d, y, e) for y, e in blocks)
        return guarded(squares, lengths, self.roundoff, self.terms)

    def _tokens(self, x: Array, d: Array, block: int) -> tuple[Array, Array]:
        """The vectors of a block in float64, without those of the id that counts for nothing."""
        if x.ndim == 2:
            return x.astype(np.float64), d.astype(np.float64)
        kept = x != self.ignored(block)
        return x[kept], d[kept].astype(np.float64)

    def to_tvm(self, t: TvmEmitter, lefts: tuple[Tensor, ...], rights: tuple[Tensor, ...]) -> Tensor:
        blocks = list(zip(lefts, rights, strict=True))
        ds = [self._live(t, x, d, k) for k, (x, d) in enumerate(blocks)]
        xs = [_widened(t, x) if len(x.shape) == 3 else x for x in lefts]
        squares: list[Tensor] = []
        lengths: list[Tensor] = []
        for a, (x, d) in enumerate(zip(xs, ds, strict=True)):
            own, length = _dense(t, x, d) if len(x.shape) == 3 else _equal_ids(t, x, d)
            squares.append(own)
            lengths.append(length)
            squares.extend(self._cross(t, x, d, xs[c], ds[c]) for c in range(a))
        count = len(squares)

        def element(*parts: Expr) -> Scalar:
            return lower_guarded(t, _added(parts[:count]), _added(parts[count:]), self.roundoff, self.terms)

        return t.pointwise(element, *squares, *lengths, dtype=F64)

    def to_onnx(self, o: OnnxEmitter, lefts: tuple[str, ...], rights: tuple[str, ...]) -> str:
        """Blocks of vectors are one block, and so are blocks of ids: then at most two are left, and their products."""
        dense = [k for k, left in enumerate(self.lefts) if left.tensor.rank == 3]
        ids = [k for k in range(len(lefts)) if k not in dense]
        squares: list[str] = []
        lengths: list[str] = []
        tokens = self._joined([self.rights[k] for k in dense], self.columns)
        x, d = (_chained(o, [part[k] for k in dense]) for part in (lefts, rights)) if dense else ("", "")
        if dense:
            xs = _gram_onnx(o, x, tokens.with_shape((*tokens.shape[:2], self.rows)))
            ds = _gram_onnx(o, d, tokens)
            squares.append(_sum_onnx(o, o.node("Mul", xs, ds)))
            lengths.append(_sum_onnx(o, o.node("Mul", _lengths_onnx(o, xs, tokens), _lengths_onnx(o, ds, tokens))))
        if ids:
            words = _chained(o, [o.cast(lefts[k], DType.I64) for k in ids])
            e = _chained(o, [self._live_onnx(o, lefts[k], rights[k], k) for k in ids])
            kind = self._joined([self.rights[k] for k in ids], self.columns)
            column, row = ((kind.shape[0], 1, kind.shape[1], 1), (kind.shape[0], 1, 1, kind.shape[1]))
            same = o.node("Equal", o.reshape(words, column), o.reshape(words, row))
            es = _gram_onnx(o, e, kind)
            squares.append(_sum_onnx(o, o.node("Where", same, es, o.scalar(0, F64))))
            lengths.append(_sum_onnx(o, _lengths_onnx(o, es, kind)))
            if dense:
                crossed = o.node("MatMul", wide_operand(o, d, tokens), wide_operand(o, e, kind, turned=True))
                picked = self._picked_onnx(o, x, words, (*tokens.shape[:2], kind.shape[1]))
                both = _sum_onnx(o, o.node("Mul", o.node("Unsqueeze", picked, o.ints(1)), crossed))
                squares.append(o.node("Mul", both, o.scalar(2, F64)))
        return onnx_guarded(o, _added_onnx(o, squares), _added_onnx(o, lengths), self.roundoff, self.terms)

    def _live_onnx(self, o: OnnxEmitter, ids: str, d: str, block: int) -> str:
        """As ``_live``, of a block of ids, and before anything is widened."""
        ignored, left = self.ignored(block), self.lefts[block].type.dtype
        if ignored < 0:
            return d
        left_out = o.node("Equal", ids, o.scalar(ignored, left))
        return o.node("Where", o.node("Unsqueeze", left_out, o.ints(2)), o.scalar(0, self.rights[block].type.dtype), d)

    def _picked_onnx(self, o: OnnxEmitter, x: str, ids: str, shape: Shape) -> str:
        """``shape``, f64[N, T, S]: the element of every vector of ``x`` that an id names; 0 for an id outside of it."""
        zero = o.scalar(0, DType.I64)
        inside = o.node("And", o.node("GreaterOrEqual", ids, zero), o.node("Less", ids, o.scalar(self.rows, DType.I64)))
        place = o.node("Unsqueeze", o.node("Where", inside, ids, zero), o.ints(1))
        picked = o.cast(o.node("GatherElements", x, o.expand(place, shape), axis=2), F64)
        return o.node("Where", o.node("Unsqueeze", inside, o.ints(1)), picked, o.scalar(0, F64))

    def _cross(self, t: TvmEmitter, x: Tensor, d: Tensor, y: Tensor, e: Tensor) -> Tensor:
        """``2 sum_ts <x_t, y_s> <d_t, e_s>``: both orders of two blocks."""
        cross = t.matmul(d, e, False, True)
        inner = t.matmul(x, y, False, True) if len(x.shape) == len(y.shape) == 3 else None

        def element(n: Index, i: Index, j: Index) -> Scalar:
            if inner is not None:
                product = inner[n, i, j]
            elif len(x.shape) == 3:
                product = _picked(t, x, n, i, y[n, j], self.rows)
            elif len(y.shape) == 3:
                product = _picked(t, y, n, j, x[n, i], self.rows)
            else:
                product = _same(t, x[n, i], y[n, j])
            return product * cross[n, i, j] * 2.0

        return t.reduce("sum", cross.shape[:1], cross.shape[1:], element, F64)

    def _live(self, t: TvmEmitter, x: Tensor, d: Tensor, block: int) -> Tensor:
        """The right vectors of a block in float64, zero for the id that counts for nothing."""
        ignored = self.ignored(block)
        if ignored < 0 or len(x.shape) == 3:
            return _widened(t, d)

        def element(n: Index, i: Index, k: Index) -> Scalar:
            return t.select(x[n, i].ne(ignored), t.cast(d[n, i, k], F64), t.const(0.0, F64))

        return t.compute(d.shape, F64, element)


@dataclass(frozen=True, eq=False)
class OuterNormSq(_Outer):
    """``f64[N]``: direct form of dense blocks.  Each example's matrix passes through a buffer of a few rows."""

    name = "dp.outer_norm_sq"

    def infer(self) -> TensorType:
        found = super().infer()
        if any(x.tensor.rank != 3 for x in self.lefts):
            raise self.fail("the direct form takes dense blocks; ids have a Gram form")
        return found

    def evaluate(self, lefts: tuple[Array, ...], rights: tuple[Array, ...]) -> Array:
        n = rights[0].shape[0]
        squares, lengths = np.zeros(n), np.zeros(n)
        with np.errstate(all="ignore"):
            for i in range(n):
                x = np.concatenate([left[i] for left in lefts]).astype(np.float64)
                d = np.concatenate([right[i] for right in rights]).astype(np.float64)
                squares[i] = np.sum(np.square(x.T @ d))
                lengths[i] = np.sum(_lengths(x) * _lengths(d))
        return guarded(squares, lengths, 0.0, self.terms)

    def to_tvm(self, t: TvmEmitter, lefts: tuple[Tensor, ...], rights: tuple[Tensor, ...]) -> Tensor:
        rows, columns = self.rows, self.columns
        if t.many_threads:
            return self._by_rows(t, lefts, rights)

        def body(loops: Loops, out: Tensor) -> None:
            def example(n: Expr) -> None:
                total, lengths = loops.local(F64), loops.local(F64)
                part, other = loops.local(F64), loops.local(F64)
                loops.store(total, 0, t.const(0.0, F64))
                loops.store(lengths, 0, t.const(0.0, F64))
                for start in range(0, columns, TILE):
                    self._tile(t, loops, n, lefts, rights, start, min(TILE, columns - start), total)
                for x, d in zip(lefts, rights, strict=True):

                    def token(i: Expr, x: Tensor = x, d: Tensor = d) -> None:
                        for local, source, extent in ((part, x, rows), (other, d, columns)):
                            loops.store(local, 0, t.const(0.0, F64))

                            def add(k: Expr, local: Tensor = local, source: Tensor = source) -> None:
                                value = t.cast(source[n, i, k], F64)
                                loops.store(local, 0, local[0] + value * value)

                            loops.serial(extent, add)
                        loops.store(lengths, 0, lengths[0] + t.call("sqrt", part[0]) * t.call("sqrt", other[0]))

                    loops.serial(fixed(x.shape[1]), token)
                loops.store(out, n, lower_guarded(t, total[0], lengths[0], 0.0, self.terms))

            loops.parallel(self.rights[0].tensor.shape[0], example)

        (out,) = t.loops([(self.result.tensor.shape, F64)], body)
        return out

    def _by_rows(self, t: TvmEmitter, lefts: tuple[Tensor, ...], rights: tuple[Tensor, ...]) -> Tensor:
        """The same, a thread per row of an example's matrix."""
        batch, rows, columns = self.rights[0].tensor.shape[0], self.rows, self.columns

        def body(loops: Loops, out: Tensor) -> None:
            def row(n: Expr, k: Expr) -> None:
                total, part = loops.local(F64), loops.local(F64)
                loops.store(total, 0, t.const(0.0, F64))

                def column(j: Expr) -> None:
                    loops.store(part, 0, t.const(0.0, F64))
                    for x, d in zip(lefts, rights, strict=True):

                        def add(i: Expr, x: Tensor = x, d: Tensor = d) -> None:
                            loops.store(part, 0, part[0] + t.cast(x[n, i, k], F64) * t.cast(d[n, i, j], F64))

                        loops.serial(fixed(x.shape[1]), add)
                    loops.store(total, 0, total[0] + part[0] * part[0])

                loops.serial(columns, column)
                loops.store(out, (n, k), total[0])

            each(t, loops, (batch, rows), row)

        (squares,) = t.loops([((batch, rows), F64)], body)
        total = _row_sums(t, squares)
        lengths = [_token_lengths(t, x, d) for x, d in zip(lefts, rights, strict=True)]

        def stated(total: Expr, *lengths: Expr) -> Expr:
            return lower_guarded(t, total, reduce(operator.add, lengths), 0.0, self.terms)

        return t.pointwise(stated, total, *lengths)

    def to_onnx(self, o: OnnxEmitter, lefts: tuple[str, ...], rights: tuple[str, ...]) -> str:
        """Every example's matrix is stored: it is smaller than the blocks where this form is the cheaper one."""
        x = wide_operand(o, _chained(o, lefts), self._joined(self.lefts, self.rows), turned=True)
        d = wide_operand(o, _chained(o, rights), self._joined(self.rights, self.columns))
        squares = o.node("ReduceSumSquare", o.node("MatMul", x, d), o.ints(1, 2, 3), keepdims=0)
        xs, ds = (o.node("ReduceSumSquare", part, o.ints(1, axis), keepdims=0) for part, axis in ((x, 2), (d, 3)))
        lengths = _sum_onnx(o, o.node("Mul", o.node("Sqrt", xs), o.node("Sqrt", ds)))
        return onnx_guarded(o, squares, lengths, 0.0, self.terms)

    def _tile(
        self,
        t: TvmEmitter,
        loops: Loops,
        n: Expr,
        lefts: tuple[Tensor, ...],
        rights: tuple[Tensor, ...],
        start: int,
        width: int,
        total: Tensor,
    ) -> None:
        """Add the squares of columns ``start … start + width`` of example ``n``'s matrix to ``total``."""
        row, squares = loops.local(F64, (width,)), loops.local(F64, (width,))
        factors = loops.local(F64, (UNROLL,))
        zero = t.const(0.0, F64)
        loops.serial(width, lambda j: loops.store(squares, j, zero))

        def one(k: Expr) -> None:
            loops.serial(width, lambda j: loops.store(row, j, zero))
            for x, d in zip(lefts, rights, strict=True):
                count = fixed(x.shape[1])

                def tokens(first: Expr, many: int, x: Tensor = x, d: Tensor = d) -> None:
                    for u in range(many):
                        loops.store(factors, u, t.cast(x[n, first + u, k], F64))

                    def add(j: Expr) -> None:
                        value: Any = row[j]
                        for u in range(many):
                            value = value + factors[u] * t.cast(d[n, first + u, j + start], F64)
                        loops.store(row, j, value)

                    loops.serial(width, add)

                def several(i: Expr, tokens: Callable[[Expr, int], None] = tokens) -> None:
                    tokens(i * UNROLL, UNROLL)

                if count >= UNROLL:
                    loops.serial(count // UNROLL, several)
                if count % UNROLL:
                    tokens(t.const(count - count % UNROLL, DType.I64), count % UNROLL)
            loops.serial(width, lambda j: loops.store(squares, j, squares[j] + row[j] * row[j]))

        loops.serial(self.rows, one)
        loops.serial(width, lambda j: loops.store(total, 0, total[0] + squares[j]))


TILE = 512  # columns of a matrix in flight: two float64 rows stay in the first-level cache
UNROLL = 4  # tokens added to a row at once


def _lengths(x: Array) -> Array:
    """The norms of a block's vectors; ids stand for unit vectors."""
    return np.ones(x.shape) if x.ndim == 1 else np.sqrt(np.einsum("tk,tk->t", x, x))


def _elements(x: Array, ids: Array) -> Array:
    """``[T, S]``: the element of every vector of ``x`` that an id names; 0 for an id outside of it."""
    inside = (ids >= 0) & (ids < x.shape[1])
    return np.where(inside, x[:, np.where(inside, ids, 0)], 0.0)


def _pair(x: Array, d: Array, y: Array, e: Array) -> float:
    """``sum_ts <x_t, y_s> <d_t, e_s>``."""
    products = d @ e.T
    if x.ndim == y.ndim == 1:
        return float(np.sum(products, where=x[:, None] == y[None, :]))
    if x.ndim == 1:
        return float(np.sum(products * _elements(y, x).T))
    return float(np.sum(products * (_elements(x, y) if y.ndim == 1 else x @ y.T)))


def _widened(t: TvmEmitter, x: Tensor) -> Tensor:
    def element(value: Expr) -> Scalar:
        return t.cast(value, F64)

    return t.pointwise(element, x, dtype=F64)


def _added(parts: Sequence[Expr]) -> Expr:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _chained(o: OnnxEmitter, parts: Sequence[str]) -> str:
    """Blocks one behind the other."""
    return o.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _sum_onnx(o: OnnxEmitter, x: str) -> str:
    """f64[N]: the sum over all of each example."""
    return o.node("ReduceSum", o.node("Flatten", x, axis=1), o.ints(1), keepdims=0)


def _added_onnx(o: OnnxEmitter, parts: Sequence[str]) -> str:
    total = parts[0]
    for part in parts[1:]:
        total = o.node("Add", total, part)
    return total


def _gram_onnx(o: OnnxEmitter, x: str, kind: TensorType) -> str:
    """The inner products of all pairs of a block's vectors, f64[N, 1, T, T]."""
    return o.node("MatMul", wide_operand(o, x, kind), wide_operand(o, x, kind, turned=True))


def _lengths_onnx(o: OnnxEmitter, gram: str, kind: TensorType) -> str:
    """The norms of a block's vectors, f64[N, T], from the diagonals of their inner products."""
    n, count = kind.shape[0], fixed(kind.shape[1])
    diagonal = o.node(
        "Slice", o.reshape(gram, (n, count**2)), o.ints(0), o.ints(count**2), o.ints(1), o.ints(count + 1)
    )
    return o.node("Sqrt", diagonal)


def _same(t: TvmEmitter, x: Expr, y: Expr) -> Expr:
    return t.select(t.cast(x, DType.I64).eq(t.cast(y, DType.I64)), t.const(1.0, F64), t.const(0.0, F64))


def _picked(t: TvmEmitter, x: Tensor, n: Index, token: Index, wanted: Expr, rows: int) -> Expr:
    """Element ``wanted`` of a token's vector: its product with a unit vector."""
    place = t.cast(wanted, DType.I64)
    inside = (place >= 0) & (place < rows)
    # An id outside its table has made the loss NaN, and the example is dead.
    return t.select(inside, x[n, token, t.select(inside, place, t.const(0, DType.I64))], t.const(0.0, F64))


def _dense(t: TvmEmitter, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Squares and lengths of one block, from its two Gram matrices."""
    xs, ds = t.matmul(x, x, False, True), t.matmul(d, d, False, True)

    def element(n: Index, i: Index, j: Index) -> Scalar:
        return xs[n, i, j] * ds[n, i, j]

    def length(n: Index, i: Index) -> Scalar:
        return t.call("sqrt", xs[n, i, i]) * t.call("sqrt", ds[n, i, i])

    shape = xs.shape
    return t.reduce("sum", shape[:1], shape[1:], element, F64), t.reduce("sum", shape[:1], shape[1:2], length, F64)


def _row_sums(t: TvmEmitter, x: Tensor) -> Tensor:
    """The sums of a matrix's rows, in float64."""

    def element(n: Index, k: Index) -> Scalar:
        return x[n, k]

    return t.reduce("sum", x.shape[:1], x.shape[1:], element, F64)


def _token_lengths(t: TvmEmitter, x: Tensor, d: Tensor) -> Tensor:
    """The sum over tokens of the lengths of their two vectors' product, f64[N]."""

    def squares(source: Tensor) -> Tensor:
        def element(n: Index, i: Index, k: Index) -> Scalar:
            value: Any = t.cast(source[n, i, k], F64)
            return value * value

        return t.reduce("sum", source.shape[:2], source.shape[2:], element, F64)

    left, right = squares(x), squares(d)

    def length(n: Index, i: Index) -> Scalar:
        return t.call("sqrt", left[n, i]) * t.call("sqrt", right[n, i])

    return t.reduce("sum", x.shape[:1], x.shape[1:2], length, F64)


def _equal_ids_by_token(t: TvmEmitter, ids: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """As ``_equal_ids``, a thread per token."""
    batch, count, width = d.shape

    def body(loops: Loops, squares: Tensor, lengths: Tensor) -> None:
        def token(n: Expr, i: Expr) -> None:
            total, part = loops.local(F64), loops.local(F64)

            def product(j: Expr) -> None:
                loops.store(part, 0, t.const(0.0, F64))
                loops.serial(width, lambda k: loops.store(part, 0, part[0] + d[n, i, k] * d[n, j, k]))

            def earlier(j: Expr) -> None:
                product(j)
                loops.store(total, 0, total[0] + part[0] * 2.0)

            product(i)
            loops.store(total, 0, part[0])
            loops.store(lengths, (n, i), t.call("sqrt", part[0]))
            loops.serial(i, lambda j: loops.when(ids[n, j].eq(ids[n, i]), lambda: earlier(j)))
            loops.store(squares, (n, i), total[0])

        each(t, loops, (batch, count), token)

    first, second = t.loops([((batch, count), F64), ((batch, count), F64)], body)

    return _row_sums(t, first), _row_sums(t, second)


def _equal_ids(t: TvmEmitter, ids: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Squares and lengths of a block of ids: products of tokens with the same id only."""
    if t.many_threads:
        return _equal_ids_by_token(t, ids, d)
    batch, count, width = d.shape

    def body(loops: Loops, squares: Tensor, lengths: Tensor) -> None:
        def example(n: Expr) -> None:
            total, length, part = loops.local(F64), loops.local(F64), loops.local(F64)
            loops.store(total, 0, t.const(0.0, F64))
            loops.store(length, 0, t.const(0.0, F64))

            def product(i: Expr, j: Expr) -> None:
                loops.store(part, 0, t.const(0.0, F64))
                loops.serial(width, lambda k: loops.store(part, 0, part[0] + d[n, i, k] * d[n, j, k]))

            def token(i: Expr) -> None:
                product(i, i)
                loops.store(total, 0, total[0] + part[0])
                loops.store(length, 0, length[0] + t.call("sqrt", part[0]))

                def earlier(j: Expr) -> None:
                    product(i, j)
                    loops.store(total, 0, total[0] + part[0] * 2.0)

                loops.serial(i, lambda j: loops.when(ids[n, j].eq(ids[n, i]), lambda: earlier(j)))

            loops.serial(count, token)
            loops.store(squares, n, total[0])
            loops.store(lengths, n, length[0])

        loops.parallel(batch, example)

    first, second = t.loops([((batch,), F64), ((batch,), F64)], body)
    return first, second


OPS: tuple[type[Op], ...] = (NormSq, GramNormSq, OuterNormSq)
