"""Reductions over axes, and positions of extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from ....compiler.ops import reduce
from .node import Node, NodeRule, NodeRules

Reducing: TypeAlias = Callable[[Node, Value, tuple[int, ...], bool], Value]


def _reduction(make: Reducing, moved: int = 18) -> NodeRule:
    """A reduction whose axes are an attribute before opset ``moved``, and an input from there on."""

    def rule(n: Node) -> Value:
        x = n.x("data")
        if n.version < moved:
            given = n.attr("axes")
        else:
            given = n.ints("axes") if n.has("axes") else None
        keep = bool(n.attr("keepdims"))
        if not given:
            if n.attr("noop_with_empty_axes", 0):
                return make(n, x, (), keep)
            given = range(x.tensor.rank)
        return make(n, x, n.axes(given, x.tensor.rank), keep)

    return rule


def _sum(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce_sum(x, axes, keep)


def _mean(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce_mean(x, axes, keep)


def _max(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce_max(x, axes, keep)


def _min(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce_min(x, axes, keep)


def _prod(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b(reduce.Prod(x, axes, keep)) if axes else x


def _l1(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce_sum(n.b.abs(x), axes, keep)


def _l2(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.sqrt(n.b.reduce_sum(n.b.square(x), axes, keep))


def _sum_square(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.reduce_sum(n.b.mul(x, x), axes, keep)


def _log_sum(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    return n.b.log(n.b.reduce_sum(x, axes, keep))


def _log_sum_exp(n: Node, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    """Computed from ``x - max(x)``; the maximum is a constant to the gradient, in which it cancels."""
    if not axes:
        return x
    top = n.b.reduce_max(x, axes, keepdims=True)
    total = n.b.log(n.b.reduce_sum(n.b.exp(n.b.sub(x, top)), axes, keepdims=True))
    out = n.b.add(total, top)
    kept = tuple(d for i, d in enumerate(x.tensor.shape) if i not in axes)
    return out if keep else n.b.reshape(out, kept)


def _position(make: type[reduce.Argmax] | type[reduce.Argmin]) -> NodeRule:
    def rule(n: Node) -> Value:
        x = n.x("data")
        axis = n.axis(n.attr("axis"), x.tensor.rank)
        if not n.attr("select_last_index", 0):
            return n.b(make(x, axis, bool(n.attr("keepdims"))))
        found = n.b(make(n.b.reverse(x, (axis,)), axis, bool(n.attr("keepdims"))))
        return n.b.sub(n.number(DType.I64, n.fixed(x, axis) - 1), found)

    return rule


RULES: NodeRules = {
    "ReduceSum": _reduction(_sum, moved=13),
    "ReduceMean": _reduction(_mean),
    "ReduceMax": _reduction(_max),
    "ReduceMin": _reduction(_min),
    "ReduceProd": _reduction(_prod),
    "ReduceL1": _reduction(_l1),
    "ReduceL2": _reduction(_l2),
    "ReduceSumSquare": _reduction(_sum_square),
    "ReduceLogSum": _reduction(_log_sum),
    "ReduceLogSumExp": _reduction(_log_sum_exp),
    "ArgMax": _position(reduce.Argmax),
    "ArgMin": _position(reduce.Argmin),
}
