"""Arithmetic, functions of one element, comparisons and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, dim_mul
from ...compiler.ops import activation, elementwise, linear, reduce, unary
from ...compiler.ops.base import Op
from .context import OpLowering, Rule, Rules, dtype_of


def aligned(o: OpLowering, x: Value, y: Value, axis: int) -> tuple[Value, Value]:
    """Operands reshaped so that numpy's alignment puts the shorter one where fluid's ``axis`` does."""
    if x.tensor.rank < y.tensor.rank:
        y, x = aligned(o, y, x, axis)
        return x, y
    shape = y.tensor.shape
    at = x.tensor.rank - len(shape) if axis == -1 else axis
    if not 0 <= at <= x.tensor.rank:
        raise o.error(f"axis {axis} of {x.type} and {y.type}", "the shorter operand begins at an axis of the other")
    while at + len(shape) > x.tensor.rank and shape and shape[-1] == 1:
        shape = shape[:-1]
    trailing = x.tensor.rank - at - len(shape)
    return x, o.b.reshape(y, (*shape, *(1,) * trailing))


def _binary(make: Callable[[Value, Value], Op], *, swap: bool = False) -> Rule:
    def rule(o: OpLowering) -> None:
        x, y = aligned(o, o.tokens("X"), o.tokens("Y"), o.attr("axis", -1))
        o.set(o.b(make(y, x) if swap else make(x, y)))

    return rule


def _divide(o: OpLowering) -> None:
    x, y = aligned(o, o.tokens("X"), o.tokens("Y"), o.attr("axis", -1))
    o.set(o.b.div(x, y))


def _divide_whole(o: OpLowering) -> None:
    x, y = aligned(o, o.tokens("X"), o.tokens("Y"), o.attr("axis", -1))
    # Paddle's kernel of integers is C's division, whatever the layer is called.
    o.set(o.b.div(x, y) if x.tensor.dtype.is_integer else o.b(elementwise.FloorDiv(x, y)))


def _modulo(o: OpLowering) -> None:
    x, y = aligned(o, o.tokens("X"), o.tokens("Y"), o.attr("axis", -1))
    if x.tensor.dtype.is_integer:
        # C's remainder, which has the sign of x; that of floating point has the sign of y.
        o.set(o.b.sub(x, o.b.mul(o.b.div(x, y), y)))
    else:
        o.set(o.b(elementwise.Mod(x, y)))


def _unary(make: Callable[[Value], Op]) -> Rule:
    def rule(o: OpLowering) -> None:
        o.set(o.b(make(o.tokens())))

    return rule


def _configured(make: Callable[[OpLowering, Value], Op]) -> Rule:
    def rule(o: OpLowering) -> None:
        o.set(o.b(make(o, o.tokens())))

    return rule


def _sum(o: OpLowering) -> None:
    first, *rest = o.xs("X")
    total = first
    for value in rest:
        total = o.b.add(total, value)
    o.set(total)


def _scale(o: OpLowering) -> None:
    x = o.tokens()
    bias, after = o.attr("bias", 0.0), o.attr("bias_after_scale", True)
    if o.has("BiasTensor"):  # of eager mode: numbers that change from call to call
        by, more = o.number(o.x("ScaleTensor")), o.number(o.x("BiasTensor"))
        o.set(o.b.add(o.b.mul(x, by), more) if after else o.b.mul(o.b.add(x, more), by))
        return
    if o.has("ScaleTensor"):
        factor = o.number(o.x("ScaleTensor"))
        shifted = x if after else o.b.scale(x, 1.0, bias)
        out = o.b.mul(shifted, factor)
        o.set(o.b.scale(out, 1.0, bias) if after else out)
        return
    factor = o.attr("scale", 1.0)
    if not after:
        bias *= factor
    if (factor, bias) == (1.0, 0.0):
        o.set(x)
    elif x.tensor.dtype.is_float:
        o.set(o.b.scale(x, factor, bias))
    else:
        # Numbers of a schedule or counter: fluid computes them in the integer type.
        dtype = x.tensor.dtype
        scaled = x if factor == 1.0 else o.b.mul(x, o.b.fill((), dtype, int(factor)))
        o.set(scaled if bias == 0.0 else o.b.add(scaled, o.b.fill((), dtype, int(bias))))


def _increment(o: OpLowering) -> None:
    x = o.x()
    step = o.attr("step", 1.0)
    dtype = x.tensor.dtype
    o.set(o.b.add(x, o.b.fill((), dtype, step if dtype.is_float else int(step))))


def _pow(o: OpLowering) -> None:
    x = o.tokens()
    if o.has("FactorTensor"):
        o.set(o.b.pow(x, o.number(o.x("FactorTensor"))))
    elif o.attr("factor") == 2.0:
        o.set(o.b.square(x))
    else:
        o.set(o.b.pow(x, o.b.fill((), x.tensor.dtype, o.attr("factor", 1.0))))


def _cast(o: OpLowering) -> None:
    x, to = o.tokens(), dtype_of(o.attr("out_dtype"))
    o.set(o.b.not_equal(x, o.b.fill((), x.tensor.dtype, 0)) if to is DType.BOOL else o.b.cast(x, to))


def _clip_by_norm(o: OpLowering) -> None:
    x, bound = o.x(), o.attr("max_norm")
    limit = o.b.fill((), x.tensor.dtype, bound)
    norm = o.b.sqrt(o.b.reduce_sum(o.b.square(x), range(x.tensor.rank)))
    # Dividing by the larger of both keeps a tensor of norm 0 away from 0 / 0.
    o.set(o.b.mul(x, o.b.div(limit, o.b.maximum(norm, limit))))


def reduced(o: OpLowering, make: Callable[[Value, tuple[int, ...], bool], Op]) -> None:
    """A reduction over the record's axes; what has no axes left gets shape [1]."""
    x = o.tokens()
    whole = o.attr("reduce_all", False)
    axes = tuple(range(x.tensor.rank)) if whole else tuple(sorted(set(o.axes(x, o.attr("dim")))))
    if 0 in axes:
        o.apart()  # of all rows of all sequences
    out = o.b(make(x, axes, bool(o.attr("keep_dim", False))))
    o.set(out if out.tensor.rank else o.one(out))


