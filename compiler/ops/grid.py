"""The ops of ``mechanism="discrete"``: clipped gradients on an integer grid (privacy documentation: discrete).

    t_i = trunc(c_i g_i / gamma),  gamma = C / K,  K = 2^bits

Integers of at most K, of norm at most K over all parameters of an example together: the check is in int64, so it holds
whatever the norms, the factors and the gradients were rounded to.  Sums of integers are exact, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.core import StateName, Value
from ..ir.stage import Stage
from ..ir.types import DType, TensorType
from .base import Array, Op
from .emit import Expr, Scalar, Tensor, TvmEmitter
from .kinds import PUBLIC, ExampleKind, Kind, MixedKind, TotalKind

NO_VJP = "the private update is not differentiated"
NO_ONNX = "ONNX Runtime does not promise to compute every row of a batch alike"

TARGET = 1 - 2.0**-10
"""Share of C that gradients are clipped to: float norms may be a little short, and none is to miss the grid for it."""
MAX_BITS = 62
"""Bits of the largest sum of squares that is checked: 2 bits + log2 P for P trained numbers."""


@dataclass(frozen=True, eq=False)
class _OnGrid(Op):
    """Base: the gradients ``g`` (f32[N, ...]) of a parameter, example by example, times the factors ``c`` (f32[N]).

    Every op computes the same integers: the product of two float32 numbers is exact in float64, one product with
    ``1 / gamma`` rounds, and truncation is exact.
    """

    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    g: Value
    c: Value
    clip: float
    bits: int

    def check(self) -> None:
        """Raise VerifyError unless operands and attributes fit."""
        _check_grid(self, self.clip, self.bits)
        if self.c.tensor.rank != 1 or self.c.type.dtype is not DType.F32:
            raise self.fail(f"clip factors are f32[N], not {self.c.type}")
        if self.g.type.dtype not in (DType.F32, DType.F64):
            raise self.fail(f"gradients are f32 or f64, not {self.g.type}")
        if self.g.tensor.shape[:1] != self.c.tensor.shape:
            raise self.fail(f"{self.g.type} has not one row for each factor of {self.c.type}")

    def integers(self, g: Array, c: Array) -> tuple[Array, Array]:
        """i64, the shape of ``g``; and where they are on the grid (elsewhere they are 0)."""
        with np.errstate(all="ignore"):
            scaled = c.reshape(-1, *[1] * (g.ndim - 1)).astype(np.float64) * g.astype(np.float64) * self._scale
        fits = np.abs(scaled) < 2.0**self.bits + 1  # false for NaN
        return np.where(fits, scaled, 0.0).astype(np.int64), fits

    def integer_tvm(self, t: TvmEmitter, g: Expr, c: Expr) -> tuple[Expr, Expr]:
        """As ``integers``, of one element."""
        scaled = t.cast(c, DType.F64) * t.cast(g, DType.F64) * self._scale
        limit = 2.0**self.bits + 1
        fits = (scaled < limit) & (scaled > -limit)
        # Of at most 30 bits: conversion to i32 is one instruction for a whole vector, to i64 it is not.
        return t.cast(t.cast(t.select(fits, scaled, t.const(0, DType.F64)), DType.I32), DType.I64), fits

    @property
    def _scale(self) -> float:
        return 2.0**self.bits / self.clip


def _check_grid(op: Op, clip: float, bits: int) -> None:
    if not (clip > 0 and math.isfinite(clip)):
        raise op.fail(f"clip is {clip}; it must be positive and finite")
    if not 1 <= bits <= 30:
        raise op.fail(f"a grid of 2^{bits} steps is outside 2^1 ... 2^30")


class GridNormSq(_OnGrid):
    """``i64[N]``: ``sum_j t_ij^2``; a ``t_ij`` beyond K, or not a number, counts as more than K^2."""

    name = "dp.grid_norm_sq"

    def infer(self) -> TensorType:
        self.check()
        return TensorType(DType.I64, self.g.tensor.shape[:1])

    def evaluate(self, g: Array, c: Array) -> Array:
        whole, fits = self.integers(g, c)
        squares = np.where(fits, whole * whole, 4**self.bits + 1)
        return squares.reshape(g.shape[0], -1).sum(axis=1, dtype=np.int64)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        rows = ExampleKind(0)
        return rows if all(kind == rows for kind in kinds) else MixedKind("rows are not examples", self)

    def to_tvm(self, t: TvmEmitter, g: Tensor, c: Tensor) -> Tensor:
        def element(row: Expr, *inner: Expr) -> Scalar:
            whole, fits = self.integer_tvm(t, g[(row, *inner)], c[row])
            return t.select(fits, whole * whole, t.const(4**self.bits + 1, DType.I64))

        shape = self.g.tensor.shape
        return t.reduce("sum", shape[:1], shape[1:], element, DType.I64)


@dataclass(frozen=True, eq=False)
class GridLive(Op):
    """``f32[N]``: ``c[i]`` where the integers of example i have a norm of at most K, else 0.

    ``terms`` are the squared norms (``dp.grid_norm_sq``), one per parameter of ``params``: that of the whole
    concatenated gradient.
    """

    name: ClassVar[str] = "dp.grid_live"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    terms: tuple[Value, ...]
    c: Value
    bits: int
    params: tuple[StateName, ...]

    def infer(self) -> TensorType:
        _check_grid(self, 1.0, self.bits)
        kind = self.c.tensor
        if kind.rank != 1 or kind.dtype is not DType.F32:
            raise self.fail(f"clip factors are f32[N], not {kind}")
        for term in self.terms:
            if term.type != kind.with_dtype(DType.I64):
                raise self.fail(f"a squared norm is {kind.with_dtype(DType.I64)}, not {term.type}")
        if len(self.terms) != len(self.params) or not self.terms:
            raise self.fail(f"{len(self.terms)} squared norms for {len(self.params)} parameters")
        return kind

    def evaluate(self, terms: tuple[Array, ...], c: Array) -> Array:
        total = np.sum(terms, axis=0, dtype=np.int64)
        return np.where((total <= 4**self.bits) & (c > 0), c, np.float32(0))

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        rows = ExampleKind(0)
        return rows if all(kind == rows for kind in kinds) else MixedKind("norms are not per example", self)

    def to_tvm(self, t: TvmEmitter, terms: tuple[Tensor, ...], c: Tensor) -> Tensor:
        def element(factor: Expr, *norms_sq: Expr) -> Scalar:
            total = norms_sq[0]
            for term in norms_sq[1:]:
                total = total + term
            live = (total <= t.const(4**self.bits, DType.I64)) & (factor > 0.0)
            return t.select(live, factor, t.const(0, DType.F32))

        return t.pointwise(element, c, *terms, dtype=DType.F32)


class GridSum(_OnGrid):
    """``sum_i t_i``, i64 of the parameter's shape, over the examples that ``c`` (``dp.grid_live``) left alive."""

    name = "dp.grid_sum"

    def infer(self) -> TensorType:
        self.check()
        return TensorType(DType.I64, self.g.tensor.shape[1:])

    def evaluate(self, g: Array, c: Array) -> Array:
        return self.integers(g, c)[0].sum(axis=0, dtype=np.int64)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return TotalKind("sum")

    def to_tvm(self, t: TvmEmitter, g: Tensor, c: Tensor) -> Tensor:
        shape = self.g.tensor.shape

        def element(*index: Expr) -> Scalar:
            *inner, row = index
            return self.integer_tvm(t, g[(row, *inner)], c[row])[0]

        return t.reduce("sum", shape[1:], shape[:1], element, DType.I64)


