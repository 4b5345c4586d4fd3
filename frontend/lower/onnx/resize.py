"""Images of other sizes: every axis by itself, as a choice of places or as a matrix of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim
from .node import OPEN_EXTENTS, Node, NodeRules

Array = NDArray[Any]


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized: ``out`` elements at places ``at`` (a real number each) of ``size`` elements."""

    number: int
    size: int
    out: int
    scale: float
    at: Array


def _resize(n: Node) -> Value:
    x = n.x("X")
    axes = [n.axis(axis, x.tensor.rank) for axis in n.attr("axes") or range(x.tensor.rank)]
    roi = n.numbers("roi", np.zeros(0)).astype(np.float64)
    if roi.size == 0:
        roi = np.repeat([0.0, 1.0], len(axes))
    sizes: list[Dim] = n.dims("sizes") if n.has("sizes") else []
    scales = [] if sizes else n.numbers("scales").reshape(-1).astype(np.float64).tolist()
    if len(sizes or scales) != len(axes) or len(roi) != 2 * len(axes):
        raise n.error(f"{len(sizes or scales)} scales or sizes of {len(axes)} axes", "there is one per axis")
    coordinates = n.attr("coordinate_transformation_mode", "asymmetric")
    crops = coordinates == "tf_crop_and_resize"
    if sizes:
        sizes, scales = _scales(n, x, axes, sizes)
    outside: list[tuple[int, Array]] = []
    for i, axis in enumerate(axes):
        if not crops and scales[i] == 1 and (not sizes or sizes[i] == x.tensor.shape[axis]):
            continue  # also where the extent is open
        size = n.fixed(x, axis)
        start, end = roi[i], roi[len(axes) + i]
        exact = size * (end - start if crops else 1.0) * scales[i]
        out = n.within("elements of a resized axis", _whole(sizes[i]) if sizes else float(np.floor(exact)))
        n.within("weights of a resized axis", out * size)
        n.within("elements that one is made of", size / max(out, 1), 1 << 12)
        places = _places(n, coordinates, np.arange(out, dtype=np.float64), size, out, scales[i], exact, start, end)
        found = _Axis(axis, size, out, scales[i], places)
        if crops:
            outside.append((axis, (places < 0) | (places > size - 1)))
        x = _resized(n, x, found)
    for axis, mask in outside:
        if mask.any():
            shape = [1] * x.tensor.rank
            shape[axis] = len(mask)
            away = n.array(mask.reshape(shape), f"outside{axis}")
            x = n.b.where(away, n.number(x.tensor.dtype, n.attr("extrapolation_value")), x)
    return x


def _whole(size: Dim) -> int:
    assert isinstance(size, int)
    return size


def _scales(n: Node, x: Value, axes: Sequence[int], sizes: list[Dim]) -> tuple[list[Dim], list[float]]:
    """The sizes of the result, which may have to keep the proportions, and how often the extents they are."""
    policy = n.attr("keep_aspect_ratio_policy", "stretch")
    ratios: list[float] = []
    for axis, size in zip(axes, sizes, strict=True):
        if policy == "stretch" and size == x.tensor.shape[axis]:
            ratios.append(1.0)
            continue
        if not isinstance(size, int):
            raise n.error(f"axis {axis} of {x.type} gets the size {size}", OPEN_EXTENTS)
        ratios.append(size / n.fixed(x, axis))
    if policy == "stretch":
        return sizes, ratios
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(np.floor(ratio * n.fixed(x, axis) + 0.5)) for axis in axes], [ratio] * len(axes)


