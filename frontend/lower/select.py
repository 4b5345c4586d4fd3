"""Layers that take elements by their places, or move them."""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, dim_add
from ...compiler.ops import elementwise, indexing
from .context import OpLowering, Rules


def _index_select(o: OpLowering) -> None:
    x = o.x()
    (dim,) = o.axes(x, [o.attr("dim", 0)])
    o.set(o.b.gather(x, o.x("Index"), dim))


def _index_sample(o: OpLowering) -> None:
    o.set(o.b.take_along(o.x(), o.x("Index"), 1))


def _scatter_nd_add(o: OpLowering) -> None:
    o.set(o.b(indexing.ScatterNdAdd(o.x(), o.x("Index"), o.x("Updates"))))


def _crop(o: OpLowering) -> None:
    x = o.x()
    like = o.x("Y") if o.has("Y") else None
    sizes = o.attr("shape") if like is None else like.tensor.shape
    for axis, (size, start) in enumerate(zip(sizes, o.attr("offsets") or [0] * x.tensor.rank, strict=True)):
        extent = x.tensor.shape[axis]
        to_the_end = size == -1 or size == extent
        if start and not (isinstance(extent, int) and isinstance(size, int)):
            raise o.error(f"axis {axis} of {x.type} is cut at {start}, but it is open", "start at 0 there")
        x = o.b.slice(x, axis, start, extent if to_the_end else dim_add(start, size))
    o.set(x)


def _roll(o: OpLowering) -> None:
    x = o.x()
    for axis, shift in zip(o.axes(x, o.attr("dims")), o.attr("shifts"), strict=True):
        extent = x.tensor.shape[axis]
        if not isinstance(extent, int):
            raise o.error(
                f"axis {axis} of {x.type} has the open extent {extent}", "choose another axis, or fix the shape"
            )
        first = -shift % extent
        if first:
            x = o.b.concat([o.b.slice(x, axis, first, extent), o.b.slice(x, axis, 0, first)], axis)
    o.set(x)


def _flip(o: OpLowering) -> None:
    o.set(o.b.reverse(o.x(), o.attr("dims")))


def _meshgrid(o: OpLowering) -> None:
    vectors = o.xs("X")
    shape = tuple(v.tensor.shape[0] for v in vectors)
    along = [tuple(d if j == i else 1 for j, d in enumerate(shape)) for i in range(len(vectors))]
    o.set_all([o.b.broadcast(o.b.reshape(v, own), shape) for v, own in zip(vectors, along)])


def _multiplex(o: OpLowering) -> None:
    ids, (chosen, *others) = o.x("Ids"), o.xs("X")
    column = o.b.reshape(ids, (ids.tensor.shape[0], *(1,) * (chosen.tensor.rank - 1)))
    for number, x in enumerate(others, 1):
        chosen = o.b.where(o.b.equal(column, o.b.fill((), ids.tensor.dtype, number)), x, chosen)
    o.set(chosen)


def _pad_constant_like(o: OpLowering) -> None:
    x, y = o.x("X"), o.x("Y")
    more: list[int] = []
    for axis, (want, have) in enumerate(zip(x.tensor.shape, y.tensor.shape, strict=True)):
        if want == have:
            more.append(0)
        elif isinstance(want, int) and isinstance(have, int):
            more.append(want - have)
        else:
            raise o.error(f"axis {axis} of {y.type} to that of {x.type}", "only equal or fixed extents can be padded")
    o.set(o.b.pad(y, (0,) * y.tensor.rank, more, o.attr("pad_value", 0.0)))


def _shard_index(o: OpLowering) -> None:
    x = o.x()
    size = -(-o.attr("index_num") // o.attr("nshards"))

    def number(value: int) -> Value:
        return o.b.fill((), x.tensor.dtype, value)

    shard = o.b(elementwise.FloorDiv(x, number(size)))
    inside = o.b(elementwise.Mod(x, number(size)))
    mine = o.b.equal(shard, number(o.attr("shard_id")))
    o.set(o.b.where(mine, inside, number(o.attr("ignore_value", -1))))


def _is_empty(o: OpLowering) -> None:
    empty = any(d == 0 for d in o.x().tensor.shape)
    o.set(o.b.fill((1,), DType.BOOL, empty))


RULES: Rules = {
    "index_select": _index_select,
    "index_sample": _index_sample,
    "scatter_nd_add": _scatter_nd_add,
    "crop": _crop,
    "crop_tensor": _crop,
    "roll": _roll,
    "flip": _flip,
    "meshgrid": _meshgrid,
    "multiplex": _multiplex,
    "pad_constant_like": _pad_constant_like,
    "shard_index": _shard_index,
    "is_empty": _is_empty,
}
