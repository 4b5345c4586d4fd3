"""The ops of differentially private SGD (Abadi et al., CCS'16, Algorithm 1).

    example  --scale_rows-->  scaled<%c>  --sum over examples-->  clipped<%c>  --noisy_mean-->  public

Only these ops change a label in that direction; passes/privacy_flow.py checks every step.
A row is live iff its clip factor is positive.  Dead rows (padding, or a norm that is not finite) are
selected to zero, never multiplied: 0 * inf is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...runtime.keystream import Domain, blocks_for, normals_from_words, words
from ..ir.core import StateName, Value
from ..ir.stage import Stage
from ..ir.types import DType, Shape, TensorType, dim_mul
from .base import Array, Op
from .emit import Expr, Index, Scalar, Tensor, TvmEmitter
from .kinds import PUBLIC, ExampleKind, Kind, MixedKind, TotalKind

GRADIENT = int(Domain.GRADIENT)
NO_VJP = "the private update is not differentiated"
NO_ONNX = "planned with the ONNX target"


@dataclass(frozen=True, eq=False)
class _Rows(Op):
    """Base: row i of ``x`` (along ``axis``, extent ``pre * N * post``) together with the clip factor ``c[i]``."""

    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    x: Value
    c: Value
    axis: int = 0
    pre: int = 1
    post: int = 1

    def infer(self) -> TensorType:
        rows = dim_mul(self.c.tensor.shape[0], self.pre * self.post)
        if self.c.tensor.rank != 1 or self.c.type.dtype is not DType.F32:
            raise self.fail(f"clip factors are f32[N], not {self.c.type}")
        if self.x.tensor.shape[self.axis] != rows:
            raise self.fail(f"axis {self.axis} of {self.x.type} is not {rows}, the rows of {self.c.type}")
        return self.x.tensor

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return kinds[0]

    def _factor(self, c: Array, rank: int) -> Array:
        """``c`` repeated over the rows of ``x`` and shaped to broadcast against it."""
        repeated = np.tile(np.repeat(c, self.post), self.pre)
        return repeated.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])

    def _lowered(self, t: TvmEmitter, x: Tensor, c: Tensor, scaled: bool) -> Tensor:
        rows, dtype = self.c.tensor.shape[0], self.x.type.dtype

        def element(*index: Index) -> Scalar:
            row: Any = index[self.axis]
            if self.post != 1:
                row = row // self.post
            if self.pre != 1:
                row = row % t.extent(rows)
            factor = c[row]
            value = x[index]
            return t.select(factor > 0.0, value * t.cast(factor, dtype) if scaled else value, t.const(0, dtype))

        if self.pre == self.post == 1 and self.axis == self.x.tensor.rank - 1 == 0:
            return t.pointwise(element_of(t, dtype, scaled), x, c, dtype=dtype)
        return t.compute(self.x.tensor.shape, dtype, element)


def element_of(t: TvmEmitter, dtype: DType, scaled: bool) -> Any:
    """The scalar form of row scaling and row selection."""

    def element(value: Expr, factor: Expr) -> Scalar:
        return t.select(factor > 0.0, value * t.cast(factor, dtype) if scaled else value, t.const(0, dtype))

    return element


class ScaleRows(_Rows):
    """``c[i] * x[i]`` for live rows, 0 for dead ones: the only way from ``example`` to ``scaled<%c>``."""

    name = "dp.scale_rows"

    def evaluate(self, x: Array, c: Array) -> Array:
        factor = self._factor(c, x.ndim)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.where(factor > 0, x * factor.astype(x.dtype), np.zeros((), x.dtype))

    def to_tvm(self, t: TvmEmitter, x: Tensor, c: Tensor) -> Tensor:
        return self._lowered(t, x, c, scaled=True)


class SelectRows(_Rows):
    """``x[i]`` for live rows, 0 for dead ones."""

    name = "dp.select_rows"

    def evaluate(self, x: Array, c: Array) -> Array:
        return np.where(self._factor(c, x.ndim) > 0, x, np.zeros((), x.dtype))

    def to_tvm(self, t: TvmEmitter, x: Tensor, c: Tensor) -> Tensor:
        return self._lowered(t, x, c, scaled=False)


@dataclass(frozen=True, eq=False)
class RowNormSq(Op):
    """``f64[N]``: squared 2-norm of each row of per-example gradients ``f32[N, …]``, summed in float64."""

    name: ClassVar[str] = "dp.row_norm_sq"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    g: Value

    def infer(self) -> TensorType:
        return TensorType(DType.F64, self.g.tensor.shape[:1])

    def evaluate(self, g: Array) -> Array:
        wide = g.reshape(g.shape[0], -1).astype(np.float64)
        return np.einsum("ij,ij->i", wide, wide)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return kinds[0] if kinds[0] == ExampleKind(0) else MixedKind("rows are not examples", self)

    def to_tvm(self, t: TvmEmitter, g: Tensor) -> Tensor:
        def element(row: Expr, *inner: Expr) -> Scalar:
            value = t.cast(g[(row, *inner)], DType.F64)
            return value * value

        shape = self.g.tensor.shape
        return t.reduce("sum", shape[:1], shape[1:], element, DType.F64)


@dataclass(frozen=True, eq=False)
class ClipFactor(Op):
    """``c_i = min(1, C / n_i)`` for live examples, 0 for dead ones; ``f32[N]``.

    ``n_i^2`` is the sum of ``terms`` (each ``f64[N]``, one per parameter of ``params``): the norm of the whole
    concatenated gradient.  Example i is live iff ``mask[i]`` holds and ``n_i`` is finite.
    """

    name: ClassVar[str] = "dp.clip_factor"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    terms: tuple[Value, ...]
    mask: Value
    clip: float
    params: tuple[StateName, ...]

    def infer(self) -> TensorType:
        rows = self.mask.tensor.shape
        if self.mask.type.dtype is not DType.BOOL or self.mask.tensor.rank != 1:
            raise self.fail(f"the mask is bool[N], not {self.mask.type}")
        for term in self.terms:
            if term.type != TensorType(DType.F64, rows):
                raise self.fail(f"a squared norm is {TensorType(DType.F64, rows)}, not {term.type}")
        if len(self.terms) != len(self.params):
            raise self.fail(f"{len(self.terms)} squared norms for {len(self.params)} parameters")
        if not (self.clip > 0 and math.isfinite(self.clip)):
            raise self.fail(f"clip is {self.clip}; it must be positive and finite")
        return TensorType(DType.F32, rows)

    def evaluate(self, terms: tuple[Array, ...], mask: Array) -> Array:
        with np.errstate(all="ignore"):
            norm = np.sqrt(sum(terms, np.zeros(mask.shape)))
            factor = np.where(norm > self.clip, self.clip / norm, 1.0)
        return np.where(mask & np.isfinite(norm), factor, 0.0).astype(np.float32)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        rows = ExampleKind(0)
        return rows if all(k == rows for k in kinds) else MixedKind("norms are not per example", self)

    def to_tvm(self, t: TvmEmitter, terms: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        def element(live: Expr, *norms_sq: Expr) -> Scalar:
            total = norms_sq[0]
            for term in norms_sq[1:]:
                total = total + term
            norm = t.call("sqrt", total)
            factor = t.select(norm > self.clip, t.const(self.clip, DType.F64) / norm, t.const(1, DType.F64))
            return t.cast(t.select(live & t.isfinite(norm), factor, t.const(0, DType.F64)), DType.F32)

        return t.pointwise(element, mask, *terms, dtype=DType.F32)


@dataclass(frozen=True, eq=False)
class ClippedSum(Op):
    """``sum_i c_i g_i`` of materialised per-example gradients ``g``: f32[N, …]."""

    name: ClassVar[str] = "dp.clipped_sum"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    g: Value
    c: Value

    def infer(self) -> TensorType:
        if self.g.tensor.shape[:1] != self.c.tensor.shape:
            raise self.fail(f"{self.g.type} has not one row for each factor of {self.c.type}")
        return TensorType(self.g.type.dtype, self.g.tensor.shape[1:])

    def evaluate(self, g: Array, c: Array) -> Array:
        factor = c.reshape(-1, *[1] * (g.ndim - 1)).astype(g.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.where(factor > 0, g * factor, np.zeros((), g.dtype)).sum(axis=0, dtype=g.dtype)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return TotalKind("sum")

    def to_tvm(self, t: TvmEmitter, g: Tensor, c: Tensor) -> Tensor:
        dtype, shape = self.g.type.dtype, self.g.tensor.shape

        def element(*index: Expr) -> Scalar:
            *inner, row = index
            factor = c[row]
            return t.select(factor > 0.0, g[(row, *inner)] * t.cast(factor, dtype), t.const(0, dtype))

        return t.reduce("sum", shape[1:], shape[:1], element, dtype)


@dataclass(frozen=True, eq=False)
class Accumulate(Op):
    """``acc + x``: clipped sums of the micro-batches of one lot."""

    name: ClassVar[str] = "dp.accumulate"
    first_stage: ClassVar[Stage] = Stage.TARGET
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    acc: Value
    x: Value

    def infer(self) -> TensorType:
        if self.acc.type != self.x.type:
            raise self.fail(f"cannot add {self.x.type} to {self.acc.type}")
        return self.acc.tensor

    def evaluate(self, acc: Array, x: Array) -> Array:
        return acc + x

    def to_tvm(self, t: TvmEmitter, acc: Tensor, x: Tensor) -> Tensor:
        def element(total: Expr, part: Expr) -> Scalar:
            return total + part

        return t.pointwise(element, acc, x)


def words_shape(count: int) -> Shape:
    """Shape of the keystream words that ``count`` normals take."""
    return (16 * blocks_for(count),)


def _words(key: Array, draw: Array, domain: Domain, tensor: int, count: int) -> Array:
    blocks = blocks_for(count)
    return words(key, domain=domain, tensor=tensor, draw=int(draw), count_blocks=blocks).reshape(-1)


@dataclass(frozen=True, eq=False)
class Bits(Op):
    """The keystream of one tensor's noise: ChaCha20 words under a key that no other step sees."""

    name: ClassVar[str] = "dp.bits"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    key: Value
    draw: Value
    tensor: int
    count: int
    domain: int = GRADIENT

    def infer(self) -> TensorType:
        if self.key.type != TensorType(DType.U32, (8,)) or self.draw.type != TensorType(DType.U64, ()):
            raise self.fail(f"key and draw are u32[8] and u64[], not {self.key.type} and {self.draw.type}")
        return TensorType(DType.U32, words_shape(self.count))

    def evaluate(self, key: Array, draw: Array) -> Array:
        return _words(key, draw, Domain(self.domain), self.tensor, self.count)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC

    def to_tvm(self, t: TvmEmitter, key: Tensor, draw: Tensor) -> Tensor:
        return t.chacha_words(key, draw, self.tensor, self.domain, blocks_for(self.count))


