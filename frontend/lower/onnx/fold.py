"""What is done at once where all inputs of a node are known: the arithmetic on shapes that exports are full of.

Arrays may hold symbols (the batch N), so each rule says what it does with them; None leaves the node to the IR.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....compiler.ir.types import Dim, DType, Sym, dim_add, dim_div, dim_mul
from ..known import Known
from .arrange import slices
from .node import LARGEST, Fold, Folds, Node

Array = NDArray[Any]


def _made(array: Any, dtype: DType) -> Known | None:
    """The result, unless it is too large to be worth it; of an array of objects numpy returns bare elements."""
    if not isinstance(array, np.ndarray):
        element, array = array, np.empty((), object if isinstance(array, Sym) else dtype.numpy)
        array[()] = element
    if array.size > LARGEST:
        return None
    return Known.dims(array, dtype) if array.dtype == object else Known(np.asarray(array, dtype.numpy), dtype)


def _moved(slot: str, move: Callable[[Node, Array], Array | None]) -> Fold:
    """An op that moves elements: numbers or symbols."""

    def fold(n: Node) -> Known | None:
        known = n.known(slot)
        assert known is not None
        moved = move(n, known.array)
        return None if moved is None else _made(moved, known.dtype)

    return fold


def _binary(numbers: Callable[[Array, Array], Array], dims: Callable[[Dim, Dim], Dim | None] | None = None) -> Fold:
    def fold(n: Node) -> Known | None:
        x, y = n.known("A"), n.known("B")
        assert x is not None
        assert y is not None
        if np.broadcast(x.array, y.array).size > LARGEST:
            return None
        if not x.symbolic and not y.symbolic:
            with np.errstate(all="ignore"):
                return _made(numbers(x.array, y.array), x.dtype)
        if dims is None:
            return None
        try:
            found = [dims(_dim(p), _dim(q)) for p, q in np.broadcast(x.array, y.array)]
        except ValueError:
            return None
        if any(d is None for d in found):
            return None
        out = np.empty(len(found), object)
        out[:] = found
        return Known.dims(out.reshape(np.broadcast(x.array, y.array).shape), x.dtype)

    return fold


def _dim(x: Any) -> Dim:
    return x if isinstance(x, Sym) else int(x)


def _quotient(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return x / y
    if not np.all(y):
        raise ValueError("an integer is divided by 0")
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))


def _difference(x: Dim, y: Dim) -> Dim | None:
    if x == y:
        return 0
    if isinstance(x, Sym) and isinstance(y, Sym) and x.name == y.name:
        return Sym(x.name, x.scale - y.scale) if x.scale > y.scale else None
    return x if y == 0 else None


def _concat(n: Node) -> Known | None:
    parts = n.all_known("inputs")
    assert parts
    if sum(part.array.size for part in parts) > LARGEST:
        return None
    arrays = [part.array.astype(object) if any(p.symbolic for p in parts) else part.array for part in parts]
    return _made(np.concatenate(arrays, n.axis(n.attr("axis", 1), arrays[0].ndim)), parts[0].dtype)


def _gather(n: Node, x: Array) -> Array | None:
    index = n.numbers("indices")
    axis = n.axis(n.attr("axis"), x.ndim)
    if np.any(index < -x.shape[axis]) or np.any(index >= x.shape[axis]):
        raise ValueError(f"an index lies outside of axis {axis} of extent {x.shape[axis]}")
    return np.take(x, index, axis) if x.size // max(x.shape[axis], 1) * index.size <= LARGEST else None


def _expanded(n: Node) -> Known | None:
    known, shape = n.known("input"), n.dims("shape")
    assert known is not None
    if any(isinstance(d, Sym) for d in shape):
        return None
    whole = np.broadcast_shapes(known.shape, tuple(d for d in shape if isinstance(d, int)))
    return _made(np.broadcast_to(known.array, whole), known.dtype) if math.prod(whole) <= LARGEST else None


def _reshaped(n: Node, x: Array) -> Array:
    shape = n.attr("shape") if n.version < 5 else n.ints("shape")
    return x.reshape([x.shape[i] if d == 0 and not n.attr("allowzero", 0) else d for i, d in enumerate(shape)])


def _remainder(x: Dim, y: Dim) -> Dim | None:
    if isinstance(x, int) and isinstance(y, int) and y:
        return x % y
    return 0 if dim_div(x, y) is not None else None


def _mod(n: Node) -> Known | Sequence[Known] | None:
    return _binary(np.fmod if n.attr("fmod") else np.mod, _remainder)(n)


def _sliced(n: Node) -> Known | None:
    known = n.known("data")
    assert known is not None
    x = known.array
    for axis, start, end, step in slices(n, x.ndim):
        if isinstance(start, Sym) or isinstance(end, Sym):
            return None
        x = x[(*(slice(None),) * axis, _span(start, end, step, x.shape[axis]))]
    return _made(x, known.dtype)


def _span(start: int, end: int, step: int, extent: int) -> slice:
    """Backwards, an end before the front is the front."""
    return slice(start, None if step < 0 and end < -extent else end, step)


def _unsqueezed(n: Node, x: Array) -> Array:
    axes = n.attr("axes") if n.version < 13 else n.ints("axes")
    return np.expand_dims(x, n.axes(axes, x.ndim + len(axes)))


def _squeezed(n: Node, x: Array) -> Array:
    axes = n.attr("axes") if n.version < 13 else (n.ints("axes") if n.has("axes") else None)
    return np.squeeze(x, None if axes is None else n.axes(axes, x.ndim))


def _cast(n: Node) -> Known | None:
    known, to = n.known("input"), n.dtype("to")
    assert known is not None
    assert to is not None
    if known.symbolic:
        return Known(known.array, to) if to.is_integer else None
    with np.errstate(all="ignore"):
        return _made(known.array.astype(to.numpy), to)


def _compared(holds: Callable[[Dim, Dim], bool | None], *, swap: bool = False) -> Fold:
    """A comparison of extents, as far as it holds for every batch."""

    def fold(n: Node) -> Known | None:
        x, y = (n.known(slot) for slot in (("B", "A") if swap else ("A", "B")))
        assert x is not None
        assert y is not None
        if not x.symbolic and not y.symbolic:
            return None
        pairs = np.broadcast(x.array, y.array)
        found = [holds(_dim(p), _dim(q)) for p, q in pairs]
        return None if None in found else Known(np.array(found, bool).reshape(pairs.shape), DType.BOOL)

    return fold


def _same(x: Dim, y: Dim) -> bool | None:
    """Whether extents are equal: none is negative, and None where it depends on the batch."""
    if x == y or (isinstance(x, int) and isinstance(y, int)):
        return x == y
    return False if any(isinstance(d, int) and d < 0 for d in (x, y)) else None


def _less(x: Dim, y: Dim) -> bool | None:
    if isinstance(x, int) and isinstance(y, int):
        return x < y
    if isinstance(x, int):
        return True if x < 0 else None
    return False if x == y or (isinstance(y, int) and y <= 0) else None


def _less_or_equal(x: Dim, y: Dim) -> bool | None:
    other = _less(y, x)
    return None if other is None else not other


def _where(n: Node) -> Known | None:
    condition, x, y = n.known("condition"), n.known("X"), n.known("Y")
    assert condition is not None
    assert x is not None
    assert y is not None
    if np.broadcast(condition.array, x.array, y.array).size > LARGEST:
        return None
    return _made(np.where(condition.array, x.array, y.array), x.dtype)


FOLDS: Folds = {
    "Add": _binary(operator.add, dim_add),
    "Sub": _binary(operator.sub, _difference),
    "Mul": _binary(operator.mul, dim_mul),
    "Div": _binary(_quotient, dim_div),
    "Cast": _cast,
    "Concat": _concat,
    "Equal": _compared(_same),
    "Expand": _expanded,
    "Gather": _moved("data", _gather),
    "Greater": _compared(_less, swap=True),
    "GreaterOrEqual": _compared(_less_or_equal, swap=True),
    "Identity": _moved("input", lambda n, x: x),
    "Less": _compared(_less),
    "LessOrEqual": _compared(_less_or_equal),
    "Mod": _mod,
    "Reshape": _moved("data", _reshaped),
    "Slice": _sliced,
    "Squeeze": _moved("data", _squeezed),
    "Unsqueeze": _moved("data", _unsqueezed),
    "Where": _where,
}