def _reduction(make: Callable[[Value, tuple[int, ...], bool], Op]) -> Rule:
    return lambda o: reduced(o, make)


def _mean(o: OpLowering) -> None:
    x = o.tokens()
    o.set_all([o.one(o.b.reduce_mean(x, range(x.tensor.rank)))])


def _isfinite(o: OpLowering) -> None:
    x = o.x()
    finite = o.b(unary.IsFinite(x))
    o.set(o.one(o.b(reduce.All(finite, tuple(range(x.tensor.rank))))))


def _somewhere(make: Callable[[OpLowering, Value], Value]) -> Rule:
    """Whether a condition holds for an element, shape [1]."""

    def rule(o: OpLowering) -> None:
        found = make(o, o.x())
        o.set(o.one(o.b(reduce.Any_(found, tuple(range(found.tensor.rank))))))

    return rule


def _infinite(o: OpLowering, x: Value) -> Value:
    return o.b.equal(o.b.abs(x), o.b.fill((), x.tensor.dtype, math.inf))


def _allclose(o: OpLowering) -> None:
    x, y = o.x("Input"), o.x("Other")
    most = o.b.scale(o.b.abs(y), o.attr("rtol", 1e-5), o.attr("atol", 1e-8))
    # Equal infinities are close, though their difference is no number.
    close = o.b.logical_or(o.b.equal(x, y), o.b.less_equal(o.b.abs(o.b.sub(x, y)), most))
    if o.attr("equal_nan", False):
        close = o.b.logical_or(close, o.b.logical_and(o.b(unary.IsNan(x)), o.b(unary.IsNan(y))))
    o.set(o.one(o.b(reduce.All(close, tuple(range(close.tensor.rank))))))


def _mish(o: OpLowering) -> None:
    x = o.tokens()
    limit = o.attr("threshold", 20.0)
    # Where x is far from 0, softplus is x or e ** x: to within rounding what it is anyway for limits of 20 and more.
    soft = o.b.softplus(x)
    if limit < 20:
        far, near = o.b.fill((), x.tensor.dtype, limit), o.b.fill((), x.tensor.dtype, -limit)
        soft = o.b.where(o.b.less(far, x), x, o.b.where(o.b.less(x, near), o.b.exp(o.b.minimum(x, near)), soft))
    o.set(o.b.mul(x, o.b.tanh(soft)))


def _mul(o: OpLowering) -> None:
    x, y = o.tokens("X"), o.x("Y")
    rows, cols = o.attr("x_num_col_dims", 1), o.attr("y_num_col_dims", 1)
    out = (*x.tensor.shape[:rows], *y.tensor.shape[cols:])
    left = flattened(o, x, rows)
    right = o.b.reshape(y, _matrix(o, y, cols))
    o.set(o.b.reshape(o.b.matmul(left, right), out))


