"""Layers that rearrange, pad or normalise images."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, unsupported
from ..framework import AttrValue
from ..layer_helper import LayerHelper
from ..shapes import conv_extent, product
from ..variable import Variable
from ..vartype import VarType
from .spatial import FLOATS, Pair, channel_axis, check_format, image_extents, image_shape, pair

_NUMBERS = (*FLOATS, VarType.INT32, VarType.INT64)


def pad2d(
    input: Variable,
    paddings: Sequence[int] = (0, 0, 0, 0),
    mode: str = "constant",
    pad_value: float = 0.0,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Images with ``paddings`` = (top, bottom, left, right) more rows and columns.

    They hold ``pad_value`` (``'constant'``), the image mirrored at its first and last row and column (``'reflect'``),
    or those repeated (``'edge'``).
    """
    helper = LayerHelper("pad2d", name)
    if isinstance(paddings, Variable) or any(isinstance(p, Variable) for p in paddings):
        raise unsupported("pad2d: paddings is a Variable", "give numbers known when the program is built")
    _check_image(helper, input, data_format)
    if mode not in ("constant", "reflect", "edge"):
        raise invalid(f"pad2d: unknown mode {mode!r}", "use 'constant', 'reflect' or 'edge'")
    top, bottom, left, right = widths = _four("pad2d", "paddings", paddings)
    channels, height, width = _extents(input, data_format)
    for extent, sides in ((height, (top, bottom)), (width, (left, right))):
        if min(sides) < 0 or (mode == "reflect" and 0 <= extent <= max(sides)):
            raise invalid(
                f"pad2d: paddings is {widths}, but {input.name} has shape {list(input.shape)}",
                "give numbers of at least 0, for mode='reflect' less than the extent",
            )
    spatial = [-1 if d < 0 else d + more for d, more in ((height, top + bottom), (width, left + right))]
    out = helper.temporary(input.dtype, image_shape(data_format, input.shape[0], channels, spatial))
    attrs = {"paddings": widths, "mode": mode, "pad_value": float(pad_value), "data_format": data_format}
    helper.op("pad2d", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def _check_image(helper: LayerHelper, input: Variable, data_format: str) -> None:
    helper.check_dtype("input", input, _NUMBERS)
    check_format(helper.layer_type, data_format)
    if len(input.shape) != 4:
        raise invalid(
            f"{helper.layer_type}: input {input.name} has shape {list(input.shape)}, but must have four axes",
            "reshape it: fluid.layers.reshape(x, [-1, C, H, W])",
        )


def _extents(input: Variable, data_format: str) -> tuple[int, int, int]:
    _, *rest = input.shape
    channels = rest.pop(channel_axis(data_format, 4) - 1)
    return channels, rest[0], rest[1]


def _four(layer: str, argument: str, values: Sequence[int]) -> list[int]:
    found = [int(v) for v in values]
    if len(found) != 4:
        raise invalid(f"{layer}: {argument} is {found}", "give four integers: top, bottom, left, right")
    return found


def lrn(
    input: Variable,
    n: int = 5,
    k: float = 1.0,
    alpha: float = 0.0001,
    beta: float = 0.75,
    name: str | None = None,
    data_format: str = "NCHW",
) -> Variable:
    """``x / (k + alpha * s) ** beta``, s the sum of squares over ``n`` near channels (Krizhevsky et al., 2012)."""
    helper = LayerHelper("lrn", name)
    image_extents(helper, input, data_format)
    helper.check_dtype("input", input, (VarType.FP32,))
    if n < 1 or n % 2 == 0:
        raise invalid(f"lrn: n is {n}", "give an odd number of channels")
    middle = helper.temporary(input.dtype, input.shape, stop_gradient=True)
    out = helper.temporary(input.dtype, input.shape)
    attrs: dict[str, AttrValue] = {"n": n, "k": float(k), "alpha": float(alpha), "beta": float(beta)}
    attrs["data_format"] = data_format
    helper.op("lrn", {"X": [input]}, {"Out": [out], "MidOut": [middle]}, attrs)
    return out


def maxout(x: Variable, groups: int, name: str | None = None, axis: int = 1) -> Variable:
    """The largest of every ``groups`` neighbouring channels (Goodfellow et al., 2013); channels on ``axis`` 1 or -1."""
    helper = LayerHelper("maxout", name)
    helper.check_dtype("input", x, (VarType.FP32, VarType.FP64))
    at = len(x.shape) - 1 if axis == -1 else axis
    if len(x.shape) != 4 or at not in (1, 3):
        raise invalid(
            f"maxout: {x.name} has shape {list(x.shape)}, axis is {axis}",
            "give images of four axes, and axis 1, -1 or 3",
        )
    if groups < 2 or x.shape[at] < 1 or x.shape[at] % groups:
        raise invalid(
            f"maxout: {x.shape[at]} channels in groups of {groups}",
            "groups is at least 2 and divides the channels, whose number is known",
        )
    out = helper.temporary(x.dtype, [d // groups if i == at else d for i, d in enumerate(x.shape)])
    helper.op("maxout", {"X": [x]}, {"Out": [out]}, {"groups": groups, "axis": at})
    return out


def _images(helper: LayerHelper, argument: str, x: Variable, factor: int, what: str) -> tuple[int, int, int, int]:
    """The extents of NCHW images whose channels ``factor`` divides."""
    helper.check_dtype(argument, x, FLOATS)
    if len(x.shape) != 4 or x.shape[1] < 1 or factor < 1 or x.shape[1] % factor:
        raise invalid(
            f"{helper.layer_type}: {x.name} has shape {list(x.shape)}, {what}",
            f"it must be [N, C, H, W] with a known number of channels C that {factor} divides",
        )
    n, c, h, w = x.shape
    return n, c, h, w


def pixel_shuffle(x: Variable, upscale_factor: int) -> Variable:
    """``[N, C r r, H, W]`` to ``[N, C, H r, W r]``: channels become pixels (Shi et al., CVPR'16)."""
    helper = LayerHelper("pixel_shuffle")
    if not isinstance(upscale_factor, int) or upscale_factor < 1:
        raise invalid(f"pixel_shuffle: upscale_factor is {upscale_factor!r}", "give a positive integer")
    r = upscale_factor
    n, c, h, w = _images(helper, "x", x, r * r, f"upscale_factor is {r}")
    out = helper.temporary(x.dtype, [n, c // (r * r), -1 if h < 0 else h * r, -1 if w < 0 else w * r])
    helper.op("pixel_shuffle", {"X": [x]}, {"Out": [out]}, {"upscale_factor": r})
    return out


def shuffle_channel(x: Variable, group: int, name: str | None = None) -> Variable:
    """Channels in ``group`` rows, read by columns (Zhang et al., CVPR'18)."""
    helper = LayerHelper("shuffle_channel", name)
    if not isinstance(group, int) or group < 1:
        raise invalid(f"shuffle_channel: group is {group!r}", "give a positive integer")
    shape = _images(helper, "x", x, group, f"group is {group}")
    out = helper.temporary(x.dtype, shape)
    helper.op("shuffle_channel", {"X": [x]}, {"Out": [out]}, {"group": group})
    return out


def space_to_depth(x: Variable, blocksize: int, name: str | None = None) -> Variable:
    """``[N, C, H, W]`` to ``[N, C b b, H / b, W / b]``, the elements in the order of Darknet's reorganisation."""
    helper = LayerHelper("space_to_depth", name)
    if not isinstance(blocksize, int) or blocksize < 2:
        raise invalid(f"space_to_depth: blocksize is {blocksize!r}", "give an integer of at least 2")
    b = blocksize
    n, c, h, w = _images(helper, "x", x, b * b, f"blocksize is {b}")
    if h < 1 or w < 1 or h % b or w % b:
        raise invalid(
            f"space_to_depth: {x.name} has shape {list(x.shape)}, blocksize is {b}",
            "height and width must be known and divisible by it",
        )
    out = helper.temporary(x.dtype, [n, c * b * b, h // b, w // b])
    helper.op("space_to_depth", {"X": [x]}, {"Out": [out]}, {"blocksize": b})
    return out


def unfold(
    x: Variable,
    kernel_sizes: Pair,
    strides: Pair = 1,
    paddings: int | Sequence[int] = 0,
    dilations: Pair = 1,
    name: str | None = None,
) -> Variable:
    """What a convolution's windows see: ``[N, C, H, W]`` to ``[N, C kh kw, windows]``.

    ``paddings``: one number, two (height, width), or four (top, left, bottom, right).
    """
    helper = LayerHelper("unfold", name)
    n, c, h, w = _images(helper, "x", x, 1, "for windows of images")
    kernel, steps, spread = (
        pair("unfold", argument, value)
        for argument, value in (("kernel_sizes", kernel_sizes), ("strides", strides), ("dilations", dilations))
    )
    pads = [paddings] if isinstance(paddings, int) else [int(p) for p in paddings]
    pads = pads * 4 if len(pads) == 1 else pads * 2 if len(pads) == 2 else pads
    if len(pads) != 4 or min(pads) < 0:
        raise invalid(f"unfold: paddings is {paddings!r}", "give 1, 2 or 4 integers of at least 0")
    found = [conv_extent(d, kernel[i], steps[i], (pads[i], pads[i + 2]), spread[i]) for i, d in enumerate((h, w))]
    if any(d == 0 or d < -1 for d in found):
        raise invalid(
            f"unfold: windows of {kernel} do not fit into {x.name} {list(x.shape)}",
            "use smaller windows or more padding",
        )
    out = helper.temporary(x.dtype, [n, c * product(kernel), product(found)])
    attrs = {"kernel_sizes": kernel, "strides": steps, "paddings": pads, "dilations": spread}
    helper.op("unfold", {"X": [x]}, {"Y": [out]}, attrs)
    return out


def affine_channel(
    x: Variable,
    scale: Variable | None = None,
    bias: Variable | None = None,
    data_layout: str = "NCHW",
    name: str | None = None,
    act: str | None = None,
) -> Variable:
    """``act(scale * x + bias)`` with one number of ``scale`` and of ``bias`` (both [C]) per channel."""
    helper = LayerHelper("affine_channel", name)
    helper.check_dtype("x", x, (VarType.FP32, VarType.FP64))
    check_format("affine_channel", data_layout, "data_layout")
    if scale is None or bias is None:
        raise invalid("affine_channel: scale or bias is None", "give both, of shape [C]")
    channels = x.shape[channel_axis(data_layout, len(x.shape))]
    for argument, v in (("scale", scale), ("bias", bias)):
        helper.check_dtype(argument, v, (x.dtype,))
        if len(v.shape) != 1 or (v.shape[0] != channels and min(v.shape[0], channels) >= 0):
            raise invalid(f"affine_channel: {argument} {v.name} has shape {list(v.shape)}", f"it must be [{channels}]")
    out = helper.temporary(x.dtype, x.shape)
    inputs = {"X": [x], "Scale": [scale], "Bias": [bias]}
    helper.op("affine_channel", inputs, {"Out": [out]}, {"data_layout": data_layout})
    return helper.activate(out, act)


def temporal_shift(x: Variable, seg_num: int, shift_ratio: float = 0.25, name: str | None = None) -> Variable:
    """``[N T, C, H, W]`` of N clips of ``T = seg_num`` images, some channels of each image moved in time.

    The first ``shift_ratio`` of the channels come from the image before, as many more from the one after (Lin et al.,
    ICCV'19); 0 where there is none.
    """
    helper = LayerHelper("temporal_shift", name)
    _images(helper, "x", x, 1, "for images of clips")
    if seg_num < 1 or not 0 < shift_ratio < 0.5 or (x.shape[0] >= 0 and x.shape[0] % seg_num):
        raise invalid(
            f"temporal_shift: seg_num is {seg_num}, shift_ratio {shift_ratio}, {x.name} has shape {list(x.shape)}",
            "seg_num divides the images, and shift_ratio lies between 0 and 0.5",
        )
    out = helper.temporary(x.dtype, x.shape)
    helper.op("temporal_shift", {"X": [x]}, {"Out": [out]}, {"seg_num": seg_num, "shift_ratio": float(shift_ratio)})
    return out
