"""Convolutions of volumes: `Conv3D`, `Conv3DTranspose`."""

from __future__ import annotations

import math

from ...errors import invalid
from ...initializer import NormalInitializer
from ...layer_helper import LayerHelper
from ...layers.volume import Padding, Triple, conv3d_op, conv3d_transpose_op, triple
from ...param_attr import ParamAttrLike
from ...variable import Variable
from ...vartype import DTypeLike
from ..layers import Layer
from .parameters import check_kind, check_shape, count, needed, with_bias


class _Convolution(Layer):
    """What a convolution and its transpose share."""

    def _start(
        self,
        op: str,
        num_channels: int,
        num_filters: int,
        groups: int | None,
        param_attr: ParamAttrLike,
        bias_attr: ParamAttrLike,
        act: str | None,
        dtype: DTypeLike,
    ) -> None:
        Layer.__init__(self, None, dtype)
        self._num_channels = count(self, "num_channels", num_channels)
        self._num_filters = count(self, "num_filters", num_filters)
        self._groups = 1 if groups is None else count(self, "groups", groups)
        if self._num_channels % self._groups or self._num_filters % self._groups:
            raise invalid(
                f"{type(self).__name__}: {num_channels} channels and {num_filters} filters in {self._groups} groups",
                "channels and filters must be divisible by groups",
            )
        self._op = LayerHelper(op, self._full_name)
        self._param_attr, self._bias_attr, self._act = param_attr, bias_attr, act

    def _create(self, shape: list[int], default: NormalInitializer | None = None) -> None:
        self.weight = needed(self, "param_attr", self._param_attr, shape, default=default)
        self.bias = self.create_parameter([self._num_filters], self._bias_attr, self._dtype, is_bias=True)

    def _check(self, input: Variable) -> None:
        check_kind(self, "input", input)
        check_shape(self, "input", input, [None, self._num_channels, None, None, None])


class Conv3D(_Convolution):
    """3-D convolution of ``[N, C, D, H, W]`` into ``[N, num_filters, D', H', W']``.

    Args:
        num_channels: C.
        num_filters: Number of filters.
        filter_size: Depth, height and width of a filter, or one number for all.
        stride: Step of the filter, likewise.
        padding: Zeros around the volume, likewise; or 'SAME', 'VALID'.
        dilation: Distance of a filter's elements, likewise.
        groups: Number of groups of channels that are convolved apart.
        param_attr: Attributes of ``weight`` [num_filters, C / groups, kd, kh, kw].
        bias_attr: Attributes of ``bias`` [num_filters]; False for none.
        use_cudnn: Paddle's choice of kernels, without effect on values.
        act: Name of an activation layer.
        dtype: Element type of the parameters.
    """

    def __init__(
        self,
        num_channels: int,
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
        dtype: DTypeLike = "float32",
    ) -> None:
        del use_cudnn
        self._start("conv3d", num_channels, num_filters, groups, param_attr, bias_attr, act, dtype)
        self._window = stride, padding, dilation
        kernel = triple("Conv3D", "filter_size", filter_size)
        default = NormalInitializer(0.0, math.sqrt(2.0 / (math.prod(kernel) * num_channels)))
        self._create([num_filters, num_channels // self._groups, *kernel], default)

    def forward(self, input: Variable) -> Variable:
        self._check(input)
        out = conv3d_op(self._op, input, self.weight, *self._window, self._groups)
        return with_bias(self, out, self.bias, 1, self._act)


class Conv3DTranspose(_Convolution):
    """The transpose of `Conv3D`: ``[N, C, D, H, W]`` to ``[N, num_filters, D', H', W']``.

    Its arguments are those of `Conv3D`, with ``weight`` [C, num_filters / groups, kd, kh, kw]. As in Paddle 1.8.5 the
    bias that there is without a ``bias_attr`` is not added.
    """

    def __init__(
        self,
        num_channels: int,
        num_filters: int,
        filter_size: Triple,
        padding: Padding = 0,
        stride: Triple = 1,
        dilation: Triple = 1,
        groups: int | None = None,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        use_cudnn: bool = True,
        act: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        del use_cudnn
        self._start("conv3d_transpose", num_channels, num_filters, groups, param_attr, bias_attr, act, dtype)
        self._window = stride, padding, dilation
        kernel = triple("Conv3DTranspose", "filter_size", filter_size)
        self._create([num_channels, num_filters // self._groups, *kernel])

    def forward(self, input: Variable) -> Variable:
        self._check(input)
        out = conv3d_transpose_op(self._op, input, self.weight, None, *self._window, self._groups)
        return with_bias(self, out, self.bias if self._bias_attr else None, 1, self._act)
