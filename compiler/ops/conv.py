"""2-D convolution over NCHW, and the two products that its gradients are.

The three are one trilinear form seen from its three sides, so each gradient of each is again one of them:
nothing here ends double backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..ir.core import Value
from ..ir.stage import Stage
from ..ir.types import DType, Shape, TensorType, dim_mul, numel, static_shape
from .apart import contracted
from .base import Array, Op, OpBuilder, same_dtype
from .by_example import examples_first
from .emit import Expr, Index, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .factors import Factors
from .kinds import ExampleKind, Kind, PublicKind, default_kind
from .onnx_conv import ConvNodes


@dataclass(frozen=True, eq=False)
class Convolution(Op):
    """Base: the static numbers.

    ``pads`` are (top, left, bottom, right); the filter is ``[O, C / groups, KH, KW]``.
    """

    strides: tuple[int, int] = field(default=(1, 1), kw_only=True)
    pads: tuple[int, int, int, int] = field(default=(0, 0, 0, 0), kw_only=True)
    dilations: tuple[int, int] = field(default=(1, 1), kw_only=True)
    groups: int = field(default=1, kw_only=True)

    def out_type(self, x: TensorType, w: TensorType) -> TensorType:
        """Type of the convolution of ``x`` with ``w``; raises VerifyError when they do not fit."""
        if x.rank != 4 or w.rank != 4 or not x.dtype.is_float:
            raise self.fail(f"takes images [N, C, H, W] and filters [O, C / groups, KH, KW], not {x} and {w}")
        if min(*self.strides, *self.dilations) < 1 or min(self.pads) < 0 or self.groups < 1:
            raise self.fail(
                f"strides {self.strides}, dilations {self.dilations} and groups {self.groups} are at least 1, "
                f"pads {self.pads} at least 0"
            )
        channels, (o, per_group, *_) = x.shape[1], w.shape
        if not (isinstance(o, int) and isinstance(per_group, int) and isinstance(channels, int)):
            raise self.fail(f"channels are fixed numbers, in {x} and {w}")
        if per_group * self.groups != channels or o % self.groups:
            raise self.fail(
                f"{channels} channels and {o} filters of {per_group} channels do not make {self.groups} groups"
            )
        top, left, bottom, right = self.pads
        return TensorType(
            x.dtype,
            (x.shape[0], o, self._extent(x, w, 0, top + bottom), self._extent(x, w, 1, left + right)),
        )

    def _extent(self, x: TensorType, w: TensorType, axis: int, pad: int) -> int:
        size, kernel = x.shape[2 + axis], w.shape[2 + axis]
        if not isinstance(size, int) or not isinstance(kernel, int):
            raise self.fail(f"image and filter sizes are fixed numbers, in {x} and {w}")
        reach = self.dilations[axis] * (kernel - 1) + 1
        if kernel < 1 or size + pad < reach:
            raise self.fail(f"a filter that spans {reach} does not fit into {size} with {pad} of padding")
        return (size + pad - reach) // self.strides[axis] + 1

    def check_cotangent(self, x: Value, ct: Value, w_shape: Shape) -> None:
        """Raise VerifyError unless ``ct`` has the type of ``x`` convolved with a filter of ``w_shape``."""
        same_dtype(self, x, ct)
        filters = ct.tensor.with_shape(w_shape)
        expected = self.out_type(x.tensor, filters)
        if expected != ct.type:
            raise self.fail(f"images {x.type} and filters {filters} give {expected}, the cotangent is {ct.type}")

    # The other two ops at the same strides, pads, dilations and groups ---------------------------------

    def convolve(self, b: OpBuilder, x: Value, w: Value) -> Value:
        return b(Conv2d(x, w, strides=self.strides, pads=self.pads, dilations=self.dilations, groups=self.groups))

    def input_grad(self, b: OpBuilder, w: Value, ct: Value, x_shape: Shape) -> Value:
        return b(
            Conv2dInputGrad(
                w, ct, x_shape, strides=self.strides, pads=self.pads, dilations=self.dilations, groups=self.groups
            )
        )

    def filter_grad(self, b: OpBuilder, x: Value, ct: Value, w_shape: Shape) -> Value:
        return b(
            Conv2dFilterGrad(
                x, ct, w_shape, strides=self.strides, pads=self.pads, dilations=self.dilations, groups=self.groups
            )
        )

    # The filter's gradient by examples ----------------------------------------------------------------

    def example_filter_grad(self, b: OpBuilder, x: Value, ct: Value, w_shape: Shape, kind: Kind) -> Value | None:
        """``[N, *w_shape]`` where each image is an example of its own; else ``filter_factors`` has to do."""
        if kind != ExampleKind(0):
            return None
        return b(
            Conv2dExampleFilterGrad(
                x, ct, w_shape, strides=self.strides, pads=self.pads, dilations=self.dilations, groups=self.groups
            )
        )

    def filter_factors(self, b: OpBuilder, x: Value, ct: Value, w_shape: Shape, kind: Kind) -> Factors | None:
        """Every output pixel adds, per group, the outer product of its cotangents and of what the filters saw."""
        if not isinstance(kind, ExampleKind) or kind.axis != 0:
            return None
        rows, pixels = ct.tensor.shape[0], numel(ct.tensor.shape[2:])
        o, _, kh, kw = static_shape(w_shape)
        seen = b(
            Patches(x, (kh, kw), strides=self.strides, pads=self.pads, dilations=self.dilations, groups=self.groups)
        )
        cts = b.transpose(b.reshape(ct, (rows, self.groups, o // self.groups, pixels)), (0, 1, 3, 2))
        left, right = _by_group(b, cts, kind), _by_group(b, seen, kind)
        if left is None or right is None:
            return None
        return Factors(left, right, o // self.groups, self.groups)

    def row_kind(self, kinds: Sequence[Kind]) -> Kind:
        """Images of single examples under a public filter; ``kinds`` are those of images and filter."""
        images, filters = kinds
        if isinstance(images, ExampleKind) and images.axis == 0 and isinstance(filters, PublicKind):
            return images
        return default_kind(self, kinds)

    # ONNX ---------------------------------------------------------------------------------------------

    def onnx(self, o: OnnxEmitter, x: TensorType, w_shape: Shape) -> ConvNodes:
        """What writes the products of this geometry; raises MissingRule where ONNX Runtime has no kernels."""
        if x.dtype is not DType.F32:
            raise self.missing("to_onnx", f"ONNX Runtime convolves float32 images, not {x}")
        out = static_shape(self.out_type(x, x.with_shape(w_shape)).shape[2:])
        return ConvNodes(o, self, x.shape, w_shape, (out[0], out[1]))

    # numpy --------------------------------------------------------------------------------------------

    def padded(self, x: Array) -> Array:
        top, left, bottom, right = self.pads
        return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))

    def windows(self, x: Array, kernel: tuple[int, int], out: tuple[int, int]) -> Array:
        """A view of the padded ``x``, [N, C, KH, KW, OH, OW]: what each filter tap sees at each output pixel."""
        n, c, h, w = x.strides
        (dh, dw), (sh, sw) = self.dilations, self.strides
        shape = (*x.shape[:2], *kernel, *out)
        return as_strided(x, shape, (n, c, h * dh, w * dw, h * sh, w * sw), writeable=False)

    def group(self, x: Array, axis: int, number: int) -> Array:
        """Channels of one group along ``axis``."""
        size = x.shape[axis] // self.groups
        return np.take(x, range(number * size, (number + 1) * size), axis)


@dataclass(frozen=True, eq=False)
class Conv2d(Convolution):
    """``y[n, o, p, q] = sum of x[n, c, p * s - pad + i * d, …] * w[o, c, i, j]`` over c, i, j of o's group."""

    name: ClassVar[str] = "conv.conv2d"

    x: Value
    w: Value

    def infer(self) -> TensorType:
        same_dtype(self, self.x, self.w)
        return self.out_type(self.x.tensor, self.w.tensor)

    def evaluate(self, x: Array, w: Array) -> Array:
        out = static_shape(self.result.tensor.shape)
        windows = self.windows(self.padded(x), (w.shape[2], w.shape[3]), (out[2], out[3]))
        parts = [
            contracted(self.group(w, 0, g), self.group(windows, 1, g), ((1, 2, 3), (1, 2, 3)))
            for g in range(self.groups)
        ]
        return np.ascontiguousarray(np.concatenate(parts).transpose(1, 0, 2, 3))

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        dx = self.input_grad(b, self.w, ct, self.x.tensor.shape) if needs[0] else None
        dw = self.filter_grad(b, self.x, ct, self.w.tensor.shape) if needs[1] else None
        return dx, dw

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.row_kind(kinds)

    def example_grad(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        if operand != 1 or not isinstance(kinds[1], PublicKind):
            return None
        return self.example_filter_grad(b, self.x, ct, self.w.tensor.shape, kinds[0])

    def example_factors(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Factors | None:
        if operand != 1 or not isinstance(kinds[1], PublicKind):
            return None
        return self.filter_factors(b, self.x, ct, self.w.tensor.shape, kinds[0])

    def to_tvm(self, t: TvmEmitter, x: Tensor, w: Tensor) -> Tensor:
        return t.conv2d(x, w, self.result.tensor.shape, self)

    def to_onnx(self, o: OnnxEmitter, x: str, w: str) -> str:
        return self.onnx(o, self.x.tensor, self.w.tensor.shape).convolve(x, w)


@dataclass(frozen=True, eq=False)
class Conv2dInputGrad(Convolution):
    """The transpose of ``conv2d`` in its images: from ``ct`` [N, O, OH, OW] to ``x_shape``.

    It is fluid's conv2d_transpose, too: the layer's input is ``ct``, its filter ``[C_in, C_out / groups, …]``
    is ``w``, its output has ``x_shape``.
    """

    name: ClassVar[str] = "conv.conv2d_input_grad"

    w: Value
    ct: Value
    x_shape: Shape

    def infer(self) -> TensorType:
        same_dtype(self, self.w, self.ct)
        kind = self.ct.tensor.with_shape(self.x_shape)
        expected = self.out_type(kind, self.w.tensor)
        if expected != self.ct.type:
            raise self.fail(f"images {kind} give {expected}, the cotangent is {self.ct.type}")
        return kind

    def evaluate(self, w: Array, ct: Array) -> Array:
        n, c, height, width = static_shape(self.x_shape)
        top, left, bottom, right = self.pads
        (dh, dw), (sh, sw) = self.dilations, self.strides
        wide = np.zeros((n, c, height + top + bottom, width + left + right), ct.dtype)
        per_group = c // self.groups
        oh, ow = ct.shape[2:]
        for g in range(self.groups):
            taps = contracted(self.group(w, 0, g), self.group(ct, 1, g), ((0,), (1,)))  # [C, KH, KW, N, OH, OW]
            into = wide[:, g * per_group : (g + 1) * per_group]
            for i, j in np.ndindex(*w.shape[2:]):
                rows = slice(i * dh, i * dh + sh * (oh - 1) + 1, sh)
                columns = slice(j * dw, j * dw + sw * (ow - 1) + 1, sw)
                into[:, :, rows, columns] += taps[:, i, j].transpose(1, 0, 2, 3)
        return np.ascontiguousarray(wide[:, :, top : top + height, left : left + width])

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (up,) = cts
        if up is None:
            return None, None
        dw = self.filter_grad(b, up, self.ct, self.w.tensor.shape) if needs[0] else None
        dct = self.convolve(b, up, self.w) if needs[1] else None
        return dw, dct

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.row_kind((kinds[1], kinds[0]))

    def example_grad(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        if operand != 0 or not isinstance(kinds[0], PublicKind):
            return None
        return self.example_filter_grad(b, ct, self.ct, self.w.tensor.shape, kinds[1])

    def example_factors(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Factors | None:
        if operand != 0 or not isinstance(kinds[0], PublicKind):
            return None
        return self.filter_factors(b, ct, self.ct, self.w.tensor.shape, kinds[1])

    def to_tvm(self, t: TvmEmitter, w: Tensor, ct: Tensor) -> Tensor:
        return t.conv2d_input_grad(w, ct, self.x_shape, self)

    def to_onnx(self, o: OnnxEmitter, w: str, ct: str) -> str:
        return self.onnx(o, self.result.tensor, self.w.tensor.shape).input_grad(w, ct)


@dataclass(frozen=True, eq=False)
class Conv2dFilterGrad(Convolution):
    """The transpose of ``conv2d`` in its filter: from images ``x`` and ``ct`` [N, O, OH, OW] to ``w_shape``."""

    name: ClassVar[str] = "conv.conv2d_filter_grad"

    x: Value
    ct: Value
    w_shape: Shape

    def infer(self) -> TensorType:
        self.check_cotangent(self.x, self.ct, self.w_shape)
        return self.ct.tensor.with_shape(self.w_shape)

    def evaluate(self, x: Array, ct: Array) -> Array:
        kernel = static_shape(self.w_shape)[2:]
        windows = self.windows(self.padded(x), (kernel[0], kernel[1]), (ct.shape[2], ct.shape[3]))
        parts = [
            np.tensordot(self.group(ct, 1, g), self.group(windows, 1, g), ((0, 2, 3), (0, 4, 5)))
            for g in range(self.groups)
        ]
        return np.concatenate(parts)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (up,) = cts
        if up is None:
            return None, None
        dx = self.input_grad(b, up, self.ct, self.x.tensor.shape) if needs[0] else None
        dct = self.convolve(b, self.x, up) if needs[1] else None
        return dx, dct

    def to_tvm(self, t: TvmEmitter, x: Tensor, ct: Tensor) -> Tensor:
        return t.conv2d_filter_grad(x, ct, self.w_shape, self)

    def to_onnx(self, o: OnnxEmitter, x: str, ct: str) -> str:
        return self.onnx(o, self.x.tensor, self.w_shape).filter_grad(x, ct)


@dataclass(frozen=True, eq=False)
class Conv2dExampleFilterGrad(Convolution):
    """The filter gradient of every example, [N, *w_shape]: ``conv2d_filter_grad`` before the sum over the batch."""

    name: ClassVar[str] = "conv.conv2d_example_filter_grad"
    first_stage: ClassVar[Stage] = Stage.GRAD
    no_vjp: ClassVar[str] = "made after the backward pass"

    x: Value
    ct: Value
    w_shape: Shape

    def infer(self) -> TensorType:
        self.check_cotangent(self.x, self.ct, self.w_shape)
        return self.ct.tensor.with_shape((self.ct.tensor.shape[0], *self.w_shape))

    def evaluate(self, x: Array, ct: Array) -> Array:
        kernel = static_shape(self.w_shape)[2:]
        n, _, oh, ow = ct.shape
        windows = self.windows(self.padded(x), (kernel[0], kernel[1]), (oh, ow))
        parts: list[Array] = []
        for g in range(self.groups):
            seen = self.group(windows, 1, g).reshape(n, -1, oh * ow)
            parts.append(self.group(ct, 1, g).reshape(n, -1, oh * ow) @ seen.transpose(0, 2, 1))
        return np.concatenate(parts, axis=1).reshape(n, *static_shape(self.w_shape))

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if all(kind == ExampleKind(0) for kind in kinds):
            return ExampleKind(0)
        return default_kind(self, kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor, ct: Tensor) -> Tensor:
        return t.conv2d_example_filter_grad(x, ct, self.w_shape, self)

    def to_onnx(self, o: OnnxEmitter, x: str, ct: str) -> str:
        return self.onnx(o, self.x.tensor, self.w_shape).example_filter_grad(x, ct)


@dataclass(frozen=True, eq=False)
class Patches(Convolution):
    """What the filters see at each output pixel: ``[N, groups, OH * OW, C / groups * KH * KW]``."""

    name: ClassVar[str] = "conv.patches"
    first_stage: ClassVar[Stage] = Stage.GRAD
    no_vjp: ClassVar[str] = "made after the backward pass"

    x: Value
    kernel: tuple[int, int]

    @property
    def filter_shape(self) -> Shape:
        """The shape of a filter of one output channel per group."""
        channels = self.x.tensor.shape[1]
        assert isinstance(channels, int)
        return (self.groups, channels // self.groups, *self.kernel)

    def infer(self) -> TensorType:
        if self.x.tensor.rank != 4:
            raise self.fail(f"takes images [N, C, H, W], not {self.x.type}")
        rows, groups, *image = self.out_type(self.x.tensor, self.x.tensor.with_shape(self.filter_shape)).shape
        return self.x.tensor.with_shape((rows, groups, numel(image), numel(self.filter_shape[1:])))

    @property
    def out_image(self) -> tuple[int, int]:
        _, _, height, width = self.out_type(self.x.tensor, self.x.tensor.with_shape(self.filter_shape)).shape
        return static_shape((height,))[0], static_shape((width,))[0]

    def evaluate(self, x: Array) -> Array:
        out = self.out_image
        windows = self.windows(self.padded(x), self.kernel, out)  # [N, C, KH, KW, OH, OW]
        parts = [self.group(windows, 1, g) for g in range(self.groups)]
        rows, _, pixels, taps = static_shape(self.result.tensor.shape)
        shaped = [part.transpose(0, 4, 5, 1, 2, 3).reshape(rows, 1, pixels, taps) for part in parts]
        return np.concatenate(shaped, axis=1)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (kind,) = kinds
        return kind if isinstance(kind, ExampleKind) and kind.axis == 0 else default_kind(self, kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        _, per_group, kh, kw = static_shape(self.filter_shape)
        _, width = self.out_image

        def element(i: Index, g: Index, pixel: Index, tap: Index) -> Scalar:
            k, p = t.cast(tap, DType.I64), t.cast(pixel, DType.I64)
            channel = t.cast(g, DType.I64) * per_group + k // (kh * kw)
            return _seen(t, x, self, (i, channel, p // width, p % width), (k // kw % kh, k % kw))

        return t.compute(self.result.tensor.shape, x.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        seen = self.onnx(o, self.x.tensor, self.filter_shape).windows(x)
        rows, groups, pixels, taps = self.result.tensor.shape
        return o.node("Transpose", o.reshape(seen, (rows, groups, taps, pixels)), perm=[0, 1, 3, 2])


def _seen(t: TvmEmitter, x: Tensor, conv: Convolution, pixel: tuple[Index, ...], tap: tuple[Any, Any]) -> Expr:
    """What a filter's ``tap`` sees of channel ``pixel[1]`` of image ``pixel[0]`` at an output pixel; 0 outside."""
    height, width = static_shape(x.shape[2:])
    i, channel, p, q = pixel
    row: Any = p * conv.strides[0] + tap[0] * conv.dilations[0] - conv.pads[0]
    column: Any = q * conv.strides[1] + tap[1] * conv.dilations[1] - conv.pads[1]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    first = t.const(0, DType.I64)
    value = x[i, channel, t.select(inside, row, first), t.select(inside, column, first)]
    return t.select(inside, value, t.const(0.0, x.dtype))


def _by_group(b: OpBuilder, x: Value, kind: ExampleKind) -> Value | None:
    """``[rows, G, T, d]`` as ``[G * N, T', d]``: rows of one example are more tokens of it."""
    rows = examples_first(b, x, kind)
    if rows is None:
        return None
    batch, *folded, groups, tokens, width = rows.tensor.shape
    if folded:
        rows = b.reshape(rows, (batch, numel(folded), groups, tokens, width))
        rows = b.transpose(rows, (0, 2, 1, 3, 4))
    return b.reshape(rows, (dim_mul(batch, groups), numel((*folded, tokens)), width))


OPS: tuple[type[Op], ...] = (Conv2d, Conv2dInputGrad, Conv2dFilterGrad, Conv2dExampleFilterGrad, Patches)
