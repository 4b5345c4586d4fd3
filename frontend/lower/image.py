"""Convolution, pooling, normalisation and the layers that know channels."""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ops import activation, conv, norm, pool
from ..shapes import spatial_pads
from .context import OpLowering, Rules

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


def _spatial(o: OpLowering, x: Value) -> Pair:
    height, width = x.tensor.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise o.error(f"the image size of {x.type} is open", "declare images with a fixed height and width")
    return height, width


def _pads(o: OpLowering, x: Value, kernel: Pair, strides: Pair) -> Sides:
    """(top, left, bottom, right) from fluid's paddings and padding algorithm."""
    algorithm = o.attr("padding_algorithm", "EXPLICIT")
    (top, bottom), (left, right) = spatial_pads(o.attr("paddings", [0, 0]), algorithm, _spatial(o, x), kernel, strides)
    return top, left, bottom, right


def _pair(values: list[int]) -> Pair:
    first, second = values
    return first, second


def _conv2d(o: OpLowering) -> None:
    x, w = o.x("Input"), o.x("Filter")
    height, width = w.tensor.shape[2:]
    assert isinstance(height, int)
    assert isinstance(width, int)
    strides = _pair(o.attr("strides", [1, 1]))
    out = conv.Conv2d(
        x=x,
        w=w,
        strides=strides,
        pads=_pads(o, x, (height, width), strides),
        dilations=_pair(o.attr("dilations", [1, 1])),
        groups=o.attr("groups", 1),
    )
    y = o.b(out)
    if o.has("Bias"):
        y = o.b.add(y, o.b.reshape(o.x("Bias"), (w.tensor.shape[0], 1, 1)))
    o.set(y, "Output")


def _pool2d(o: OpLowering) -> None:
    x = o.x()
    adaptive = bool(o.attr("adaptive", False))
    if o.attr("global_pooling", False) or (adaptive and list(o.attr("ksize")) == [1, 1]):
        reduce = o.b.reduce_max if o.attr("pooling_type") == "max" else o.b.reduce_mean
        o.set(reduce(x, (2, 3), keepdims=True))
        return
    kernel, strides = _pair(o.attr("ksize")), _pair(o.attr("strides", [1, 1]))
    if adaptive:
        kernel = strides = _equal_windows(o, x, kernel)
    pads = (0, 0, 0, 0) if adaptive else _pads(o, x, kernel, strides)
    ceil_mode = bool(o.attr("ceil_mode", False))
    if o.attr("pooling_type") == "max":
        o.set(o.b(pool.MaxPool2d(x=x, kernel=kernel, strides=strides, pads=pads, ceil_mode=ceil_mode)))
        return
    exclusive = bool(o.attr("exclusive", True))
    mean = pool.AvgPool2d(x=x, kernel=kernel, strides=strides, pads=pads, ceil_mode=ceil_mode, exclusive=exclusive)
    o.set(o.b(mean))


def _equal_windows(o: OpLowering, x: Value, wanted: Pair) -> Pair:
    """The window, and the stride, that divides an image into ``wanted`` parts."""
    (height, width), (rows, columns) = _spatial(o, x), wanted
    if height % rows or width % columns:
        raise o.error(
            f"adaptive pooling of {height} x {width} to {rows} x {columns} has windows of different sizes",
            "choose sizes that divide the image, or [1, 1]",
        )
    return height // rows, width // columns


def _batch_norm(o: OpLowering) -> None:
    for slot in ("Mean", "Variance"):
        for name in o.op.input(slot):
            var = o.function.program.global_block().vars.get(name)
            if var is not None:
                o.function.shared.declare(var, "statistic")
    test = o.attr("is_test", False) and not o.attr("trainable_statistics", False)
    stored = bool(test or o.attr("use_global_stats", False))
    layer = norm.BatchNorm(
        x=o.x(),
        scale=o.x("Scale"),
        bias=o.x("Bias"),
        mean=o.x("Mean"),
        variance=o.x("Variance"),
        momentum=o.attr("momentum", 0.9),
        epsilon=o.attr("epsilon", 1e-5),
        stored=stored,
    )
    y, mean, variance, _, _ = o.b.emit(layer)
    o.set(o.b.relu(y) if o.attr("fuse_with_relu", False) else y, "Y")
    if not stored:
        o.set(mean, "MeanOut")
        o.set(variance, "VarianceOut")


def _layer_norm(o: OpLowering) -> None:
    layer = norm.LayerNorm(
        x=o.tokens(),
        scale=o.optional("Scale"),
        bias=o.optional("Bias"),
        begin=o.attr("begin_norm_axis", 1),
        epsilon=o.attr("epsilon", 1e-5),
    )
    o.set(o.b.emit(layer)[0], "Y")


def _group_norm(o: OpLowering) -> None:
    layer = norm.GroupNorm(
        x=o.x(),
        scale=o.optional("Scale"),
        bias=o.optional("Bias"),
        groups=o.attr("groups", 1),
        epsilon=o.attr("epsilon", 1e-5),
    )
    o.set(o.b.emit(layer)[0], "Y")


def _prelu(o: OpLowering) -> None:
    x, alpha = o.x(), o.x("Alpha")
    mode = o.attr("mode")
    if mode == "channel":
        alpha = o.b.reshape(alpha, (x.tensor.shape[1], *(1,) * (x.tensor.rank - 2)))
    elif mode == "element":
        alpha = o.b.reshape(alpha, x.tensor.shape[1:])
    o.set(o.b(activation.PRelu(x, alpha)))


RULES: Rules = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _conv2d,
    "pool2d": _pool2d,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "prelu": _prelu,
}
