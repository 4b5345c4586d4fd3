"""Normalisation over the batch or the example: `BatchNorm`, `LayerNorm`, `GroupNorm`, `InstanceNorm`."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import invalid
from ...framework import AttrValue, in_dygraph_mode
from ...initializer import ConstantInitializer
from ...layers.norm import batch_norm_op, group_norm_op, instance_norm_op, layer_norm_op
from ...param_attr import ParamAttr, ParamAttrLike, to_param_attr
from ...shapes import product
from ...variable import Parameter, Variable
from ...vartype import DTypeLike, VarType
from ..constructor import two_forms
from ..layers import Layer
from .parameters import check_kind, check_shape, count, needed

_ONE = ConstantInitializer(1.0)


class BatchNorm(Layer):
    """Normalise each channel (axis 1) by its mean and biased variance over the batch (Ioffe and Szegedy, 2015).

    Running statistics follow ``momentum * running + (1 - momentum) * batch``; after `eval`, or with
    ``use_global_stats``, they are used instead of the batch's.  The older form has a ``name_scope`` first.

    Args:
        num_channels: Number of channels.
        act: Name of an activation layer.
        is_test: In a static Program: use the running statistics. In dygraph call `eval`.
        momentum: Weight of the running statistics against the batch's.
        epsilon: Added to the variance.
        param_attr: Attributes of the scale ``weight`` [num_channels].
        bias_attr: Attributes of ``bias`` [num_channels].
        dtype: Element type of the parameters; float32 for float16.
        data_layout: ``'NCHW'``, or ``'NHWC'`` for channels in the last axis.
        in_place: Has no effect.
        moving_mean_name: Name of the running mean.
        moving_variance_name: Name of the running variance.
        do_model_average_for_mean_and_var: Whether `ModelAverage` covers them.
        use_global_stats: Use the running statistics also in training.
        trainable_statistics: Use the batch's statistics also after `eval`.

    Attributes:
        weight, bias: The trained parameters.
        _mean, _variance: The running statistics, under these names in the state dict; not trained.
    """

    def _older(
        self,
        name_scope: str | None,
        num_channels: int,
        act: str | None = None,
        is_test: bool = False,
        momentum: float = 0.9,
        epsilon: float = 1e-05,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
        data_layout: str = "NCHW",
        in_place: bool = False,
        moving_mean_name: str | None = None,
        moving_variance_name: str | None = None,
        do_model_average_for_mean_and_var: bool = True,
        use_global_stats: bool = False,
        trainable_statistics: bool = False,
    ) -> None:
        del in_place
        Layer.__init__(self, name_scope, "float32" if dtype == "float16" else dtype)
        shape = [count(self, "num_channels", num_channels)]
        self.weight = needed(self, "param_attr", param_attr, shape, default=_ONE)
        self.bias = needed(self, "bias_attr", bias_attr, shape, is_bias=True)
        attr = to_param_attr(param_attr)
        if use_global_stats and attr is not None and attr.learning_rate == 0.0:
            self.weight.stop_gradient = self.bias.stop_gradient = True
        average = do_model_average_for_mean_and_var
        self._mean = self._statistic(moving_mean_name, 0.0, shape, average)
        self._variance = self._statistic(moving_variance_name, 1.0, shape, average)
        self._act, self._is_test = act, is_test
        self._attrs: dict[str, AttrValue] = {
            "momentum": momentum,
            "epsilon": epsilon,
            "data_layout": data_layout,
            "use_global_stats": use_global_stats,
        }
        if trainable_statistics:
            self._attrs["trainable_statistics"] = True

    @two_forms(_older)
    def __init__(
        self,
        num_channels: int,
        act: str | None = None,
        is_test: bool = False,
        momentum: float = 0.9,
        epsilon: float = 1e-05,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
        data_layout: str = "NCHW",
        in_place: bool = False,
        moving_mean_name: str | None = None,
        moving_variance_name: str | None = None,
        do_model_average_for_mean_and_var: bool = True,
        use_global_stats: bool = False,
        trainable_statistics: bool = False,
    ) -> None:
        names = moving_mean_name, moving_variance_name, do_model_average_for_mean_and_var
        kind = dtype, data_layout, in_place
        numbers = is_test, momentum, epsilon, param_attr, bias_attr
        self._older(None, num_channels, act, *numbers, *kind, *names, use_global_stats, trainable_statistics)

    def _statistic(self, name: str | None, start: float, shape: list[int], average: bool) -> Parameter:
        initial = ConstantInitializer(start)
        attr = ParamAttr(name=name, initializer=initial, trainable=False, do_model_average=average)
        statistic = needed(self, "moving statistics", attr, shape)
        statistic.stop_gradient = True
        return statistic

    def forward(self, input: Variable) -> Variable:
        # Half precision is normalised by parameters of single precision.
        if not (isinstance(input, Variable) and input.dtype is VarType.FP16):
            check_kind(self, "input", input)
        if self._attrs["data_layout"] == "NCHW" or len(input.shape) == 2:
            check_shape(self, "input", input, [None, *self._mean.shape], more=True)
        else:
            check_shape(self, "input", input, [*[None] * (len(input.shape) - 1), *self._mean.shape])
        evaluating = not self.training or (self._is_test and not in_dygraph_mode())
        attrs = {**self._attrs, "is_test": evaluating}
        out = batch_norm_op(self._helper, input, self.weight, self.bias, self._mean, self._variance, attrs)
        return self._helper.activate(out, self._act)


class LayerNorm(Layer):
    """Normalise over the last axes of each example (Ba et al., 2016).

    The older form ``LayerNorm(name_scope, scale=True, shift=True, begin_norm_axis=1, ...)`` takes the shape of these
    axes from the first input.

    Args:
        normalized_shape: Extents of the axes, or the last one's.
        scale: Whether there is a ``weight``, flat, one element per normalised position.
        shift: Whether there is a ``bias``, likewise.
        epsilon: Added to the variance.
        param_attr: Attributes of ``weight``.
        bias_attr: Attributes of ``bias``.
        act: Name of an activation layer.
        dtype: Element type of the parameters.
    """

    _sized = False

    def _older(
        self,
        name_scope: str | None,
        scale: bool = True,
        shift: bool = True,
        begin_norm_axis: int = 1,
        epsilon: float = 1e-05,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        act: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        Layer.__init__(self, name_scope, dtype)
        self._begin_norm_axis, self._epsilon, self._act = begin_norm_axis, epsilon, act
        self._scale, self._shift, self._param_attr, self._bias_attr = scale, shift, param_attr, bias_attr

    @two_forms(_older)
    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        scale: bool = True,
        shift: bool = True,
        epsilon: float = 1e-05,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        act: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._older(None, scale, shift, 1, epsilon, param_attr, bias_attr, act, dtype)
        shape = [normalized_shape] if isinstance(normalized_shape, int) else list(normalized_shape)
        self._create([count(self, "an extent of normalized_shape", extent) for extent in shape])

    def _create(self, shape: list[int]) -> None:
        self._normalized_shape = shape
        size = [product(shape)]
        self.weight = needed(self, "param_attr", self._param_attr, size, default=_ONE) if self._scale else None
        self.bias = needed(self, "bias_attr", self._bias_attr, size, is_bias=True) if self._shift else None
        self._sized = True

    def _take_sizes(self, input: Variable) -> None:
        check_kind(self, "input", input)
        at = self._begin_norm_axis
        if not 0 < at < len(input.shape):
            raise invalid(
                f"LayerNorm: begin_norm_axis is {at}, input {input.name} has shape {list(input.shape)}",
                f"give an axis from 1 to {len(input.shape) - 1}",
            )
        self._create(list(input.shape[at:]))

    def forward(self, input: Variable) -> Variable:
        check_kind(self, "input", input)
        shape = self._normalized_shape
        at = len(input.shape) - len(shape)
        if at < 1 or list(input.shape[at:]) != shape:
            raise invalid(
                f"LayerNorm: normalized_shape is {shape}, input {input.name} has shape {list(input.shape)}",
                "the input's last axes must have these extents, with the batch before them",
            )
        out = layer_norm_op(self._helper, input, self.weight, self.bias, at, self._epsilon)
        return self._helper.activate(out, self._act)


class GroupNorm(Layer):
    """Normalise each example over groups of neighbouring channels (Wu and He, 2018).

    ``weight`` and ``bias`` exist only where an attribute is given, as in Paddle.  The older form
    ``GroupNorm(name_scope, groups, ...)`` takes the number of channels from the first input.

    Args:
        channels: Number of channels (axis 1).
        groups: Number of groups.
        epsilon: Added to the variance.
        param_attr: Attributes of ``weight`` [channels]; None for no weight.
        bias_attr: Attributes of ``bias`` [channels]; None for no bias.
        act: Name of an activation layer.
        data_layout: ``'NCHW'``.
        dtype: Element type of the parameters.
    """

    _sized = False

    def _older(
        self,
        name_scope: str | None,
        groups: int,
        epsilon: float = 1e-05,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        act: str | None = None,
        data_layout: str = "NCHW",
        dtype: DTypeLike = "float32",
    ) -> None:
        Layer.__init__(self, name_scope, dtype)
        if data_layout != "NCHW":
            raise invalid(f"GroupNorm: data_layout is {data_layout!r}", "the layer has 'NCHW' only, as in Paddle")
        self._groups, self._epsilon, self._act = count(self, "groups", groups), epsilon, act
        self._param_attr, self._bias_attr = param_attr or False, bias_attr or False

    @two_forms(_older)
    def __init__(
        self,
        channels: int,
        groups: int,
        epsilon: float = 1e-05,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        act: str | None = None,
        data_layout: str = "NCHW",
        dtype: DTypeLike = "float32",
    ) -> None:
        self._older(None, groups, epsilon, param_attr, bias_attr, act, data_layout, dtype)
        self._create(count(self, "channels", channels))

    def _create(self, channels: int) -> None:
        if channels % self._groups:
            raise invalid(f"GroupNorm: {channels} channels in {self._groups} groups", "channels must be divisible")
        self._channels = channels
        self.weight = self.create_parameter([channels], self._param_attr, self._dtype, default_initializer=_ONE)
        self.bias = self.create_parameter([channels], self._bias_attr, self._dtype, is_bias=True)
        self._sized = True

    def _take_sizes(self, input: Variable) -> None:
        check_kind(self, "input", input)
        check_shape(self, "input", input, [None, None], more=True)
        self._create(input.shape[1])

    def forward(self, input: Variable) -> Variable:
        check_kind(self, "input", input)
        check_shape(self, "input", input, [None, self._channels], more=True)
        out = group_norm_op(self._helper, input, self.weight, self.bias, self._groups, self._epsilon)
        return self._helper.activate(out, self._act)


class InstanceNorm(Layer):
    """Normalise every channel (axis 1) of every example on its own (Ulyanov et al., 2016).

    Args:
        num_channels: Number of channels.
        epsilon: Added to the variance.
        param_attr: Attributes of ``scale`` [num_channels].
        bias_attr: Attributes of ``bias`` [num_channels].
        dtype: Element type of the parameters.
    """

    def __init__(
        self,
        num_channels: int,
        epsilon: float = 1e-05,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__(dtype=dtype)
        self._epsilon = epsilon
        shape = [count(self, "num_channels", num_channels)]
        self.scale = needed(self, "param_attr", param_attr, shape, default=_ONE)
        self.bias = needed(self, "bias_attr", bias_attr, shape, is_bias=True)

    def forward(self, input: Variable) -> Variable:
        check_kind(self, "input", input)
        check_shape(self, "input", input, [None, *self.scale.shape, None], more=True)
        return instance_norm_op(self._helper, input, self.scale, self.bias, self._epsilon)
