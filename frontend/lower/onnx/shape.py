"""Ops that rearrange elements, constants, and what is made from shapes."""

from __future__ import annotations

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim, Sym, dim_div, numel
from ..known import Known
from .node import OPEN_EXTENTS, Node, NodeRules, Results


def _constant(n: Node) -> Known:
    return Known.of(n.attr("value"))


def _shape(n: Node) -> Known:
    dims = list(n.x("data").tensor.shape)
    return Known.dims(dims[slice(n.attr("start", 0), n.attr("end"))])


def _size(n: Node) -> Known:
    return Known.dims(np.asarray(numel(n.x("data").tensor.shape), object))


def _reshape(n: Node) -> Value:
    x = n.x("data")
    wanted: list[Dim] = list(n.attr("shape")) if n.version < 5 else n.dims("shape")
    copied = not n.attr("allowzero", 0)
    if copied and any(d == 0 and i >= x.tensor.rank for i, d in enumerate(wanted)):
        raise n.error(f"the shape {_listed(wanted)} copies an axis that {x.type} does not have", "correct the model")
    shape = [x.tensor.shape[i] if d == 0 and copied else d for i, d in enumerate(wanted)]
    if -1 in shape:
        shape[shape.index(-1)] = _inferred(n, x, shape)
    return n.b.reshape(x, tuple(shape))


def _inferred(n: Node, x: Value, shape: list[Dim]) -> Dim:
    """The extent that -1 stands for in a shape; extents on both sides cancel."""
    at = shape.index(-1)
    rest, have = [d for i, d in enumerate(shape) if i != at], list(x.tensor.shape)
    for symbol in [d for d in rest if isinstance(d, Sym)]:
        if symbol in have:
            have.remove(symbol)
            rest.remove(symbol)
    found = dim_div(numel(have), numel(rest))
    if found is None or any(isinstance(d, int) and d < 0 for d in rest):
        several = len({d.name for d in (*x.tensor.shape, *shape) if isinstance(d, Sym)}) > 1
        hint = OPEN_EXTENTS if several else "extents must multiply to the same size"
        raise n.error(f"{x.type} cannot take the shape {_listed(shape)}", hint)
    return found


def _listed(shape: list[Dim]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _transpose(n: Node) -> Value:
    x = n.x("data")
    perm = n.attr("perm")
    return n.b.transpose(x, list(range(x.tensor.rank))[::-1] if perm is None else list(perm))


def _flatten(n: Node) -> Value:
    x = n.x("input")
    axis: int = n.attr("axis")
    at = x.tensor.rank if axis == x.tensor.rank else n.axis(axis, x.tensor.rank)
    return n.b.reshape(x, (numel(x.tensor.shape[:at]), numel(x.tensor.shape[at:])))


def _squeeze(n: Node) -> Value:
    x = n.x("data")
    given = n.attr("axes") if n.version < 13 else (n.ints("axes") if n.has("axes") else None)
    if given is None:
        dropped = {i for i, d in enumerate(x.tensor.shape) if d == 1}
    else:
        dropped = set(n.axes(given, x.tensor.rank))
    for axis in dropped:
        if x.tensor.shape[axis] != 1:
            raise n.error(f"axis {axis} of {x.type} is not of extent 1", "squeeze only axes of extent 1")
    return n.b.reshape(x, tuple(d for i, d in enumerate(x.tensor.shape) if i not in dropped))


def _unsqueeze(n: Node) -> Value:
    x = n.x("data")
    given = n.attr("axes") if n.version < 13 else n.ints("axes")
    shape: list[Dim] = list(x.tensor.shape)
    for axis in n.axes(given, x.tensor.rank + len(given)):
        shape.insert(axis, 1)
    return n.b.reshape(x, tuple(shape))


def _concat(n: Node) -> Value:
    return n.b.concat(n.xs("inputs"), n.axis(n.attr("axis", 1), n.xs("inputs")[0].tensor.rank))


def _identity(n: Node) -> Results:
    return n.x("input")


def _expand(n: Node) -> Value:
    x, wanted = n.x("input"), n.dims("shape")
    rank = max(len(wanted), x.tensor.rank)
    have: list[Dim] = [1] * (rank - x.tensor.rank) + list(x.tensor.shape)
    want: list[Dim] = [1] * (rank - len(wanted)) + wanted
    shape = [h if w == 1 else w for h, w in zip(have, want, strict=True)]
    return n.b.broadcast(x, tuple(shape))


def _constant_of_shape(n: Node) -> Value:
    value = n.attr("value")
    fill = Known.of(np.zeros(1, np.float32) if value is None else value)
    return n.b.fill(tuple(n.dims("input")), fill.dtype, fill.array.reshape(-1)[0].item())


RULES: NodeRules = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Size": _size,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Identity": _identity,
    "Expand": _expand,
}
