"""Convolution and pooling."""

from __future__ import annotations

from collections.abc import Callable

from ...compiler.ir.core import Value
from ...compiler.ops import conv, pool
from ..shapes import spatial_pads, transposed_extent
from .context import OpLowering, Rules

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


def channels_first(o: OpLowering, slot: str = "X") -> tuple[Value, Callable[[Value], Value]]:
    """The images in ``slot`` with channels on axis 1, and what gives a result the record's format."""
    x = o.x(slot)
    if o.attr("data_format", o.attr("data_layout", "NCHW")) != "NHWC":
        return x, lambda y: y
    last = x.tensor.rank - 1
    return o.b.transpose(x, (0, last, *range(1, last))), lambda y: o.b.transpose(y, (0, *range(2, last + 1), 1))


def spatial(o: OpLowering, x: Value) -> Pair:
    """Height and width of images [N, C, H, W]."""
    height, width = x.tensor.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise o.error(f"the image size of {x.type} is open", "declare images with a fixed height and width")
    return height, width


def _pads(o: OpLowering, x: Value, kernel: Pair, strides: Pair) -> Sides:
    """(top, left, bottom, right) from fluid's paddings and padding algorithm."""
    algorithm = o.attr("padding_algorithm", "EXPLICIT")
    (top, bottom), (left, right) = spatial_pads(o.attr("paddings", [0, 0]), algorithm, spatial(o, x), kernel, strides)
    return top, left, bottom, right


def pair(values: list[int]) -> Pair:
    """The two integers of an attribute."""
    first, second = values
    return first, second


def _dilations(o: OpLowering) -> Pair:
    """Those of the record; 'SAME' has none."""
    return (1, 1) if o.attr("padding_algorithm", "EXPLICIT") == "SAME" else pair(o.attr("dilations", [1, 1]))


def _conv2d(o: OpLowering) -> None:
    x, formatted = channels_first(o, "Input")
    w = o.x("Filter")
    strides = pair(o.attr("strides", [1, 1]))
    out = conv.Conv2d(
        x=x,
        w=w,
        strides=strides,
        pads=_pads(o, x, spatial(o, w), strides),
        dilations=_dilations(o),
        groups=o.attr("groups", 1),
    )
    y = o.b(out)
    if o.has("Bias"):
        y = o.b.add(y, o.b.reshape(o.x("Bias"), (w.tensor.shape[0], 1, 1)))
    o.set(formatted(y), "Output")


def _conv2d_transpose(o: OpLowering) -> None:
    x, formatted = channels_first(o, "Input")
    w = o.x("Filter")
    kernel, strides, dilations = spatial(o, w), pair(o.attr("strides", [1, 1])), _dilations(o)
    top, left, bottom, right = _pads(o, x, kernel, strides)
    least = [
        transposed_extent(extent, k, s, p, d)
        for extent, k, s, p, d in zip(spatial(o, x), kernel, strides, ((top, bottom), (left, right)), dilations)
    ]
    wanted = o.attr("output_size", []) or least
    # A larger result goes on where the padding would have cut, then with zeros that no window reaches.
    more = [size - extent for size, extent in zip(wanted, least, strict=True)]
    cut = [min(extra, pad) for extra, pad in zip(more, (bottom, right))]
    channels, groups = w.tensor.shape[1], o.attr("groups", 1)
    assert isinstance(channels, int)
    shape = (x.tensor.shape[0], channels * groups, least[0] + cut[0], least[1] + cut[1])
    y = o.b(
        conv.Conv2dInputGrad(
            w,
            x,
            shape,
            strides=strides,
            pads=(top, left, bottom - cut[0], right - cut[1]),
            dilations=dilations,
            groups=groups,
        )
    )
    y = o.b.pad(y, (0, 0, 0, 0), (0, 0, more[0] - cut[0], more[1] - cut[1]))
    o.set(formatted(y), "Output")


def _pool2d(o: OpLowering) -> None:
    x, formatted = channels_first(o)
    adaptive, how = bool(o.attr("adaptive", False)), o.attr("pooling_type", "max")
    if o.attr("global_pooling", False) or (adaptive and list(o.attr("ksize")) == [1, 1]):
        reduce = o.b.reduce_max if how == "max" else o.b.reduce_mean
        o.set(formatted(reduce(x, (2, 3), keepdims=True)))
        return
    if adaptive:
        o.set(formatted(_adaptive(o, x)))
        return
    kernel, strides = pair(o.attr("ksize")), pair(o.attr("strides", [1, 1]))
    pads, ceil_mode = _pads(o, x, kernel, strides), bool(o.attr("ceil_mode", False))
    if how == "max":
        o.set(formatted(o.b(pool.MaxPool2d(x=x, kernel=kernel, strides=strides, pads=pads, ceil_mode=ceil_mode))))
        return
    exclusive = bool(o.attr("exclusive", True))
    mean = pool.AvgPool2d(x=x, kernel=kernel, strides=strides, pads=pads, ceil_mode=ceil_mode, exclusive=exclusive)
    o.set(formatted(o.b(mean)))


def _adaptive(o: OpLowering, x: Value) -> Value:
    """Windows of unequal size, as many as wanted: first along the rows, then along the columns."""
    size, wanted = spatial(o, x), pair(o.attr("ksize"))
    largest = o.attr("pooling_type", "max") == "max"
    if all(extent % out == 0 for extent, out in zip(size, wanted)):
        kernel = (size[0] // wanted[0], size[1] // wanted[1])
        return o.b((pool.MaxPool2d if largest else pool.AvgPool2d)(x=x, kernel=kernel, strides=kernel))
    reduce = o.b.reduce_max if largest else o.b.reduce_mean
    for axis, extent, out in zip((2, 3), size, wanted):
        windows = [(i * extent // out, -(-(i + 1) * extent // out)) for i in range(out)]
        x = o.b.concat([reduce(o.b.slice(x, axis, *window), (axis,), keepdims=True) for window in windows], axis)
    return x


RULES: Rules = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _conv2d,
    "conv2d_transpose": _conv2d_transpose,
    "depthwise_conv2d_transpose": _conv2d_transpose,
    "max_pool2d_with_index": _pool2d,  # of the indices nothing is computed
    "pool2d": _pool2d,
}
