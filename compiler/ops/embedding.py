"""Table lookup: the layer, its gradient, and per-example norms of that gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..errors import FluidcError
from ..ir.core import Value
from ..ir.types import Dim, DType, TensorType, numel, static_shape
from .base import Array, Op, OpBuilder
from .by_example import tokens_of
from .emit import Expr, Index, Loops, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .factors import Factors, fixed
from .kinds import ExampleKind, Kind, MixedKind, PublicKind, all_public, default_kind
from .loops import each
from .norm_bound import F32_ROUNDOFF, LEAST_SHARE
from .onnx_forms import computed, kernel_type
from .onnx_places import SCATTERED, Places, scattered


def check_ids(op: Op, ids: Array, rows: int) -> None:
    """Raises FluidcError naming the first id outside ``[0, rows)``."""
    bad = np.flatnonzero((ids < 0) | (ids >= rows))
    if bad.size:
        place = tuple(int(i) for i in np.unravel_index(int(bad[0]), ids.shape))
        value = ids.reshape(-1)[bad[0]]
        raise FluidcError(
            f"{op.loc.layer or op.name}: id {value} at {list(place)} is outside a table of {rows} rows",
            where=op.loc.place or None,
            hint=f"ids lie in 0 … {rows - 1}; enlarge the table or check the data",
        )


def safe_row(t: TvmEmitter, index: Expr, rows: Dim) -> tuple[Expr, Expr]:
    """An index kept inside the table, and whether it was inside: compiled code never reads elsewhere."""
    place = t.cast(index, DType.I64)
    last = t.extent(rows) - 1
    return t.minimum(t.maximum(place, t.const(0, DType.I64)), last), (place >= 0) & (place <= last)


def missing_row(t: TvmEmitter, dtype: DType) -> Scalar:
    """What compiled code gives for an id outside the table: NaN, so that it does not pass unnoticed."""
    return t.const(math.nan if dtype.is_float else 0, dtype)


@dataclass(frozen=True, eq=False)
class Lookup(Op):
    """Row ``ids[…]`` of ``table`` ([V, D]) for every id: [*ids, D].  The id ``padding_idx`` gives zeros."""

    name: ClassVar[str] = "embedding.lookup"

    table: Value
    ids: Value
    padding_idx: int | None = None

    def infer(self) -> TensorType:
        table, ids = self.table.tensor, self.ids.tensor
        if table.rank != 2:
            raise self.fail(f"the table is a matrix, one row per id, not {table}")
        if not ids.dtype.is_integer:
            raise self.fail(f"ids are integers, not {ids}")
        rows = table.shape[0]
        if self.padding_idx is not None and isinstance(rows, int) and not 0 <= self.padding_idx < rows:
            raise self.fail(f"padding_idx {self.padding_idx} is outside a table of {rows} rows")
        return table.with_shape((*ids.shape, table.shape[1]))

    def evaluate(self, table: Array, ids: Array) -> Array:
        check_ids(self, ids, table.shape[0])
        out = table[ids]
        if self.padding_idx is not None:
            out[ids == self.padding_idx] = 0
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None or not needs[0]:
            return None, None
        return b(LookupGrad(self.ids, ct, self.table.tensor.shape[0], self.padding_idx)), None

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        table, ids = operands
        return None if over[0] else Lookup(table, ids, self.padding_idx)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        table, ids = kinds
        if isinstance(table, PublicKind) and isinstance(ids, ExampleKind):
            return ids
        if isinstance(table, ExampleKind):
            return MixedKind(f"{self.name} looks rows up in a table made of examples", self)
        return default_kind(self, kinds)

    def example_norm_sq(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        """The gradient of example i adds its cotangents up by id: repeated ids are summed before squaring."""
        if operand != 0 or not isinstance(kinds[0], PublicKind) or kinds[1] != ExampleKind(0):
            return None
        shape = self.ids.tensor.shape
        inner = numel(shape[1:])
        ids = b.reshape(self.ids, (shape[0], inner))
        deltas = b.reshape(ct, (shape[0], inner, ct.tensor.shape[-1]))
        return b(LookupNormSq(ids, deltas, self.padding_idx))

    def example_factors(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Factors | None:
        """Every id adds its cotangent to one row of the table: the outer product with a unit vector."""
        kind = kinds[1]
        if operand != 0 or not isinstance(kinds[0], PublicKind) or not isinstance(kind, ExampleKind):
            return None
        ids, deltas = tokens_of(b, self.ids, kind, vector=False), tokens_of(b, ct, kind)
        if ids is None or deltas is None:
            return None
        padding = -1 if self.padding_idx is None else self.padding_idx
        return Factors(ids, deltas, fixed(self.table.tensor.shape[0]), padding=padding)

    def to_tvm(self, t: TvmEmitter, table: Tensor, ids: Tensor) -> Tensor:
        dtype = self.table.type.dtype

        def element(*index: Expr) -> Scalar:
            row = ids[index[:-1]]
            place, inside = safe_row(t, row, self.table.tensor.shape[0])
            value = t.select(inside, table[place, index[-1]], missing_row(t, dtype))
            if self.padding_idx is None:
                return value
            return t.select(row.eq(self.padding_idx), t.const(0, dtype), value)

        return t.compute(self.result.tensor.shape, dtype, element)

    def to_onnx(self, o: OnnxEmitter, table: str, ids: str) -> str:
        dtype, places = self.table.type.dtype, Places(self, o, ids, self.ids.tensor, self.table.tensor.shape[0])
        rows = places.read(o.node("Gather", table, places.safe, axis=0), dtype, places.beside(places.inside, 1))
        if self.padding_idx is None:
            return rows
        padding = places.beside(o.node("Equal", places.index, o.scalar(self.padding_idx, DType.I64)), 1)
        zero = o.scalar(0, kernel_type(self, dtype, SCATTERED))
        return computed(self, o, dtype, SCATTERED, partial(o.node, "Where", padding, zero), rows)


@dataclass(frozen=True, eq=False)
class LookupGrad(Op):
    """The gradient of a lookup: rows ``ct[…]`` added up by id, in the order of the ids: [rows, D].

    Every run adds in the same order, so results do not depend on threads.
    """

    name: ClassVar[str] = "embedding.lookup_grad"

    ids: Value
    ct: Value
    rows: Dim
    padding_idx: int | None = None

    def infer(self) -> TensorType:
        ids, ct = self.ids.tensor, self.ct.tensor
        if not ids.dtype.is_integer or ct.shape[:-1] != ids.shape:
            raise self.fail(f"one row per id: ids {ids}, rows {ct}")
        return ct.with_shape((self.rows, ct.shape[-1]))

    def evaluate(self, ids: Array, ct: Array) -> Array:
        rows = static_shape((self.rows,))[0]
        check_ids(self, ids, rows)
        out = np.zeros((rows, ct.shape[-1]), ct.dtype)
        flat, deltas = ids.reshape(-1), ct.reshape(-1, ct.shape[-1])
        kept = slice(None) if self.padding_idx is None else flat != self.padding_idx
        with np.errstate(all="ignore"):
            np.add.at(out, flat[kept], deltas[kept])
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return None, b(Lookup(ct, self.ids, self.padding_idx)) if ct is not None and needs[1] else None

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if all_public(kinds) and not all(isinstance(d, int) for d in self.ids.tensor.shape):
            return MixedKind(f"{self.name} counts the rows of the batch", self)
        return default_kind(self, kinds)

    def to_tvm(self, t: TvmEmitter, ids: Tensor, ct: Tensor) -> Tensor:
        shape, width = self.ids.tensor.shape, self.ct.tensor.shape[-1]
        dtype = self.ct.type.dtype

        def body(loops: Loops, out: Tensor) -> None:
            def clear(i: Expr, d: Expr) -> None:
                loops.store(out, (i, d), t.const(0, dtype))

            each(t, loops, (self.rows, width), clear)

            def add(*index: Expr) -> None:
                row = ids[index]
                place, inside = safe_row(t, row, self.rows)
                wanted = inside if self.padding_idx is None else inside & row.ne(self.padding_idx)

                def accumulate(d: Expr) -> None:
                    column = t.cast(d, DType.I64)
                    loops.store(out, (place, column), out[place, column] + ct[(*index, column)])

                loops.when(wanted, lambda: loops.serial(width, accumulate))

            each(t, loops, shape, add, parallel=False)

        (out,) = t.loops([(self.result.tensor.shape, dtype)], body)
        return out

    def to_onnx(self, o: OnnxEmitter, ids: str, ct: str) -> str:
        places, kind = Places(self, o, ids, self.ids.tensor, self.rows), self.result.tensor
        where = places.or_behind
        if self.padding_idx is not None:
            padding = o.node("Equal", places.index, o.scalar(self.padding_idx, DType.I64))
            where = o.node("Where", padding, places.end, where)
        wide = kernel_type(self, kind.dtype, SCATTERED)

        def summed(rows: str) -> str:
            zeros = o.full(kind.shape, 0, wide)
            return scattered(o, zeros, kind.with_dtype(wide), 0, where, rows, self.ct.tensor.shape, adds=True)

        return computed(self, o, kind.dtype, SCATTERED, summed, ct)


@dataclass(frozen=True, eq=False)
class LookupNormSq(Op):
    """Squared norm of each example's gradient of a lookup table, f64[N], never an underestimate.

    ``ids`` is [N, T], ``ct`` [N, T, D].  Example i's gradient has, for each distinct id, the sum of the
    cotangents of its occurrences.  Sums run in float64 in the direct form; where they cancel so far that
    rounding could matter, a bound on the rounding error is added (privacy documentation §4).
    """

    name: ClassVar[str] = "embedding.lookup_norm_sq"
    no_vjp: ClassVar[str] = "made after the backward pass"

    ids: Value
    ct: Value
    padding_idx: int | None = None

    def infer(self) -> TensorType:
        ids, ct = self.ids.tensor, self.ct.tensor
        if ids.rank != 2 or ct.rank != 3 or ct.shape[:2] != ids.shape or not ids.dtype.is_integer:
            raise self.fail(f"ids are integers [N, T] and cotangents [N, T, D], not {ids} and {ct}")
        if not all(isinstance(d, int) for d in ct.shape[1:]):
            raise self.fail(f"only the batch is symbolic, not {ct}")
        return TensorType(DType.F64, ids.shape[:1])

    @property
    def roundoff(self) -> float:
        """``(T + 2) u``: error of the clipped sum's T float32 additions, relative to the sum of norms."""
        (count,) = static_shape(self.ids.tensor.shape[1:])
        return (count + 2) * F32_ROUNDOFF

    def evaluate(self, ids: Array, ct: Array) -> Array:
        out = np.zeros(ids.shape[0], np.float64)
        with np.errstate(all="ignore"):
            for i in range(ids.shape[0]):
                kept = np.ones(ids.shape[1], bool) if self.padding_idx is None else ids[i] != self.padding_idx
                distinct, group = np.unique(ids[i, kept], return_inverse=True)
                deltas = ct[i, kept].astype(np.float64)
                sums = np.zeros((distinct.size, ct.shape[2]), np.float64)
                np.add.at(sums, group, deltas)
                squares = float(np.sum(np.square(sums)))
                lengths = float(np.sum(np.sqrt(np.sum(np.square(deltas), axis=1))))
                norm, bound = math.sqrt(squares), self.roundoff * lengths
                exact = bound <= 2.0**-12 * norm or math.isnan(norm)
                out[i] = squares if exact else max(norm + bound, LEAST_SHARE * lengths) ** 2
        return out

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if {kind for kind in kinds if not isinstance(kind, PublicKind)} == {ExampleKind(0)}:
            return ExampleKind(0)
        return default_kind(self, kinds)

    def to_tvm(self, t: TvmEmitter, ids: Tensor, ct: Tensor) -> Tensor:
        count, width = static_shape(self.ct.tensor.shape[1:])
        rows, f64, i64 = self.ids.tensor.shape[0], DType.F64, DType.I64

        def wide(n: Expr, s: Expr, d: Expr) -> Expr:
            return t.cast(ct[n, s, d], f64)

        def same(n: Expr, s: Expr, r: Expr) -> Scalar:
            return t.select(ids[n, r].eq(ids[n, s]), t.cast(r, i64), t.const(count, i64))

        def square(n: Expr, s: Expr, d: Expr) -> Scalar:
            value: Any = wide(n, s, d)
            return value * value

        first = t.reduce("min", (rows, count), (count,), same, i64)  # where an id stands for the first time
        squares = t.reduce("sum", (rows, count), (width,), square, f64)
        if t.many_threads:
            return self._by_columns(t, ids, ct, first, squares)

        def body(loops: Loops, out: Tensor) -> None:
            def example(n: Expr) -> None:
                # By columns, so that neighbouring additions do not wait for each other.
                sums, columns = loops.local(f64, (count, width)), loops.local(f64, (width,))
                total, lengths = loops.local(f64), loops.local(f64)
                loops.store(total, 0, t.const(0.0, f64))
                loops.store(lengths, 0, t.const(0.0, f64))
                loops.serial(width, lambda d: loops.store(columns, d, t.const(0.0, f64)))

                def occurrence(s: Expr) -> None:
                    place = first[n, s]

                    def begin() -> None:
                        loops.serial(width, lambda d: loops.store(sums, (s, d), wide(n, s, d)))

                    def add() -> None:
                        loops.serial(width, lambda d: loops.store(sums, (place, d), sums[place, d] + wide(n, s, d)))

                    loops.store(lengths, 0, lengths[0] + t.call("sqrt", squares[n, s]))
                    loops.when(place.eq(s), begin, add)

                def finish(s: Expr) -> None:
                    def add(d: Expr) -> None:
                        loops.store(columns, d, columns[d] + sums[s, d] * sums[s, d])

                    loops.when(first[n, s].eq(s), lambda: loops.serial(width, add))

                def kept(then: Callable[[Expr], None]) -> Callable[[Expr], None]:
                    if self.padding_idx is None:
                        return then
                    return lambda s: loops.when(ids[n, s].ne(self.padding_idx or 0), lambda: then(s))

                loops.serial(count, kept(occurrence))
                loops.serial(count, kept(finish))
                loops.serial(width, lambda d: loops.store(total, 0, total[0] + columns[d]))
                loops.store(out, n, self._guarded(t, total[0], lengths[0]))

            loops.parallel(rows, example)

        (out,) = t.loops([((rows,), f64)], body)
        return out

    def _by_columns(self, t: TvmEmitter, ids: Tensor, ct: Tensor, first: Tensor, squares: Tensor) -> Tensor:
        """The same, a thread per column of an example."""
        count, width = static_shape(self.ct.tensor.shape[1:])
        rows, f64 = self.ids.tensor.shape[0], DType.F64

        def kept(n: Index, s: Index) -> Expr | None:
            return None if self.padding_idx is None else ids[n, s].ne(self.padding_idx)

        def body(loops: Loops, out: Tensor) -> None:
            def column(n: Expr, d: Expr) -> None:
                sums, total = loops.local(f64, (count,)), loops.local(f64)
                loops.store(total, 0, t.const(0.0, f64))

                def wanted(then: Callable[[Expr], None]) -> Callable[[Expr], None]:
                    return lambda s: then(s) if (k := kept(n, s)) is None else loops.when(k, lambda: then(s))

                def add(s: Expr) -> None:
                    place, value = first[n, s], t.cast(ct[n, s, d], f64)
                    loops.when(
                        place.eq(s),
                        lambda: loops.store(sums, s, value),
                        lambda: loops.store(sums, place, sums[place] + value),
                    )

                def square(s: Expr) -> None:
                    loops.when(first[n, s].eq(s), lambda: loops.store(total, 0, total[0] + sums[s] * sums[s]))

                loops.serial(count, wanted(add))
                loops.serial(count, wanted(square))
                loops.store(out, (n, d), total[0])

            each(t, loops, (rows, width), column)

        (columns,) = t.loops([((rows, width), f64)], body)

        def length(n: Index, s: Index) -> Expr:
            found = t.call("sqrt", squares[n, s])
            return found if (k := kept(n, s)) is None else t.select(k, found, t.const(0.0, f64))

        def square(n: Index, d: Index) -> Scalar:
            return columns[n, d]

        totals = t.reduce("sum", (rows,), (width,), square, f64)
        lengths = t.reduce("sum", (rows,), (count,), length, f64)
        return t.pointwise(partial(self._guarded, t), totals, lengths)

    def _guarded(self, t: TvmEmitter, total: Expr, lengths: Expr) -> Expr:
        """The squared norm, or a bound on it where the sums cancelled."""
        norm: Any = t.call("sqrt", total)
        bound: Any = lengths * self.roundoff
        stated: Any = t.maximum(norm + bound, lengths * LEAST_SHARE)
        exact = (bound <= norm * 2.0**-12) | norm.ne(norm)
        return t.select(exact, total, stated * stated)

    def to_onnx(self, o: OnnxEmitter, ids: str, ct: str) -> str:
        rows, count, width = self.ct.tensor.shape
        f64, i64 = DType.F64, DType.I64
        ids = ids if self.ids.type.dtype is i64 else o.cast(ids, i64)
        same = o.node("Equal", o.node("Unsqueeze", ids, o.ints(2)), o.node("Unsqueeze", ids, o.ints(1)))
        # Where an id stands for the first time in all examples: its sum is made there.
        tokens = numel((rows, count))
        starts = o.node("Range", o.scalar(0, i64), o.extent(tokens), o.extent(count))
        first = o.node("ArgMax", o.cast(same, DType.U8), axis=2, keepdims=0)
        first = o.node("Add", first, o.node("Unsqueeze", starts, o.ints(1)))
        deltas = ct if self.ct.type.dtype is f64 else o.cast(ct, f64)
        lengths = o.node("Sqrt", o.node("ReduceSum", o.node("Mul", deltas, deltas), o.ints(2), keepdims=0))
        if self.padding_idx is not None:
            padding = o.node("Equal", ids, o.scalar(self.padding_idx, i64))
            lengths = o.node("Where", padding, o.scalar(0, f64), lengths)
            first = o.node("Where", padding, o.extent(tokens), first)
        zeros = o.full((tokens, width), 0, f64)
        sums = scattered(o, zeros, TensorType(f64, (tokens, width)), 0, first, deltas, self.ct.tensor.shape, adds=True)
        squares = o.node("Mul", sums, sums)
        squares = o.node("ReduceSum", o.reshape(squares, (rows, count, width)), o.ints(1, 2), keepdims=0)
        length = o.node("ReduceSum", lengths, o.ints(1), keepdims=0)
        norm = o.node("Sqrt", squares)
        bound = o.node("Mul", length, o.scalar(self.roundoff, f64))
        least = o.node("Mul", length, o.scalar(LEAST_SHARE, f64))
        stated = o.node("Max", o.node("Add", norm, bound), least)
        exact = o.node("LessOrEqual", bound, o.node("Mul", norm, o.scalar(2.0**-12, f64)))
        exact = o.node("Or", exact, o.node("IsNaN", norm))
        return o.node("Where", exact, squares, o.node("Mul", stated, stated))