def _fc(o: OpLowering) -> None:
    """What Paddle's inference passes make of a mul, an elementwise_add and a relu."""
    x, w = o.tokens("Input"), o.x("W")
    rows = o.attr("in_num_col_dims", 1)
    out = o.b.matmul(flattened(o, x, rows), w)
    if o.has("Bias"):
        bias = o.x("Bias")
        out = o.b.add(out, o.b.reshape(bias, (w.tensor.shape[1],)))
    act = o.attr("activation_type", "")
    if act not in ("", "relu"):
        raise o.error(f"the activation {act!r} is part of the op", "save the model without inference passes")
    o.set(o.b.relu(out) if act else out)


def flattened(o: OpLowering, x: Value, axis: int) -> Value:
    """``x`` with the axes from ``axis`` on in one."""
    size = 1
    for extent in x.tensor.shape[axis:]:
        if not isinstance(extent, int):
            raise o.error(f"extent {extent} of {x.type} is not known", "give the data its full shape")
        size *= extent
    return o.b.reshape(x, (*x.tensor.shape[:axis], size))


def _matrix(o: OpLowering, y: Value, cols: int) -> tuple[int, int]:
    sizes = [1, 1]
    for axis, extent in enumerate(y.tensor.shape):
        if not isinstance(extent, int):
            raise o.error(f"extent {extent} of {y.type} is not known", "multiply by a parameter or a fixed shape")
        sizes[axis >= cols] *= extent
    return sizes[0], sizes[1]


def _matmul(o: OpLowering) -> None:
    out = matrix_product(o, bool(o.attr("transpose_X", False)), bool(o.attr("transpose_Y", False)))
    alpha = o.attr("alpha", 1.0)
    o.set(out if alpha == 1.0 else o.b.scale(out, alpha))


def matrix_product(o: OpLowering, transpose_x: bool, transpose_y: bool) -> Value:
    """X times Y over their last two axes; a vector is a row of X, a column of Y."""
    x, y = o.tokens("X"), o.x("Y")
    row, column = x.tensor.rank == 1, y.tensor.rank == 1
    left = o.b.reshape(x, (1, *x.tensor.shape)) if row else x
    right = o.b.reshape(y, (*y.tensor.shape, 1)) if column else y
    out = o.b(linear.MatMul(left, right, transpose_x and not row, transpose_y and not column))
    shape = list(out.tensor.shape)
    if column:
        shape.pop()
    if row:
        shape.pop(-1 if column else -2)
    return o.b.reshape(out, tuple(shape) or (1,))


def _prelu(o: OpLowering) -> None:
    x, alpha = o.x(), o.x("Alpha")
    mode = o.attr("mode", "all")
    if mode == "channel":
        alpha = o.b.reshape(alpha, (x.tensor.shape[1], *(1,) * (x.tensor.rank - 2)))
    elif mode == "element":
        alpha = o.b.reshape(alpha, x.tensor.shape[1:])
    o.set(o.b(activation.PRelu(x, alpha)))


def _bilinear(o: OpLowering) -> None:
    """``x W_i y``: one matrix product with all the W_i side by side, then the sum over y's elements."""
    x, y, w = o.x("X"), o.x("Y"), o.x("Weight")
    size, inner, width = w.tensor.shape
    rows = x.tensor.shape[0]
    sides = o.b.reshape(o.b.transpose(w, (1, 0, 2)), (inner, dim_mul(size, width)))
    each = o.b.reshape(o.b.matmul(x, sides), (rows, size, width))
    out = o.b.reduce_sum(o.b.mul(each, o.b.reshape(y, (rows, 1, width))), (2,))
    o.set(o.b.add(out, o.x("Bias")) if o.has("Bias") else out)


