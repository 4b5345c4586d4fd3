"""Convolutions of images: `Conv2D`, `Conv2DTranspose`."""

from __future__ import annotations

import math

from ...errors import invalid
from ...initializer import Initializer, NormalInitializer
from ...layer_helper import LayerHelper
from ...layers.conv import conv2d_op, conv2d_transpose_op, transposed_kernel
from ...layers.spatial import Padding, Pair, pair
from ...param_attr import ParamAttrLike
from ...variable import Variable
from ...vartype import DTypeLike
from ..constructor import two_forms
from ..layers import Layer
from .parameters import check_kind, check_shape, count, needed, with_bias


class _Convolution(Layer):
    """What a convolution and its transpose share: settings, and parameters once the channels are known."""

    _sized = False

    def _start(
        self,
        name_scope: str | None,
        num_filters: int,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int | None,
        param_attr: ParamAttrLike,
        bias_attr: ParamAttrLike,
        use_cudnn: bool,
        act: str | None,
        dtype: DTypeLike,
    ) -> None:
        Layer.__init__(self, name_scope, dtype)
        self._num_filters = count(self, "num_filters", num_filters)
        self._stride, self._padding, self._dilation = stride, padding, dilation
        self._groups = 1 if groups is None else count(self, "groups", groups)
        self._param_attr, self._bias_attr, self._act = param_attr, bias_attr, act
        self._use_cudnn = use_cudnn

    def _create(
        self, op: str, channels: int, shape: list[int], default: Initializer | None, *, depthwise: bool
    ) -> None:
        """Create ``weight`` of ``shape`` and ``bias``; without cudnn ``depthwise`` ones have an op of their own."""
        if channels % self._groups or self._num_filters % self._groups:
            raise invalid(
                f"{type(self).__name__}: {channels} channels and {self._num_filters} filters in {self._groups} groups",
                "channels and filters must be divisible by groups",
            )
        self._op = LayerHelper(f"depthwise_{op}" if depthwise and not self._use_cudnn else op, self._full_name)
        self.weight = needed(self, "param_attr", self._param_attr, shape, default=default)
        self.bias = self.create_parameter([self._num_filters], self._bias_attr, self._dtype, is_bias=True)
        self._num_channels = channels
        self._sized = True

    def _channels(self, input: Variable) -> int:
        """Channels of the image that sizes the layer at its first call."""
        check_kind(self, "input", input)
        if len(input.shape) != 4 or input.shape[1] < 0:
            raise invalid(
                f"{type(self).__name__}: input {input.name} has shape {list(input.shape)}",
                "it must be [N, C, H, W] with a known number of channels C",
            )
        return input.shape[1]

    def _check(self, input: Variable) -> None:
        check_kind(self, "input", input)
        check_shape(self, "input", input, [None, self._num_channels, None, None])


