"""Normalisation.  One core op, ``norm.standardize``, carries the kernel and the gradient; the layers are
it (or stored statistics) followed by a scale and a shift, which fuse into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import Dim, DType, Shape, TensorType, numel
from .base import Array, Op, OpBuilder, normal_axis
from .composite import Composite
from .emit import Expr, Index, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import ExampleKind, Kind, MixedKind, PublicKind, default_kind


def _require_float(op: Op, x: Value) -> TensorType:
    kind = x.tensor
    if not kind.dtype.is_float:
        raise op.fail(f"normalises floating-point values, not {kind}")
    return kind


@dataclass(frozen=True, eq=False)
class Standardize(Op):
    """``(x - mean) / sqrt(var + epsilon)`` over ``axes``: results ``(y, mean, var)``.

    ``mean`` and ``var`` (biased: divided by the count) keep extent 1 along ``axes``, which count from 0.
    """

    name: ClassVar[str] = "norm.standardize"

    x: Value
    axes: tuple[int, ...]
    epsilon: float = 1e-5

    def infer(self) -> tuple[TensorType, TensorType, TensorType]:
        kind = _require_float(self, self.x)
        if not self.axes or any(normal_axis(self, axis, kind.rank) != axis for axis in self.axes):
            raise self.fail(f"axes {self.axes} are not axes of {kind} counted from 0")
        kept = kind.with_shape(1 if i in self.axes else dim for i, dim in enumerate(kind.shape))
        return kind, kept, kept

    @property
    def count(self) -> Dim:
        """Elements that share one mean."""
        return numel(self.x.tensor.shape[axis] for axis in self.axes)

    def evaluate(self, x: Array) -> tuple[Array, Array, Array]:
        wide = x.astype(_accumulator(self.x.type.dtype).numpy)
        with np.errstate(invalid="ignore", over="ignore"):
            mean = wide.mean(axis=self.axes, keepdims=True)
            var = np.square(wide - mean).mean(axis=self.axes, keepdims=True)
            y = (wide - mean) / np.sqrt(var + wide.dtype.type(self.epsilon))
        return y.astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        ct, ct_mean, ct_var = cts
        y, _, var = self.results
        moved = b.scale(var, 1.0, self.epsilon)
        dx: Value | None = None
        if ct is not None:
            # Moving x along a constant or along y itself changes nothing: both are projected out.
            level = b.reduce_mean(ct, self.axes, keepdims=True)
            slope = b.reduce_mean(b.mul(ct, y), self.axes, keepdims=True)
            dx = b.mul(b.sub(b.sub(ct, level), b.mul(y, slope)), b.rsqrt(moved))
        if ct_var is not None:
            each = self._per_element(b, b.scale(b.mul(ct_var, b.sqrt(moved)), 2.0))
            dx = _plus(b, dx, b.mul(y, each))
        if ct_mean is not None:
            dx = _plus(b, dx, b.broadcast(self._per_element(b, ct_mean), self.x.tensor.shape))
        return (dx,)

    def _per_element(self, b: OpBuilder, total: Value) -> Value:
        count = self.count
        if isinstance(count, int):
            return b.scale(total, 1.0 / count)
        return b.div(total, b.extent(count, total.type.dtype))

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, Kind, Kind]:
        (kind,) = kinds
        over_batch = isinstance(kind, ExampleKind) and kind.axis in self.axes
        if over_batch or (isinstance(kind, PublicKind) and not isinstance(self.count, int)):
            kind = MixedKind(
                f"{self.loc.layer or self.name} takes mean and variance over the examples of a batch",
                self,
                "use group_norm or layer_norm, or use_global_stats",
            )
        elif not isinstance(kind, ExampleKind | PublicKind):
            kind = default_kind(self, kinds)
        return kind, kind, kind

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rank, wide = len(x.shape), _accumulator(x.dtype)
        kept = self.results[1].tensor.shape
        extents: Shape = tuple(x.shape[axis] for axis in self.axes)

        def at(index: tuple[Index, ...]) -> Expr:
            """Element of a row (the first ``rank`` numbers) at a place along the axes."""
            place = list(index[:rank])
            for axis, along in zip(self.axes, index[rank:], strict=True):
                place[axis] = along
            return t.cast(x[tuple(place)], wide)

        def row(index: tuple[Index, ...]) -> tuple[Index, ...]:
            return tuple(0 if i in self.axes else place for i, place in enumerate(index))

        def share(total: Expr) -> Scalar:
            return total / t.cast(t.extent(self.count), wide)

        def square(*index: Index) -> Scalar:
            away = at(index) - mean[index[:rank]]
            return away * away

        def inverse(variance: Expr) -> Scalar:
            return t.call("rsqrt", variance + self.epsilon)

        def element(*index: Index) -> Scalar:
            away = t.cast(x[index], wide) - mean[row(index)]
            return t.cast(away * inverses[row(index)], x.dtype)

        def narrow(a: Expr) -> Scalar:
            return t.cast(a, x.dtype)

        mean = t.pointwise(share, t.reduce("sum", kept, extents, lambda *i: at(i), wide), dtype=wide)
        var = t.pointwise(share, t.reduce("sum", kept, extents, square, wide), dtype=wide)
        inverses = t.pointwise(inverse, var, dtype=wide)
        y = t.compute(x.shape, x.dtype, element)
        return y, t.pointwise(narrow, mean, dtype=x.dtype), t.pointwise(narrow, var, dtype=x.dtype)

    def to_onnx(self, o: OnnxEmitter, x: str) -> tuple[str, ...]:
        # LayerNormalization is no faster in ONNX Runtime, and takes the variance from sums that cancel.
        dtype, axes = self.x.type.dtype, o.ints(*self.axes)
        wide = _accumulator(dtype)
        x = x if wide is dtype else o.cast(x, wide)
        mean = o.node("ReduceMean", x, axes)
        away = o.node("Sub", x, mean)
        var = o.node("ReduceMean", o.node("Mul", away, away), axes)
        moved = o.node("Add", var, o.scalar(self.epsilon, wide))
        # In this order, a variance that has overflowed makes 0, not NaN (`unary.Sqrt`).
        y = o.node("Mul", away, o.node("Sqrt", o.node("Reciprocal", moved)))
        return tuple(result if wide is dtype else o.cast(result, dtype) for result in (y, mean, var))


def _accumulator(dtype: DType) -> DType:
    """Statistics of half-precision values are taken in single."""
    return DType.F32 if dtype in (DType.F16, DType.BF16) else dtype


def _plus(b: OpBuilder, x: Value | None, y: Value) -> Value:
    return y if x is None else b.add(x, y)


def _affine(b: OpBuilder, y: Value, scale: Value | None, bias: Value | None, shape: Shape) -> Value:
    """``y * scale + bias``, both seen as ``shape``."""
    if scale is not None:
        y = b.mul(y, b.reshape(scale, shape))
    if bias is not None:
        y = b.add(y, b.reshape(bias, shape))
    return y


@dataclass(frozen=True, eq=False)
class Affine(Composite):
    """Base of the layers: ``scale`` and ``bias`` hold one number per ``what``."""

    x: Value
    scale: Value | None
    bias: Value | None

    def check_affine(self, count: Dim, what: str) -> None:
        """Raise VerifyError unless scale and bias have ``count`` numbers of x's type."""
        for value in (self.scale, self.bias):
            if value is not None and value.type != TensorType(self.x.type.dtype, (count,)):
                raise self.fail(f"scale and bias hold one number per {what}, [{count}], not {value.type}")