RULES: Rules = {
    "elementwise_add": _binary(elementwise.Add),
    "elementwise_sub": _binary(elementwise.Sub),
    "elementwise_mul": _binary(elementwise.Mul),
    "elementwise_div": _divide,
    "elementwise_max": _binary(elementwise.Maximum),
    "elementwise_min": _binary(elementwise.Minimum),
    "elementwise_pow": _binary(elementwise.Pow),
    "elementwise_mod": _modulo,
    "elementwise_floordiv": _divide_whole,
    "equal": _binary(elementwise.Equal),
    "not_equal": _binary(elementwise.NotEqual),
    "less_than": _binary(elementwise.Less),
    "less_equal": _binary(elementwise.LessEqual),
    "greater_than": _binary(elementwise.Less, swap=True),
    "greater_equal": _binary(elementwise.LessEqual, swap=True),
    "logical_and": _binary(elementwise.And),
    "logical_or": _binary(elementwise.Or),
    "logical_xor": _binary(elementwise.Xor),
    "logical_not": _unary(unary.Not),
    "sum": _sum,
    "scale": _scale,
    "increment": _increment,
    "pow": _pow,
    "cast": _cast,
    "clip": _configured(lambda o, x: unary.Clip(x, o.attr("min"), o.attr("max"))),
    "clip_by_norm": _clip_by_norm,
    "mean": _mean,
    "reduce_sum": _reduction(reduce.Sum),
    "reduce_mean": _reduction(reduce.Mean),
    "reduce_max": _reduction(reduce.Max),
    "reduce_min": _reduction(reduce.Min),
    "reduce_prod": _reduction(reduce.Prod),
    "reduce_all": _reduction(reduce.All),
    "reduce_any": _reduction(reduce.Any_),
    "isfinite": _isfinite,
    "isinf": _somewhere(_infinite),
    "isnan": _somewhere(lambda o, x: o.b(unary.IsNan(x))),
    "allclose": _allclose,
    "mul": _mul,
    "fc": _fc,
    "matmul": _matmul,
    "bilinear_tensor_product": _bilinear,
    "prelu": _prelu,
    # Functions of one element
    "abs": _unary(unary.Abs),
    "acos": _unary(unary.Acos),
    "asin": _unary(unary.Asin),
    "atan": _unary(unary.Atan),
    "ceil": _unary(unary.Ceil),
    "cos": _unary(unary.Cos),
    "erf": _unary(unary.Erf),
    "exp": _unary(unary.Exp),
    "floor": _unary(unary.Floor),
    "log": _unary(unary.Log),
    "log1p": _unary(unary.Log1p),
    "logsigmoid": _unary(activation.LogSigmoid),
    "reciprocal": _unary(unary.Reciprocal),
    "relu": _unary(unary.Relu),
    "round": _unary(unary.Round),
    "rsqrt": _unary(unary.Rsqrt),
    "sigmoid": _unary(unary.Sigmoid),
    "sign": _unary(unary.Sign),
    "sin": _unary(unary.Sin),
    "softplus": _unary(unary.Softplus),
    "softsign": _unary(activation.Softsign),
    "sqrt": _unary(unary.Sqrt),
    "square": _unary(unary.Square),
    "tanh": _unary(unary.Tanh),
    "tanh_shrink": _unary(activation.TanhShrink),
    "brelu": _configured(lambda o, x: activation.BRelu(x, o.attr("t_min", 0.0), o.attr("t_max", 24.0))),
    "elu": _configured(lambda o, x: activation.Elu(x, o.attr("alpha", 1.0))),
    "gelu": _configured(lambda o, x: activation.Gelu(x, o.attr("approximate", False))),
    "hard_shrink": _configured(lambda o, x: activation.HardShrink(x, o.attr("threshold", 0.5))),
    "hard_sigmoid": _configured(lambda o, x: activation.HardSigmoid(x, o.attr("slope", 0.2), o.attr("offset", 0.5))),
    "hard_swish": _configured(
        lambda o, x: activation.HardSwish(x, o.attr("threshold", 6.0), o.attr("scale", 6.0), o.attr("offset", 3.0))
    ),
    "mish": _mish,
    "leaky_relu": _configured(lambda o, x: unary.LeakyRelu(x, o.attr("alpha", 0.02))),
    "relu6": _configured(lambda o, x: activation.Relu6(x, o.attr("threshold", 6.0))),
    "selu": _configured(
        lambda o, x: activation.Selu(x, o.attr("scale", 1.0507009873554805), o.attr("alpha", 1.6732632423543772))
    ),
    "soft_relu": _configured(lambda o, x: activation.SoftRelu(x, o.attr("threshold", 40.0))),
    "softshrink": _configured(lambda o, x: activation.SoftShrink(x, o.attr("lambda", 0.5))),
    "stanh": _configured(lambda o, x: activation.STanh(x, o.attr("scale_a", 0.67), o.attr("scale_b", 1.7159))),
    "swish": _configured(lambda o, x: activation.Swish(x, o.attr("beta", 1.0))),
    "thresholded_relu": _configured(lambda o, x: activation.ThresholdedRelu(x, o.attr("threshold", 1.0))),
}
