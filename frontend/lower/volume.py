"""Convolution, pooling and interpolation of volumes, by those of their slices."""

from __future__ import annotations

from collections.abc import Callable

from ...compiler.ir.core import Value
from ...compiler.ir.types import dim_mul
from ...compiler.ops import conv, pool
from ..shapes import conv_extent, pool_extent, spatial_pads
from .context import OpLowering, Rules
from .vision import interpolation

Three = tuple[int, int, int]


def _channels_first(o: OpLowering, slot: str) -> tuple[Value, Callable[[Value], Value]]:
    """The volumes with channels on axis 1, and what gives a result the record's format."""
    x = o.x(slot)
    if o.attr("data_format", o.attr("data_layout", "NCDHW")) != "NDHWC":
        return x, lambda y: y
    return o.b.transpose(x, (0, 4, 1, 2, 3)), lambda y: o.b.transpose(y, (0, 2, 3, 4, 1))


def _extents(o: OpLowering, x: Value) -> Three:
    depth, height, width = x.tensor.shape[2:]
    if not isinstance(depth, int) or not isinstance(height, int) or not isinstance(width, int):
        raise o.error(f"the size of {x.type} is open", "declare volumes with fixed depth, height and width")
    return depth, height, width


def _channels(x: Value) -> int:
    channels = x.tensor.shape[1]
    assert isinstance(channels, int)
    return channels


def _slices(o: OpLowering, x: Value) -> Value:
    """Volumes [N, C, D, H, W] as images [N D, C, H, W]."""
    n, channels, depth, height, width = x.tensor.shape
    apart = o.b.transpose(x, (0, 2, 1, 3, 4))
    return o.b.reshape(apart, (dim_mul(n, depth), channels, height, width))


def _together(o: OpLowering, images: Value, depth: int, like: Value) -> Value:
    """Images [N D, C, H, W] as volumes; ``like`` has the volumes' N."""
    _, channels, height, width = images.tensor.shape
    apart = o.b.reshape(images, (like.tensor.shape[0], depth, channels, height, width))
    return o.b.transpose(apart, (0, 2, 1, 3, 4))


def _pads(o: OpLowering, x: Value, kernel: Three, strides: list[int]) -> list[tuple[int, int]]:
    algorithm = o.attr("padding_algorithm", "EXPLICIT")
    return spatial_pads(o.attr("paddings", [0, 0, 0]), algorithm, _extents(o, x), kernel, strides)


def _dilations(o: OpLowering) -> list[int]:
    same = o.attr("padding_algorithm", "EXPLICIT") == "SAME"
    return [1, 1, 1] if same else list(o.attr("dilations", [1, 1, 1]))


