"""Arithmetic, comparisons, logic, selection and conversion, with numpy broadcasting."""

from __future__ import annotations

from collections.abc import Callable

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from ....compiler.ops import elementwise, unary
from ....compiler.ops.base import Op
from .node import Node, NodeRule, NodeRules


def _binary(make: Callable[[Value, Value], Op], *, swap: bool = False) -> NodeRule:
    def rule(n: Node) -> Value:
        x, y = n.x("A"), n.x("B")
        return n.b(make(y, x) if swap else make(x, y))

    return rule


def _mod(n: Node) -> Value:
    x, y = n.x("A"), n.x("B")
    if not n.attr("fmod") or x.tensor.dtype in (DType.U8, DType.U32, DType.U64):
        return n.b(elementwise.Mod(x, y))
    # C's fmod has the sign of the dividend.
    size = n.b(elementwise.Mod(n.b.abs(x), n.b.abs(y)))
    return n.b.where(n.b.less(x, n.number(x.tensor.dtype, 0)), n.b.neg(size), size)


def _pow(n: Node) -> Value:
    x, y = n.x("X"), n.x("Y")
    dtype = x.tensor.dtype
    if n.scalar("Y") == 2 and dtype.is_float and y.tensor.rank == 0:
        return n.b.square(x)
    if dtype.is_float:
        return n.b.pow(x, n.b.cast(y, dtype))
    if y.tensor.dtype.is_float:
        return n.b.cast(n.b.pow(n.b.cast(x, DType.F64), n.b.cast(y, DType.F64)), dtype)
    return _whole_power(n, x, n.b.cast(y, DType.I64))


def _whole_power(n: Node, x: Value, y: Value) -> Value:
    """A power of integers by repeated squaring, wrapped round as their products are."""
    b, dtype = n.b, x.tensor.dtype

    def number(value: int) -> Value:
        return n.number(DType.I64, value)

    size = b.abs(y)
    odd = b.sub(size, b.mul(b.div(size, number(2)), number(2)))
    # From 64 on nothing is left of an even number, and of 0, 1 and -1 only the parity counts.
    left = b.where(b.less(number(64), size), b.add(number(64), odd), size)
    out = n.number(dtype, 1)
    power = x
    for bit in range(7):
        half = b.div(left, number(2))
        taken = b.not_equal(left, b.mul(half, number(2)))
        out = b.where(taken, b.mul(out, power), out)
        left = half
        if bit < 6:
            power = b.mul(power, power)
    unit = b.equal(b.mul(x, x), n.number(dtype, 1))
    return b.where(b.logical_and(b.less(y, number(0)), b.logical_not(unit)), n.number(dtype, 0), out)


def _variadic(combine: Callable[[Node, Value, Value], Value]) -> NodeRule:
    def rule(n: Node) -> Value:
        total, *rest = n.xs("data_0")
        for value in rest:
            total = combine(n, total, value)
        return total

    return rule


_sum = _variadic(lambda n, x, y: n.b.add(x, y))


def _mean(n: Node) -> Value:
    total = _sum(n)
    assert isinstance(total, Value)
    return n.b.div(total, n.number(total.tensor.dtype, len(n.xs("data_0"))))


def _converted(n: Node, x: Value, to: DType) -> Value:
    if to is DType.BOOL and x.tensor.dtype is not DType.BOOL:
        return n.b.not_equal(x, n.number(x.tensor.dtype, 0))
    return n.b.cast(x, to)


def _cast(n: Node) -> Value:
    to = n.dtype("to")
    assert to is not None
    return _converted(n, n.x("input"), to)


def _cast_like(n: Node) -> Value:
    return _converted(n, n.x("input"), n.x("target_type").tensor.dtype)


def _clip(n: Node) -> Value:
    x = n.x("input")
    if n.version < 11:
        low, high = n.attr("min"), n.attr("max")
        return n.b.clip(x, low, high) if low <= high else n.b.broadcast(n.number(x.tensor.dtype, high), x.tensor.shape)
    low, high = n.optional("min"), n.optional("max")
    least, most = n.scalar("min", float("-inf")), n.scalar("max", float("inf"))
    if x.tensor.dtype.is_float and least is not None and most is not None and least <= most:
        return n.b.clip(x, least, most)
    # The upper limit is the last word, also where it is below the lower one.
    x = x if low is None else n.b.maximum(x, low)
    return x if high is None else n.b.minimum(x, high)


def _bitwise_not(n: Node) -> Value:
    x = n.x("X")
    # In two's complement -1 - x; without a sign, the largest number less x.
    largest = {DType.U8: 2**8 - 1, DType.U32: 2**32 - 1, DType.U64: 2**64 - 1}.get(x.tensor.dtype, -1)
    return n.b.sub(n.number(x.tensor.dtype, largest), x)


RULES: NodeRules = {
    "Add": _binary(elementwise.Add),
    "Sub": _binary(elementwise.Sub),
    "Mul": _binary(elementwise.Mul),
    "Div": _binary(elementwise.Div),
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
    "Not": lambda n: n.b(unary.Not(n.x("X"))),
    "BitwiseNot": _bitwise_not,
    "Where": lambda n: n.b.where(n.x("condition"), n.x("X"), n.x("Y")),
    "Max": _variadic(lambda n, x, y: n.b.maximum(x, y)),
    "Min": _variadic(lambda n, x, y: n.b.minimum(x, y)),
    "Sum": _sum,
    "Mean": _mean,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Clip": _clip,
}
