"""Products of vectors and matrices, and parts of matrices."""

from __future__ import annotations

from ..errors import invalid
from ..layer_helper import LayerHelper
from ..shapes import axis_of, broadcast_shape
from ..variable import Variable
from ..vartype import VarType

_REALS = (VarType.FP32, VarType.FP64)
_NUMBERS = (VarType.FP32, VarType.FP64, VarType.INT32, VarType.INT64)


def _agree(p: int, q: int) -> bool:
    """Whether two extents may be equal."""
    return p == q or p < 0 or q < 0


def bmm(x: Variable, y: Variable, name: str | None = None) -> Variable:
    """``x[i] @ y[i]`` of matrices ``[B, M, K]`` and ``[B, K, N]``."""
    helper = LayerHelper("bmm", name)
    for argument, v in (("x", x), ("y", y)):
        helper.check_dtype(argument, v, _REALS)
    a, b = x.shape, y.shape
    if len(a) != 3 or len(b) != 3 or not _agree(a[0], b[0]) or not _agree(a[2], b[1]):
        raise invalid(
            f"bmm: x {x.name} has shape {list(a)} and y {y.name} {list(b)}", "give [B, M, K] and [B, K, N]; see matmul"
        )
    out = helper.temporary(x.dtype, [a[0], a[1], b[2]])
    helper.op("bmm", {"X": [x], "Y": [y]}, {"Out": [out]})
    return out


def addmm(
    input: Variable, x: Variable, y: Variable, alpha: float = 1.0, beta: float = 1.0, name: str | None = None
) -> Variable:
    """``beta * input + alpha * x @ y`` of matrices."""
    helper = LayerHelper("addmm", name)
    for argument, v in (("input", input), ("x", x), ("y", y)):
        helper.check_dtype(argument, v, _REALS)
        if len(v.shape) != 2:
            raise invalid(f"addmm: {argument} {v.name} has shape {list(v.shape)}", "give three matrices")
    shape = (x.shape[0], y.shape[1])
    stretched = all(_agree(p, q) or p == 1 for p, q in zip(input.shape, shape))
    if not _agree(x.shape[1], y.shape[0]) or not stretched:
        raise invalid(
            f"addmm: {list(input.shape)} plus {list(x.shape)} times {list(y.shape)}",
            "give [M, N], [M, K] and [K, N]; input may have extents of 1",
        )
    out = helper.temporary(x.dtype, shape)
    attrs = {"Alpha": float(alpha), "Beta": float(beta)}
    helper.op("addmm", {"Input": [input], "X": [x], "Y": [y]}, {"Out": [out]}, attrs)
    return out


def dot(x: Variable, y: Variable, name: str | None = None) -> Variable:
    """The sum of products along the last axis, which becomes 1: two vectors, or rows ``[N, M]``."""
    helper = LayerHelper("dot", name)
    for argument, v in (("x", x), ("y", y)):
        helper.check_dtype(argument, v, _NUMBERS)
    a, b = x.shape, y.shape
    if len(a) != len(b) or len(a) not in (1, 2) or not all(map(_agree, a, b)):
        raise invalid(
            f"dot: x {x.name} has shape {list(a)} and y {y.name} {list(b)}", "give two vectors or two matrices"
        )
    out = helper.temporary(x.dtype, [*a[:-1], 1])
    helper.op("dot", {"X": [x], "Y": [y]}, {"Out": [out]})
    return out


def cross(input: Variable, other: Variable, dim: int | None = None) -> Variable:
    """The cross product along the axis ``dim`` of extent 3; along the first such axis if None."""
    helper = LayerHelper("cross")
    for argument, v in (("input", input), ("other", other)):
        helper.check_dtype(argument, v, _NUMBERS)
    a, b = input.shape, other.shape
    if len(a) != len(b) or not all(map(_agree, a, b)):
        raise invalid(f"cross: {input.name} has shape {list(a)} and {other.name} {list(b)}", "give equal shapes")
    if 3 not in a or (dim is not None and a[axis_of("cross", input, dim)] != 3):
        raise invalid(f"cross: axis {dim} of {input.name} {list(a)}", "give an axis of extent 3")
    out = helper.temporary(input.dtype, a)
    # 9 is fluid's number for the first axis that fits.
    helper.op("cross", {"X": [input], "Y": [other]}, {"Out": [out]}, {"dim": 9 if dim is None else dim})
    return out


