"""Functions of one element: mathematics, rounding, predicates, activations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from ....compiler.ops import activation, unary
from ....compiler.ops.base import Op
from .node import Node, NodeRule, NodeRules


def _is(make: Callable[[Value], Op], slot: str = "X") -> NodeRule:
    return lambda n: n.b(make(n.x(slot)))


def _of(make: Callable[[Node, Value], Value], slot: str = "X") -> NodeRule:
    return lambda n: make(n, n.x(slot))


# Mathematics ------------------------------------------------------------------------------------------------


def _asinh(n: Node, x: Value) -> Value:
    b, far = n.b, _far(x)
    negative = b.less(x, n.number(x.tensor.dtype, 0))
    size = b.where(negative, b.neg(x), x)  # unlike abs it has a slope at 0
    # log(s + sqrt(s * s + 1)), accurate near 0; where s * s would overflow it is log(2 s).
    s = b.clip(size, 0.0, far)
    root = b.sqrt(b.scale(b.square(s), 1.0, 1.0))
    near = b(unary.Log1p(b.add(s, b.div(b.square(s), b.scale(root, 1.0, 1.0)))))
    out = b.where(b.less(size, n.number(x.tensor.dtype, far)), near, b.scale(b.log(size), 1.0, math.log(2.0)))
    return b.where(negative, b.neg(out), out)


def _acosh(n: Node, x: Value) -> Value:
    b = n.b
    # With t = x - 1: log(1 + t + sqrt(t * (t + 2))); where that would overflow it is log(2 x).
    far = _far(x)
    t = b.scale(b.minimum(x, n.number(x.tensor.dtype, far)), 1.0, -1.0)
    near = b(unary.Log1p(b.add(t, b.sqrt(b.mul(t, b.scale(t, 1.0, 2.0))))))
    return b.where(b.less(n.number(x.tensor.dtype, far), x), b.scale(b.log(x), 1.0, math.log(2.0)), near)


def _far(x: Value) -> float:
    """From here on 1 is nothing beside the square of ``x``, which does not overflow yet."""
    return {2: 64.0, 4: 8192.0, 8: float(2**28)}[x.tensor.dtype.itemsize]


def _atanh(n: Node, x: Value) -> Value:
    b = n.b
    return b.scale(b.sub(b(unary.Log1p(x)), b(unary.Log1p(b.neg(x)))), 0.5)


def _round(n: Node, x: Value) -> Value:
    """To the nearest integer, halves to even."""
    b, dtype = n.b, x.tensor.dtype
    size = b.abs(x)
    down = b.floor(size)
    over, half = b.sub(size, down), n.number(dtype, 0.5)
    odd = b.not_equal(down, b.scale(b.floor(b.scale(down, 0.5)), 2.0))
    up = b.logical_or(b.less(half, over), b.logical_and(b.equal(over, half), odd))
    rounded = b.add(down, b.cast(up, dtype))
    return b.where(b.less(x, n.number(dtype, 0)), b.neg(rounded), rounded)


def _isinf(n: Node, x: Value) -> Value:
    b, dtype = n.b, x.tensor.dtype
    if n.attr("detect_positive") and n.attr("detect_negative"):
        return b.equal(b.abs(x), n.number(dtype, np.inf))
    if n.attr("detect_positive"):
        return b.equal(x, n.number(dtype, np.inf))
    if n.attr("detect_negative"):
        return b.equal(x, n.number(dtype, -np.inf))
    return b.fill(x.tensor.shape, b.equal(x, x).tensor.dtype, False)


# Activations ------------------------------------------------------------------------------------------------


def _relu(n: Node, x: Value) -> Value:
    return n.b.relu(x) if x.tensor.dtype.is_float else n.b.maximum(x, n.number(x.tensor.dtype, 0))


def _celu(n: Node, x: Value) -> Value:
    alpha = n.attr("alpha", 1.0)
    zero = n.number(x.tensor.dtype, 0)
    below = n.b(unary.Expm1(n.b.scale(n.b.minimum(x, zero), 1.0 / alpha)))
    return n.b.add(n.b.maximum(x, zero), n.b.scale(below, alpha))


def _gelu(n: Node, x: Value) -> Value:
    return n.b(activation.Gelu(x, n.attr("approximate") == "tanh"))


def _shrink(n: Node, x: Value) -> Value:
    b, dtype = n.b, x.tensor.dtype
    limit, bias = n.attr("lambd"), n.attr("bias")
    # Limits and bias are single precision, also where the numbers are integers: these are compared as reals.
    wide = x if dtype.is_float else b.cast(x, DType.F64)
    above = b.less(n.number(wide.tensor.dtype, limit), wide)
    below = b.less(wide, n.number(wide.tensor.dtype, -limit))
    zero = n.number(wide.tensor.dtype, 0)
    found = b.where(above, b.scale(wide, 1.0, -bias), b.where(below, b.scale(wide, 1.0, bias), zero))
    return b.cast(found, dtype)


def _prelu(n: Node) -> Value:
    x, slope = n.x("X"), n.x("slope")
    if x.tensor.dtype.is_float:
        return n.b(activation.PRelu(x, slope))
    return n.b.where(n.b.less(x, n.number(x.tensor.dtype, 0)), n.b.mul(x, slope), x)


def _swiglu(n: Node) -> Value:
    return n.b.mul(n.b(activation.Swish(n.x("A"), n.attr("alpha"))), n.x("B"))


RULES: NodeRules = {
    "Abs": _is(unary.Abs),
    "Neg": _is(unary.Neg),
    "Sign": _is(unary.Sign, "input"),
    "Exp": _is(unary.Exp, "input"),
    "Log": _is(unary.Log, "input"),
    "Sqrt": _is(unary.Sqrt),
    "Reciprocal": _is(unary.Reciprocal),
    "Sin": _is(unary.Sin, "input"),
    "Cos": _is(unary.Cos, "input"),
    "Tan": _is(unary.Tan, "input"),
    "Asin": _is(unary.Asin, "input"),
    "Acos": _is(unary.Acos, "input"),
    "Atan": _is(unary.Atan, "input"),
    "Sinh": _is(unary.Sinh, "input"),
    "Cosh": _is(unary.Cosh, "input"),
    "Tanh": _is(unary.Tanh, "input"),
    "Asinh": _of(_asinh, "input"),
    "Acosh": _of(_acosh, "input"),
    "Atanh": _of(_atanh, "input"),
    "Erf": _is(unary.Erf, "input"),
    "Floor": _is(unary.Floor),
    "Ceil": _is(unary.Ceil),
    "Round": _of(_round),
    "IsNaN": _is(unary.IsNan),
    "IsInf": _of(_isinf),
    "Relu": _of(_relu),
    "Sigmoid": _is(unary.Sigmoid),
    "Elu": _of(lambda n, x: n.b(activation.Elu(x, n.attr("alpha")))),
    "Selu": _of(lambda n, x: n.b(activation.Selu(x, n.attr("gamma"), n.attr("alpha")))),
    "Celu": _of(_celu),
    "LeakyRelu": _of(lambda n, x: n.b(unary.LeakyRelu(x, n.attr("alpha")))),
    "PRelu": _prelu,
    "ThresholdedRelu": _of(lambda n, x: n.b(activation.ThresholdedRelu(x, n.attr("alpha")))),
    "Gelu": _of(_gelu),
    "HardSigmoid": _of(lambda n, x: n.b(activation.HardSigmoid(x, n.attr("alpha"), n.attr("beta")))),
    "HardSwish": _is(activation.HardSwish),
    "Mish": _is(activation.Mish),
    "Shrink": _of(_shrink, "input"),
    "Softplus": _is(unary.Softplus),
    "Softsign": _is(activation.Softsign, "input"),
    "Swish": _of(lambda n, x: n.b(activation.Swish(x, n.attr("alpha")))),
    "SwiGLU": _swiglu,
}
