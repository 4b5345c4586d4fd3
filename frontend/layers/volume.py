"""Layers over volumes ``[N, C, D, H, W]``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import invalid, unsupported
from ..framework import AttrValue
from ..initializer import NormalInitializer
from ..layer_helper import LayerHelper
from ..param_attr import ParamAttrLike
from ..shapes import conv_extent, pool_extent, spatial_pads, transposed_extent
from ..variable import Variable
from .spatial import FLOATS

Triple = int | Sequence[int]
Padding = int | str | Sequence[int | Sequence[int]]


def triple(layer: str, argument: str, value: Triple) -> list[int]:
    """One number for all three axes, or one for each."""
    found = [value] * 3 if isinstance(value, int) else [int(v) for v in value]
    if len(found) != 3:
        raise invalid(f"{layer}: {argument} is {value!r}", "give one integer, or one each for depth, height and width")
    return found


def _padding(layer: str, padding: Padding, data_format: str) -> tuple[list[int], str]:
    """Fluid's ``paddings`` (three or six integers) and ``padding_algorithm``."""
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise invalid(f"{layer}: unknown padding {padding!r}", "use 'SAME', 'VALID' or integers")
        return [0, 0, 0], padding.upper()
    if isinstance(padding, int):
        return [padding] * 3, "EXPLICIT"
    flat: list[int] = []
    sides = [p for p in padding if not isinstance(p, int)]
    if len(sides) == len(padding) == 5:
        outer = (0, 1) if data_format == "NCDHW" else (0, 4)
        if any(list(sides[i]) != [0, 0] for i in outer):
            raise invalid(f"{layer}: padding {padding} pads batch or channels", "pad depth, height and width")
        flat = [int(v) for i, side in enumerate(sides) if i not in outer for v in side]
    else:
        flat = [int(p) for p in padding if isinstance(p, int)]
    if len(flat) == 6 and flat[::2] == flat[1::2]:
        flat = flat[::2]
    if len(flat) not in (3, 6):
        raise invalid(f"{layer}: padding is {padding!r}", "give 1, 3 or 6 integers, or two for each of five axes")
    return flat, "EXPLICIT"


def _extents(helper: LayerHelper, input: Variable, data_format: str) -> tuple[int, list[int]]:
    """Checks ``input`` and gives its channels and its depth, height and width."""
    helper.check_dtype("input", input, FLOATS)
    if data_format not in ("NCDHW", "NDHWC"):
        raise invalid(f"{helper.layer_type}: data_format is {data_format!r}", "use 'NCDHW' or 'NDHWC'")
    if len(input.shape) != 5:
        named = ", ".join(data_format)
        raise invalid(
            f"{helper.layer_type}: input {input.name} has shape {list(input.shape)}, but must be [{named}]",
            f"reshape it: fluid.layers.reshape(x, [-1{named[1:]}])",
        )
    _, *rest = input.shape
    channels = rest.pop(0 if data_format == "NCDHW" else 3)
    if min(rest) < 0:
        raise invalid(
            f"{helper.layer_type}: input {input.name} has shape {list(input.shape)}", "declare depth, height and width"
        )
    return channels, rest


def _shape(data_format: str, n: int, channels: int, extents: Sequence[int]) -> list[int]:
    return [n, channels, *extents] if data_format == "NCDHW" else [n, *extents, channels]


def _fits(layer: str, input: Variable, window: Sequence[int], found: Sequence[int]) -> None:
    if min(found) < 1:
        raise invalid(
            f"{layer}: a {'x'.join(map(str, window))} window does not fit into input {input.name} {list(input.shape)}",
            "use a smaller window, or more padding",
        )


