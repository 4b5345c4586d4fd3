"""Convolution and its transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import invalid
from ..initializer import NormalInitializer
from ..layer_helper import LayerHelper
from ..param_attr import ParamAttrLike
from ..shapes import conv_extent, spatial_pads, transposed_extent
from ..variable import Variable
from .spatial import Padding, Pair, channel_axis, image_extents, image_shape, padding_of, pair


def conv2d(
    input: Variable,
    num_filters: int,
    filter_size: Pair,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int | None = None,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCHW",
) -> Variable:
    """2-D convolution of ``[N, C, H, W]`` into ``[N, num_filters, H', W']``.

    The filter has shape ``[num_filters, C / groups, kh, kw]`` and starts normal with variance 2 / (kh kw C); the
    bias has shape [num_filters]. ``padding`` is a number, one per axis, two per axis, 'SAME' or 'VALID'. With
    ``data_format='NHWC'`` images are ``[N, H, W, C]``, the filter is the same.

    Raises:
        ProgramError: Channels, groups and filters do not divide, or the window is larger than the image.
    """
    channels = input.shape[channel_axis(data_format, 4)] if len(getattr(input, "shape", ())) == 4 else -1
    groups = 1 if groups is None else groups
    apart = not use_cudnn and channels == groups and num_filters % channels == 0
    helper = LayerHelper("depthwise_conv2d" if apart else "conv2d", name)
    image_extents(helper, input, data_format)
    kernel = pair("conv2d", "filter_size", filter_size)
    if groups < 1 or channels < 0 or channels % groups or num_filters % groups:
        raise invalid(
            f"conv2d: {channels} channels and {num_filters} filters in {groups} groups",
            "channels and filters must be known and divisible by groups",
        )
    default = NormalInitializer(0.0, math.sqrt(2.0 / (kernel[0] * kernel[1] * channels)))
    w = helper.parameter(param_attr, [num_filters, channels // groups, *kernel], input.dtype, default=default)
    if w is None:
        raise invalid("conv2d: param_attr is False", "a convolution needs its filter")
    out = conv2d_op(helper, input, w, stride, padding, dilation, groups, data_format)
    return helper.activate(helper.add_channel_bias(out, bias_attr, channel_axis(data_format, 4)), act)


def conv2d_op(
    helper: LayerHelper,
    input: Variable,
    weight: Variable,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    data_format: str = "NCHW",
) -> Variable:
    """The op of `conv2d` with a filter that exists; its type is the helper's layer type."""
    strides, dilations = pair("conv2d", "stride", stride), pair("conv2d", "dilation", dilation)
    paddings, algorithm = padding_of("conv2d", padding, data_format)
    if algorithm == "SAME":
        dilations = [1, 1]
    _, height, width = image_extents(helper, input, data_format)
    kernel = weight.shape[2:]
    pads = spatial_pads(paddings, algorithm, (height, width), kernel, strides)
    spatial = [
        conv_extent(extent, k, s, p, d) for extent, k, s, p, d in zip((height, width), kernel, strides, pads, dilations)
    ]
    if any(extent == 0 or extent < -1 for extent in spatial):
        raise invalid(
            f"conv2d: a {kernel[0]}x{kernel[1]} filter does not fit into input {input.name} {list(input.shape)}",
            "use a smaller filter_size or dilation, or more padding",
        )
    out = helper.temporary(input.dtype, image_shape(data_format, input.shape[0], weight.shape[0], spatial))
    attrs = {
        "strides": strides,
        "paddings": paddings,
        "dilations": dilations,
        "groups": groups,
        "padding_algorithm": algorithm,
        "data_format": data_format,
    }
    helper.op(helper.layer_type, {"Input": [input], "Filter": [weight]}, {"Output": [out]}, attrs)
    return out