def _places(
    n: Node, mode: str, i: Array, size: int, out: int, scale: float, exact: float, start: float, end: float
) -> Array:
    """Where in the axis the elements of the result are."""
    match mode:
        case "half_pixel":
            return (i + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            return size / 2 * (1 - out / exact) + (i + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if out > 1 else np.zeros_like(i)
        case "align_corners":
            return i * ((size - 1) / (out - 1)) if out > 1 else np.zeros_like(i)
        case "asymmetric":
            return i / scale
        case "tf_half_pixel_for_nn":
            return (i + 0.5) / scale
        case "tf_crop_and_resize":
            if out > 1:
                return start * (size - 1) + i * ((end - start) * (size - 1) / (out - 1))
            return np.full_like(i, 0.5 * (start + end) * (size - 1))
        case _:
            raise n.error(f"coordinate_transformation_mode {mode!r}", "export with half_pixel or asymmetric")


def _resized(n: Node, x: Value, axis: _Axis) -> Value:
    mode = n.attr("mode")
    if mode == "nearest":
        places = np.clip(_nearest(n, axis.at), 0, axis.size - 1).astype(np.int64)
        return n.b.gather(x, n.array(places, f"places{axis.number}"), axis.number)
    if not x.tensor.dtype.is_float:
        raise n.error(f"{mode} interpolation of {x.type}", "cast to float32")
    stretch = min(axis.scale, 1.0) if n.attr("antialias", 0) else 1.0
    if mode == "linear":
        weights = _weights(axis, stretch, 1, _triangle, bool(n.attr("exclude_outside", 0)))
    elif mode == "cubic":
        a: float = n.attr("cubic_coeff_a")
        weights = _weights(axis, stretch, 2, lambda d: _cubic(d, a), bool(n.attr("exclude_outside", 0)))
    else:
        raise n.error(f"the mode {mode!r}", "export with nearest, linear or cubic")
    rank = x.tensor.rank
    order = [i for i in range(rank) if i != axis.number] + [axis.number]
    matrix = n.array(weights.T.astype(x.tensor.dtype.numpy), f"weights{axis.number}")
    moved = n.b.transpose(x, order)
    rows = moved if rank > 1 else n.b.reshape(moved, (1, axis.size))
    out = n.b.matmul(rows, matrix)
    return n.b.transpose(out, np.argsort(order).tolist()) if rank > 1 else n.b.reshape(out, (axis.out,))


def _nearest(n: Node, at: Array) -> Array:
    match n.attr("nearest_mode", "floor"):
        case "round_prefer_floor":
            return np.ceil(at - 0.5)
        case "round_prefer_ceil":
            return np.floor(at + 0.5)
        case "floor":
            return np.floor(at)
        case "ceil":
            return np.ceil(at)
        case other:
            raise n.error(f"nearest_mode {other!r}", "export with round_prefer_floor or floor")


def _triangle(distance: Array) -> Array:
    return np.maximum(1.0 - np.abs(distance), 0.0)


def _cubic(distance: Array, a: float) -> Array:
    """Keys' kernel (IEEE ASSP 29, 1981)."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((d - 5) * d + 8) * d * a - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _weights(axis: _Axis, stretch: float, reach: int, kernel: Callable[[Array], Array], excludes: bool) -> Array:
    """The weights [out, size] of a kernel that reaches ``reach / stretch`` to both sides.

    Beyond its ends the axis goes on with its last element, or has none where that is excluded.
    """
    span = int(np.ceil(reach / stretch))
    base = np.floor(axis.at).astype(np.int64)
    found = np.zeros((axis.out, axis.size))
    rows = np.arange(axis.out)
    taken = np.zeros(axis.out)
    for offset in range(-span, span + 2):
        place = base + offset
        weight = kernel((place - axis.at) * stretch)
        if excludes:
            weight = np.where((place < 0) | (place >= axis.size), 0.0, weight)
        np.add.at(found, (rows, np.clip(place, 0, axis.size - 1)), weight)
        taken += weight
    return found / taken[:, None] if excludes or stretch < 1 else found


def _upsample(n: Node) -> Value:
    x = n.x("X")
    scales: Sequence[float] = n.attr("scales") if n.version < 9 else n.numbers("scales").reshape(-1).tolist()
    if len(scales) != x.tensor.rank:
        raise n.error(f"{len(scales)} scales of {x.type}", "there is one per axis")
    for number, scale in enumerate(scales):
        if scale == 1:
            continue
        size = n.fixed(x, number)
        out = n.within("elements of a resized axis", float(np.floor(size * scale)))
        n.within("weights of a resized axis", out * size)
        n.within("elements that one is made of", size / max(out, 1), 1 << 12)
        x = _resized(n, x, _Axis(number, size, out, scale, np.arange(out) / scale))
    return x


RULES: NodeRules = {"Resize": _resize, "Upsample": _upsample}
