"""Arithmetic, functions of one element, comparisons, logic and casts."""

from __future__ import annotations

from collections.abc import Callable

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from ....compiler.ops import activation, elementwise, unary
from ....compiler.ops.base import Op
from .node import Node, NodeRule, NodeRules


def _binary(make: Callable[[Value, Value], Op], left: str = "A", right: str = "B", *, swap: bool = False) -> NodeRule:
    def rule(n: Node) -> Value:
        x, y = n.x(left), n.x(right)
        return n.b(make(y, x) if swap else make(x, y))

    return rule


def _divide(n: Node) -> Value:
    x, y = n.x("A"), n.x("B")
    if x.tensor.dtype.is_float:
        return n.b.div(x, y)
    # Integers are divided towards zero: |x| // |y| with the sign of x * y.
    size = n.b(elementwise.FloorDiv(n.b.abs(x), n.b.abs(y)))
    return n.b.mul(size, n.b.mul(n.b.sign(x), n.b.sign(y)))


def _mod(n: Node) -> Value:
    """The remainder with the sign of the divisor; with ``fmod`` that of the dividend."""
    x, y = n.x("A"), n.x("B")
    rest = n.b(elementwise.Mod(x, y))
    if not n.attr("fmod"):
        return rest
    zero = n.number(x.tensor.dtype, 0)
    other = n.b.logical_and(n.b.not_equal(rest, zero), n.b.less(n.b.mul(n.b.sign(x), n.b.sign(y)), zero))
    return n.b.where(other, n.b.sub(rest, y), rest)


def _pow(n: Node) -> Value:
    x, exponent = n.x("X"), n.scalar("Y")
    if exponent == 2 and x.tensor.dtype.is_float:
        return n.b.square(x)
    return n.b.pow(x, n.b.cast(n.x("Y"), x.tensor.dtype))


def _variadic(slot: str, combine: Callable[[Node, Value, Value], Value]) -> NodeRule:
    def rule(n: Node) -> Value:
        total, *rest = n.xs(slot)
        for value in rest:
            total = combine(n, total, value)
        return total

    return rule


def _mean(n: Node) -> Value:
    values = n.xs("data_0")
    total = values[0]
    for value in values[1:]:
        total = n.b.add(total, value)
    return n.b.scale(total, 1.0 / len(values))


def _unary(make: Callable[[Value], Op], slot: str = "X") -> NodeRule:
    return lambda n: n.b(make(n.x(slot)))


def _of(make: Callable[[Node, Value], Value], slot: str = "X") -> NodeRule:
    return lambda n: make(n, n.x(slot))


def _cast(n: Node) -> Value:
    x, to = n.x("input"), n.dtype("to")
    assert to is not None
    if to is DType.BOOL and x.tensor.dtype is not DType.BOOL:
        return n.b.not_equal(x, n.number(x.tensor.dtype, 0))
    return n.b.cast(x, to)


def _clip(n: Node) -> Value:
    x = n.x("input")
    if n.version < 11:
        return n.b.clip(x, n.attr("min", float("-inf")), n.attr("max", float("inf")))
    low, high = n.optional("min"), n.optional("max")
    if x.tensor.dtype.is_float and all(v is None or n.scalar(s) is not None for v, s in ((low, "min"), (high, "max"))):
        bounds = n.scalar("min"), n.scalar("max")
        return n.b.clip(
            x, float("-inf") if bounds[0] is None else bounds[0], float("inf") if bounds[1] is None else bounds[1]
        )
    x = x if low is None else n.b.maximum(x, low)
    return x if high is None else n.b.minimum(x, high)


def _gelu(n: Node, x: Value) -> Value:
    return n.b(activation.Gelu(x, n.attr("approximate") == "tanh"))


RULES: NodeRules = {
    "Add": _binary(elementwise.Add),
    "Sub": _binary(elementwise.Sub),
    "Mul": _binary(elementwise.Mul),
    "Div": _divide,
    "Mod": _mod,
    "Pow": _pow,
    "Equal": _binary(elementwise.Equal),
    "Less": _binary(elementwise.Less),
    "LessOrEqual": _binary(elementwise.LessEqual),
    "Greater": _binary(elementwise.Less, swap=True),
    "GreaterOrEqual": _binary(elementwise.LessEqual, swap=True),
    "And": _binary(elementwise.And),
    "Or": _binary(elementwise.Or),
    "Xor": _binary(elementwise.Xor),
    "Not": _unary(unary.Not),
    "Where": lambda n: n.b.where(n.x("condition"), n.x("X"), n.x("Y")),
    "Max": _variadic("data_0", lambda n, x, y: n.b.maximum(x, y)),
    "Min": _variadic("data_0", lambda n, x, y: n.b.minimum(x, y)),
    "Sum": _variadic("data_0", lambda n, x, y: n.b.add(x, y)),
    "Mean": _mean,
    "Cast": _cast,
    "Clip": _clip,
    "Abs": _unary(unary.Abs),
    "Neg": _unary(unary.Neg),
    "Exp": _unary(unary.Exp, "input"),
    "Log": _unary(unary.Log, "input"),
    "Sqrt": _unary(unary.Sqrt),
    "Reciprocal": _unary(unary.Reciprocal),
    "Erf": _unary(unary.Erf, "input"),
    "Relu": _unary(unary.Relu),
    "Sigmoid": _unary(unary.Sigmoid),
    "Tanh": _unary(unary.Tanh, "input"),
    "Elu": _of(lambda n, x: n.b(activation.Elu(x, n.attr("alpha")))),
    "LeakyRelu": _of(lambda n, x: n.b(unary.LeakyRelu(x, n.attr("alpha")))),
    "Gelu": _of(_gelu),
}