@dataclass(frozen=True, eq=False)
class NoisyMean(Op):
    """``(total + sigma * clip * z) / lot`` with z standard normal: the only way to ``public``.

    ``c`` names the factors that clipped ``total``; absent where the total comes from ``lot`` state.
    ``lot`` is the stated lot size, a public constant, never the number of rows at hand.
    """

    name: ClassVar[str] = "dp.noisy_mean"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_tvm: ClassVar[str] = "fused with its bits (dp.add_noise) before lowering"
    no_onnx: ClassVar[str] = NO_ONNX

    total: Value
    c: Value | None
    bits: Value
    sigma: float
    clip: float
    lot: float
    param: StateName

    def infer(self) -> TensorType:
        count = self.total.tensor.numel
        if not isinstance(count, int) or self.bits.type != TensorType(DType.U32, words_shape(count)):
            raise self.fail(f"{self.bits.type} are not the keystream words of {self.total.type}")
        return self.total.tensor

    def evaluate(self, total: Array, c: Array | None, bits: Array) -> Array:
        return _noisy_mean(total, bits, self.sigma * self.clip, self.lot)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC


def _noisy_mean(total: Array, bits: Array, std: float, lot: float) -> Array:
    noise = normals_from_words(bits, total.size).reshape(total.shape)
    dtype = total.dtype.type
    return (total + dtype(std) * noise.astype(total.dtype)) * dtype(1.0 / lot)


