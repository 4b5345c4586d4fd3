"""Convolution, pooling and normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import invalid, unsupported
from ..initializer import ConstantInitializer, NormalInitializer
from ..layer_helper import LayerHelper
from ..param_attr import ParamAttr, ParamAttrLike
from ..shapes import conv_extent, pool_extent, product, spatial_pads
from ..variable import Variable
from ..vartype import VarType

_FLOATS = (VarType.FP32, VarType.FP64, VarType.FP16)
Pair = int | Sequence[int]


def _pair(layer: str, argument: str, value: Pair) -> list[int]:
    pair = [value, value] if isinstance(value, int) else [int(v) for v in value]
    if len(pair) != 2:
        raise invalid(f"{layer}: {argument} is {value!r}", "give one integer, or one for height and one for width")
    return pair


def _padding(layer: str, padding: int | str | Sequence[int | Sequence[int]]) -> tuple[list[int], str]:
    """Fluid's ``paddings`` (two or four integers) and ``padding_algorithm``."""
    if isinstance(padding, str):
        algorithm = padding.upper()
        if algorithm not in ("SAME", "VALID"):
            raise invalid(f"{layer}: unknown padding {padding!r}", "use 'SAME', 'VALID' or integers")
        return [0, 0], algorithm
    if isinstance(padding, int):
        return [padding, padding], "EXPLICIT"
    parts = list(padding)
    if len(parts) == 4 and all(isinstance(p, list | tuple) for p in parts):
        (n, c, h, w) = ([int(v) for v in p] for p in parts)  # type: ignore[union-attr]
        if n != [0, 0] or c != [0, 0]:
            raise invalid(f"{layer}: padding {padding} pads batch or channels", "pad only height and width")
        flat = [*h, *w]
    else:
        flat = [int(p) for p in parts]  # type: ignore[arg-type]
    if len(flat) == 4 and flat[0] == flat[1] and flat[2] == flat[3]:
        flat = [flat[0], flat[2]]
    if len(flat) not in (2, 4):
        raise invalid(f"{layer}: padding is {padding!r}", "give 1, 2 or 4 integers, or [[0,0],[0,0],[t,b],[l,r]]")
    return flat, "EXPLICIT"


def _image(helper: LayerHelper, input: Variable, data_format: str) -> tuple[int, int, int]:
    """Checks ``input`` and gives its (channels, height, width)."""
    helper.check_dtype("input", input, _FLOATS)
    if data_format != "NCHW":
        raise unsupported(
            f"{helper.layer_type}: data_format {data_format!r} is not implemented",
            "transpose to NCHW: fluid.layers.transpose(x, [0, 3, 1, 2])",
        )
    if len(input.shape) != 4:
        raise invalid(
            f"{helper.layer_type}: input {input.name} has shape {list(input.shape)}, but must be [N, C, H, W]",
            "reshape it: fluid.layers.reshape(x, [-1, C, H, W])",
        )
    return input.shape[1], input.shape[2], input.shape[3]