def dist(x: Variable, y: Variable, p: float = 2) -> Variable:
    """The p-norm of ``x - y``, shape [1]; p may be 0 (how many differ) and plus or minus infinity."""
    helper = LayerHelper("dist")
    for argument, v in (("x", x), ("y", y)):
        helper.check_dtype(argument, v, _REALS)
    broadcast_shape("dist", x, y)
    out = helper.temporary(x.dtype, [1])
    helper.op("dist", {"X": [x], "Y": [y]}, {"Out": [out]}, {"p": float(p)})
    return out


def kron(x: Variable, y: Variable, out: Variable | None = None, name: str | None = None) -> Variable:
    """The Kronecker product: every element of x times all of y, extents multiplied; written into ``out`` if given."""
    helper = LayerHelper("kron", name)
    for argument, v in (("x", x), ("y", y)):
        helper.check_dtype(argument, v, _NUMBERS)
    rank = max(len(x.shape), len(y.shape))
    a, b = ((1,) * (rank - len(v.shape)) + tuple(v.shape) for v in (x, y))
    if out is None:
        out = helper.temporary(x.dtype, [-1 if p < 0 or q < 0 else p * q for p, q in zip(a, b)])
    helper.op("kron", {"X": [x], "Y": [y]}, {"Out": [out]})
    return out


def trace(
    input: Variable,
    offset: int = 0,
    dim1: int = 0,
    dim2: int = 1,
    out: Variable | None = None,
    name: str | None = None,
) -> Variable:
    """The sum of the diagonal of the matrices along two axes, or of one ``offset`` above it; into ``out`` if given."""
    helper = LayerHelper("trace", name)
    helper.check_dtype("input", input, _NUMBERS)
    if len(input.shape) < 2 or axis_of("trace", input, dim1) == axis_of("trace", input, dim2):
        raise invalid(
            f"trace: dim1 is {dim1}, dim2 {dim2}, {input.name} has shape {list(input.shape)}", "give two different axes"
        )
    axes = {axis_of("trace", input, dim) for dim in (dim1, dim2)}
    if out is None:
        out = helper.temporary(input.dtype, [d for i, d in enumerate(input.shape) if i not in axes] or [1])
    helper.op("trace", {"Input": [input]}, {"Out": [out]}, {"offset": offset, "dim1": dim1, "dim2": dim2})
    return out


def tril(input: Variable, diagonal: int = 0, name: str | None = None) -> Variable:
    """``input`` with zeros above a diagonal of its last two axes: the main one, or ``diagonal`` above it."""
    return _triangle("tril", input, diagonal, name)


def triu(input: Variable, diagonal: int = 0, name: str | None = None) -> Variable:
    """``input`` with zeros below a diagonal of its last two axes: the main one, or ``diagonal`` above it."""
    return _triangle("triu", input, diagonal, name)


def _triangle(layer: str, input: Variable, diagonal: int, name: str | None) -> Variable:
    helper = LayerHelper(layer, name)
    helper.check_dtype("input", input, _NUMBERS)
    if len(input.shape) < 2 or not isinstance(diagonal, int):
        raise invalid(
            f"{layer}: {input.name} has shape {list(input.shape)}, diagonal is {diagonal!r}",
            "give at least two axes, and an integer",
        )
    out = helper.block.create_var(name=helper.name, dtype=input.dtype, shape=input.shape)
    helper.op("tril_triu", {"X": [input]}, {"Out": [out]}, {"diagonal": diagonal, "lower": layer == "tril"})
    return out