def conv2d_transpose(
    input: Variable,
    num_filters: int,
    output_size: Pair | None = None,
    filter_size: Pair | None = None,
    padding: Padding = 0,
    stride: Pair = 1,
    dilation: Pair = 1,
    groups: int | None = None,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCHW",
) -> Variable:
    """The transpose of a convolution (its gradient in the images): ``[N, C, H, W]`` to ``[N, num_filters, H', W']``.

    ``H' = (H - 1) stride - padding + dilation (kh - 1) + 1``, or up to ``stride - 1`` more where ``output_size``
    says so; without ``filter_size`` the filter is as large as ``output_size`` needs. The filter has shape
    ``[C, num_filters / groups, kh, kw]``, the bias [num_filters].

    Raises:
        ProgramError: Neither size is given, ``output_size`` is none that the stride allows, or channels, groups and
            filters do not divide.
    """
    layer = "conv2d_transpose"
    channels = input.shape[channel_axis(data_format, 4)] if len(getattr(input, "shape", ())) == 4 else -1
    apart = not use_cudnn and channels == groups == num_filters
    helper = LayerHelper("depthwise_conv2d_transpose" if apart else layer, name)
    image_extents(helper, input, data_format)
    groups = 1 if groups is None else groups
    if groups < 1 or channels < 0 or channels % groups or num_filters % groups:
        raise invalid(
            f"{layer}: {channels} channels and {num_filters} filters in {groups} groups",
            "channels and filters must be known and divisible by groups",
        )
    sizes = filter_size, output_size
    kernel = transposed_kernel(helper, input, *sizes, stride, padding, dilation, data_format)
    w = helper.parameter(param_attr, [channels, num_filters // groups, *kernel], input.dtype)
    if w is None:
        raise invalid(f"{layer}: param_attr is False", "a convolution needs its filter")
    out = conv2d_transpose_op(helper, input, w, output_size, stride, padding, dilation, groups, data_format)
    return helper.activate(helper.add_channel_bias(out, bias_attr, channel_axis(data_format, 4)), act)


def transposed_kernel(
    helper: LayerHelper,
    input: Variable,
    filter_size: Pair | None,
    output_size: Pair | None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    data_format: str = "NCHW",
) -> list[int]:
    """Height and width of the filter of `conv2d_transpose`: as given, or as ``output_size`` needs it."""
    layer = "conv2d_transpose"
    if filter_size is not None:
        return pair(layer, "filter_size", filter_size)
    if output_size is None:
        raise invalid(f"{layer}: neither filter_size nor output_size is given", "give one of them")
    _, *extents = image_extents(helper, input, data_format)
    if min(extents) < 0:
        raise invalid(
            f"{layer}: input {input.name} has shape {list(input.shape)}, so output_size fixes no filter",
            "give filter_size, or declare the image's height and width",
        )
    paddings, _ = padding_of(layer, padding, data_format)
    return [
        (out - (extent - 1) * s + sum(p) - 1) // d + 1
        for out, extent, s, p, d in zip(
            pair(layer, "output_size", output_size),
            extents,
            pair(layer, "stride", stride),
            spatial_pads(paddings, "EXPLICIT", extents, [1, 1], [1, 1]),
            pair(layer, "dilation", dilation),
        )
    ]


def conv2d_transpose_op(
    helper: LayerHelper,
    input: Variable,
    weight: Variable,
    output_size: Pair | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    data_format: str = "NCHW",
) -> Variable:
    """The op of `conv2d_transpose` with a filter that exists; its type is the helper's layer type."""
    layer = "conv2d_transpose"
    strides, dilations = pair(layer, "stride", stride), pair(layer, "dilation", dilation)
    paddings, algorithm = padding_of(layer, padding, data_format)
    sizes: Sequence[int] = [] if output_size is None else pair(layer, "output_size", output_size)
    _, *extents = image_extents(helper, input, data_format)
    kernel = weight.shape[2:]
    pads = spatial_pads(paddings, algorithm, extents, kernel, strides)
    used = [1, 1] if algorithm == "SAME" else dilations
    least = [transposed_extent(e, k, s, p, d) for e, k, s, p, d in zip(extents, kernel, strides, pads, used)]
    if any(extent == 0 or extent < -1 for extent in least):
        raise invalid(
            f"{layer}: padding {padding} leaves nothing of input {input.name} {list(input.shape)}", "use less padding"
        )
    if any(least[i] >= 0 and not least[i] <= size < least[i] + strides[i] for i, size in enumerate(sizes)):
        most = [extent + s - 1 for extent, s in zip(least, strides)]
        raise invalid(
            f"{layer}: output_size is {list(sizes)}, but the layer makes {least} to {most} of input {input.name} "
            f"{list(input.shape)}",
            "choose a size in that range, or leave output_size out",
        )
    out = helper.temporary(
        input.dtype, image_shape(data_format, input.shape[0], weight.shape[1] * groups, sizes or least)
    )
    attrs = {
        "output_size": list(sizes),
        "strides": strides,
        "paddings": paddings,
        "padding_algorithm": algorithm,
        "dilations": dilations,
        "groups": groups,
        "data_format": data_format,
    }
    helper.op(helper.layer_type, {"Input": [input], "Filter": [weight]}, {"Output": [out]}, attrs)
    return out