@dataclass(frozen=True, eq=False)
class LayerNorm(Affine):
    """Standardise every row, where axes from ``begin`` on are one row; then scale and shift its elements.

    Results ``(y, mean, var)``; ``mean`` and ``var`` are ``[rows]``, scale and bias ``[elements of a row]``.
    """

    name: ClassVar[str] = "norm.layer"

    begin: int = 1
    epsilon: float = 1e-5

    def infer(self) -> tuple[TensorType, TensorType, TensorType]:
        kind = _require_float(self, self.x)
        if not 0 < self.begin < kind.rank:
            raise self.fail(f"begin_norm_axis {self.begin} leaves no rows of {kind} to normalise")
        self.check_affine(numel(kind.shape[self.begin :]), "element of a row")
        rows = kind.with_shape((numel(kind.shape[: self.begin]),))
        return kind, rows, rows

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        shape = self.x.tensor.shape
        rows = self.results[1].tensor.shape
        y, mean, var = b.emit(Standardize(self.x, tuple(range(self.begin, len(shape))), self.epsilon))
        y = _affine(b, y, self.scale, self.bias, shape[self.begin :])
        return y, b.reshape(mean, rows), b.reshape(var, rows)


@dataclass(frozen=True, eq=False)
class GroupNorm(Affine):
    """Standardise each of ``groups`` groups of channels of every example; then scale and shift by channel.

    ``x`` is ``[N, C, ...]``.  Results ``(y, mean, var)``; ``mean`` and ``var`` are ``[N, groups]``.
    """

    name: ClassVar[str] = "norm.group"

    groups: int = 1
    epsilon: float = 1e-5

    def infer(self) -> tuple[TensorType, TensorType, TensorType]:
        kind = _require_float(self, self.x)
        if kind.rank < 2 or self.groups < 1 or not _divides(self.groups, kind.shape[1]):
            raise self.fail(f"{self.groups} groups do not divide the channels (axis 1) of {kind}")
        self.check_affine(kind.shape[1], "channel")
        rows = kind.with_shape((kind.shape[0], self.groups))
        return kind, rows, rows

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        shape = self.x.tensor.shape
        rows = self.results[1].tensor.shape
        channels = shape[1]
        assert isinstance(channels, int)
        grouped = b.reshape(self.x, (*rows, channels // self.groups, *shape[2:]))
        axes = tuple(range(2, grouped.tensor.rank))
        y, mean, var = b.emit(Standardize(grouped, axes, self.epsilon))
        y = _affine(b, b.reshape(y, shape), self.scale, self.bias, (channels, *(1 for _ in shape[2:])))
        return y, b.reshape(mean, rows), b.reshape(var, rows)


def _divides(groups: int, channels: Dim) -> bool:
    return isinstance(channels, int) and channels % groups == 0


@dataclass(frozen=True, eq=False)
class InstanceNorm(Affine):
    """Standardise every channel of every example on its own; then scale and shift by channel."""

    name: ClassVar[str] = "norm.instance"

    epsilon: float = 1e-5

    def infer(self) -> TensorType:
        kind = _require_float(self, self.x)
        if kind.rank < 3:
            raise self.fail(f"needs examples, channels and at least one more axis, not {kind}")
        self.check_affine(kind.shape[1], "channel")
        return kind

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        shape = self.x.tensor.shape
        y, _, _ = b.emit(Standardize(self.x, tuple(range(2, len(shape))), self.epsilon))
        return (_affine(b, y, self.scale, self.bias, (shape[1], *(1 for _ in shape[2:]))),)


@dataclass(frozen=True, eq=False)
class BatchNorm(Affine):
    """Batch normalisation (Ioffe and Szegedy, ICML'15), channels on ``axis``.

    Results ``(y, new mean, new variance, batch mean, batch variance)``, statistics ``[C]``.  In training the
    batch's statistics are used, and the running ones become ``momentum * old + (1 - momentum) * batch``, with
    the biased variance.  With ``stored`` (is_test, use_global_stats) the running statistics are used and kept,
    and stand in for the batch's.
    """

    name: ClassVar[str] = "norm.batch"

    mean: Value
    variance: Value
    momentum: float = 0.9
    epsilon: float = 1e-5
    stored: bool = False
    axis: int = 1

    def infer(self) -> tuple[TensorType, ...]:
        kind = _require_float(self, self.x)
        channels = kind.shape[normal_axis(self, self.axis, kind.rank)]
        self.check_affine(channels, "channel")
        row = TensorType(kind.dtype, (channels,))
        for value in (self.mean, self.variance):
            if value.type != row:
                raise self.fail(f"running statistics of {kind} have type {row}, not {value.type}")
        return (kind, row, row, row, row)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        shape = self.x.tensor.shape
        axis = self.axis % len(shape)
        channels: Shape = (shape[axis],)
        column = (*channels, *(1 for _ in shape[axis + 1 :]))
        if self.stored:
            deviation = b.sqrt(b.scale(b.reshape(self.variance, column), 1.0, self.epsilon))
            y = b.div(b.sub(self.x, b.reshape(self.mean, column)), deviation)
            y = _affine(b, y, self.scale, self.bias, column)
            return y, self.mean, self.variance, self.mean, self.variance
        others = tuple(i for i in range(len(shape)) if i != axis)
        y, mean, var = b.emit(Standardize(self.x, others, self.epsilon))
        mean, var = b.reshape(mean, channels), b.reshape(var, channels)
        return (
            _affine(b, y, self.scale, self.bias, column),
            self._moved(b, self.mean, mean),
            self._moved(b, self.variance, var),
            mean,
            var,
        )

    def _moved(self, b: OpBuilder, old: Value, new: Value) -> Value:
        return b.add(b.scale(old, self.momentum), b.scale(new, 1.0 - self.momentum))


OPS: tuple[type[Op], ...] = (Standardize, LayerNorm, GroupNorm, InstanceNorm, BatchNorm)
