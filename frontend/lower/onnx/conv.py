"""Convolutions over one and two axes."""

from __future__ import annotations

import math

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim
from ....compiler.ops.conv import Conv2d, Conv2dInputGrad
from .node import Node, NodeRules
from .windows import Ints, padding, per_axis, windows


def image(n: Node, x: Value) -> Value:
    """A tensor of one or two axes beside the first two as an image; what has one is an image one pixel high."""
    if x.tensor.rank == 3:
        return n.b.reshape(x, (*x.tensor.shape[:2], 1, x.tensor.shape[2]))
    if x.tensor.rank != 4:
        raise n.error(f"takes [N, C, W] or [N, C, H, W], not {x.type}", "convolve over one or two axes")
    return x


def both(numbers: Ints, missing: int) -> tuple[int, int]:
    """One number for rows and one for columns of an `image`."""
    return (missing, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def sides(low: Ints, high: Ints) -> tuple[int, int, int, int]:
    """Padding as the IR has it: top, left, bottom, right."""
    return (*both(low, 0), *both(high, 0))


def _conv(n: Node) -> Value:
    x, w = n.x("X"), n.x("W")
    kernel = [n.fixed(w, axis + 2) for axis in range(w.tensor.rank - 2)]
    found = windows(n, x, kernel)
    y = n.b(
        Conv2d(
            image(n, x),
            image(n, w),
            strides=both(found.strides, 1),
            pads=sides(found.low, found.high),
            dilations=both(found.dilations, 1),
            groups=n.attr("group"),
        )
    )
    return _with_bias(n, n.b.reshape(y, (*y.tensor.shape[:2], *found.counts)))


def _with_bias(n: Node, y: Value) -> Value:
    bias = n.optional("B")
    if bias is None:
        return y
    return n.b.add(y, n.b.reshape(bias, (*bias.tensor.shape, *([1] * (y.tensor.rank - 2)))))


def _conv_transpose(n: Node) -> Value:
    x, w = n.x("X"), n.x("W")
    axes = x.tensor.rank - 2
    sizes = [n.fixed(x, axis + 2) for axis in range(axes)]
    kernel = [n.fixed(w, axis + 2) for axis in range(axes)]
    strides, dilations = per_axis(n, "strides", axes), per_axis(n, "dilations", axes)
    extra = per_axis(n, "output_padding", axes, 0)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = [(size - 1) * stride + span for size, stride, span in zip(sizes, strides, reach, strict=True)]
    low, high = _transposed_padding(n, sizes, full, extra, strides, reach)
    # Taken away from the front and the end of the full result; less than nothing is a margin of zeros.
    cut = [after - more for after, more in zip(high, extra, strict=True)]
    front, end = tuple(max(p, 0) for p in low), tuple(max(p, 0) for p in cut)
    out = [extent - before - after for extent, before, after in zip(full, front, end, strict=True)]
    groups: int = n.attr("group")
    rows: tuple[Dim, ...] = (x.tensor.shape[0], n.fixed(w, 1) * groups)
    y = n.b(
        Conv2dInputGrad(
            image(n, w),
            image(n, x),
            (*rows, *both(tuple(out), 1)),
            strides=both(strides, 1),
            pads=sides(front, end),
            dilations=both(dilations, 1),
            groups=groups,
        )
    )
    y = n.b.reshape(y, (*rows, *out))
    y = n.b.pad(y, [0, 0, *(max(-p, 0) for p in low)], [0, 0, *(max(-p, 0) for p in cut)])
    return _with_bias(n, y)


def _transposed_padding(
    n: Node, sizes: list[int], full: list[int], extra: Ints, strides: Ints, reach: list[int]
) -> tuple[Ints, Ints]:
    wanted = n.attr("output_shape")
    mode = n.attr("auto_pad")
    if wanted:
        wanted = wanted[-len(sizes) :]
    elif mode.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    else:
        return padding(n, sizes, reach, strides)
    total = [extent + more - want for extent, more, want in zip(full, extra, wanted, strict=True)]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def _col2im(n: Node) -> Value:
    """Blocks of an image added up where they lie: what turns a convolution's patches back, one filter per place."""
    x = n.x("input")
    shape, kernel = n.ints("image_shape"), n.ints("block_shape")
    axes = len(shape)
    if axes not in (1, 2) or len(kernel) != axes or x.tensor.rank != 3:
        raise n.error(f"blocks {kernel} of images {shape} in {x.type}", "images have one or two axes")
    strides, dilations = per_axis(n, "strides", axes), per_axis(n, "dilations", axes)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    low, high = padding(n, shape, reach, strides)
    counts = tuple(
        (size + before + after - span) // stride + 1
        for size, before, after, span, stride in zip(shape, low, high, reach, strides, strict=True)
    )
    places = math.prod(kernel)
    channels = n.fixed(x, 1) // places
    n.within("weights of blocks", places * places * channels)
    one_each = np.tile(np.eye(places, dtype=x.tensor.dtype.numpy), (channels, 1))
    w = n.array(one_each.reshape(channels * places, 1, *both(tuple(kernel), 1)), "filters")
    rows = x.tensor.shape[0]
    y = n.b(
        Conv2dInputGrad(
            w,
            n.b.reshape(x, (rows, channels * places, *both(counts, 1))),
            (rows, channels, *both(tuple(shape), 1)),
            strides=both(strides, 1),
            pads=sides(low, high),
            dilations=both(dilations, 1),
            groups=channels,
        )
    )
    return n.b.reshape(y, (rows, channels, *shape))


RULES: NodeRules = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Col2Im": _col2im}
