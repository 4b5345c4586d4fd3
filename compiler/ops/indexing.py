"""Reading and writing at positions given as data: gather, scatter, sort, cumulative sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import Dim, DType, Shape, TensorType, numel, static_shape
from .base import Array, Op, OpBuilder
from .composite import Composite
from .embedding import check_ids, missing_row, safe_row
from .emit import Expr, Loops, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import ExampleKind, Kind, MixedKind, PublicKind, all_public, default_kind, first_mixed, rowwise_kind
from .loops import each
from .onnx_forms import computed, kernel_type
from .onnx_places import SCATTERED, Places, scattered
from .reduce import accumulator


def _check_index(op: Op, index: TensorType, axis: int, x: TensorType) -> None:
    if not index.dtype.is_integer:
        raise op.fail(f"an index is integer, not {index}")
    if not 0 <= axis < x.rank:
        raise op.fail(f"axis {axis} is not an axis of {x}")


def _by_position(op: Op) -> MixedKind:
    return MixedKind(
        f"{op.name} along the batch axis picks examples by position",
        op,
        "index within the example; a batch reordered or sampled inside the program cannot be private",
    )


@dataclass(frozen=True, eq=False)
class Gather(Op):
    """``x`` at positions ``index`` of ``axis``: shape ``x[:axis] + index + x[axis + 1:]``."""

    name: ClassVar[str] = "indexing.gather"

    x: Value
    index: Value
    axis: int

    def infer(self) -> TensorType:
        x, index = self.x.tensor, self.index.tensor
        _check_index(self, index, self.axis, x)
        return x.with_shape((*x.shape[: self.axis], *index.shape, *x.shape[self.axis + 1 :]))

    def evaluate(self, x: Array, index: Array) -> Array:
        check_ids(self, index, x.shape[self.axis])
        return np.asarray(np.take(x, index, axis=self.axis))

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None or not needs[0]:
            return None, None
        return b.scatter_add(b.zeros_like(self.x), self.index, ct, self.axis), None

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        x, index = kinds
        if isinstance(x, PublicKind) and isinstance(index, ExampleKind):
            return ExampleKind(self.axis + index.axis, index.pre, index.post)
        if isinstance(x, ExampleKind) and not isinstance(index, MixedKind):
            if x.axis == self.axis or not isinstance(index, PublicKind):
                return _by_position(self)
            moved = x.axis if x.axis < self.axis else x.axis - 1 + self.index.tensor.rank
            return ExampleKind(moved, x.pre, x.post)
        return default_kind(self, kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor, index: Tensor) -> Tensor:
        dtype, rank = self.x.type.dtype, self.index.tensor.rank

        def element(*i: Expr) -> Scalar:
            place, inside = safe_row(t, index[i[self.axis : self.axis + rank]], self.x.tensor.shape[self.axis])
            return t.select(inside, x[(*i[: self.axis], place, *i[self.axis + rank :])], missing_row(t, dtype))

        return t.compute(self.result.tensor.shape, dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str, index: str) -> str:
        kind = self.x.tensor
        places = Places(self, o, index, self.index.tensor, kind.shape[self.axis])
        inside = places.beside(places.inside, kind.rank - self.axis - 1)
        return places.read(o.node("Gather", x, places.safe, axis=self.axis), kind.dtype, inside)


@dataclass(frozen=True, eq=False)
class Scattering(Op):
    """Base of ``x`` changed at positions ``index`` of ``axis``: updates have the shape that a gather gives."""

    adds: ClassVar[bool]

    x: Value
    index: Value
    updates: Value
    axis: int

    def infer(self) -> TensorType:
        x, index, updates = self.x.tensor, self.index.tensor, self.updates.tensor
        _check_index(self, index, self.axis, x)
        wanted = x.with_shape((*x.shape[: self.axis], *index.shape, *x.shape[self.axis + 1 :]))
        if updates != wanted:
            raise self.fail(f"updates of {x} at {index} positions along axis {self.axis} are {wanted}, not {updates}")
        return x

    def evaluate(self, x: Array, index: Array, updates: Array) -> Array:
        check_ids(self, index, x.shape[self.axis])
        out = np.moveaxis(x, self.axis, 0).copy()
        # Index axes of the updates move to the front, in order.
        rows = np.moveaxis(updates, range(self.axis, self.axis + index.ndim), range(index.ndim))
        flat = rows.reshape(index.size, *out.shape[1:])
        with np.errstate(all="ignore"):
            for place, row in zip(index.reshape(-1), flat, strict=True):
                out[place] = out[place] + row if self.adds else row
        return np.ascontiguousarray(np.moveaxis(out, 0, self.axis))

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        x, index, updates = kinds
        if all_public(kinds) or first_mixed(kinds) is not None:
            return default_kind(self, kinds)
        found: set[ExampleKind] = set()
        if isinstance(x, ExampleKind):
            found.add(x)
        if isinstance(updates, ExampleKind):
            rank = self.index.tensor.rank
            if self.axis <= updates.axis < self.axis + rank:
                return _by_position(self)
            axis = updates.axis if updates.axis < self.axis else updates.axis + 1 - rank
            found.add(ExampleKind(axis, updates.pre, updates.post))
        if isinstance(index, PublicKind) and len(found) == 1:
            (kind,) = found
            others = all(isinstance(k, (PublicKind, ExampleKind)) for k in kinds)
            return kind if others and kind.axis != self.axis else _by_position(self)
        return MixedKind(f"{self.name} adds rows of different examples", self)

    def to_tvm(self, t: TvmEmitter, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        shape, places = self.x.tensor.shape, self.index.tensor.shape
        before, after = shape[: self.axis], shape[self.axis + 1 :]
        dtype = self.x.type.dtype

        def body(loops: Loops, out: Tensor) -> None:
            each(t, loops, shape, lambda *i: loops.store(out, i, x[i]))

            # Rows before the axis are disjoint; along it, updates are applied in the order of the index.
            def block(*outer: Expr) -> None:
                def update(*k: Expr) -> None:
                    place, inside = safe_row(t, index[k], shape[self.axis])

                    def one(*inner: Expr) -> None:
                        target = (*outer, place, *inner)
                        value = updates[(*outer, *k, *inner)]
                        loops.store(out, target, out[target] + value if self.adds else value)

                    loops.when(inside, lambda: each(t, loops, after, one, parallel=False))

                each(t, loops, places, update, parallel=False)

            each(t, loops, before, block)

        (out,) = t.loops([(shape, dtype)], body)
        return out

    def to_onnx(self, o: OnnxEmitter, x: str, index: str, updates: str) -> str:
        kind = self.x.tensor
        places = Places(self, o, index, self.index.tensor, kind.shape[self.axis])
        wide = kernel_type(self, kind.dtype, SCATTERED)

        def changed(x: str, updates: str) -> str:
            shape = self.updates.tensor.shape
            return scattered(o, x, kind.with_dtype(wide), self.axis, places.or_behind, updates, shape, self.adds)

        return computed(self, o, kind.dtype, SCATTERED, changed, x, updates)


class ScatterAdd(Scattering):
    """``x`` with ``updates`` added at positions ``index`` of ``axis``, in the order of the index."""

    name = "indexing.scatter_add"
    adds = True

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None, None
        return ct, None, b.gather(ct, self.index, self.axis) if needs[2] else None


class Scatter(Scattering):
    """``x`` with ``updates`` written at positions ``index`` of ``axis``; the last one wins.

    The gradient of every update is the cotangent at its position, also of one overwritten later (Paddle's rule).
    """

    name = "indexing.scatter"
    adds = False

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None, None
        dx = b(Scatter(ct, self.index, b.zeros_like(self.updates), self.axis)) if needs[0] else None
        return dx, None, b.gather(ct, self.index, self.axis) if needs[2] else None


def _flat_index(b: OpBuilder, op: Op, index: Value, shape: Shape) -> tuple[Value, Shape]:
    """Row-major positions in the leading axes that ``index`` (last axis: one coordinate each) addresses."""
    depth = static_shape(index.tensor.shape[-1:])[0]
    strides = [1] * depth
    for axis in range(depth - 2, -1, -1):
        dim = shape[axis + 1]
        if not isinstance(dim, int):
            raise op.fail(f"axis {axis + 1} of extent {dim} is indexed too; only axis 0 may be symbolic")
        strides[axis] = strides[axis + 1] * dim
    last = index.tensor.rank - 1
    lead = index.tensor.shape[:-1]
    flat: Value | None = None
    for axis, stride in enumerate(strides):
        part = b.scale(b.reshape(b.slice(index, last, axis, axis + 1), lead), float(stride))
        flat = part if flat is None else b.add(flat, part)
    assert flat is not None
    return flat, (numel(shape[:depth]), *shape[depth:])


@dataclass(frozen=True, eq=False)
class PositionOp(Composite):
    """Base of the composites whose index holds a coordinate tuple on its last axis."""

    x: Value
    index: Value

    @property
    def rows(self) -> Shape:
        """The shape of what the index addresses: one slice of ``x`` per coordinate tuple."""
        x, index = self.x.tensor, self.index.tensor
        depth = index.shape[-1] if index.rank else 0
        if not index.dtype.is_integer or not isinstance(depth, int) or not 1 <= depth <= x.rank:
            raise self.fail(f"the last axis of an integer index holds 1 to {x.rank} coordinates of {x}, not {index}")
        return index.shape[:-1] + x.shape[depth:]


class GatherNd(PositionOp):
    """``x[index[…, 0], index[…, 1], …]``: one slice of ``x`` per coordinate tuple."""

    name = "indexing.gather_nd"

    def infer(self) -> TensorType:
        return self.x.tensor.with_shape(self.rows)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        flat, shape = _flat_index(b, self, self.index, self.x.tensor.shape)
        return (b.gather(b.reshape(self.x, shape), flat, 0),)


@dataclass(frozen=True, eq=False)
class ScatterNdAdd(PositionOp):
    """``x`` with ``updates`` added at coordinate tuples ``index``."""

    name: ClassVar[str] = "indexing.scatter_nd_add"

    updates: Value

    def infer(self) -> TensorType:
        wanted = self.x.tensor.with_shape(self.rows)
        if self.updates.tensor != wanted:
            raise self.fail(f"updates of {self.x.type} at {self.index.type} are {wanted}, not {self.updates.type}")
        return self.x.tensor

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        flat, shape = _flat_index(b, self, self.index, self.x.tensor.shape)
        total = b.scatter_add(b.reshape(self.x, shape), flat, self.updates, 0)
        return (b.reshape(total, self.x.tensor.shape),)


def _along_kind(op: Op, axis: int, kinds: Sequence[Kind]) -> Kind:
    """Operands that agree outside ``axis``: examples stay apart if all lie on one other axis."""
    if first_mixed(kinds) is not None or all_public(kinds):
        return default_kind(op, kinds)
    found = {kind for kind in kinds if not isinstance(kind, PublicKind)}
    if len(found) == 1:
        (kind,) = found
        if isinstance(kind, ExampleKind):
            return kind if kind.axis != axis else _by_position(op)
    return MixedKind(f"{op.name} combines different examples", op)


@dataclass(frozen=True, eq=False)
class TakeAlong(Op):
    """``out[…, i, …] = x[…, index[…, i, …], …]`` along ``axis``; other axes are equal."""

    name: ClassVar[str] = "indexing.take_along"

    x: Value
    index: Value
    axis: int

    def infer(self) -> TensorType:
        x, index = self.x.tensor, self.index.tensor
        _check_index(self, index, self.axis, x)
        same = index.rank == x.rank and all(
            a == b for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)) if i != self.axis
        )
        if not same:
            raise self.fail(f"{x} and {index} differ outside axis {self.axis}")
        return x.with_shape(index.shape)

    def evaluate(self, x: Array, index: Array) -> Array:
        check_ids(self, index, x.shape[self.axis])
        return np.take_along_axis(x, index, self.axis)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None or not needs[0]:
            return None, None
        return b(AddAlong(b.zeros_like(self.x), self.index, ct, self.axis)), None

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return _along_kind(self, self.axis, kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor, index: Tensor) -> Tensor:
        dtype = self.x.type.dtype

        def element(*i: Expr) -> Scalar:
            place, inside = safe_row(t, index[i], self.x.tensor.shape[self.axis])
            return t.select(inside, x[(*i[: self.axis], place, *i[self.axis + 1 :])], missing_row(t, dtype))

        return t.compute(self.result.tensor.shape, dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str, index: str) -> str:
        kind = self.x.tensor
        places = Places(self, o, index, self.index.tensor, kind.shape[self.axis])
        return places.read(o.node("GatherElements", x, places.safe, axis=self.axis), kind.dtype, places.inside)


@dataclass(frozen=True, eq=False)
class AddAlong(Op):
    """``x`` with ``updates[…, i, …]`` added at ``index[…, i, …]`` of ``axis``, in order of ``i``."""

    name: ClassVar[str] = "indexing.add_along"

    x: Value
    index: Value
    updates: Value
    axis: int

    def infer(self) -> TensorType:
        x, index, updates = self.x.tensor, self.index.tensor, self.updates.tensor
        _check_index(self, index, self.axis, x)
        others = x.shape[: self.axis] + x.shape[self.axis + 1 :]
        if updates != x.with_shape(index.shape) or others != index.shape[: self.axis] + index.shape[self.axis + 1 :]:
            raise self.fail(f"{x}, index {index} and updates {updates} do not agree outside axis {self.axis}")
        return x

    def evaluate(self, x: Array, index: Array, updates: Array) -> Array:
        check_ids(self, index, x.shape[self.axis])
        out = np.moveaxis(x, self.axis, 0).copy()
        places, rows = np.moveaxis(index, self.axis, 0), np.moveaxis(updates, self.axis, 0)
        grid = np.indices(out.shape[1:], sparse=True)
        with np.errstate(all="ignore"):
            for place, row in zip(places, rows, strict=True):
                out[(place, *grid)] += row
        return np.ascontiguousarray(np.moveaxis(out, 0, self.axis))

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None, None
        return ct, None, b(TakeAlong(ct, self.index, self.axis)) if needs[2] else None

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return _along_kind(self, self.axis, kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        shape, count = self.x.tensor.shape, self.index.tensor.shape[self.axis]

        def body(loops: Loops, out: Tensor) -> None:
            each(t, loops, shape, lambda *i: loops.store(out, i, x[i]))

            def row(*o: Expr) -> None:
                def update(k: Expr) -> None:
                    source = (*o[: self.axis], k, *o[self.axis :])
                    place, inside = safe_row(t, index[source], shape[self.axis])
                    target = (*o[: self.axis], place, *o[self.axis :])
                    loops.when(inside, lambda: loops.store(out, target, out[target] + updates[source]))

                loops.serial(count, update)

            each(t, loops, shape[: self.axis] + shape[self.axis + 1 :], row)

        (out,) = t.loops([(shape, self.x.type.dtype)], body)
        return out

    def to_onnx(self, o: OnnxEmitter, x: str, index: str, updates: str) -> str:
        kind, axis = self.x.tensor, self.axis
        places = Places(self, o, index, self.index.tensor, kind.shape[axis])
        zero = o.scalar(0, kernel_type(self, kind.dtype, SCATTERED))

        def added(x: str, updates: str) -> str:
            updates = o.node("Where", places.inside, updates, zero)
            return o.node("ScatterElements", x, places.safe, updates, axis=axis, reduction="add")

        return computed(self, o, kind.dtype, SCATTERED, added, x, updates)


def _sort_key(x: Array) -> Array:
    """Ascending order: NaN counts as -inf, so that sorting is total."""
    return np.where(np.isnan(x), -np.inf, x).astype(x.dtype) if x.dtype.kind not in "iub" else x


def _key(t: TvmEmitter, x: Expr) -> Expr:
    if not x.dtype.is_float:
        return x
    return t.select(x.ne(x), t.const(-np.inf, x.dtype), x)


@dataclass(frozen=True, eq=False)
class Ordering(Op):
    """Base of the two results (values of ``x``, their positions i64) of a sort; equal elements keep their order."""

    x: Value

    @property
    def along(self) -> int:
        """The axis that is sorted."""
        raise NotImplementedError

    def sorted(self, o: OnnxEmitter, x: str, count: Dim, largest: bool) -> tuple[str, str]:
        """The first ``count`` in order, as ONNX nodes, and their places."""
        dtype = self.x.type.dtype
        wide = kernel_type(self, dtype, SCATTERED, ordered=True)
        key = x if wide is dtype else o.cast(x, wide)
        if dtype.is_float:
            key = o.node("Where", o.node("IsNaN", key), o.scalar(-np.inf, wide), key)
        size = o.node("Unsqueeze", o.extent(count), o.ints(0))
        values, places = o.many("TopK", 2, key, size, axis=self.along, largest=int(largest))
        return values if key == x else o.node("GatherElements", x, places, axis=self.along), places

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        ct = cts[0]
        if ct is None or not needs[0]:
            return (None,)
        return (b(AddAlong(b.zeros_like(self.x), self.results[1], ct, self.along)),)

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, Kind]:
        kind = rowwise_kind(self, kinds[0], (self.along,), "it would compare examples")
        return kind, kind


@dataclass(frozen=True, eq=False)
class TopK(Ordering):
    """The ``k`` largest elements along the last axis, descending; NaN counts as -inf."""

    name: ClassVar[str] = "indexing.top_k"

    k: int

    @property
    def along(self) -> int:
        return self.x.tensor.rank - 1

    def infer(self) -> tuple[TensorType, TensorType]:
        x = self.x.tensor
        last = x.shape[-1] if x.rank else None
        if not isinstance(last, int) or not 1 <= self.k <= last or x.dtype is DType.BOOL:
            raise self.fail(f"no {self.k} largest elements along the last axis of {x}")
        values = x.with_shape((*x.shape[:-1], self.k))
        return values, values.with_dtype(DType.I64)

    def evaluate(self, x: Array) -> tuple[Array, Array]:
        index = _descending(_sort_key(x), -1)[..., : self.k].astype(np.int64)
        return np.take_along_axis(x, index, -1), index

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> tuple[Tensor, ...]:
        shape = self.x.tensor.shape
        count = shape[-1]
        results = [(value.tensor.shape, value.tensor.dtype) for value in self.results]

        def body(loops: Loops, values: Tensor, positions: Tensor) -> None:
            def row(*o: Expr) -> None:
                best = loops.local(DType.I64)

                def pick(j: Expr) -> None:
                    # The best element after the one picked before, in the order (value down, position up).
                    loops.store(best, 0, t.const(-1, DType.I64))

                    def visit(i: Expr) -> None:
                        place = t.cast(i, DType.I64)
                        mine = _key(t, x[(*o, place)])
                        previous = positions[(*o, t.maximum(t.cast(j, DType.I64) - 1, t.const(0, DType.I64)))]
                        earlier = t.select(t.cast(j, DType.I64) > 0, previous, t.const(0, DType.I64))
                        bound = _key(t, x[(*o, earlier)])
                        after = (mine < bound) | (mine.eq(bound) & (place > earlier))
                        candidate = after | (t.cast(j, DType.I64) <= 0)
                        kept = _key(t, x[(*o, t.maximum(best[0], t.const(0, DType.I64)))])
                        better = (best[0] < 0) | (mine > kept)
                        loops.when(candidate & better, lambda: loops.store(best, 0, place))

                    loops.serial(count, visit)
                    loops.store(positions, (*o, j), best[0])
                    loops.store(values, (*o, j), x[(*o, best[0])])

                loops.serial(self.k, pick)

            each(t, loops, shape[:-1], row)

        return t.loops(results, body)

    def to_onnx(self, o: OnnxEmitter, x: str) -> tuple[str, str]:
        return self.sorted(o, x, self.k, largest=True)


def _descending(key: Array, axis: int) -> Array:
    """A stable descending argsort."""
    backwards = np.flip(np.argsort(np.flip(key, axis), axis=axis, kind="stable"), axis)
    return key.shape[axis] - 1 - backwards


@dataclass(frozen=True, eq=False)
class Argsort(Ordering):
    """``x`` sorted along ``axis``, and where its elements were; NaN counts as -inf."""

    name: ClassVar[str] = "indexing.argsort"

    axis: int
    descending: bool = False

    @property
    def along(self) -> int:
        return self.axis

    def infer(self) -> tuple[TensorType, TensorType]:
        x = self.x.tensor
        if not 0 <= self.axis < x.rank or x.dtype is DType.BOOL:
            raise self.fail(f"axis {self.axis} of {x} has no order")
        return x, x.with_dtype(DType.I64)

    def evaluate(self, x: Array) -> tuple[Array, Array]:
        key = _sort_key(x)
        index = _descending(key, self.axis) if self.descending else np.argsort(key, axis=self.axis, kind="stable")
        index = index.astype(np.int64)
        return np.take_along_axis(x, index, self.axis), index

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> tuple[Tensor, ...]:
        shape = self.x.tensor.shape
        axis, count = self.axis, shape[self.axis]
        results = [(value.tensor.shape, value.tensor.dtype) for value in self.results]

        def body(loops: Loops, values: Tensor, positions: Tensor) -> None:
            def row(*o: Expr) -> None:
                def at(i: Any) -> tuple[Any, ...]:
                    return (*o[:axis], i, *o[axis:])

                def place(i: Expr) -> None:
                    # An element's place is the number of elements before it.
                    here, rank = t.cast(i, DType.I64), loops.local(DType.I64)
                    mine = _key(t, x[at(here)])
                    loops.store(rank, 0, t.const(0, DType.I64))

                    def compare(j: Expr) -> None:
                        there = t.cast(j, DType.I64)
                        other = _key(t, x[at(there)])
                        ahead = other > mine if self.descending else other < mine
                        before = ahead | (other.eq(mine) & (there < here))
                        loops.store(rank, 0, rank[0] + t.cast(before, DType.I64))

                    loops.serial(count, compare)
                    loops.store(values, at(rank[0]), x[at(here)])
                    loops.store(positions, at(rank[0]), here)

                loops.serial(count, place, independent=True)

            each(t, loops, shape[:axis] + shape[axis + 1 :], row)

        return t.loops(results, body)

    def to_onnx(self, o: OnnxEmitter, x: str) -> tuple[str, str]:
        return self.sorted(o, x, self.x.tensor.shape[self.axis], self.descending)


@dataclass(frozen=True, eq=False)
class Cumsum(Op):
    """Running sums along ``axis``; ``exclusive`` leaves the element itself out, ``reverse`` sums from the end."""

    name: ClassVar[str] = "indexing.cumsum"

    x: Value
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer(self) -> TensorType:
        x = self.x.tensor
        if not 0 <= self.axis < x.rank or x.dtype is DType.BOOL:
            raise self.fail(f"no running sums along axis {self.axis} of {x}")
        return x

    def evaluate(self, x: Array) -> Array:
        source = np.flip(x, self.axis) if self.reverse else x
        with np.errstate(all="ignore"):
            sums = np.cumsum(source, axis=self.axis, dtype=accumulator(self.x.type.dtype).numpy)
        if self.exclusive:
            sums = np.roll(sums, 1, self.axis)
            first: list[Any] = [slice(None)] * x.ndim
            first[self.axis] = slice(0, 1)
            sums[tuple(first)] = 0
        return np.ascontiguousarray(np.flip(sums, self.axis) if self.reverse else sums).astype(x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None or not needs[0] else b(Cumsum(ct, self.axis, self.exclusive, not self.reverse)),)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if isinstance(kinds[0], PublicKind) and not isinstance(self.x.tensor.shape[self.axis], int):
            return MixedKind(f"{self.name} along a batch-sized axis counts examples", self)
        return rowwise_kind(self, kinds[0], (self.axis,), "it would add examples up")

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        shape, axis, dtype = self.x.tensor.shape, self.axis, self.x.type.dtype
        wide = accumulator(dtype)

        def body(loops: Loops, out: Tensor) -> None:
            def row(*o: Expr) -> None:
                total = loops.local(wide)
                loops.store(total, 0, t.const(0, wide))

                def step(i: Expr) -> None:
                    k: Any = t.cast(i, DType.I64)
                    place = t.extent(shape[axis]) - 1 - k if self.reverse else k
                    at = (*o[:axis], place, *o[axis:])
                    if self.exclusive:
                        loops.store(out, at, t.cast(total[0], dtype))
                    loops.store(total, 0, total[0] + t.cast(x[at], wide))
                    if not self.exclusive:
                        loops.store(out, at, t.cast(total[0], dtype))

                loops.serial(shape[axis], step)

            each(t, loops, shape[:axis] + shape[axis + 1 :], row)

        (out,) = t.loops([(shape, dtype)], body)
        return out

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        def sums(x: str) -> str:
            axis = o.scalar(self.axis, DType.I64)
            return o.node("CumSum", x, axis, exclusive=int(self.exclusive), reverse=int(self.reverse))

        return computed(self, o, self.x.type.dtype, SCATTERED, sums, x)


OPS: tuple[type[Op], ...] = (
    Gather, ScatterAdd, Scatter, GatherNd, ScatterNdAdd, TakeAlong, AddAlong, TopK, Argsort, Cumsum,
)  # fmt: skip
