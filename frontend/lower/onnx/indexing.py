"""Ops that read and write elements by index; an index below 0 counts from the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim, DType, numel
from ....compiler.ops.indexing import AddAlong, Argsort, Scatter, TopK
from ..known import Known
from ..loss import check_range
from .node import Node, NodeRules, Results

MOST_UPDATES = 64
"""Updates that are combined one after the other: each is ops of its own."""


def _gather(n: Node) -> Value:
    x, index = n.x("data"), n.x("indices")
    axis = n.axis(n.attr("axis"), x.tensor.rank)
    known = n.known("indices")
    _check_constant(n, known, x.tensor.shape[axis], axis)
    if known is not None and not known.symbolic and known.array.size == 1 and isinstance(x.tensor.shape[axis], int):
        # One place is a slice, which keeps what follows from the batch simple.
        at = int(known.array.reshape(-1)[0]) % n.fixed(x, axis)
        shape = (*x.tensor.shape[:axis], *known.shape, *x.tensor.shape[axis + 1 :])
        return n.b.reshape(n.b.slice(x, axis, at, at + 1), shape)
    if axis == 0 and x.tensor.rank == 2:
        if n.is_fed("indices"):
            # Word ids: what lies outside of the table, below 0 too, is refused when it is fed.
            check_range(n.lowering, "indices", x.tensor.shape[0])
            return n.b.lookup(x, index)
        return n.b.lookup(x, from_front(n, index, x.tensor.shape[axis]))
    return n.b.gather(x, from_front(n, index, x.tensor.shape[axis]), axis)


def _check_constant(n: Node, index: Known | None, extent: Dim, axis: int) -> None:
    """Refuse indices that the model states and that its tensor does not have."""
    if index is None or index.symbolic or not index.array.size or not isinstance(extent, int):
        return
    low, high = int(index.array.min()), int(index.array.max())
    if low < -extent or high >= extent:
        wrong = low if low < -extent else high
        raise n.error(f"the index {wrong} lies outside of axis {axis} of extent {extent}", "correct the model")


def from_front(n: Node, index: Value, extent: Dim) -> Value:
    """Indices of an axis of this extent with those below 0 counted from the end."""
    dtype = index.tensor.dtype
    zero = n.number(dtype, 0)
    size = n.number(dtype, extent) if isinstance(extent, int) else n.b.extent(extent, dtype)
    return n.b.where(n.b.less(index, zero), n.b.add(index, size), index)


# Along one axis ---------------------------------------------------------------------------------------------


def _gather_elements(n: Node) -> Value:
    x, index = n.x("data"), n.x("indices")
    axis = n.axis(n.attr("axis"), x.tensor.rank)
    _check_constant(n, n.known("indices"), x.tensor.shape[axis], axis)
    return n.b.take_along(_within(n, x, index, axis), from_front(n, index, x.tensor.shape[axis]), axis)


def _within(n: Node, x: Value, index: Value, axis: int) -> Value:
    """The part of ``x`` that an index of smaller extents besides the axis reaches."""
    for other, extent in enumerate(index.tensor.shape):
        if other != axis and extent != x.tensor.shape[other]:
            x = n.b.slice(x, other, 0, extent)
    return x


def _scatter_elements(n: Node) -> Value:
    x, index, updates = n.x("data"), n.x("indices"), n.x("updates")
    axis = n.axis(n.attr("axis"), x.tensor.rank)
    index = from_front(n, n.b.cast(index, DType.I64), x.tensor.shape[axis])
    kind = n.attr("reduction", "none")
    same = _others(x, axis) == _others(index, axis)
    if kind == "add" and same:
        return n.b(AddAlong(x, index, updates, axis))
    if kind in ("none", "add"):
        places = [index if i == axis else n.b.iota(index.tensor.shape, i, DType.I64) for i in range(x.tensor.rank)]
        flat = n.b.reshape(_row_major(n, places, x.tensor.shape), (numel(index.tensor.shape),))
        return _written(n, x, x.tensor.rank, flat, n.b.reshape(updates, flat.tensor.shape), kind)
    combine = _combination(n, kind)
    count = n.fixed(index, axis)
    if not same or count > MOST_UPDATES:
        raise n.error(
            f"{count} updates of {x.type} are reduced by {kind!r}",
            f"at most {MOST_UPDATES} along an axis are, where the other axes are whole",
        )
    at = n.positions(x.tensor.shape, axis)
    for i in range(count):
        here = n.b.equal(at, n.b.slice(index, axis, i, i + 1))
        x = n.b.where(here, combine(x, n.b.slice(updates, axis, i, i + 1)), x)
    return x


def _others(x: Value, axis: int) -> tuple[Dim, ...]:
    return x.tensor.shape[:axis] + x.tensor.shape[axis + 1 :]


def _combination(n: Node, kind: str) -> Callable[[Value, Value], Value]:
    found = {"mul": n.b.mul, "max": n.b.maximum, "min": n.b.minimum}.get(kind)
    if found is None:
        raise n.error(f"the reduction {kind!r}", "use none, add, mul, max or min")
    return found


# By coordinates ---------------------------------------------------------------------------------------------


def _row_major(n: Node, places: Sequence[Value], shape: Sequence[Dim]) -> Value:
    """Positions in row-major order from one index per axis of ``shape``."""
    flat = places[0]
    for place, extent in zip(places[1:], shape[1:], strict=True):
        size = n.number(DType.I64, extent) if isinstance(extent, int) else n.b.extent(extent, DType.I64)
        flat = n.b.add(n.b.mul(flat, size), place)
    return flat


def _written(n: Node, x: Value, axes: int, flat: Value, updates: Value, kind: str) -> Value:
    """``x`` with ``updates`` at row-major positions of its first axes; ``kind`` is none or add."""
    rows = n.b.reshape(x, (numel(x.tensor.shape[:axes]), *x.tensor.shape[axes:]))
    done = n.b.scatter_add(rows, flat, updates, 0) if kind == "add" else n.b(Scatter(rows, flat, updates, 0))
    return n.b.reshape(done, x.tensor.shape)


def _coordinates(n: Node, index: Value, shape: Sequence[Dim], first: int) -> list[Value]:
    """One index per axis of ``shape`` from the last axis of ``index``; ``first`` is the axis that comes first."""
    index = n.b.cast(index, DType.I64)
    rank = index.tensor.rank
    return [
        from_front(n, n.b.reshape(part, index.tensor.shape[:-1]), shape[first + i])
        for i, part in enumerate(n.b.split(index, rank - 1, [1] * n.fixed(index, rank - 1)))
    ]


def _gather_nd(n: Node) -> Value:
    x, index = n.x("data"), n.x("indices")
    batch = n.attr("batch_dims", 0)
    if not 0 <= batch < min(x.tensor.rank, index.tensor.rank):
        raise n.error(f"{batch} axes of {x.type} and {index.type} are rows", "correct the model")
    tuples = index.tensor.shape[:-1]
    rows = [n.b.iota(tuples, axis, DType.I64) for axis in range(batch)]
    places = rows + _coordinates(n, index, x.tensor.shape, batch)
    axes = len(places)
    flat = _row_major(n, places, x.tensor.shape[:axes])
    rest = x.tensor.shape[axes:]
    return n.b.gather(n.b.reshape(x, (numel(x.tensor.shape[:axes]), *rest)), flat, 0)


def _scatter_nd(n: Node) -> Value:
    x, index, updates = n.x("data"), n.x("indices"), n.x("updates")
    places = _coordinates(n, index, x.tensor.shape, 0)
    axes = len(places)
    rest = x.tensor.shape[axes:]
    flat = _row_major(n, places, x.tensor.shape[:axes])
    count = numel(flat.tensor.shape)
    flat, updates = n.b.reshape(flat, (count,)), n.b.reshape(updates, (count, *rest))
    kind = n.attr("reduction", "none")
    if kind in ("none", "add"):
        return _written(n, x, axes, flat, updates, kind)
    combine = _combination(n, kind)
    if not isinstance(count, int) or count > MOST_UPDATES:
        raise n.error(f"{count} updates of {x.type} are reduced by {kind!r}", f"at most {MOST_UPDATES} are")
    rows = n.b.reshape(x, (numel(x.tensor.shape[:axes]), *rest))
    for i in range(count):
        at = n.b.slice(flat, 0, i, i + 1)
        old = n.b.gather(rows, at, 0)
        rows = n.b(Scatter(rows, at, combine(old, n.b.slice(updates, 0, i, i + 1)), 0))
    return n.b.reshape(rows, x.tensor.shape)


def _tensor_scatter(n: Node) -> Value:
    """A cache with new rows: along ``axis``, row i of the batch takes its update from ``write_indices[i]`` on."""
    cache, update = n.x("past_cache"), n.x("update")
    axis = n.axis(n.attr("axis"), cache.tensor.rank)
    size, count = n.fixed(cache, axis), n.fixed(update, axis)
    rows = cache.tensor.shape[0]
    if n.has("write_indices"):
        start = n.b.cast(n.x("write_indices"), DType.I64)
    else:
        start = n.b.fill((rows,), DType.I64, 0)
    start = n.b.reshape(start, (rows, *([1] * (cache.tensor.rank - 1))))
    # Place p of the cache is update p - start, if there is one; a circular cache goes on at its front.
    offset = n.b.sub(n.positions(cache.tensor.shape, axis), start)
    if n.attr("mode") == "circular":
        offset = n.b.where(n.b.less(offset, n.number(DType.I64, 0)), n.b.add(offset, n.number(DType.I64, size)), offset)
    zero, last = n.number(DType.I64, 0), n.number(DType.I64, count - 1)
    inside = n.b.logical_and(n.b.less_equal(zero, offset), n.b.less_equal(offset, last))
    place = n.b.broadcast(n.b.minimum(n.b.maximum(offset, zero), last), cache.tensor.shape)
    return n.b.where(inside, n.b.take_along(update, place, axis), cache)


# Order and classes ------------------------------------------------------------------------------------------


def _top_k(n: Node) -> Results:
    x = n.x("X")
    k = n.attr("k") if n.version < 10 else int(n.one("K"))
    rank = x.tensor.rank
    axis = n.axis(n.attr("axis"), rank)
    if n.attr("largest", 1) and isinstance(k, int) and k > 0:
        order = [i for i in range(rank) if i != axis] + [axis]
        back = np.argsort(order).tolist()
        values, places = n.b.emit(TopK(n.b.transpose(x, order), k))
        return n.b.transpose(values, back), n.b.transpose(places, back)
    values, places = n.b.emit(Argsort(x, axis, bool(n.attr("largest", 1))))
    return n.b.slice(values, axis, 0, k), n.b.slice(places, axis, 0, k)


def _one_hot(n: Node) -> Value:
    index, values = n.x("indices"), n.x("values")
    depth = int(n.one("depth"))
    axis = n.axis(n.attr("axis"), index.tensor.rank + 1)
    shape = (*index.tensor.shape[:axis], depth, *index.tensor.shape[axis:])
    index = from_front(n, n.b.cast(index, DType.I64), depth)
    index = n.b.reshape(index, (*shape[:axis], 1, *shape[axis + 1 :]))
    off, on = (n.b.reshape(n.b.slice(values, 0, i, i + 1), ()) for i in (0, 1))
    here = n.b.equal(index, n.positions(shape, axis))
    return n.b.where(here, on, off)


def _hardmax(n: Node) -> Value:
    return n.per_axis(n.x("input"), lambda x, axis: _first_largest(n, x, axis))


def _first_largest(n: Node, x: Value, axis: int) -> Value:
    first = n.b.argmax(x, axis, keepdims=True)
    return n.b.cast(n.b.equal(n.positions(x.tensor.shape, axis), first), x.tensor.dtype)


def _compress(n: Node) -> Value:
    x, kept = n.x("input"), np.flatnonzero(n.numbers("condition"))
    axis = n.attr("axis")
    if axis is None:
        x, axis = n.b.reshape(x, (numel(x.tensor.shape),)), 0
    axis = n.axis(axis, x.tensor.rank)
    if kept.size and kept[-1] >= n.fixed(x, axis):
        raise n.error(f"element {kept[-1]} of axis {axis} of {x.type} is chosen", "correct the model")
    return n.b.gather(x, n.array(kept.astype(np.int64), "kept"), axis)


def _non_zero(n: Node) -> Known:
    return Known.of(np.stack(np.nonzero(np.atleast_1d(n.numbers("X")))).astype(np.int64))


RULES: NodeRules = {
    "NonZero": _non_zero,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "TopK": _top_k,
    "OneHot": _one_hot,
    "Hardmax": _hardmax,
    "Compress": _compress,
}
