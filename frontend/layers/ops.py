"""Elementwise functions of one Variable: same shape, element type and LoD out as in."""

from __future__ import annotations

from ..errors import invalid, warn
from ..framework import AttrValue
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import VarType

_FLOATS = (VarType.FP32, VarType.FP64, VarType.FP16)
_NUMBERS = (*_FLOATS, VarType.INT32, VarType.INT64)
_LARGEST = 3.4028234663852886e38
"""Of float32."""


def unary(
    op: str,
    x: Variable,
    name: str | None = None,
    *,
    dtypes: tuple[VarType, ...] = _FLOATS,
    act: str | None = None,
    **attrs: AttrValue,
) -> Variable:
    """Record ``op`` on ``x``; the layer's name is the op's."""
    helper = LayerHelper(op, name)
    helper.check_dtype("x", x, dtypes)
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    helper.op(op, {"X": [x]}, {"Out": [out]}, attrs)
    return helper.activate(out, act)


def abs(x: Variable, name: str | None = None) -> Variable:
    """``|x|``."""
    return unary("abs", x, name, dtypes=_NUMBERS)


def acos(x: Variable, name: str | None = None) -> Variable:
    """Arc cosine, in radians."""
    return unary("acos", x, name)


def asin(x: Variable, name: str | None = None) -> Variable:
    """Arc sine, in radians."""
    return unary("asin", x, name)


def atan(x: Variable, name: str | None = None) -> Variable:
    """Arc tangent, in radians."""
    return unary("atan", x, name)


def ceil(x: Variable, name: str | None = None) -> Variable:
    """The least integer not below x, as a float."""
    return unary("ceil", x, name)


def cos(x: Variable, name: str | None = None) -> Variable:
    """Cosine of radians."""
    return unary("cos", x, name)


def cumsum(
    x: Variable, axis: int | None = None, exclusive: bool | None = None, reverse: bool | None = None
) -> Variable:
    """Running sum along ``axis`` (the last if None); ``exclusive`` leaves out the element itself."""
    helper = LayerHelper("cumsum")
    check_variable("cumsum", "x", x)
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    attrs = {
        "axis": -1 if axis is None else axis,
        "exclusive": bool(exclusive),
        "reverse": bool(reverse),
    }
    helper.op("cumsum", {"X": [x]}, {"Out": [out]}, attrs)
    return out


def erf(x: Variable) -> Variable:
    """The error function."""
    return unary("erf", x)


def exp(x: Variable, name: str | None = None) -> Variable:
    """``e ** x``."""
    return unary("exp", x, name)


def floor(x: Variable, name: str | None = None) -> Variable:
    """The greatest integer not above x, as a float."""
    return unary("floor", x, name)


def gelu(x: Variable, approximate: bool = False) -> Variable:
    """``x * Phi(x)`` (Hendrycks and Gimpel, 2016); ``approximate`` uses the tanh form."""
    return unary("gelu", x, approximate=approximate)


def hard_shrink(x: Variable, threshold: float | None = None) -> Variable:
    """X outside [-threshold, threshold], else 0; the threshold is 0.5 if None."""
    return unary("hard_shrink", x, threshold=0.5 if threshold is None else threshold)


def logsigmoid(x: Variable, name: str | None = None) -> Variable:
    """``log(1 / (1 + e ** -x))``."""
    return unary("logsigmoid", x, name)


def reciprocal(x: Variable, name: str | None = None) -> Variable:
    """``1 / x``."""
    return unary("reciprocal", x, name)


def round(x: Variable, name: str | None = None) -> Variable:
    """The nearest integer as a float, halves away from zero."""
    return unary("round", x, name)


def rsqrt(x: Variable, name: str | None = None) -> Variable:
    """``1 / sqrt(x)``."""
    return unary("rsqrt", x, name)


def sigmoid(x: Variable, name: str | None = None) -> Variable:
    """``1 / (1 + e ** -x)``."""
    return unary("sigmoid", x, name)


