"""Convolutions and pooling, of images and of signals (whose images have one row)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim
from ....compiler.ops import conv, pool
from .node import Node, NodeRules

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Window:
    """How a window moves over an image; ``pads`` are (top, left, bottom, right)."""

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: Sides


def _as_image(n: Node, x: Value) -> Value:
    """[N, C, H, W]; of [N, C, L] an image of one row."""
    rank = x.tensor.rank
    if rank == 4:
        return x
    if rank != 3:
        raise n.error(f"{x.type} has {rank - 2} spatial axes", "images and signals can be compiled: 2 or 1 of them")
    return n.b.reshape(x, (*x.tensor.shape[:2], 1, x.tensor.shape[2]))


def _as_before(n: Node, out: Value, x: Value) -> Value:
    """The result for ``x``: again a signal if ``x`` is one."""
    shape = out.tensor.shape
    return out if x.tensor.rank == 4 else n.b.reshape(out, (*shape[:2], shape[3]))


def _pair(values: Sequence[int], first: int) -> Pair:
    """Both axes; of a signal's one number, ``first`` belongs to the row that it does not have."""
    return (values[0], values[1]) if len(values) == 2 else (first, values[0])


def _window(n: Node, x: Value, kernel: Sequence[int]) -> _Window:
    """The geometry from the node's attributes; ``kernel`` are the extents along the spatial axes of ``x``."""
    spatial = x.tensor.rank - 2
    strides, dilations = n.attr("strides") or [1] * spatial, n.attr("dilations") or [1] * spatial
    pads = n.attr("pads") or [0] * 2 * spatial
    if not len(kernel) == len(strides) == len(dilations) == spatial or len(pads) != 2 * spatial:
        raise n.error(f"its attributes are for other images than {x.type}", "correct the model")
    if min(*strides, *dilations, 1) < 1 or min(pads) < 0:
        raise n.error("a stride or dilation below 1, or a negative pad", "pad and slice by ops of their own")
    how = n.attr("auto_pad", "NOTSET")
    if how == "VALID":
        pads = [0] * 2 * spatial
    elif how in ("SAME_UPPER", "SAME_LOWER"):
        sides = [
            _same(n.fixed(x, 2 + i), (kernel[i] - 1) * dilations[i] + 1, strides[i], how == "SAME_LOWER")
            for i in range(spatial)
        ]
        pads = [side[0] for side in sides] + [side[1] for side in sides]
    elif how != "NOTSET":
        raise n.error(f"auto_pad is {how!r}", "export with explicit pads")
    low, high = _pair(pads[:spatial], 0), _pair(pads[spatial:], 0)
    return _Window(_pair(kernel, 1), _pair(strides, 1), _pair(dilations, 1), (*low, *high))


def _same(extent: int, window: int, stride: int, more_in_front: bool) -> Pair:
    """Pads with which there are as many windows as strides in the extent."""
    total = max((-(-extent // stride) - 1) * stride + window - extent, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if more_in_front else (small, large)


def _channels(n: Node, out: Value, bias: Value | None) -> Value:
    """``out`` plus one number per channel."""
    if bias is None:
        return out
    return n.b.add(out, n.b.reshape(bias, (*bias.tensor.shape, *(1,) * (out.tensor.rank - 2))))


def _conv(n: Node) -> Value:
    x, w = n.x("X"), n.x("W")
    if w.tensor.rank != x.tensor.rank:
        raise n.error(f"a filter {w.type} for {x.type}", "correct the model")
    window = _window(n, x, [n.fixed(w, axis) for axis in range(2, w.tensor.rank)])
    out = conv.Conv2d(
        x=_as_image(n, x),
        w=_as_image(n, w),
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
        groups=n.attr("group"),
    )
    return _channels(n, _as_before(n, n.b(out), x), n.optional("B"))


def _conv_transpose(n: Node) -> Value:
    x, w = n.x("X"), n.x("W")
    if w.tensor.rank != x.tensor.rank:
        raise n.error(f"a filter {w.type} for {x.type}", "correct the model")
    spatial, groups = x.tensor.rank - 2, n.attr("group")
    kernel = [n.fixed(w, axis) for axis in range(2, w.tensor.rank)]
    extra, wanted = n.attr("output_padding") or [0] * spatial, n.attr("output_shape")
    strides, dilations = n.attr("strides") or [1] * spatial, n.attr("dilations") or [1] * spatial
    pads = list(n.attr("pads") or [0] * 2 * spatial)
    sizes: list[int] = []
    for i in range(spatial):
        full = strides[i] * (n.fixed(x, 2 + i) - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1
        how = n.attr("auto_pad", "NOTSET")
        if wanted is not None or how in ("SAME_UPPER", "SAME_LOWER"):
            size = wanted[i] if wanted is not None else n.fixed(x, 2 + i) * strides[i]
            total = max(full - size, 0)
            small, large = total // 2, total - total // 2
            pads[i], pads[spatial + i] = (small, large) if how == "SAME_UPPER" else (large, small)
        elif how == "VALID":
            pads[i] = pads[spatial + i] = 0
        sizes.append(full - pads[i] - pads[spatial + i])
    outputs = n.fixed(w, 1) * groups
    shape: tuple[Dim, ...] = (x.tensor.shape[0], outputs, *_pair(sizes, 1))
    out = conv.Conv2dInputGrad(
        w=_as_image(n, w),
        ct=_as_image(n, x),
        x_shape=shape,
        strides=_pair(strides, 1),
        pads=(*_pair(pads[:spatial], 0), *_pair(pads[spatial:], 0)),
        dilations=_pair(dilations, 1),
        groups=groups,
    )
    return _channels(n, _as_before(n, n.b(out), x), n.optional("B"))


def _pooled(make: Callable[[Node, Value, _Window, bool], Value]) -> Callable[[Node], Value]:
    def rule(n: Node) -> Value:
        x = n.x("X")
        window = _window(n, x, n.attr("kernel_shape"))
        if window.dilations != (1, 1):
            raise n.error(f"a pool with dilations {list(window.dilations)}", "pool without dilations")
        return _as_before(n, make(n, _as_image(n, x), window, bool(n.attr("ceil_mode", 0))), x)

    return rule


def _max_pool(n: Node, x: Value, window: _Window, ceil_mode: bool) -> Value:
    if n.wants("Indices"):
        raise n.error("the places of the largest elements are asked for", "leave the output Indices out")
    return n.b(pool.MaxPool2d(x=x, kernel=window.kernel, strides=window.strides, pads=window.pads, ceil_mode=ceil_mode))


def _average_pool(n: Node, x: Value, window: _Window, ceil_mode: bool) -> Value:
    exclusive = not n.attr("count_include_pad", 0)
    return n.b(
        pool.AvgPool2d(
            x=x,
            kernel=window.kernel,
            strides=window.strides,
            pads=window.pads,
            ceil_mode=ceil_mode,
            exclusive=exclusive,
        )
    )


def _global_average(n: Node) -> Value:
    x = n.x("X")
    return n.b.reduce_mean(x, range(2, x.tensor.rank), keepdims=True)


def _global_max(n: Node) -> Value:
    x = n.x("X")
    return n.b.reduce_max(x, range(2, x.tensor.rank), keepdims=True)


RULES: NodeRules = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pooled(_max_pool),
    "AveragePool": _pooled(_average_pool),
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
}