class Conv2D(_Convolution):
    """2-D convolution of ``[N, C, H, W]`` into ``[N, num_filters, H', W']``.

    The older form ``Conv2D(name_scope, num_filters, filter_size, ...)`` takes C from the first input.

    Args:
        num_channels: C.
        num_filters: Number of filters.
        filter_size: Height and width of a filter, or one number for both.
        stride: Step of the filter, likewise.
        padding: Zeros around the image, likewise; or 'SAME', 'VALID'.
        dilation: Distance of a filter's elements, likewise.
        groups: Number of groups of channels that are convolved apart.
        param_attr: Attributes of ``weight`` [num_filters, C / groups, kh, kw], normal with variance 2 / (kh kw C).
        bias_attr: Attributes of ``bias`` [num_filters]; False for none.
        use_cudnn: Paddle's choice of kernels, without effect on values.
        act: Name of an activation layer.
        dtype: Element type of the parameters.
    """

    def _older(
        self,
        name_scope: str | None,
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
        dtype: DTypeLike = "float32",
    ) -> None:
        self._kernel = pair("Conv2D", "filter_size", filter_size)
        window = stride, padding, dilation, groups
        self._start(name_scope, num_filters, *window, param_attr, bias_attr, use_cudnn, act, dtype)

    @two_forms(_older)
    def __init__(
        self,
        num_channels: int,
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
        dtype: DTypeLike = "float32",
    ) -> None:
        given = stride, padding, dilation, groups, param_attr, bias_attr, use_cudnn, act, dtype
        self._older(None, num_filters, filter_size, *given)
        self._size(count(self, "num_channels", num_channels))

    def _size(self, channels: int) -> None:
        default = NormalInitializer(0.0, math.sqrt(2.0 / (self._kernel[0] * self._kernel[1] * channels)))
        shape = [self._num_filters, channels // self._groups, *self._kernel]
        depthwise = channels == self._groups and self._num_filters % channels == 0
        self._create("conv2d", channels, shape, default, depthwise=depthwise)

    def _take_sizes(self, input: Variable) -> None:
        self._size(self._channels(input))

    def forward(self, input: Variable) -> Variable:
        self._check(input)
        out = conv2d_op(self._op, input, self.weight, self._stride, self._padding, self._dilation, self._groups)
        return with_bias(self, out, self.bias, 1, self._act)


class Conv2DTranspose(_Convolution):
    """The transpose of a convolution: ``[N, C, H, W]`` to ``[N, num_filters, H', W']``, see `layers.conv2d_transpose`.

    The older form ``Conv2DTranspose(name_scope, num_filters, output_size=None, filter_size=None, ...)`` takes C from
    the first input, and without ``filter_size`` the filter's size from ``output_size``.

    Args:
        num_channels: C.
        num_filters: Number of filters.
        filter_size: Height and width of a filter, or one number for both.
        output_size: Height and width of the result, likewise, where the stride leaves a choice.
        padding: What is cut off around the result, likewise; or 'SAME', 'VALID'.
        stride: Step of the filter in the result, likewise.
        dilation: Distance of a filter's elements, likewise.
        groups: Number of groups of channels that are convolved apart.
        param_attr: Attributes of ``weight`` [C, num_filters / groups, kh, kw].
        bias_attr: Attributes of ``bias`` [num_filters]; False for none.
        use_cudnn: Paddle's choice of kernels, without effect on values.
        act: Name of an activation layer.
        dtype: Element type of the parameters.
    """

    def _older(
        self,
        name_scope: str | None,
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
        dtype: DTypeLike = "float32",
    ) -> None:
        self._filter_size, self._output_size = filter_size, output_size
        window = stride, padding, dilation, groups
        self._start(name_scope, num_filters, *window, param_attr, bias_attr, use_cudnn, act, dtype)

    @two_forms(_older)
    def __init__(
        self,
        num_channels: int,
        num_filters: int,
        filter_size: Pair,
        output_size: Pair | None = None,
        padding: Padding = 0,
        stride: Pair = 1,
        dilation: Pair = 1,
        groups: int | None = None,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        use_cudnn: bool = True,
        act: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        given = padding, stride, dilation, groups, param_attr, bias_attr, use_cudnn, act, dtype
        self._older(None, num_filters, output_size, filter_size, *given)
        self._size(count(self, "num_channels", num_channels), pair("Conv2DTranspose", "filter_size", filter_size))

    def _size(self, channels: int, kernel: list[int]) -> None:
        shape = [channels, self._num_filters // self._groups, *kernel]
        depthwise = channels == self._groups == self._num_filters
        self._create("conv2d_transpose", channels, shape, None, depthwise=depthwise)

    def _take_sizes(self, input: Variable) -> None:
        channels = self._channels(input)
        given = self._filter_size, self._output_size
        self._size(
            channels, transposed_kernel(self._helper, input, *given, self._stride, self._padding, self._dilation)
        )

    def forward(self, input: Variable) -> Variable:
        self._check(input)
        out = conv2d_transpose_op(
            self._op,
            input,
            self.weight,
            self._output_size,
            self._stride,
            self._padding,
            self._dilation,
            self._groups,
        )
        return with_bias(self, out, self.bias, 1, self._act)