def conv2d(
    input: Variable,
    num_filters: int,
    filter_size: Pair,
    stride: Pair = 1,
    padding: int | str | Sequence[int | Sequence[int]] = 0,
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
    bias has shape [num_filters]. ``padding`` is a number, one per axis, two per axis, 'SAME' or 'VALID'.

    Raises:
        ProgramError: Channels, groups and filters do not divide, or the window is larger than the image.
    """
    del use_cudnn
    helper = LayerHelper("conv2d", name)
    channels, height, width = _image(helper, input, data_format)
    kernel = _pair("conv2d", "filter_size", filter_size)
    strides, dilations = _pair("conv2d", "stride", stride), _pair("conv2d", "dilation", dilation)
    groups = 1 if groups is None else groups
    if channels < 0 or channels % groups or num_filters % groups:
        raise invalid(
            f"conv2d: {channels} channels and {num_filters} filters in {groups} groups",
            "channels and filters must be known and divisible by groups",
        )
    paddings, algorithm = _padding("conv2d", padding)
    if algorithm == "SAME":
        dilations = [1, 1]
    pads = spatial_pads(paddings, algorithm, (height, width), kernel, strides)
    spatial = [
        conv_extent(extent, k, s, p, d) for extent, k, s, p, d in zip((height, width), kernel, strides, pads, dilations)
    ]
    if any(extent == 0 or extent < -1 for extent in spatial):
        raise invalid(
            f"conv2d: a {kernel[0]}x{kernel[1]} filter does not fit into input {input.name} {list(input.shape)}",
            "use a smaller filter_size or dilation, or more padding",
        )
    default = NormalInitializer(0.0, math.sqrt(2.0 / (kernel[0] * kernel[1] * channels)))
    w = helper.parameter(param_attr, [num_filters, channels // groups, *kernel], input.dtype, default=default)
    if w is None:
        raise invalid("conv2d: param_attr is False", "a convolution needs its filter")
    out = helper.temporary(input.dtype, [input.shape[0], num_filters, *spatial])
    attrs = {
        "strides": strides,
        "paddings": paddings,
        "dilations": dilations,
        "groups": groups,
        "padding_algorithm": algorithm,
        "data_format": data_format,
    }
    helper.op("conv2d", {"Input": [input], "Filter": [w]}, {"Output": [out]}, attrs)
    return helper.activate(helper.add_channel_bias(out, bias_attr, 1), act)


def pool2d(
    input: Variable,
    pool_size: Pair = -1,
    pool_type: str = "max",
    pool_stride: Pair = 1,
    pool_padding: int | str | Sequence[int | Sequence[int]] = 0,
    global_pooling: bool = False,
    use_cudnn: bool = True,
    ceil_mode: bool = False,
    name: str | None = None,
    exclusive: bool = True,
    data_format: str = "NCHW",
) -> Variable:
    """Maximum or mean over windows of ``[N, C, H, W]``.

    ``global_pooling`` takes the whole image as one window; ``exclusive`` leaves padding out of the mean;
    ``ceil_mode`` keeps a last, partial window.
    """
    del use_cudnn
    helper = LayerHelper("pool2d", name)
    _, height, width = _image(helper, input, data_format)
    if pool_type not in ("max", "avg"):
        raise invalid(f"pool2d: unknown pool_type {pool_type!r}", "use 'max' or 'avg'")
    ksize, strides = _pair("pool2d", "pool_size", pool_size), _pair("pool2d", "pool_stride", pool_stride)
    if not global_pooling and any(k <= 0 for k in ksize):
        raise invalid(f"pool2d: pool_size is {pool_size!r}", "give the window's size, or global_pooling=True")
    paddings, algorithm = _padding("pool2d", pool_padding)
    if global_pooling:
        spatial = [1, 1]
    else:
        pads = spatial_pads(paddings, algorithm, (height, width), ksize, strides)
        spatial = [
            pool_extent(extent, k, s, p, ceil_mode) for extent, k, s, p in zip((height, width), ksize, strides, pads)
        ]
        if any(extent == 0 or extent < -1 for extent in spatial):
            raise invalid(
                f"pool2d: a {ksize[0]}x{ksize[1]} window does not fit into input {input.name} {list(input.shape)}",
                "use a smaller pool_size or more padding",
            )
    out = helper.temporary(input.dtype, [*input.shape[:2], *spatial])
    attrs = {
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
    helper.op("pool2d", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def _frozen(name: str | None, average: bool) -> ParamAttr:
    return ParamAttr(name=name, trainable=False, do_model_average=average)


def batch_norm(
    input: Variable,
    act: str | None = None,
    is_test: bool = False,
    momentum: float = 0.9,
    epsilon: float = 1e-05,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    data_layout: str = "NCHW",
    in_place: bool = False,
    name: str | None = None,
    moving_mean_name: str | None = None,
    moving_variance_name: str | None = None,
    do_model_average_for_mean_and_var: bool = True,
    use_global_stats: bool = False,
) -> Variable:
    """Normalise each channel (axis 1) by its mean and biased variance over the batch (Ioffe and Szegedy, 2015).

    Running statistics start at 0 and 1 and follow ``momentum * running + (1 - momentum) * batch``; with
    ``is_test`` or ``use_global_stats`` they are used instead of the batch's.
    """
    del in_place
    helper = LayerHelper("batch_norm", name)
    helper.check_dtype("input", input, _FLOATS)
    if data_layout != "NCHW":
        raise unsupported(
            f"batch_norm: data_layout {data_layout!r} is not implemented", "transpose the channels to axis 1"
        )
    if not 2 <= len(input.shape) <= 5 or input.shape[1] <= 0:
        raise invalid(
            f"batch_norm: input {input.name} has shape {list(input.shape)}",
            "it must be [N, C, ...] with a known number of channels C",
        )
    shape = [input.shape[1]]
    dtype = VarType.FP32 if input.dtype is VarType.FP16 else input.dtype
    one, zero = ConstantInitializer(1.0), ConstantInitializer(0.0)
    scale = helper.parameter(param_attr, shape, dtype, default=one)
    bias = helper.parameter(bias_attr, shape, dtype, is_bias=True)
    if scale is None or bias is None:
        raise invalid("batch_norm: param_attr or bias_attr is False", "freeze them with ParamAttr(trainable=False)")
    average = do_model_average_for_mean_and_var
    mean = helper.wanted_parameter(_frozen(moving_mean_name, average), shape, dtype, default=zero, stop_gradient=True)
    variance = helper.wanted_parameter(
        _frozen(moving_variance_name, average), shape, dtype, default=one, stop_gradient=True
    )
    saved_mean = helper.temporary(dtype, shape, stop_gradient=True)
    saved_variance = helper.temporary(dtype, shape, stop_gradient=True)
    out = helper.temporary(input.dtype, input.shape)
    attrs = {
        "momentum": momentum,
        "epsilon": epsilon,
        "is_test": is_test,
        "data_layout": data_layout,
        "use_global_stats": use_global_stats,
    }
    helper.op(
        "batch_norm",
        {"X": [input], "Scale": [scale], "Bias": [bias], "Mean": [mean], "Variance": [variance]},
        {
            "Y": [out],
            "MeanOut": [mean],
            "VarianceOut": [variance],
            "SavedMean": [saved_mean],
            "SavedVariance": [saved_variance],
        },
        attrs,
    )
    return helper.activate(out, act)


def layer_norm(
    input: Variable,
    scale: bool = True,
    shift: bool = True,
    begin_norm_axis: int = 1,
    epsilon: float = 1e-05,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    act: str | None = None,
    name: str | None = None,
) -> Variable:
    """Normalise each example over the axes from ``begin_norm_axis`` on (Ba et al., 2016).

    Scale and shift are flat parameters with one element per normalised position.
    """
    helper = LayerHelper("layer_norm", name)
    helper.check_dtype("input", input, _FLOATS)
    if not 0 < begin_norm_axis < len(input.shape):
        raise invalid(
            f"layer_norm: begin_norm_axis is {begin_norm_axis}, input {input.name} has shape {list(input.shape)}",
            f"give an axis from 1 to {len(input.shape) - 1}",
        )
    size = [product(input.shape[begin_norm_axis:])]
    inputs = {"X": [input]}
    if scale:
        w = helper.parameter(param_attr, size, input.dtype, default=ConstantInitializer(1.0))
        if w is None:
            raise invalid("layer_norm: scale=True but param_attr is False", "say scale=False")
        inputs["Scale"] = [w]
    if shift:
        b = helper.parameter(bias_attr, size, input.dtype, is_bias=True)
        if b is None:
            raise invalid("layer_norm: shift=True but bias_attr is False", "say shift=False")
        inputs["Bias"] = [b]
    rows = [product(input.shape[:begin_norm_axis])]
    mean = helper.temporary(input.dtype, rows, stop_gradient=True)
    variance = helper.temporary(input.dtype, rows, stop_gradient=True)
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    helper.op(
        "layer_norm",
        inputs,
        {"Y": [out], "Mean": [mean], "Variance": [variance]},
        {"epsilon": epsilon, "begin_norm_axis": begin_norm_axis},
    )
    return helper.activate(out, act)


def group_norm(
    input: Variable,
    groups: int,
    epsilon: float = 1e-05,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    act: str | None = None,
    data_layout: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Normalise each example over groups of neighbouring channels (Wu and He, 2018).

    Scale and bias, of shape [C], exist only where an attribute is given, as in Paddle.
    """
    helper = LayerHelper("group_norm", name)
    helper.check_dtype("input", input, _FLOATS)
    if data_layout != "NCHW":
        raise unsupported(
            f"group_norm: data_layout {data_layout!r} is not implemented", "transpose the channels to axis 1"
        )
    if len(input.shape) < 2 or input.shape[1] <= 0 or groups <= 0 or input.shape[1] % groups:
        raise invalid(
            f"group_norm: input {input.name} has shape {list(input.shape)}, groups is {groups}",
            "the number of channels (axis 1) must be known and divisible by groups",
        )
    inputs = {"X": [input]}
    if param_attr:
        w = helper.parameter(param_attr, [input.shape[1]], input.dtype, default=ConstantInitializer(1.0))
        assert w is not None
        inputs["Scale"] = [w]
    if bias_attr:
        b = helper.parameter(bias_attr, [input.shape[1]], input.dtype, is_bias=True)
        assert b is not None
        inputs["Bias"] = [b]
    rows = [input.shape[0], groups]
    mean = helper.temporary(input.dtype, rows, stop_gradient=True, named=False)
    variance = helper.temporary(input.dtype, rows, stop_gradient=True, named=False)
    out = helper.temporary(input.dtype, input.shape, named=False)
    helper.op(
        "group_norm",
        inputs,
        {"Y": [out], "Mean": [mean], "Variance": [variance]},
        {"epsilon": epsilon, "groups": groups, "data_layout": data_layout},
    )
    return helper.activate(out, act)
