"""Arithmetic of several Variables, products and reductions."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, wrong_type
from ..framework import AttrValue
from ..layer_helper import LayerHelper, check_variable
from ..shapes import broadcast_shape, product, reduced_shape
from ..variable import Variable
from ..vartype import VarType
from . import ops

_FLOATS = (VarType.FP32, VarType.FP64, VarType.FP16)
_NUMBERS = (*_FLOATS, VarType.INT32, VarType.INT64)


def _elementwise(op: str, x: Variable, y: Variable, axis: int, act: str | None, name: str | None) -> Variable:
    helper = LayerHelper(op, name)
    helper.check_dtype("x", x, _NUMBERS)
    helper.check_dtype("y", y, _NUMBERS)
    if x.dtype != y.dtype:
        raise wrong_type(
            f"{op}: x {x.name} holds {x.dtype.numpy.name}, y {y.name} {y.dtype.numpy.name}",
            f"give both one type: fluid.layers.cast(y, '{x.dtype.numpy.name}')",
        )
    return helper.activate(helper.elementwise(op, x, y, axis), act)


def elementwise_add(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """``x + y``; y lies along x's axes from ``axis`` on (-1: the last ones)."""
    return _elementwise("elementwise_add", x, y, axis, act, name)


def elementwise_sub(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """``x - y``; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_sub", x, y, axis, act, name)


def elementwise_mul(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """``x * y``; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_mul", x, y, axis, act, name)


def elementwise_div(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """``x / y``, truncated for integers; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_div", x, y, axis, act, name)


def elementwise_max(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """The larger of x and y; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_max", x, y, axis, act, name)


def elementwise_min(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """The smaller of x and y; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_min", x, y, axis, act, name)


def elementwise_pow(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """``x ** y``; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_pow", x, y, axis, act, name)


def elementwise_mod(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """The remainder with the divisor's sign; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_mod", x, y, axis, act, name)


def elementwise_floordiv(
    x: Variable, y: Variable, axis: int = -1, act: str | None = None, name: str | None = None
) -> Variable:
    """The integer quotient; y lies along x's axes from ``axis`` on."""
    return _elementwise("elementwise_floordiv", x, y, axis, act, name)


def _sum_of(xs: Sequence[Variable], name_of: str, out: Variable | None = None) -> Variable:
    helper = LayerHelper(name_of)
    if not xs:
        raise invalid(f"{name_of}: the list of Variables is empty", "give at least one")
    for i, x in enumerate(xs):
        helper.check_dtype(f"input[{i}]", x, _NUMBERS)
    shape = xs[0].shape
    for x in xs[1:]:
        if len(x.shape) != len(shape) or any(p != q and p >= 0 and q >= 0 for p, q in zip(shape, x.shape)):
            raise invalid(
                f"{name_of}: {xs[0].name} has shape {list(shape)} and {x.name} has {list(x.shape)}",
                "all summands must have one shape",
            )
        shape = tuple(max(p, q) for p, q in zip(shape, x.shape))
    if out is None:
        out = helper.temporary(xs[0].dtype, shape, lod_level=xs[0].lod_level)
    helper.op("sum", {"X": list(xs)}, {"Out": [out]})
    return out


def sum(x: Variable | Sequence[Variable]) -> Variable:
    """The sum of a list of Variables of one shape, element by element."""
    return _sum_of([x] if isinstance(x, Variable) else x, "sum")


def sums(input: Variable | Sequence[Variable], out: Variable | None = None) -> Variable:
    """Like `sum`, into ``out`` if given."""
    return _sum_of([input] if isinstance(input, Variable) else input, "sum", out)


def _reduce(op: str, x: Variable, dim: int | Sequence[int] | None, keep_dim: bool, name: str | None) -> Variable:
    helper = LayerHelper(op, name)
    check_variable(op, "input", x)
    logical = op in ("reduce_all", "reduce_any")
    helper.check_dtype("input", x, (VarType.BOOL,) if logical else _NUMBERS)
    dims = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    out = helper.temporary(x.dtype, reduced_shape(op, x, dims, keep_dim))
    attrs: dict[str, AttrValue] = {
        "dim": dims or [0],
        "keep_dim": keep_dim,
        "reduce_all": not dims or len(dims) == len(x.shape),
    }
    helper.op(op, {"X": [x]}, {"Out": [out]}, attrs)
    return out


def reduce_sum(
    input: Variable, dim: int | Sequence[int] | None = None, keep_dim: bool = False, name: str | None = None
) -> Variable:
    """The sum over ``dim`` (all axes if None); shape [1] when nothing is left."""
    return _reduce("reduce_sum", input, dim, keep_dim, name)


def reduce_mean(
    input: Variable, dim: int | Sequence[int] | None = None, keep_dim: bool = False, name: str | None = None
) -> Variable:
    """The mean over ``dim`` (all axes if None); shape [1] when nothing is left."""
    return _reduce("reduce_mean", input, dim, keep_dim, name)


def reduce_max(
    input: Variable, dim: int | Sequence[int] | None = None, keep_dim: bool = False, name: str | None = None
) -> Variable:
    """The maximum over ``dim`` (all axes if None); shape [1] when nothing is left."""
    return _reduce("reduce_max", input, dim, keep_dim, name)


def reduce_min(
    input: Variable, dim: int | Sequence[int] | None = None, keep_dim: bool = False, name: str | None = None
) -> Variable:
    """The minimum over ``dim`` (all axes if None); shape [1] when nothing is left."""
    return _reduce("reduce_min", input, dim, keep_dim, name)


def reduce_prod(
    input: Variable, dim: int | Sequence[int] | None = None, keep_dim: bool = False, name: str | None = None
) -> Variable:
    """The product over ``dim`` (all axes if None); shape [1] when nothing is left."""
    return _reduce("reduce_prod", input, dim, keep_dim, name)


def reduce_all(
    input: Variable, dim: int | Sequence[int] | None = None, keep_dim: bool = False, name: str | None = None
) -> Variable:
    """Whether all booleans over ``dim`` are true."""
    return _reduce("reduce_all", input, dim, keep_dim, name)


def reduce_any(
    input: Variable, dim: int | Sequence[int] | None = None, keep_dim: bool = False, name: str | None = None
) -> Variable:
    """Whether any boolean over ``dim`` is true."""
    return _reduce("reduce_any", input, dim, keep_dim, name)


def mean(x: Variable, name: str | None = None) -> Variable:
    """The mean of all elements, shape [1]."""
    helper = LayerHelper("mean", name)
    helper.check_dtype("x", x, _FLOATS)
    out = helper.temporary(x.dtype, [1])
    helper.op("mean", {"X": [x]}, {"Out": [out]})
    return out


def logsumexp(
    x: Variable,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    out: Variable | None = None,
    name: str | None = None,
) -> Variable:
    """``log(sum(exp(x)))`` over ``dim``, recorded as these three ops."""
    summed = reduce_sum(ops.exp(x), dim, keepdim)
    if out is None:
        return ops.log(summed, name)
    LayerHelper("log", name).op("log", {"X": [summed]}, {"Out": [out]})
    return out


def mul(
    x: Variable, y: Variable, x_num_col_dims: int = 1, y_num_col_dims: int = 1, name: str | None = None
) -> Variable:
    """Matrix product of x and y, each flattened to a matrix whose rows span the first ``num_col_dims`` axes."""
    helper = LayerHelper("mul", name)
    helper.check_dtype("x", x, _FLOATS)
    helper.check_dtype("y", y, _FLOATS)
    return record_mul(helper, x, y, x_num_col_dims, y_num_col_dims)


def record_mul(helper: LayerHelper, x: Variable, y: Variable, x_cols: int, y_cols: int) -> Variable:
    """Record the op of `mul` for a layer that has checked its operands' types."""
    for argument, v, cols in (("x", x, x_cols), ("y", y, y_cols)):
        if not 0 < cols < len(v.shape):
            raise invalid(
                f"{helper.layer_type}: {argument} {v.name} has shape {list(v.shape)}, "
                f"which {argument}_num_col_dims={cols} cannot split into rows and columns",
                f"give a number from 1 to {len(v.shape) - 1}",
            )
    inner_x, inner_y = product(x.shape[x_cols:]), product(y.shape[:y_cols])
    if inner_x >= 0 and inner_y >= 0 and inner_x != inner_y:
        raise invalid(
            f"{helper.layer_type}: x {x.name} {list(x.shape)} has rows of {inner_x} elements, "
            f"but y {y.name} {list(y.shape)} has {inner_y} rows",
            "the inner extents of a product must agree",
        )
    out = helper.temporary(x.dtype, x.shape[:x_cols] + y.shape[y_cols:], lod_level=x.lod_level)
    attrs = {"x_num_col_dims": x_cols, "y_num_col_dims": y_cols}
    helper.op("mul", {"X": [x], "Y": [y]}, {"Out": [out]}, attrs)
    return out


def matmul(
    x: Variable,
    y: Variable,
    transpose_x: bool = False,
    transpose_y: bool = False,
    alpha: float = 1.0,
    name: str | None = None,
) -> Variable:
    """``alpha * x @ y`` over the last two axes, the others broadcast; a vector counts as a row of x, a column of y.

    Shapes: ``[..., M, K] @ [..., K, N]`` gives ``[..., M, N]``; two vectors give [1].
    """
    helper = LayerHelper("matmul", name)
    helper.check_dtype("x", x, _FLOATS)
    helper.check_dtype("y", y, _FLOATS)
    if not x.shape or not y.shape:
        raise invalid("matmul: an operand has no dimensions", "reshape it to [1]")
    a = [1, x.shape[0]] if len(x.shape) == 1 else list(x.shape)
    b = [y.shape[0], 1] if len(y.shape) == 1 else list(y.shape)
    if transpose_x and len(x.shape) > 1:
        a[-1], a[-2] = a[-2], a[-1]
    if transpose_y and len(y.shape) > 1:
        b[-1], b[-2] = b[-2], b[-1]
    if a[-1] != b[-2] and a[-1] >= 0 and b[-2] >= 0:
        raise invalid(
            f"matmul: inner extents differ, x {x.name} {list(x.shape)} gives {a[-1]} "
            f"and y {y.name} {list(y.shape)} gives {b[-2]}",
            "check the shapes and the transpose_x, transpose_y arguments",
        )
    rank = max(len(a), len(b))
    batch_a, batch_b = [1] * (rank - len(a)) + a[:-2], [1] * (rank - len(b)) + b[:-2]
    batch: list[int] = []
    for p, q in zip(batch_a, batch_b):
        if p != q and p > 1 and q > 1:
            raise invalid(
                f"matmul: batch extents differ, x {x.name} {list(x.shape)} and y {y.name} {list(y.shape)}",
                "the leading axes must be equal or 1",
            )
        batch.append(q if p == 1 else p if q in (1, -1) else q)
    tail = ([] if len(x.shape) == 1 else [a[-2]]) + ([] if len(y.shape) == 1 else [b[-1]])
    out = helper.temporary(x.dtype, [*batch, *tail] or [1], lod_level=x.lod_level)
    attrs = {"transpose_X": transpose_x, "transpose_Y": transpose_y, "alpha": float(alpha)}
    helper.op("matmul", {"X": [x], "Y": [y]}, {"Out": [out]}, attrs)
    return out


def cos_sim(X: Variable, Y: Variable) -> Variable:
    """Cosine of the angle between the rows of X and of Y, shape [N, 1]; a single row of Y serves all rows of X."""
    helper = LayerHelper("cos_sim")
    helper.check_dtype("X", X, _FLOATS)
    helper.check_dtype("Y", Y, _FLOATS)
    out = helper.temporary(X.dtype, [X.shape[0], 1], lod_level=X.lod_level)
    x_norm = helper.temporary(X.dtype, [X.shape[0], 1])
    y_norm = helper.temporary(X.dtype, [Y.shape[0], 1])
    broadcast_shape("cos_sim", X, Y)
    helper.op("cos_sim", {"X": [X], "Y": [Y]}, {"Out": [out], "XNorm": [x_norm], "YNorm": [y_norm]})
    return out


def isfinite(x: Variable) -> Variable:
    """Whether no element is NaN or infinite: a boolean of shape [1]."""
    helper = LayerHelper("isfinite")
    check_variable("isfinite", "x", x)
    out = helper.temporary(VarType.BOOL, [1])
    helper.op("isfinite", {"X": [x]}, {"Out": [out]})
    return out


def addcmul(
    input: Variable,
    tensor1: Variable,
    tensor2: Variable,
    value: float = 1.0,
    out: Variable | None = None,
    name: str | None = None,
) -> Variable:
    """``input + value * tensor1 * tensor2``; written into ``out`` if given."""
    added = elementwise_add(input, elementwise_mul(tensor1, tensor2) * value, name=name)
    if out is None:
        return added
    LayerHelper("assign").op("assign", {"X": [added]}, {"Out": [out]})
    return out