@dataclass(frozen=True, eq=False)
class AddNoise(Op):
    """``dp.noisy_mean`` of ``dp.bits`` in one kernel: the keystream never reaches memory."""

    name: ClassVar[str] = "dp.add_noise"
    first_stage: ClassVar[Stage] = Stage.TARGET
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    total: Value
    c: Value | None
    key: Value
    draw: Value
    tensor: int
    sigma: float
    clip: float
    lot: float
    param: StateName

    def infer(self) -> TensorType:
        return self.total.tensor

    def evaluate(self, total: Array, c: Array | None, key: Array, draw: Array) -> Array:
        bits = _words(key, draw, Domain.GRADIENT, self.tensor, total.size)
        return _noisy_mean(total, bits, self.sigma * self.clip, self.lot)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC

    def to_tvm(self, t: TvmEmitter, total: Tensor, c: Tensor | None, key: Tensor, draw: Tensor) -> Tensor:
        shape, dtype = self.total.tensor.shape, self.total.type.dtype
        normals = t.chacha_normals(key, draw, self.tensor, GRADIENT, self.total.tensor.numel)
        std, scale = t.const(self.sigma * self.clip, dtype), t.const(1.0 / self.lot, dtype)

        def element(*index: Expr) -> Scalar:
            flat: Any = 0
            for position, extent in zip(index, shape, strict=True):
                flat = flat * extent + position
            return (total[index] + std * t.cast(normals[flat], dtype)) * scale

        return t.compute(shape, dtype, element)


OPS: tuple[type[Op], ...] = (
    ScaleRows, SelectRows, RowNormSq, ClipFactor, ClippedSum, Accumulate, Bits, NoisyMean, AddNoise,
)  # fmt: skip