def sin(x: Variable, name: str | None = None) -> Variable:
    """Sine of radians."""
    return unary("sin", x, name)


def softplus(x: Variable, name: str | None = None) -> Variable:
    """``log(1 + e ** x)``."""
    return unary("softplus", x, name)


def softshrink(x: Variable, alpha: float | None = None) -> Variable:
    """X moved towards zero by ``alpha`` (0.5 if None), 0 where it is nearer than that."""
    attrs: dict[str, AttrValue] = {"lambda": 0.5 if alpha is None else alpha}
    return unary("softshrink", x, **attrs)


def softsign(x: Variable, name: str | None = None) -> Variable:
    """``x / (1 + |x|)``."""
    return unary("softsign", x, name)


def sqrt(x: Variable, name: str | None = None) -> Variable:
    """The square root."""
    return unary("sqrt", x, name)


def square(x: Variable, name: str | None = None) -> Variable:
    """``x * x``."""
    return unary("square", x, name, dtypes=_NUMBERS)


def tanh(x: Variable, name: str | None = None) -> Variable:
    """The hyperbolic tangent."""
    return unary("tanh", x, name)


def tanh_shrink(x: Variable, name: str | None = None) -> Variable:
    """``x - tanh(x)``."""
    return unary("tanh_shrink", x, name)


def thresholded_relu(x: Variable, threshold: float | None = None) -> Variable:
    """X above ``threshold`` (1.0 if None), else 0."""
    return unary("thresholded_relu", x, threshold=1.0 if threshold is None else threshold)


def log(x: Variable, name: str | None = None) -> Variable:
    """The natural logarithm."""
    return unary("log", x, name)


def log1p(x: Variable, out: Variable | None = None, name: str | None = None) -> Variable:
    """``log(1 + x)``; written into ``out`` if given."""
    helper = LayerHelper("log1p", name)
    helper.check_dtype("x", x, _FLOATS)
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level) if out is None else out
    helper.op("log1p", {"X": [x]}, {"Out": [out]})
    return out


def relu(x: Variable, name: str | None = None) -> Variable:
    """``max(x, 0)``."""
    return unary("relu", x, name)


def sign(x: Variable) -> Variable:
    """-1, 0 or 1."""
    return unary("sign", x)


def relu6(x: Variable, threshold: float = 6.0, name: str | None = None) -> Variable:
    """``min(max(x, 0), threshold)``."""
    return unary("relu6", x, name, threshold=threshold)


def leaky_relu(x: Variable, alpha: float = 0.02, name: str | None = None) -> Variable:
    """X where it is positive, ``alpha * x`` elsewhere."""
    return unary("leaky_relu", x, name, alpha=alpha)


def elu(x: Variable, alpha: float = 1.0, name: str | None = None) -> Variable:
    """X where it is positive, ``alpha * (e ** x - 1)`` elsewhere."""
    return unary("elu", x, name, alpha=alpha)


def selu(x: Variable, scale: float | None = None, alpha: float | None = None, name: str | None = None) -> Variable:
    """``scale * elu(x, alpha)`` with the constants of Klambauer et al. (NIPS 2017) by default."""
    return unary(
        "selu",
        x,
        name,
        scale=1.0507009873554805 if scale is None else scale,
        alpha=1.6732632423543772 if alpha is None else alpha,
    )


def swish(x: Variable, beta: float = 1.0, name: str | None = None) -> Variable:
    """``x * sigmoid(x)``. As in Paddle 1.8.5 ``beta`` has no effect: a warning says so where it is not 1."""
    if beta != 1.0:
        warn(f"swish: beta={beta} has no effect: Paddle 1.8.5 computes with 1, and so does fluidc")
    return unary("swish", x, name, beta=1.0)


def hard_sigmoid(x: Variable, slope: float = 0.2, offset: float = 0.5, name: str | None = None) -> Variable:
    """``slope * x + offset`` limited to [0, 1]."""
    return unary("hard_sigmoid", x, name, slope=slope, offset=offset)


