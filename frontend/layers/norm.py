"""Normalisation."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import invalid
from ..framework import AttrValue
from ..initializer import ConstantInitializer, NormalInitializer
from ..layer_helper import LayerHelper
from ..param_attr import ParamAttr, ParamAttrLike
from ..shapes import axis_of, product
from ..variable import Variable
from ..vartype import VarType
from .ops import elu, leaky_relu
from .spatial import FLOATS, channel_axis, check_format


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
    """Normalise each channel by its mean and biased variance over the batch (Ioffe and Szegedy, 2015).

    Channels are axis 1, or the last with ``data_layout='NHWC'``.

    Running statistics start at 0 and 1 and follow ``momentum * running + (1 - momentum) * batch``; with
    ``is_test`` or ``use_global_stats`` they are used instead of the batch's.
    """
    del in_place
    attrs: dict[str, AttrValue] = {"is_test": is_test, "data_layout": data_layout, "use_global_stats": use_global_stats}
    statistics = moving_mean_name, moving_variance_name, do_model_average_for_mean_and_var
    helper = LayerHelper("batch_norm", name)
    attrs |= {"momentum": momentum, "epsilon": epsilon}
    return helper.activate(_batch_normalized(helper, input, param_attr, bias_attr, statistics, attrs), act)


def inplace_abn(
    input: Variable,
    act: str | None = None,
    is_test: bool = False,
    momentum: float = 0.9,
    epsilon: float = 1e-05,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    data_layout: str = "NCHW",
    name: str | None = None,
    moving_mean_name: str | None = None,
    moving_variance_name: str | None = None,
    do_model_average_for_mean_and_var: bool = True,
    use_global_stats: bool = False,
    act_alpha: float = 1.0,
) -> Variable:
    """`batch_norm` and an activation that can be undone: None, 'identity', 'leaky_relu' or 'elu' with ``act_alpha``.

    (Rota Bulo et al., CVPR 2018.) It is to save memory, which the compiler sees to; numbers are those of both layers.
    """
    if act not in (None, "identity", "leaky_relu", "elu"):
        raise invalid(f"inplace_abn: act is {act!r}", "use None, 'identity', 'leaky_relu' or 'elu'")
    helper = LayerHelper("inplace_abn", name)
    attrs: dict[str, AttrValue] = {"is_test": is_test, "data_layout": data_layout, "use_global_stats": use_global_stats}
    attrs |= {"momentum": momentum, "epsilon": epsilon}
    statistics = moving_mean_name, moving_variance_name, do_model_average_for_mean_and_var
    out = _batch_normalized(helper, input, param_attr, bias_attr, statistics, attrs)
    if act in (None, "identity"):
        return out
    return leaky_relu(out, act_alpha) if act == "leaky_relu" else elu(out, act_alpha)


def _batch_normalized(
    helper: LayerHelper,
    input: Variable,
    param_attr: ParamAttrLike,
    bias_attr: ParamAttrLike,
    statistics: tuple[str | None, str | None, bool],
    attrs: Mapping[str, AttrValue],
) -> Variable:
    """The op of `batch_norm` on parameters of its own; ``statistics``: names of the two, and whether averaged."""
    layer, data_layout = helper.layer_type, attrs["data_layout"]
    helper.check_dtype("input", input, FLOATS)
    check_format(layer, data_layout, "data_layout")
    at = channel_axis(data_layout, len(input.shape))
    if not 2 <= len(input.shape) <= 5 or input.shape[at] <= 0:
        raise invalid(
            f"{layer}: input {input.name} has shape {list(input.shape)}",
            f"it must be {'[N, C, ...]' if at == 1 else '[N, ..., C]'} with a known number of channels C",
        )
    shape = [input.shape[at]]
    dtype = VarType.FP32 if input.dtype is VarType.FP16 else input.dtype
    one, zero = ConstantInitializer(1.0), ConstantInitializer(0.0)
    scale = helper.parameter(param_attr, shape, dtype, default=one)
    bias = helper.parameter(bias_attr, shape, dtype, is_bias=True)
    if scale is None or bias is None:
        raise invalid(f"{layer}: param_attr or bias_attr is False", "freeze them with ParamAttr(trainable=False)")
    moving_mean_name, moving_variance_name, average = statistics
    mean = helper.wanted_parameter(_frozen(moving_mean_name, average), shape, dtype, default=zero, stop_gradient=True)
    variance = helper.wanted_parameter(
        _frozen(moving_variance_name, average), shape, dtype, default=one, stop_gradient=True
    )
    return batch_norm_op(helper, input, scale, bias, mean, variance, attrs)


def batch_norm_op(
    helper: LayerHelper,
    input: Variable,
    scale: Variable,
    bias: Variable,
    mean: Variable,
    variance: Variable,
    attrs: Mapping[str, AttrValue],
) -> Variable:
    """The op of `batch_norm` on parameters that exist; it writes the running ``mean`` and ``variance``.

    ``attrs``: momentum, epsilon, is_test, data_layout, use_global_stats, and what dygraph's layer adds:
    trainable_statistics, with which is_test changes nothing.
    """
    saved_mean = helper.temporary(scale.dtype, scale.shape, stop_gradient=True)
    saved_variance = helper.temporary(scale.dtype, scale.shape, stop_gradient=True)
    out = helper.temporary(input.dtype, input.shape)
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
    return out


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
    helper.check_dtype("input", input, FLOATS)
    if not 0 < begin_norm_axis < len(input.shape):
        raise invalid(
            f"layer_norm: begin_norm_axis is {begin_norm_axis}, input {input.name} has shape {list(input.shape)}",
            f"give an axis from 1 to {len(input.shape) - 1}",
        )
    size = [product(input.shape[begin_norm_axis:])]
    w = helper.parameter(param_attr, size, input.dtype, default=ConstantInitializer(1.0)) if scale else None
    if scale and w is None:
        raise invalid("layer_norm: scale=True but param_attr is False", "say scale=False")
    b = helper.parameter(bias_attr, size, input.dtype, is_bias=True) if shift else None
    if shift and b is None:
        raise invalid("layer_norm: shift=True but bias_attr is False", "say shift=False")
    return helper.activate(layer_norm_op(helper, input, w, b, begin_norm_axis, epsilon), act)


def layer_norm_op(
    helper: LayerHelper,
    input: Variable,
    scale: Variable | None,
    bias: Variable | None,
    begin_norm_axis: int = 1,
    epsilon: float = 1e-05,
) -> Variable:
    """The op of `layer_norm` on parameters that exist."""
    inputs = {"X": [input]} | _affine(scale, bias)
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
    return out


def _affine(scale: Variable | None, bias: Variable | None) -> dict[str, list[Variable]]:
    """The slots of the parameters there are."""
    return {slot: [v] for slot, v in (("Scale", scale), ("Bias", bias)) if v is not None}


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
    helper.check_dtype("input", input, FLOATS)
    check_format("group_norm", data_layout, "data_layout")
    at = channel_axis(data_layout, len(input.shape))
    if len(input.shape) < 2 or input.shape[at] <= 0 or groups <= 0 or input.shape[at] % groups:
        raise invalid(
            f"group_norm: input {input.name} has shape {list(input.shape)}, groups is {groups}",
            f"the number of channels (axis {at}) must be known and divisible by groups",
        )
    w = b = None
    if param_attr:
        w = helper.parameter(param_attr, [input.shape[at]], input.dtype, default=ConstantInitializer(1.0))
    if bias_attr:
        b = helper.parameter(bias_attr, [input.shape[at]], input.dtype, is_bias=True)
    return helper.activate(group_norm_op(helper, input, w, b, groups, epsilon, data_layout), act)


def group_norm_op(
    helper: LayerHelper,
    input: Variable,
    scale: Variable | None,
    bias: Variable | None,
    groups: int,
    epsilon: float = 1e-05,
    data_layout: str = "NCHW",
) -> Variable:
    """The op of `group_norm` on the parameters there are."""
    rows = [input.shape[0], groups]
    mean = helper.temporary(input.dtype, rows, stop_gradient=True, named=False)
    variance = helper.temporary(input.dtype, rows, stop_gradient=True, named=False)
    out = helper.temporary(input.dtype, input.shape, named=False)
    helper.op(
        "group_norm",
        {"X": [input]} | _affine(scale, bias),
        {"Y": [out], "Mean": [mean], "Variance": [variance]},
        {"epsilon": epsilon, "groups": groups, "data_layout": data_layout},
    )
    return out


def instance_norm(
    input: Variable,
    epsilon: float = 1e-05,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    name: str | None = None,
) -> Variable:
    """Normalise every channel (axis 1) of every example on its own (Ulyanov et al., 2016).

    Scale and bias have shape [C].
    """
    helper = LayerHelper("instance_norm", name)
    helper.check_dtype("input", input, (VarType.FP32, VarType.FP64))
    if not 3 <= len(input.shape) <= 5 or input.shape[1] <= 0:
        raise invalid(
            f"instance_norm: input {input.name} has shape {list(input.shape)}",
            "it must be [N, C, ...] with a known number of channels C and one to three more axes",
        )
    shape = [input.shape[1]]
    scale = helper.parameter(param_attr, shape, input.dtype, default=ConstantInitializer(1.0))
    bias = helper.parameter(bias_attr, shape, input.dtype, is_bias=True)
    if scale is None or bias is None:
        raise invalid("instance_norm: param_attr or bias_attr is False", "freeze them with ParamAttr(trainable=False)")
    return instance_norm_op(helper, input, scale, bias, epsilon)


def instance_norm_op(
    helper: LayerHelper, input: Variable, scale: Variable, bias: Variable, epsilon: float = 1e-05
) -> Variable:
    """The op of `instance_norm` on parameters that exist."""
    rows = [-1 if input.shape[0] < 0 else input.shape[0] * input.shape[1]]
    mean = helper.temporary(input.dtype, rows, stop_gradient=True)
    variance = helper.temporary(input.dtype, rows, stop_gradient=True)
    out = helper.temporary(input.dtype, input.shape)
    helper.op(
        "instance_norm",
        {"X": [input], "Scale": [scale], "Bias": [bias]},
        {"Y": [out], "SavedMean": [mean], "SavedVariance": [variance]},
        {"epsilon": epsilon},
    )
    return out


def spectral_norm(
    weight: Variable, dim: int = 0, power_iters: int = 1, eps: float = 1e-12, name: str | None = None
) -> Variable:
    """``weight`` over its largest singular value as a matrix whose rows are axis ``dim`` (Miyato et al., ICLR'18).

    The value is estimated by ``power_iters`` steps from two random vectors, which are kept as they were drawn, as
    in Paddle 1.8.5; gradients take the estimate's singular vectors as constants.
    """
    helper = LayerHelper("spectral_norm", name)
    helper.check_dtype("weight", weight, (VarType.FP32, VarType.FP64))
    at = axis_of("spectral_norm", weight, dim)
    if min(weight.shape) < 1:
        raise invalid(f"spectral_norm: {weight.name} has the open shape {list(weight.shape)}", "give a fixed shape")
    rows = weight.shape[at]
    drawn = NormalInitializer(0.0, 1.0)
    u, v = (
        helper.wanted_parameter(ParamAttr(), [extent], weight.dtype, default=drawn, stop_gradient=True)
        for extent in (rows, product(weight.shape) // rows)
    )
    return spectral_norm_op(helper, weight, u, v, dim, power_iters, eps)


def spectral_norm_op(
    helper: LayerHelper, weight: Variable, u: Variable, v: Variable, dim: int, power_iters: int, eps: float
) -> Variable:
    """The op of `spectral_norm` with vectors that exist: ``u`` [rows] and ``v`` [columns]."""
    if power_iters < 0 or not eps > 0:
        raise invalid(
            f"spectral_norm: power_iters is {power_iters}, eps is {eps}", "give at least 0 steps and a positive eps"
        )
    out = helper.temporary(weight.dtype, weight.shape, named=False)
    attrs = {"dim": dim, "power_iters": power_iters, "eps": eps}
    helper.op("spectral_norm", {"Weight": [weight], "U": [u], "V": [v]}, {"Out": [out]}, attrs)
    return out