@dataclass(frozen=True, eq=False)
class OneHot(Op):
    """1 at position ``ids[…]`` of a new last axis of extent ``depth``, else 0; an id outside gives zeros."""

    name: ClassVar[str] = "embedding.one_hot"
    no_vjp: ClassVar[str] = "integer input"

    ids: Value
    depth: int
    dtype: DType

    def infer(self) -> TensorType:
        if not self.ids.tensor.dtype.is_integer or self.depth < 1:
            raise self.fail(f"ids are integers and the depth positive, not {self.ids.type} and {self.depth}")
        return TensorType(self.dtype, (*self.ids.tensor.shape, self.depth))

    def evaluate(self, ids: Array) -> Array:
        return (ids[..., None] == np.arange(self.depth)).astype(self.dtype.numpy)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (kind,) = kinds
        return kind if isinstance(kind, ExampleKind) else default_kind(self, kinds)

    def to_tvm(self, t: TvmEmitter, ids: Tensor) -> Tensor:
        def element(*index: Expr) -> Scalar:
            hit = t.cast(ids[index[:-1]], DType.I64).eq(t.cast(index[-1], DType.I64))
            return t.select(hit, t.const(1, self.dtype), t.const(0, self.dtype))

        return t.compute(self.result.tensor.shape, self.dtype, element)

    def to_onnx(self, o: OnnxEmitter, ids: str) -> str:
        # OneHot counts negative ids from the end.
        ids = ids if self.ids.type.dtype is DType.I64 else o.cast(ids, DType.I64)
        hit = o.node("Equal", o.node("Unsqueeze", ids, o.ints(-1)), o.array(np.arange(self.depth)))
        return hit if self.dtype is DType.BOOL else o.cast(hit, self.dtype)


OPS: tuple[type[Op], ...] = (Lookup, LookupGrad, LookupNormSq, OneHot)