def hard_swish(
    x: Variable, threshold: float = 6.0, scale: float = 6.0, offset: float = 3.0, name: str | None = None
) -> Variable:
    """``x * min(max(x + offset, 0), threshold) / scale``."""
    return unary("hard_swish", x, name, threshold=threshold, scale=scale, offset=offset)


def brelu(x: Variable, t_min: float = 0.0, t_max: float = 24.0, name: str | None = None) -> Variable:
    """X limited to [t_min, t_max]."""
    return unary("brelu", x, name, t_min=t_min, t_max=t_max)


def soft_relu(x: Variable, threshold: float = 40.0, name: str | None = None) -> Variable:
    """``log(1 + e ** x)`` with x limited to [-threshold, threshold]."""
    return unary("soft_relu", x, name, threshold=threshold)


def stanh(x: Variable, scale_a: float = 0.67, scale_b: float = 1.7159, name: str | None = None) -> Variable:
    """``scale_b * tanh(scale_a * x)``."""
    return unary("stanh", x, name, scale_a=scale_a, scale_b=scale_b)


def pow(x: Variable, factor: float | Variable = 1.0, name: str | None = None) -> Variable:
    """``x ** factor`` with one exponent for all elements."""
    if isinstance(factor, Variable):
        helper = LayerHelper("pow", name)
        out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
        helper.op("pow", {"X": [x], "FactorTensor": [factor]}, {"Out": [out]})
        return out
    return unary("pow", x, name, dtypes=_NUMBERS, factor=float(factor))


def clip(x: Variable, min: float, max: float, name: str | None = None) -> Variable:
    """X limited to [min, max]."""
    if min > max:
        raise invalid(f"clip: min is {min} and max is {max}", "min must not exceed max")
    return unary("clip", x, name, min=float(min), max=float(max))


def clip_by_norm(x: Variable, max_norm: float, name: str | None = None) -> Variable:
    """X scaled down so that its L2 norm is at most ``max_norm``."""
    return unary("clip_by_norm", x, name, max_norm=float(max_norm))


def scale(
    x: Variable,
    scale: float | Variable = 1.0,
    bias: float = 0.0,
    bias_after_scale: bool = True,
    act: str | None = None,
    name: str | None = None,
) -> Variable:
    """``scale * x + bias``, or ``scale * (x + bias)``; then the activation."""
    if isinstance(scale, Variable):
        helper = LayerHelper("scale", name)
        out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
        attrs = {"bias": float(bias), "bias_after_scale": bias_after_scale}
        helper.op("scale", {"X": [x], "ScaleTensor": [scale]}, {"Out": [out]}, attrs)
        return helper.activate(out, act)
    return unary(
        "scale",
        x,
        name,
        dtypes=(*_NUMBERS, VarType.INT8, VarType.INT16, VarType.UINT8),
        act=act,
        scale=float(scale),
        bias=float(bias),
        bias_after_scale=bias_after_scale,
    )


def clamp(
    input: Variable,
    min: float | None = None,
    max: float | None = None,
    output: Variable | None = None,
    name: str | None = None,
) -> Variable:
    """``input`` limited to [min, max]; a limit that is None does not limit. (Paddle 1.8.5 takes 0 for it.)"""
    helper = LayerHelper("clamp", name)
    helper.check_dtype("input", input, _FLOATS)
    if min is None and max is None:
        raise invalid("clamp: min and max are None", "give one of them")
    out = helper.temporary(input.dtype, input.shape) if output is None else output
    attrs = {"min": -_LARGEST if min is None else float(min), "max": _LARGEST if max is None else float(max)}
    helper.op("clip", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def mish(x: Variable, threshold: float = 20, name: str | None = None) -> Variable:
    """``x * tanh(softplus(x))`` (Misra, 2019); softplus is x above the threshold and ``e ** x`` below its negative."""
    return unary("mish", x, name, dtypes=(VarType.FP32, VarType.FP64), threshold=float(threshold))
