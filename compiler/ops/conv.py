"""2-D convolution over NCHW, and the two products that its gradients are.

The three are one trilinear form seen from its three sides, so each gradient of each is again one of them:
nothing here ends double backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..ir.core import Value
from ..ir.stage import Stage
from ..ir.types import DType, Shape, TensorType, static_shape
from .base import Array, Op, OpBuilder, same_dtype
from .emit import Index, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import ExampleKind, Kind, PublicKind, default_kind


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

    def row_kind(self, kinds: Sequence[Kind]) -> Kind:
        """Images of single examples under a public filter; ``kinds`` are those of images and filter."""
        images, filters = kinds
        if isinstance(images, ExampleKind) and images.axis == 0 and isinstance(filters, PublicKind):
            return images
        return default_kind(self, kinds)

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
            np.tensordot(self.group(w, 0, g), self.group(windows, 1, g), ((1, 2, 3), (1, 2, 3)))
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
        # Where time was folded into the batch, several images belong to one example: left to the mapped vjp.
        if operand != 1 or kinds[0] != ExampleKind(0):
            return None
        return b(
            Conv2dExampleFilterGrad(
                self.x,
                ct,
                self.w.tensor.shape,
                strides=self.strides,
                pads=self.pads,
                dilations=self.dilations,
                groups=self.groups,
            )
        )

    def to_tvm(self, t: TvmEmitter, x: Tensor, w: Tensor) -> Tensor:
        return t.conv2d(x, w, self.result.tensor.shape, self)

    def to_onnx(self, o: OnnxEmitter, x: str, w: str) -> str:
        pads = list(self.pads)
        return o.node(
            "Conv", x, w, strides=list(self.strides), pads=pads, dilations=list(self.dilations), group=self.groups
        )


@dataclass(frozen=True, eq=False)
class Conv2dInputGrad(Convolution):
    """The transpose of ``conv2d`` in its images: from ``ct`` [N, O, OH, OW] to ``x_shape``.

    It is fluid's conv2d_transpose, too: the layer's input is ``ct``, its filter ``[C_in, C_out / groups, …]``
    is ``w``, its output has ``x_shape``.
    """

    name: ClassVar[str] = "conv.conv2d_input_grad"
    no_onnx: ClassVar[str] = "planned with the ONNX target"

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
            taps = np.tensordot(self.group(w, 0, g), self.group(ct, 1, g), ((0,), (1,)))  # [C, KH, KW, N, OH, OW]
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

    def to_tvm(self, t: TvmEmitter, w: Tensor, ct: Tensor) -> Tensor:
        return t.conv2d_input_grad(w, ct, self.x_shape, self)


@dataclass(frozen=True, eq=False)
class Conv2dFilterGrad(Convolution):
    """The transpose of ``conv2d`` in its filter: from images ``x`` and ``ct`` [N, O, OH, OW] to ``w_shape``."""

    name: ClassVar[str] = "conv.conv2d_filter_grad"
    no_onnx: ClassVar[str] = "planned with the ONNX target"

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


@dataclass(frozen=True, eq=False)
class Conv2dExampleFilterGrad(Convolution):
    """The filter gradient of every example, [N, *w_shape]: ``conv2d_filter_grad`` before the sum over the batch."""

    name: ClassVar[str] = "conv.conv2d_example_filter_grad"
    first_stage: ClassVar[Stage] = Stage.GRAD
    no_vjp: ClassVar[str] = "made after the backward pass"
    no_onnx: ClassVar[str] = "planned with the ONNX target"

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
        """One product per example and group: cotangents [O, pixels] times windows [C * KH * KW, pixels]."""
        n = ct.shape[0]
        o, per_group, kh, kw = static_shape(self.w_shape)
        height, width = static_shape(self.x.tensor.shape[2:])
        oh, ow = static_shape(self.ct.tensor.shape[2:])
        filters, taps, pixels = o // self.groups, per_group * kh * kw, oh * ow

        def window(i: Index, g: Index, tap: Index, pixel: Index) -> Scalar:
            k, p = t.cast(tap, DType.I64), t.cast(pixel, DType.I64)
            channel = t.cast(g, DType.I64) * per_group + k // (kh * kw)
            row = p // ow * self.strides[0] + k // kw % kh * self.dilations[0] - self.pads[0]
            column = p % ow * self.strides[1] + k % kw * self.dilations[1] - self.pads[1]
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            first = t.const(0, DType.I64)
            value = x[i, channel, t.select(inside, row, first), t.select(inside, column, first)]
            return t.select(inside, value, t.const(0.0, x.dtype))

        def cotangent(i: Index, g: Index, f: Index, pixel: Index) -> Scalar:
            p = t.cast(pixel, DType.I64)
            return ct[i, t.cast(g, DType.I64) * filters + t.cast(f, DType.I64), p // ow, p % ow]

        def element(i: Index, f: Index, c: Index, row: Index, column: Index) -> Scalar:
            k, tap = t.cast(f, DType.I64), (t.cast(c, DType.I64) * kh + t.cast(row, DType.I64)) * kw
            return products[i, k // filters, k % filters, tap + t.cast(column, DType.I64)]

        windows = t.compute((n, self.groups, taps, pixels), x.dtype, window)
        cts = t.compute((n, self.groups, filters, pixels), x.dtype, cotangent)
        products = t.matmul(cts, windows, False, True)
        return t.compute((n, *self.w_shape), x.dtype, element)


OPS: tuple[type[Op], ...] = (Conv2d, Conv2dInputGrad, Conv2dFilterGrad, Conv2dExampleFilterGrad)