def conv3d(
    input: Variable,
    num_filters: int,
    filter_size: Triple,
    stride: Triple = 1,
    padding: Padding = 0,
    dilation: Triple = 1,
    groups: int | None = None,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCDHW",
) -> Variable:
    """3-D convolution of ``[N, C, D, H, W]`` into ``[N, num_filters, D', H', W']``.

    The filter has shape ``[num_filters, C / groups, kd, kh, kw]`` and starts normal with variance 2 / (kd kh kw C).

    Raises:
        ProgramError: Channels, groups and filters do not divide, or the window is larger than the volume.
    """
    del use_cudnn
    helper = LayerHelper("conv3d", name)
    channels, _ = _extents(helper, input, data_format)
    kernel, groups = triple("conv3d", "filter_size", filter_size), 1 if groups is None else groups
    _divides("conv3d", channels, num_filters, groups)
    default = NormalInitializer(0.0, math.sqrt(2.0 / (math.prod(kernel) * channels)))
    weight = helper.parameter(param_attr, [num_filters, channels // groups, *kernel], input.dtype, default=default)
    if weight is None:
        raise invalid("conv3d: param_attr is False", "a convolution needs its filter")
    out = conv3d_op(helper, input, weight, stride, padding, dilation, groups, data_format)
    axis = 1 if data_format == "NCDHW" else 4
    return helper.activate(helper.add_channel_bias(out, bias_attr, axis), act)


def conv3d_op(
    helper: LayerHelper,
    input: Variable,
    weight: Variable,
    stride: Triple = 1,
    padding: Padding = 0,
    dilation: Triple = 1,
    groups: int = 1,
    data_format: str = "NCDHW",
) -> Variable:
    """The op of `conv3d` with a filter that exists."""
    _, extents = _extents(helper, input, data_format)
    kernel = weight.shape[2:]
    strides, dilations = triple("conv3d", "stride", stride), triple("conv3d", "dilation", dilation)
    paddings, algorithm = _padding("conv3d", padding, data_format)
    used = [1, 1, 1] if algorithm == "SAME" else dilations
    pads = spatial_pads(paddings, algorithm, extents, kernel, strides)
    found = [conv_extent(e, k, s, p, d) for e, k, s, p, d in zip(extents, kernel, strides, pads, used)]
    _fits("conv3d", input, kernel, found)
    out = helper.temporary(input.dtype, _shape(data_format, input.shape[0], weight.shape[0], found))
    attrs: dict[str, AttrValue] = {
        "strides": strides,
        "paddings": paddings,
        "dilations": dilations,
        "groups": groups,
        "padding_algorithm": algorithm,
        "data_format": data_format,
    }
    helper.op("conv3d", {"Input": [input], "Filter": [weight]}, {"Output": [out]}, attrs)
    return out


def _divides(layer: str, channels: int, filters: int, groups: int) -> None:
    if groups < 1 or channels < 0 or channels % groups or filters % groups:
        raise invalid(
            f"{layer}: {channels} channels and {filters} filters in {groups} groups",
            "channels and filters must be known and divisible by groups",
        )


def conv3d_transpose(
    input: Variable,
    num_filters: int,
    output_size: Triple | None = None,
    filter_size: Triple | None = None,
    padding: Padding = 0,
    stride: Triple = 1,
    dilation: Triple = 1,
    groups: int | None = None,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCDHW",
) -> Variable:
    """The transpose of `conv3d`: ``[N, C, D, H, W]`` to ``[N, num_filters, D', H', W']``.

    As `conv2d_transpose`, with a filter of shape ``[C, num_filters / groups, kd, kh, kw]``.

    Raises:
        ProgramError: Neither size is given, ``output_size`` is not what the filter makes, or channels do not divide.
    """
    del use_cudnn
    layer = "conv3d_transpose"
    helper = LayerHelper(layer, name)
    channels, extents = _extents(helper, input, data_format)
    groups = 1 if groups is None else groups
    _divides(layer, channels, num_filters, groups)
    wanted = None if output_size is None else triple(layer, "output_size", output_size)
    if filter_size is not None:
        kernel = triple(layer, "filter_size", filter_size)
    elif wanted is None:
        raise invalid(f"{layer}: neither filter_size nor output_size is given", "give one of them")
    else:
        strides, dilations = triple(layer, "stride", stride), triple(layer, "dilation", dilation)
        paddings, _ = _padding(layer, padding, data_format)
        sides = spatial_pads(paddings, "EXPLICIT", extents, [1] * 3, [1] * 3)
        kernel = [
            (out - (extent - 1) * s + sum(p) - 1) // d + 1
            for out, extent, s, p, d in zip(wanted, extents, strides, sides, dilations)
        ]
    weight = helper.parameter(param_attr, [channels, num_filters // groups, *kernel], input.dtype)
    if weight is None:
        raise invalid(f"{layer}: param_attr is False", "a convolution needs its filter")
    out = conv3d_transpose_op(helper, input, weight, wanted, stride, padding, dilation, groups, data_format)
    axis = 1 if data_format == "NCDHW" else 4
    return helper.activate(helper.add_channel_bias(out, bias_attr, axis), act)


def conv3d_transpose_op(
    helper: LayerHelper,
    input: Variable,
    weight: Variable,
    output_size: Triple | None = None,
    stride: Triple = 1,
    padding: Padding = 0,
    dilation: Triple = 1,
    groups: int = 1,
    data_format: str = "NCDHW",
) -> Variable:
    """The op of `conv3d_transpose` with a filter that exists."""
    layer = "conv3d_transpose"
    _, extents = _extents(helper, input, data_format)
    kernel = weight.shape[2:]
    strides, dilations = triple(layer, "stride", stride), triple(layer, "dilation", dilation)
    paddings, algorithm = _padding(layer, padding, data_format)
    wanted = None if output_size is None else triple(layer, "output_size", output_size)
    pads = spatial_pads(paddings, algorithm, extents, kernel, strides)
    used = [1, 1, 1] if algorithm == "SAME" else dilations
    found = [transposed_extent(e, k, s, p, d) for e, k, s, p, d in zip(extents, kernel, strides, pads, used)]
    _fits(layer, input, kernel, found)
    if wanted is not None and wanted != found:
        raise invalid(
            f"{layer}: output_size is {wanted}, but the layer makes {found} of input {input.name} {list(input.shape)}",
            "leave output_size out",
        )
    out = helper.temporary(input.dtype, _shape(data_format, input.shape[0], weight.shape[1] * groups, found))
    attrs: dict[str, AttrValue] = {
        "strides": strides,
        "paddings": paddings,
        "padding_algorithm": algorithm,
        "dilations": dilations,
        "groups": groups,
        "data_format": data_format,
    }
    helper.op(layer, {"Input": [input], "Filter": [weight]}, {"Output": [out]}, attrs)
    return out


def pool3d(
    input: Variable,
    pool_size: Triple = -1,
    pool_type: str = "max",
    pool_stride: Triple = 1,
    pool_padding: Padding = 0,
    global_pooling: bool = False,
    use_cudnn: bool = True,
    ceil_mode: bool = False,
    name: str | None = None,
    exclusive: bool = True,
    data_format: str = "NCDHW",
) -> Variable:
    """Maximum or mean over windows of ``[N, C, D, H, W]``: see `pool2d`."""
    del use_cudnn
    helper = LayerHelper("pool3d", name)
    channels, extents = _extents(helper, input, data_format)
    if pool_type not in ("max", "avg"):
        raise invalid(f"pool3d: unknown pool_type {pool_type!r}", "use 'max' or 'avg'")
    ksize, strides = triple("pool3d", "pool_size", pool_size), triple("pool3d", "pool_stride", pool_stride)
    if not global_pooling and min(ksize) < 1:
        raise invalid(f"pool3d: pool_size is {pool_size!r}", "give the window's size, or global_pooling=True")
    paddings, algorithm = _padding("pool3d", pool_padding, data_format)
    pads = spatial_pads(paddings, algorithm, extents, ksize, strides)
    found = [1, 1, 1]
    if not global_pooling:
        found = [pool_extent(e, k, s, p, ceil_mode) for e, k, s, p in zip(extents, ksize, strides, pads)]
        _fits("pool3d", input, ksize, found)
    out = helper.temporary(input.dtype, _shape(data_format, input.shape[0], channels, found))
    attrs: dict[str, AttrValue] = {
        "pooling_type": pool_type,
        "ksize": ksize,
        "global_pooling": global_pooling,
        "strides": strides,
        "paddings": paddings,
        "padding_algorithm": algorithm,
        "ceil_mode": ceil_mode,
        "exclusive": exclusive,
        "data_format": data_format,
    }
    helper.op("pool3d", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def adaptive_pool3d(
    input: Variable, pool_size: Triple, pool_type: str = "max", require_index: bool = False, name: str | None = None
) -> Variable:
    """Maximum or mean of ``[N, C, D, H, W]`` over windows that make ``pool_size`` results: see `adaptive_pool2d`."""
    layer = "adaptive_pool3d"
    op = "max_pool3d_with_index" if pool_type == "max" else "pool3d"
    helper = LayerHelper(op, name)
    channels, extents = _extents(helper, input, "NCDHW")
    if pool_type not in ("max", "avg"):
        raise invalid(f"{layer}: unknown pool_type {pool_type!r}", "use 'max' or 'avg'")
    if require_index:
        raise unsupported(f"{layer}: require_index=True is not implemented", "leave it out")
    size = triple(layer, "pool_size", pool_size)
    if min(size) < 1 or any(extent < out for extent, out in zip(extents, size)):
        raise invalid(
            f"{layer}: pool_size is {size}, input {input.name} has shape {list(input.shape)}",
            "give at least 1, and not more than the extents",
        )
    out = helper.temporary(input.dtype, [input.shape[0], channels, *size])
    attrs: dict[str, AttrValue] = {"pooling_type": pool_type, "ksize": size, "adaptive": True}
    outputs = {"Out": [out]}
    if pool_type == "max":
        outputs["Mask"] = [helper.temporary(input.dtype, out.shape)]
    helper.op(op, {"X": [input]}, outputs, attrs)
    return out


def resize_trilinear(
    input: Variable,
    out_shape: Sequence[int] | None = None,
    scale: float | None = None,
    name: str | None = None,
    actual_shape: Variable | None = None,
    align_corners: bool = True,
    align_mode: int = 1,
    data_format: str = "NCDHW",
) -> Variable:
    """Volumes of another size, interpolated linearly along each axis: see `image_resize`."""
    layer = "resize_trilinear"
    helper = LayerHelper("trilinear_interp", name)
    channels, extents = _extents(helper, input, data_format)
    if actual_shape is not None or isinstance(out_shape, Variable) or isinstance(scale, Variable):
        raise unsupported(f"{layer}: the size is a Variable", "give numbers known when the program is built")
    if out_shape is not None:
        size, factor = triple(layer, "out_shape", out_shape), 0.0
        found = size
    elif scale is not None and scale > 0:
        size, factor = [-1, -1, -1], float(scale)
        found = [int(extent * factor) for extent in extents]
    else:
        raise invalid(f"{layer}: out_shape is None and scale is {scale!r}", "give a size, or a positive scale")
    if min(found) < 1:
        raise invalid(f"{layer}: volumes of {found}", "give at least 1 for each axis")
    out = helper.temporary(input.dtype, _shape(data_format, input.shape[0], channels, found))
    attrs: dict[str, AttrValue] = {
        "out_d": size[0],
        "out_h": size[1],
        "out_w": size[2],
        "scale": factor,
        "interp_method": "trilinear",
        "align_corners": align_corners,
        "align_mode": align_mode,
        "data_layout": data_format,
    }
    helper.op("trilinear_interp", {"X": [input]}, {"Out": [out]}, attrs)
    return out