def _conv3d(o: OpLowering) -> None:
    """One convolution of images, whose channels are those of all slices under the window."""
    x, formatted = _channels_first(o, "Input")
    w, strides, dilations, groups = o.x("Filter"), list(o.attr("strides")), _dilations(o), o.attr("groups", 1)
    kernel = _extents(o, w)
    (front, back), (top, bottom), (left, right) = _pads(o, x, kernel, strides)
    n, channels, (depth, height, width) = x.tensor.shape[0], _channels(x), _extents(o, x)
    out_depth = conv_extent(depth, kernel[0], strides[0], (front, back), dilations[0])
    padded = o.b.pad(x, (0, 0, front, 0, 0), (0, 0, back, 0, 0))
    windows = []
    for k in range(kernel[0]):
        start = k * dilations[0]
        part = o.b.slice(padded, 2, start, start + (out_depth - 1) * strides[0] + 1, strides[0])
        windows.append(o.b.reshape(part, (n, groups, channels // groups, out_depth, height, width)))
    stacked = o.b.transpose(o.b.concat(windows, 2), (0, 3, 1, 2, 4, 5))
    images = o.b.reshape(stacked, (dim_mul(n, out_depth), channels * kernel[0], height, width))
    filters, inner = w.tensor.shape[:2]
    assert isinstance(inner, int)
    weight = o.b.reshape(o.b.transpose(w, (0, 2, 1, 3, 4)), (filters, kernel[0] * inner, kernel[1], kernel[2]))
    found = o.b(
        conv.Conv2d(
            x=images,
            w=weight,
            strides=(strides[1], strides[2]),
            pads=(top, left, bottom, right),
            dilations=(dilations[1], dilations[2]),
            groups=groups,
        )
    )
    o.set(formatted(_together(o, found, out_depth, x)), "Output")


def _conv3d_transpose(o: OpLowering) -> None:
    """The sum over the slices of the filter, each with its results shifted along the depth."""
    x, formatted = _channels_first(o, "Input")
    w, strides, dilations, groups = o.x("Filter"), list(o.attr("strides")), _dilations(o), o.attr("groups", 1)
    kernel = _extents(o, w)
    (front, back), (top, bottom), (left, right) = _pads(o, x, kernel, strides)
    depth, *extents = _extents(o, x)
    images = _slices(o, x)
    channels = w.tensor.shape[1]
    assert isinstance(channels, int)
    sizes = [
        (extent - 1) * s - sum(p) + d * (k - 1) + 1
        for extent, s, p, d, k in zip(extents, strides[1:], ((top, bottom), (left, right)), dilations[1:], kernel[1:])
    ]
    total: Value | None = None
    for k in range(kernel[0]):
        weight = o.b.reshape(o.b.slice(w, 2, k, k + 1), (*w.tensor.shape[:2], kernel[1], kernel[2]))
        image_grad = conv.Conv2dInputGrad(
            weight,
            images,
            (images.tensor.shape[0], channels * groups, sizes[0], sizes[1]),
            strides=(strides[1], strides[2]),
            pads=(top, left, bottom, right),
            dilations=(dilations[1], dilations[2]),
            groups=groups,
        )
        volume = _together(o, o.b(image_grad), depth, x)
        low, high = k * dilations[0], (kernel[0] - 1 - k) * dilations[0]
        spread = o.b.pad(volume, (0, 0, low, 0, 0), (0, 0, high, 0, 0), interior=(0, 0, strides[0] - 1, 0, 0))
        total = spread if total is None else o.b.add(total, spread)
    assert total is not None
    extent = total.tensor.shape[2]
    assert isinstance(extent, int)
    o.set(formatted(o.b.slice(total, 2, front, extent - back)), "Output")


def _pool3d(o: OpLowering) -> None:
    """Windows of the slices, then of their results along the depth."""
    x, formatted = _channels_first(o, "X")
    largest = o.op.type.startswith("max") or o.attr("pooling_type", "max") == "max"
    if o.attr("global_pooling", False):
        o.set(formatted((o.b.reduce_max if largest else o.b.reduce_mean)(x, (2, 3, 4), keepdims=True)))
        return
    if o.attr("adaptive", False):
        o.set(formatted(_adaptive(o, x, largest)))
        return
    kernel, strides = (
        (int(o.attr("ksize")[0]), int(o.attr("ksize")[1]), int(o.attr("ksize")[2])),
        list(o.attr("strides")),
    )
    (front, back), (top, bottom), (left, right) = _pads(o, x, kernel, strides)
    ceil_mode, exclusive = bool(o.attr("ceil_mode", False)), bool(o.attr("exclusive", True))
    window, steps, pads = (kernel[1], kernel[2]), (strides[1], strides[2]), (top, left, bottom, right)
    images, depth = _slices(o, x), _extents(o, x)[0]
    if largest:
        images = o.b(pool.MaxPool2d(x=images, kernel=window, strides=steps, pads=pads, ceil_mode=ceil_mode))
    else:
        mean = pool.AvgPool2d(
            x=images, kernel=window, strides=steps, pads=pads, ceil_mode=ceil_mode, exclusive=exclusive
        )
        images = o.b(mean)
    flat = _together(o, images, depth, x)
    rows = []
    for i in range(pool_extent(depth, kernel[0], strides[0], (front, back), ceil_mode)):
        start = i * strides[0] - front
        part = o.b.slice(flat, 2, max(start, 0), min(start + kernel[0], depth))
        if largest:
            rows.append(o.b.reduce_max(part, (2,), keepdims=True))
        elif exclusive:
            rows.append(o.b.reduce_mean(part, (2,), keepdims=True))
        else:
            rows.append(o.b.scale(o.b.reduce_sum(part, (2,), keepdims=True), 1.0 / kernel[0]))
    o.set(formatted(o.b.concat(rows, 2)))


def _adaptive(o: OpLowering, x: Value, largest: bool) -> Value:
    reduce = o.b.reduce_max if largest else o.b.reduce_mean
    for axis, extent, out in zip((2, 3, 4), _extents(o, x), o.attr("ksize")):
        windows = [(i * extent // out, -(-(i + 1) * extent // out)) for i in range(out)]
        x = o.b.concat([reduce(o.b.slice(x, axis, *window), (axis,), keepdims=True) for window in windows], axis)
    return x


def _trilinear(o: OpLowering) -> None:
    x, formatted = _channels_first(o, "X")
    extents = _extents(o, x)
    size = [o.attr("out_d", -1), o.attr("out_h", -1), o.attr("out_w", -1)]
    if o.attr("scale", 0.0) > 0:
        size = [int(extent * o.attr("scale")) for extent in extents]
    for axis, (extent, out) in enumerate(zip(extents, size), 2):
        matrix = interpolation(o, extent, out, x.tensor.dtype)
        if matrix is not None:
            last = [i for i in range(5) if i != axis]
            moved = o.b.transpose(x, (*last, axis))
            back = [(*last, axis).index(i) for i in range(5)]
            x = o.b.transpose(o.b.matmul(moved, matrix), back)
    o.set(formatted(x))


RULES: Rules = {
    "conv3d": _conv3d,
    "conv3d_transpose": _conv3d_transpose,
    "pool3d": _pool3d,
    "max_pool3d_with_index": _pool3d,  # of the indices nothing is computed
    "trilinear_interp": _trilinear,
}
