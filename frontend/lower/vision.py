"""Layers that rearrange, pad, resize or normalise images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, dim_div, dim_mul, numel
from .context import OpLowering, Rules
from .conv import channels_first, pair, spatial
from .creation import array


def _pad2d(o: OpLowering) -> None:
    x, formatted = channels_first(o)
    top, bottom, left, right = o.attr("paddings", [0, 0, 0, 0])
    mode = o.attr("mode", "constant")
    if mode == "constant":
        o.set(formatted(o.b.pad(x, (0, 0, top, left), (0, 0, bottom, right), o.attr("pad_value", 0.0))))
        return
    for axis, before, after in ((2, top, bottom), (3, left, right)):
        x = _reflected(o, x, axis, before, after) if mode == "reflect" else _edged(o, x, axis, before, after)
    o.set(formatted(x))


def _reflected(o: OpLowering, x: Value, axis: int, before: int, after: int) -> Value:
    size = spatial(o, x)[axis - 2]
    parts = [x]
    if before:
        parts.insert(0, o.b.reverse(o.b.slice(x, axis, 1, 1 + before), (axis,)))
    if after:
        parts.append(o.b.reverse(o.b.slice(x, axis, size - 1 - after, size - 1), (axis,)))
    return o.b.concat(parts, axis)


def _edged(o: OpLowering, x: Value, axis: int, before: int, after: int) -> Value:
    size = spatial(o, x)[axis - 2]
    parts = [x]
    for at, count, place in ((0, before, 0), (size - 1, after, len(parts) + 1)):
        if count:
            shape = list(x.tensor.shape)
            shape[axis] = count
            parts.insert(place, o.b.broadcast(o.b.slice(x, axis, at, at + 1), tuple(shape)))
    return o.b.concat(parts, axis)


def _lrn(o: OpLowering) -> None:
    x, formatted = channels_first(o)
    n, channels = o.attr("n", 5), x.tensor.shape[1]
    half = n // 2
    wide = o.b.pad(o.b.square(x), (0, half, 0, 0), (0, half, 0, 0))
    assert isinstance(channels, int)
    total = o.b.slice(wide, 1, 0, channels)
    for i in range(1, n):
        total = o.b.add(total, o.b.slice(wide, 1, i, i + channels))
    middle = o.b.scale(total, o.attr("alpha", 1e-4), o.attr("k", 2.0))
    power = o.b.pow(middle, o.b.fill((), x.tensor.dtype, -o.attr("beta", 0.75)))
    o.set(formatted(o.b.mul(x, power)))


def _maxout(o: OpLowering) -> None:
    x, groups = o.x(), o.attr("groups")
    (axis,) = o.axes(x, [o.attr("axis", 1)])
    shape = x.tensor.shape
    channels = shape[axis]
    assert isinstance(channels, int)
    grouped = o.b.reshape(x, (*shape[:axis], channels // groups, groups, *shape[axis + 1 :]))
    o.set(o.b.reduce_max(grouped, (axis + 1,)))


def _pixel_shuffle(o: OpLowering) -> None:
    x, formatted = channels_first(o)
    r = o.attr("upscale_factor", 1)
    n, c, h, w = x.tensor.shape
    out = dim_div(c, r * r)
    assert out is not None
    apart = o.b.transpose(o.b.reshape(x, (n, out, r, r, h, w)), (0, 1, 4, 2, 5, 3))
    o.set(formatted(o.b.reshape(apart, (n, out, dim_mul(h, r), dim_mul(w, r)))))


def _shuffle_channel(o: OpLowering) -> None:
    x, group = o.x(), o.attr("group", 1)
    n, c, *rest = x.tensor.shape
    assert isinstance(c, int)
    apart = o.b.reshape(x, (n, group, c // group, *rest))
    o.set(o.b.reshape(o.b.transpose(apart, (0, 2, 1, *range(3, 3 + len(rest)))), x.tensor.shape))


def _space_to_depth(o: OpLowering) -> None:
    """Darknet's order: channels become pixels of ``C / (b b)`` larger images, whose elements are then read in order."""
    x, b = o.x(), o.attr("blocksize")
    n, c, *_ = x.tensor.shape
    h, w = spatial(o, x)
    assert isinstance(c, int)
    apart = o.b.reshape(x, (n, b, b, c // (b * b), h, w))
    o.set(o.b.reshape(o.b.transpose(apart, (0, 3, 4, 1, 5, 2)), (n, c * b * b, h // b, w // b)))


def _unfold(o: OpLowering) -> None:
    x = o.x()
    n, c, *_ = x.tensor.shape
    kernel, strides, dilations = (pair(o.attr(name)) for name in ("kernel_sizes", "strides", "dilations"))
    top, left, bottom, right = o.attr("paddings")
    wide = o.b.pad(x, (0, 0, top, left), (0, 0, bottom, right))
    together, counts = patches(o, wide, kernel, strides, dilations)
    o.set(o.b.reshape(together, (n, dim_mul(c, numel(kernel)), numel(counts))), "Y")


def patches(
    o: OpLowering, wide: Value, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[Value, list[int]]:
    """What a window sees at each of its places, [N, C, places of the window, places], and how many down and right."""
    n, c, *_ = wide.tensor.shape
    counts = [
        (size - dilation * (k - 1) - 1) // stride + 1
        for size, k, stride, dilation in zip(spatial(o, wide), kernel, strides, dilations)
    ]
    taps: list[Value] = []
    for place in np.ndindex(*kernel):
        seen = wide
        for axis, at in enumerate(place):
            first = at * dilations[axis]
            last = first + (counts[axis] - 1) * strides[axis] + 1
            seen = o.b.slice(seen, axis + 2, first, last, strides[axis])
        taps.append(o.b.reshape(seen, (n, c, 1, numel(counts))))
    return o.b.concat(taps, 2), counts


def _affine_channel(o: OpLowering) -> None:
    x, formatted = channels_first(o)
    column = (x.tensor.shape[1], *(1,) * (x.tensor.rank - 2))
    scale, bias = (o.b.reshape(o.x(slot), column) for slot in ("Scale", "Bias"))
    o.set(formatted(o.b.add(o.b.mul(x, scale), bias)))


def _temporal_shift(o: OpLowering) -> None:
    x, steps = o.x(), o.attr("seg_num")
    images, c, h, w = x.tensor.shape
    clips = dim_div(images, steps)
    if clips is None or not isinstance(c, int):
        raise o.error(f"{x.type} does not divide into clips of {steps} images", "give the number of images of a clip")
    clip = o.b.reshape(x, (clips, steps, c, h, w))
    one = int(c * o.attr("shift_ratio", 0.25))
    two = int(c * 2 * o.attr("shift_ratio", 0.25))
    before, after, rest = (
        o.b.slice(clip, 2, start, stop) for start, stop in ((0, one), (one, two), (two, c)) if start < stop
    )
    before = o.b.pad(o.b.slice(before, 1, 0, steps - 1), (0, 1, 0, 0, 0), (0, 0, 0, 0, 0))
    after = o.b.pad(o.b.slice(after, 1, 1, steps), (0, 0, 0, 0, 0), (0, 1, 0, 0, 0))
    o.set(o.b.reshape(o.b.concat([before, after, rest], 2), x.tensor.shape))


# Other sizes -------------------------------------------------------------------------------------------------


def _resize(o: OpLowering) -> None:
    x, formatted = channels_first(o)
    if any(o.has(slot) for slot in ("OutSize", "SizeTensor", "Scale")):
        raise o.error("the size is a Variable", "give numbers known when the program is built")
    size = [o.attr("out_h", -1), o.attr("out_w", -1)]
    given = o.attr("scale", 0.0)  # one factor for both axes, in newer models one each
    scales: Sequence[float] = [given, given] if isinstance(given, int | float) else given
    if scales and min(scales) > 0:
        size = [int(extent * factor) for extent, factor in zip(spatial(o, x), scales, strict=True)]
    for axis, out in enumerate(size):
        x = _nearest(o, x, axis + 2, out) if o.op.type.startswith("nearest") else _bilinear(o, x, axis + 2, out)
    o.set(formatted(x))


def _ratio(o: OpLowering, size: int, out: int) -> np.float32:
    """How far two neighbouring results lie apart in the image."""
    if out == 1:
        return np.float32(0)
    corners = o.attr("align_corners", True)
    return np.float32(size - 1) / np.float32(out - 1) if corners else np.float32(size) / np.float32(out)


def _nearest(o: OpLowering, x: Value, axis: int, out: int) -> Value:
    size = spatial(o, x)[axis - 2]
    places = np.arange(out, dtype=np.float32) * _ratio(o, size, out)
    places = np.minimum(places + np.float32(0.5) if o.attr("align_corners", True) else places, size - 1).astype(
        np.int64
    )
    if out % size == 0 and np.array_equal(places, np.arange(out) // (out // size)):
        # Every pixel as often: copies, without an index.
        repeats = out // size
        shape: list[Dim] = list(x.tensor.shape)
        shape.insert(axis + 1, 1)
        column = o.b.reshape(x, tuple(shape))
        shape[axis + 1] = repeats
        return o.b.reshape(o.b.broadcast(column, tuple(shape)), (*shape[:axis], out, *shape[axis + 2 :]))
    return o.b.gather(x, array(o, places), axis)


def _bilinear(o: OpLowering, x: Value, axis: int, out: int) -> Value:
    matrix = interpolation(o, spatial(o, x)[axis - 2], out, x.tensor.dtype)
    if matrix is None:
        return x
    if axis == 3:
        return o.b.matmul(x, matrix)
    moved = o.b.transpose(x, (0, 1, 3, 2))
    return o.b.transpose(o.b.matmul(moved, matrix), (0, 1, 3, 2))


def interpolation(o: OpLowering, size: int, out: int, dtype: DType) -> Value | None:
    """``[size, out]``: what linear interpolation along an axis multiplies it by; None if that changes nothing."""
    ratio = _ratio(o, size, out)
    i = np.arange(out, dtype=np.float32)
    centred = o.attr("align_mode", 1) == 0 and not o.attr("align_corners", True)
    places = np.maximum(ratio * (i + np.float32(0.5)) - np.float32(0.5), 0) if centred else ratio * i
    if out == size and np.array_equal(places, i):
        return None
    return array(o, _weights(places, size).astype(dtype.numpy))


def _weights(places: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """``[size, places]``: what each element adds to the value at each place between two of them."""
    low = np.minimum(places.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    share = places - low.astype(np.float32)
    weights = np.zeros((size, len(places)), np.float32)
    columns = np.arange(len(places))
    np.add.at(weights, (low, columns), 1 - share)
    np.add.at(weights, (high, columns), share)
    return weights


RULES: Rules = {
    "pad2d": _pad2d,
    "lrn": _lrn,
    "maxout": _maxout,
    "pixel_shuffle": _pixel_shuffle,
    "shuffle_channel": _shuffle_channel,
    "space_to_depth": _space_to_depth,
    "unfold": _unfold,
    "affine_channel": _affine_channel,
    "temporal_shift": _temporal_shift,
    "nearest_interp": _resize,
    "bilinear_interp": _resize,
}
