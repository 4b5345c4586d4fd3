"""Reductions over axes, positions of extremes, running sums and products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from ....compiler.ops import reduce
from ....compiler.ops.base import Op
from .node import Node, NodeRule, NodeRules

_SINCE_INPUT = {"ReduceSum": 13}
"""The opset since which axes are an input; 18 for all others."""

Axes = tuple[int, ...]


def _over(make: Callable[[Node, Value, Axes, bool], Value]) -> NodeRule:
    """A reduction by its function of values, axes, and whether axes are kept with extent 1."""

    def rule(n: Node) -> Value:
        x = n.x("data")
        given = _given(n)
        if not given and n.attr("noop_with_empty_axes", 0):
            axes: Sequence[int] = ()
        else:
            axes = n.axes(given, x.tensor.rank) if given else range(x.tensor.rank)
        return make(n, x, tuple(axes), bool(n.attr("keepdims")))

    return rule


def _given(n: Node) -> Sequence[int] | None:
    if n.version < _SINCE_INPUT.get(n.op_type, 18):
        return n.attr("axes")
    return n.ints("axes") if n.has("axes") else None


def _in_reals(n: Node, x: Value, make: Callable[[Value], Value]) -> Value:
    """What is computed in floating point also of integers, as numpy does: in double precision, then truncated."""
    dtype = x.tensor.dtype
    return make(x) if dtype.is_float else n.b.cast(make(n.b.cast(x, DType.F64)), dtype)


def _sum(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    return n.b.reduce_sum(x, axes, keep)


def _mean(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    return _in_reals(n, x, lambda v: n.b.reduce_mean(v, axes, keep))


def _prod(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    return n.b(reduce.Prod(x, axes, keep)) if axes else x


def _l1(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    return _sum(n, n.b.abs(x), axes, keep)


def _sum_square(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    return _sum(n, n.b.square(x) if x.tensor.dtype.is_float else n.b.mul(x, x), axes, keep)


def _l2(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    return _in_reals(n, x, lambda v: n.b.sqrt(_sum_square(n, v, axes, keep)))


def _log_sum(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    return _in_reals(n, x, lambda v: n.b.log(_sum(n, v, axes, keep)))


def _log_sum_exp(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    def of(v: Value) -> Value:
        b, dtype = n.b, v.tensor.dtype
        if not axes:
            return v
        top = _extreme(n, v, axes, True, reduce.Max, -np.inf)
        # Of infinities nothing is taken away: inf - inf is no number.
        finite = b.less(b.abs(top), n.number(dtype, np.inf))
        top = b.where(finite, top, n.number(dtype, 0))
        total = b.add(b.log(b.reduce_sum(b.exp(b.sub(v, top)), axes, keepdims=True)), top)
        return total if keep else b.reshape(total, b.reduce_sum(v, axes).tensor.shape)

    return _in_reals(n, x, of)


def _extreme(n: Node, x: Value, axes: Axes, keep: bool, make: Callable[..., Op], empty: float) -> Value:
    if not axes:
        return x
    if any(x.tensor.shape[axis] == 0 for axis in axes):
        kept = [1 if i in axes else d for i, d in enumerate(x.tensor.shape)]
        left = [d for i, d in enumerate(x.tensor.shape) if i not in axes]
        return n.b.fill(tuple(kept if keep else left), x.tensor.dtype, empty)
    return n.b(make(x, axes, keep))


def _max(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    if x.tensor.dtype is DType.BOOL:
        return n.b(reduce.Any_(x, axes, keep)) if axes else x
    return _extreme(n, x, axes, keep, reduce.Max, n.least(x.tensor.dtype))


def _min(n: Node, x: Value, axes: Axes, keep: bool) -> Value:
    if x.tensor.dtype is DType.BOOL:
        return n.b(reduce.All(x, axes, keep)) if axes else x
    return _extreme(n, x, axes, keep, reduce.Min, n.most(x.tensor.dtype))


def _position(make: Callable[[Value, int, bool], Op]) -> NodeRule:
    def rule(n: Node) -> Value:
        x = n.x("data")
        axis = n.axis(n.attr("axis"), x.tensor.rank)
        keep = bool(n.attr("keepdims"))
        if not n.attr("select_last_index", 0):
            return n.b(make(x, axis, keep))
        last = n.number(DType.I64, n.fixed(x, axis) - 1)
        return n.b.sub(last, n.b(make(n.b.reverse(x, (axis,)), axis, keep)))

    return rule


def _along(n: Node, x: Value) -> int:
    return n.axis(int(n.one("axis")), x.tensor.rank)


def _cumsum(n: Node) -> Value:
    x = n.x("x")
    return n.b.cumsum(x, _along(n, x), bool(n.attr("exclusive")), bool(n.attr("reverse")))


def _cumprod(n: Node) -> Value:
    """Products of twice as many elements in every step."""
    x = n.x("x")
    axis = _along(n, x)
    size = n.fixed(x, axis)
    forward = not n.attr("reverse")

    def moved(value: Value, by: int) -> Value:
        low, high = [0] * x.tensor.rank, [0] * x.tensor.rank
        (low if forward else high)[axis] = by
        kept = n.b.slice(value, axis, 0, size - by) if forward else n.b.slice(value, axis, by, size)
        return n.b.pad(kept, low, high, 1.0)

    out, reach = moved(x, 1) if n.attr("exclusive") and size else x, 1
    while reach < size:
        out = n.b.mul(out, moved(out, reach))
        reach *= 2
    return out


RULES: NodeRules = {
    "ReduceSum": _over(_sum),
    "ReduceMean": _over(_mean),
    "ReduceMax": _over(_max),
    "ReduceMin": _over(_min),
    "ReduceProd": _over(_prod),
    "ReduceL1": _over(_l1),
    "ReduceL2": _over(_l2),
    "ReduceSumSquare": _over(_sum_square),
    "ReduceLogSum": _over(_log_sum),
    "ReduceLogSumExp": _over(_log_sum_exp),
    "ArgMax": _position(reduce.Argmax),
    "ArgMin": _position(reduce.Argmin),
    "CumSum": _cumsum,
    "CumProd": _cumprod,
}
