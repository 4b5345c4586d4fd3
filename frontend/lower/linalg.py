"""Products of vectors and matrices, and parts of matrices."""

from __future__ import annotations

import math

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, dim_mul
from .context import OpLowering, Rules


def _bmm(o: OpLowering) -> None:
    o.set(o.b.matmul(o.x("X"), o.x("Y")))


def _addmm(o: OpLowering) -> None:
    product = o.b.scale(o.b.matmul(o.x("X"), o.x("Y")), o.attr("Alpha", 1.0))
    o.set(o.b.add(o.b.scale(o.x("Input"), o.attr("Beta", 1.0)), product))


def _dot(o: OpLowering) -> None:
    product = o.b.mul(o.x("X"), o.x("Y"))
    o.set(o.b.reduce_sum(product, (-1,), keepdims=True))


def _cross(o: OpLowering) -> None:
    x, y = o.x("X"), o.x("Y")
    shape = x.tensor.shape
    stated = o.attr("dim", None)
    # Paddle writes 9 for "the first axis of extent 3".
    axis = shape.index(3) if stated is None or stated >= len(shape) else stated % len(shape)

    def turned(v: Value, by: int) -> Value:
        return o.b.concat([o.b.slice(v, axis, by, 3), o.b.slice(v, axis, 0, by)], axis)

    o.set(o.b.sub(o.b.mul(turned(x, 1), turned(y, 2)), o.b.mul(turned(x, 2), turned(y, 1))))


def _dist(o: OpLowering) -> None:
    p, size = o.attr("p", 2.0), o.b.abs(o.b.sub(o.x("X"), o.x("Y")))
    every, dtype = range(size.tensor.rank), size.tensor.dtype
    zero = o.b.fill((), dtype, 0.0)
    if p == 0:
        found = o.b.reduce_sum(o.b.cast(o.b.not_equal(size, zero), dtype), every)
    elif math.isinf(p):
        found = (o.b.reduce_max if p > 0 else o.b.reduce_min)(size, every)
    elif p == 1:
        found = o.b.reduce_sum(size, every)
    elif p == 2:
        found = o.b.sqrt(o.b.reduce_sum(o.b.square(size), every))
    else:
        summed = o.b.reduce_sum(o.b.pow(size, o.b.fill((), dtype, p)), every)
        found = o.b.pow(summed, o.b.fill((), dtype, 1.0 / p))
    o.set(o.one(found))


def _kron(o: OpLowering) -> None:
    x, y = o.x("X"), o.x("Y")
    rank = max(x.tensor.rank, y.tensor.rank)
    a, b = ((*(1,) * (rank - v.tensor.rank), *v.tensor.shape) for v in (x, y))
    outer: list[Dim] = []
    inner: list[Dim] = []
    for p, q in zip(a, b):
        outer += [p, 1]
        inner += [1, q]
    product = o.b.mul(o.b.reshape(x, tuple(outer)), o.b.reshape(y, tuple(inner)))
    o.set(o.b.reshape(product, tuple(map(dim_mul, a, b))))


def _diagonal(o: OpLowering, x: Value, offset: int) -> tuple[Value, Value]:
    """Where the diagonal is in each row of the last two axes, ``[rows, 1]``, and the columns ``[1, columns]``."""
    rows, columns = x.tensor.shape[-2:]
    row = o.b.iota((rows, 1), 0, DType.I32)
    return o.b.add(row, o.b.fill((), DType.I32, offset)), o.b.iota((1, columns), 1, DType.I32)


def _trace(o: OpLowering) -> None:
    x = o.x("Input")
    first, second = o.axes(x, [o.attr("dim1", 0), o.attr("dim2", 1)])
    others = [i for i in range(x.tensor.rank) if i not in (first, second)]
    x = o.b.transpose(x, (*others, first, second))
    on, column = _diagonal(o, x, o.attr("offset", 0))
    zero = o.b.fill((), x.tensor.dtype, 0)
    found = o.b.reduce_sum(o.b.where(o.b.equal(on, column), x, zero), (-2, -1))
    o.set(found if found.tensor.rank else o.one(found))


def _tril_triu(o: OpLowering) -> None:
    x = o.x()
    on, column = _diagonal(o, x, o.attr("diagonal", 0))
    kept = o.b.less_equal(column, on) if o.attr("lower", True) else o.b.less_equal(on, column)
    o.set(o.b.where(kept, x, o.b.fill((), x.tensor.dtype, 0)))


RULES: Rules = {
    "bmm": _bmm,
    "addmm": _addmm,
    "dot": _dot,
    "cross": _cross,
    "dist": _dist,
    "kron": _kron,
    "trace": _trace,
    "tril_triu": _tril_triu,
}
