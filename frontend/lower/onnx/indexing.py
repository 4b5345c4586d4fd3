"""Ops that select elements by index."""

from __future__ import annotations

from ....compiler.ir.core import Value
from ..loss import check_range
from .node import Node, NodeRules


def _gather(n: Node) -> Value:
    x, index = n.x("data"), n.x("indices")
    axis = n.axis(n.attr("axis"), x.tensor.rank)
    known = n.known("indices")
    if known is not None and not known.symbolic and known.array.size == 1 and isinstance(x.tensor.shape[axis], int):
        # One place is a slice, which keeps what follows from the batch simple.
        at = n.axis(int(known.array.reshape(-1)[0]), n.fixed(x, axis))
        shape = (*x.tensor.shape[:axis], *known.shape, *x.tensor.shape[axis + 1 :])
        return n.b.reshape(n.b.slice(x, axis, at, at + 1), shape)
    if axis == 0 and x.tensor.rank == 2:
        if n.is_fed("indices"):
            # Word ids: what lies outside of the table, below 0 too, is refused when it is fed.
            check_range(n.lowering, "indices", x.tensor.shape[0])
            return n.b.lookup(x, index)
        return n.b.lookup(x, from_front(n, index, x, axis))
    return n.b.gather(x, from_front(n, index, x, axis), axis)


def from_front(n: Node, index: Value, x: Value, axis: int) -> Value:
    """Indices of ``axis`` of ``x`` with those below 0 counted from the end."""
    extent = x.tensor.shape[axis]
    dtype = index.tensor.dtype
    zero = n.number(dtype, 0)
    size = n.number(dtype, extent) if isinstance(extent, int) else n.b.extent(extent, dtype)
    return n.b.where(n.b.less(index, zero), n.b.add(index, size), index)


RULES: NodeRules = {"Gather": _gather}