@dataclass(frozen=True, eq=False)
class GridMean(Op):
    """``(total + noise) gamma / lot``: the only way from integers to ``public``.

    ``noise`` is the runtime's: ``round(sigma K z)`` with z standard normal.  Sum and noise are exact; what follows is
    rounded, and is post-processing.  ``c`` names the factors behind ``total``; absent where it comes from ``lot``
    state.
    """

    name: ClassVar[str] = "dp.grid_mean"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_onnx: ClassVar[str] = NO_ONNX

    total: Value
    c: Value | None
    noise: Value
    clip: float
    bits: int
    lot: float
    param: StateName
    dtype: DType = DType.F32

    def infer(self) -> TensorType:
        _check_grid(self, self.clip, self.bits)
        kind = self.total.tensor
        if kind.dtype is not DType.I64 or self.noise.type != kind:
            raise self.fail(f"sum and noise are i64 of one shape, not {kind} and {self.noise.type}")
        if self.dtype not in (DType.F32, DType.F64):
            raise self.fail(f"the mean is f32 or f64, not {self.dtype.value}")
        return kind.with_dtype(self.dtype)

    @property
    def _unit(self) -> float:
        return self.clip * 2.0**-self.bits / self.lot

    def evaluate(self, total: Array, c: Array | None, noise: Array) -> Array:
        number: Any = self.dtype.numpy.type
        return ((total + noise).astype(np.float64) * self._unit).astype(number)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC

    def to_tvm(self, t: TvmEmitter, total: Tensor, c: Tensor | None, noise: Tensor) -> Tensor:
        def element(s: Expr, y: Expr) -> Scalar:
            return t.cast(t.cast(s + y, DType.F64) * self._unit, self.dtype)

        return t.pointwise(element, total, noise, dtype=self.dtype)


OPS: tuple[type[Op], ...] = (GridNormSq, GridLive, GridSum, GridMean)
