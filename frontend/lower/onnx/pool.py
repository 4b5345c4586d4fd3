"""Pooling over any number of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType, numel
from ....compiler.ops.pool import AvgPool2d, MaxPool2d
from .conv import both, image, sides
from .node import Node, NodeRules, Results
from .windows import Windows, windows


def _windows(n: Node, x: Value) -> Windows:
    return windows(n, x, n.attr("kernel_shape"), ceil=bool(n.attr("ceil_mode", 0)))


def _is_plain(x: Value, w: Windows) -> bool:
    """Whether the IR's pooling of images does it: dense windows, each with an element of the image."""
    dense = x.tensor.dtype.is_float and x.tensor.rank in (3, 4) and max(w.dilations) == 1
    starts = [(count - 1) * stride - low for count, stride, low in zip(w.counts, w.strides, w.low, strict=True)]
    inside = all(start < size for start, size in zip(starts, w.sizes, strict=True))
    return dense and inside and all(low < kernel for low, kernel in zip(w.low, w.kernel, strict=True))


def _taps(n: Node, x: Value, w: Windows, axis: int) -> list[Value]:
    """What every place of a window sees along one axis of a padded tensor; the axis has an extent per window then."""
    stop = (w.counts[axis] - 1) * w.strides[axis] + 1
    starts = [k * w.dilations[axis] for k in range(w.kernel[axis])]
    return [n.b.slice(x, axis + 2, start, start + stop, w.strides[axis]) for start in starts]


def _padded(n: Node, x: Value, w: Windows, value: float) -> Value:
    return n.b.pad(x, [0, 0, *w.low], [0, 0, *w.ends], value)


def _combined(n: Node, x: Value, w: Windows, combine: Callable[[Value, Value], Value]) -> Value:
    """Windows of a padded tensor, axis by axis."""
    for axis in range(len(w.kernel)):
        x = reduce(combine, _taps(n, x, w, axis))
    return x


# Maximum ----------------------------------------------------------------------------------------------------


def _max_pool(n: Node) -> Results:
    x = n.x("X")
    w = _windows(n, x)
    if n.wants("Indices"):
        return _max_with_places(n, x, w)
    if _is_plain(x, w):
        y = n.b(MaxPool2d(image(n, x), kernel=both(w.kernel, 1), strides=both(w.strides, 1), pads=sides(w.low, w.ends)))
        return n.b.reshape(y, (*x.tensor.shape[:2], *w.counts))
    return _combined(n, _padded(n, x, w, n.least(x.tensor.dtype)), w, n.b.maximum)


def _max_with_places(n: Node, x: Value, w: Windows) -> Sequence[Value]:
    """Also where in the whole tensor the largest elements are: the first of equal ones."""
    b, shape = n.b, x.tensor.shape
    inner = list(range(2, x.tensor.rank))
    if n.attr("storage_order"):
        # Column major: axes count from the last one on.
        swapped = (*shape[:2], *reversed(shape[2:]))
        places = b.reshape(b.iota((numel(shape),), 0, DType.I64), swapped)
        places = b.transpose(places, [0, 1, *reversed(inner)])
    else:
        places = b.reshape(b.iota((numel(shape),), 0, DType.I64), shape)
    best, where = _padded(n, x, w, n.least(x.tensor.dtype)), _padded(n, places, w, -1)
    for axis in range(len(w.kernel)):
        (best, *values), (where, *others) = _taps(n, best, w, axis), _taps(n, where, w, axis)
        for value, place in zip(values, others, strict=True):
            earlier = b.logical_and(b.equal(best, value), b.less(place, where))
            taken = b.logical_or(b.less(best, value), earlier)
            best, where = b.where(taken, value, best), b.where(taken, place, where)
    return best, where


# Sums -------------------------------------------------------------------------------------------------------


def _average_pool(n: Node) -> Value:
    x = n.x("X")
    w = _windows(n, x)
    padded = bool(n.attr("count_include_pad"))
    beyond = [end > high for end, high in zip(w.ends, w.high, strict=True)]
    if _is_plain(x, w) and not (padded and any(beyond)):
        y = n.b(
            AvgPool2d(
                image(n, x),
                kernel=both(w.kernel, 1),
                strides=both(w.strides, 1),
                pads=sides(w.low, w.ends),
                exclusive=not padded,
            )
        )
        return n.b.reshape(y, (*x.tensor.shape[:2], *w.counts))
    total = _combined(n, _padded(n, x, w, 0.0), w, n.b.add)
    return n.b.div(total, n.array(_counts(w, padded).astype(x.tensor.dtype.numpy), "counts"))


def _counts(w: Windows, padded: bool) -> np.ndarray:
    """How many elements are in every window, the padding that the model asks for among them or not."""
    found = np.ones(())
    for axis, count in enumerate(w.counts):
        low, high = (w.low[axis], w.high[axis]) if padded else (0, 0)
        starts = np.arange(count) * w.strides[axis] - w.low[axis]
        places = starts[:, None] + np.arange(w.kernel[axis]) * w.dilations[axis]
        inside = (places >= -low) & (places < w.sizes[axis] + high)
        found = found[..., None] * inside.sum(axis=1)
    return found


def _lp_pool(n: Node) -> Value:
    x = n.x("X")
    w = _windows(n, x)
    return _root(n, _combined(n, _padded(n, _power(n, x), w, 0.0), w, n.b.add))


def _power(n: Node, x: Value) -> Value:
    """``|x| ** p``."""
    p = n.attr("p")
    if p == 2:
        return n.b.square(x)
    return n.b.abs(x) if p == 1 else n.b.pow(n.b.abs(x), n.number(x.tensor.dtype, p))


def _root(n: Node, total: Value) -> Value:
    p = n.attr("p")
    if p == 0:
        raise n.error("p is 0", "a norm has a p of at least 1")
    if p == 2:
        return n.b.sqrt(total)
    return total if p == 1 else n.b.pow(total, n.number(total.tensor.dtype, 1 / p))


# Whole images -----------------------------------------------------------------------------------------------


def _inner(x: Value) -> tuple[int, ...]:
    return tuple(range(2, x.tensor.rank))


def _global_average(n: Node) -> Value:
    x = n.x("X")
    return n.b.reduce_mean(x, _inner(x), keepdims=True)


def _global_max(n: Node) -> Value:
    x = n.x("X")
    return n.b.reduce_max(x, _inner(x), keepdims=True)


def _global_lp(n: Node) -> Value:
    x = n.x("X")
    return _root(n, n.b.reduce_sum(_power(n, x), _inner(x), keepdims=True))


RULES: NodeRules = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "GlobalLpPool": _global_lp,
}
