"""The ops of differentially private SGD (Abadi et al., CCS'16, Algorithm 1).

    example  --scale_rows-->  scaled<%c>  --sum over examples-->  clipped<%c>  --noisy_mean-->  public

Only these ops, and those of dp_noise.py, change a label in that direction; passes/privacy_flow.py checks every step.
A row is live iff its clip factor is positive.  Dead rows (padding, or a norm that is not finite) are
selected to zero, never multiplied: 0 * inf is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.core import StateName, Value
from ..ir.stage import Stage
from ..ir.types import DType, Shape, TensorType, dim_mul, numel
from .base import Array, Op
from .emit import Expr, Index, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import PUBLIC, ExampleKind, Kind, MixedKind, TotalKind
from .onnx_forms import selected

SMALLEST = 2.0**-126
"""Least normal float32.  Smaller numbers keep few bits: a factor that is rounded up breaks the bound."""
BOUND = TensorType(DType.F32, (1,))
"""The type of a clip bound that is a value."""

NO_VJP = "the private update is not differentiated"


@dataclass(frozen=True, eq=False)
class _Rows(Op):
    """Base: row i of ``x`` (along ``axis``, extent ``pre * N * post``) together with the clip factor ``c[i]``."""

    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP

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
        one = element_of(t, dtype, scaled)

        def element(*index: Index) -> Scalar:
            row: Any = index[self.axis]
            if self.post != 1:
                row = row // self.post
            if self.pre != 1:
                row = row % t.extent(rows)
            return one(x[index], c[row])

        if self.pre == self.post == 1 and self.axis == self.x.tensor.rank - 1 == 0:
            return t.pointwise(one, x, c, dtype=dtype)
        return t.compute(self.x.tensor.shape, dtype, element)

    def _factor_onnx(self, o: OnnxEmitter, c: str) -> str:
        """As ``_factor``, of a value with an entry for every row."""
        rows, trailing = self.c.tensor.shape[0], (1,) * (self.x.tensor.rank - 1 - self.axis)
        if self.pre != 1 or self.post != 1:
            c = o.expand(o.reshape(c, (rows, 1)), (self.pre, rows, self.post))
        elif not trailing:
            return c
        return o.reshape(c, (self.x.tensor.shape[self.axis], *trailing))


def element_of(t: TvmEmitter, dtype: DType, scaled: bool) -> Any:
    """The scalar form of row scaling and row selection."""

    def element(value: Expr, factor: Expr) -> Scalar:
        if not scaled:
            return t.select(factor > 0.0, value, t.const(0, dtype))
        product: Any = value * t.cast(factor, dtype)
        # Where the factor is 0, the product is 0 or NaN: neither passes.
        return t.select(t.call("abs", product) >= SMALLEST, product, t.const(0, dtype))

    return element


class ScaleRows(_Rows):
    """``c[i] * x[i]`` for live rows, 0 for dead ones: the only way from ``example`` to ``scaled<%c>``.

    Products below the least normal float32 are 0: rounded up, and multiplied with large numbers of the same row, they
    would move the sum by more than the row's norm says.
    """

    name = "dp.scale_rows"

    def evaluate(self, x: Array, c: Array) -> Array:
        factor = self._factor(c, x.ndim)
        with np.errstate(invalid="ignore", over="ignore"):
            product = x * factor.astype(x.dtype)
            return np.where(np.abs(product) >= SMALLEST, product, np.zeros((), x.dtype))

    def to_tvm(self, t: TvmEmitter, x: Tensor, c: Tensor) -> Tensor:
        return self._lowered(t, x, c, scaled=True)

    def to_onnx(self, o: OnnxEmitter, x: str, c: str) -> str:
        dtype = self.x.type.dtype
        factor = self._factor_onnx(o, c if dtype is DType.F32 else o.cast(c, dtype))
        product = o.node("Mul", x, factor)
        kept = o.node("GreaterOrEqual", o.node("Abs", product), o.scalar(SMALLEST, dtype))
        return selected(o, kept, product, self.x.tensor)


class SelectRows(_Rows):
    """``x[i]`` for live rows, 0 for dead ones."""

    name = "dp.select_rows"

    def evaluate(self, x: Array, c: Array) -> Array:
        return np.where(self._factor(c, x.ndim) > 0, x, np.zeros((), x.dtype))

    def to_tvm(self, t: TvmEmitter, x: Tensor, c: Tensor) -> Tensor:
        return self._lowered(t, x, c, scaled=False)

    def to_onnx(self, o: OnnxEmitter, x: str, c: str) -> str:
        live = self._factor_onnx(o, o.node("Greater", c, o.scalar(0, DType.F32)))
        return selected(o, live, x, self.x.tensor)


@dataclass(frozen=True, eq=False)
class RowNormSq(Op):
    """``f64[N]``: squared 2-norm of each row of per-example gradients ``f32[N, …]``, summed in float64."""

    name: ClassVar[str] = "dp.row_norm_sq"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP

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

    def to_onnx(self, o: OnnxEmitter, g: str) -> str:
        wide, rank = o.cast(g, DType.F64), self.g.tensor.rank
        if rank == 1:
            return o.node("Mul", wide, wide)
        return o.node("ReduceSumSquare", wide, o.ints(*range(1, rank)), keepdims=0)


@dataclass(frozen=True, eq=False)
class ClipFactor(Op):
    """``c_i = min(1, C / n_i)`` for live examples, 0 for dead ones; ``f32[N]``.

    ``n_i^2`` is the sum of ``terms`` (each ``f64[N]``, one per parameter of ``params``): the norm of the group's
    concatenated gradient.  Example i is live iff ``mask[i]`` holds, ``n_i`` is finite, and the factor is a normal
    float32: one below 2^-126 is rounded by up to its double.

    With ``gamma`` > 0 the factor is ``C / (n_i + gamma)`` (automatic clipping: Bu et al., NeurIPS'23, AUTO-S).
    With ``bound`` (f32[1], a public value) C is its value at run time, and ``clip`` only where it starts.
    """

    name: ClassVar[str] = "dp.clip_factor"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP

    terms: tuple[Value, ...]
    mask: Value
    clip: float
    params: tuple[StateName, ...]
    gamma: float = 0.0
    bound: Value | None = None

    def infer(self) -> TensorType:
        rows = _check_norms(self, self.terms, self.mask, self.params)
        if not (self.clip > 0 and math.isfinite(self.clip)):
            raise self.fail(f"clip is {self.clip}; it must be positive and finite")
        if not (self.gamma >= 0 and math.isfinite(self.gamma)):
            raise self.fail(f"gamma is {self.gamma}; it must be finite and not negative")
        check_bound(self, self.bound)
        return TensorType(DType.F32, rows)

    def evaluate(self, terms: tuple[Array, ...], mask: Array, bound: Array | None) -> Array:
        clip = np.float64(self.clip if bound is None else bound[0])
        with np.errstate(all="ignore"):
            norm = np.sqrt(sum(terms, np.zeros(mask.shape)))
            factor = clip / (norm + self.gamma) if self.gamma else np.where(norm > clip, clip / norm, 1.0)
        return np.where(mask & np.isfinite(norm) & (factor >= SMALLEST), factor, 0.0).astype(np.float32)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return ExampleKind(0) if _rows_of_examples(kinds, self.bound) else MixedKind("norms are not per example", self)

    def to_tvm(self, t: TvmEmitter, terms: tuple[Tensor, ...], mask: Tensor, bound: Tensor | None) -> Tensor:
        def element(live: Expr, *others: Expr) -> Scalar:
            norms_sq = others[: len(terms)]
            norm = t.call("sqrt", _total(norms_sq))
            clip = t.const(self.clip, DType.F64) if bound is None else t.cast(others[-1], DType.F64)
            if self.gamma:
                factor = clip / (norm + self.gamma)
            else:
                factor = t.select(norm > clip, clip / norm, t.const(1, DType.F64))
            kept = live & t.isfinite(norm) & (factor >= SMALLEST)
            return t.cast(t.select(kept, factor, t.const(0, DType.F64)), DType.F32)

        return t.pointwise(element, mask, *terms, *(() if bound is None else (bound,)), dtype=DType.F32)

    def to_onnx(self, o: OnnxEmitter, terms: tuple[str, ...], mask: str, bound: str | None) -> str:
        norm = _norm_onnx(o, terms)
        clip = o.scalar(self.clip, DType.F64) if bound is None else o.cast(bound, DType.F64)
        if self.gamma:
            factor = o.node("Div", clip, o.node("Add", norm, o.scalar(self.gamma, DType.F64)))
        else:  # rounded to nearest, C / n is below 1 only where n is above C
            factor = o.node("Min", o.node("Div", clip, norm), o.scalar(1, DType.F64))
        normal = o.node("GreaterOrEqual", factor, o.scalar(SMALLEST, DType.F64))
        kept = o.node("And", _live_onnx(o, mask, norm), normal)
        return o.cast(o.node("Where", kept, factor, o.scalar(0, DType.F64)), DType.F32)


def _check_norms(op: Op, terms: tuple[Value, ...], mask: Value, params: tuple[StateName, ...]) -> Shape:
    """The shape ``(N,)`` of the squared norms; raises VerifyError unless there is one of f64 per parameter."""
    rows = mask.tensor.shape
    if mask.type.dtype is not DType.BOOL or mask.tensor.rank != 1:
        raise op.fail(f"the mask is bool[N], not {mask.type}")
    for term in terms:
        if term.type != TensorType(DType.F64, rows):
            raise op.fail(f"a squared norm is {TensorType(DType.F64, rows)}, not {term.type}")
    if not terms or len(terms) != len(params):
        raise op.fail(f"{len(terms)} squared norms for {len(params)} parameters")
    return rows


def check_bound(op: Op, bound: Value | None) -> None:
    """Raises VerifyError unless a bound that is a value is one number."""
    if bound is not None and bound.type != BOUND:
        raise op.fail(f"a clip bound is {BOUND}, not {bound.type}")


def _rows_of_examples(kinds: Sequence[Kind], bound: Value | None) -> bool:
    """Whether norms and mask are one per example, and the bound, which comes last, is public."""
    rows = kinds if bound is None else kinds[:-1]
    return all(kind == ExampleKind(0) for kind in rows) and (bound is None or kinds[-1] == PUBLIC)


def _norm_onnx(o: OnnxEmitter, terms: Sequence[str]) -> str:
    """The norms, f64[N], of gradients whose parts have the squared norms ``terms``."""
    total = terms[0]
    for term in terms[1:]:
        total = o.node("Add", total, term)
    return o.node("Sqrt", total)


def _live_onnx(o: OnnxEmitter, mask: str, norm: str) -> str:
    """bool[N]: the rows of the mask whose norm is finite; NaN is below no number."""
    finite = o.node("LessOrEqual", norm, o.scalar(float(np.finfo(np.float64).max), DType.F64))
    return o.node("And", mask, finite)


def _total(terms: Sequence[Expr]) -> Expr:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


@dataclass(frozen=True, eq=False)
class CountBelow(Op):
    """``sum_i ([n_i <= C] - 1/2)`` over live examples, with C the value of ``bound``; ``f32[]``, exact below 2^23 rows.

    Norms and live examples are those of `ClipFactor`.  One example changes the sum by 1/2, so it is a clipped sum
    with bound 1/2.  Source: Andrew et al. (NeurIPS'21).
    """

    name: ClassVar[str] = "dp.count_below"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP

    terms: tuple[Value, ...]
    mask: Value
    bound: Value
    params: tuple[StateName, ...]

    def infer(self) -> TensorType:
        _check_norms(self, self.terms, self.mask, self.params)
        check_bound(self, self.bound)
        return TensorType(DType.F32, ())

    def evaluate(self, terms: tuple[Array, ...], mask: Array, bound: Array) -> Array:
        with np.errstate(all="ignore"):
            norm = np.sqrt(sum(terms, np.zeros(mask.shape)))
        votes = np.where(norm <= np.float64(bound[0]), 0.5, -0.5)
        return np.asarray(np.where(mask & np.isfinite(norm), votes, 0.0).sum(), np.float32)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if _rows_of_examples(kinds, self.bound):
            return TotalKind("sum")
        return MixedKind("norms are not per example", self)

    def to_tvm(self, t: TvmEmitter, terms: tuple[Tensor, ...], mask: Tensor, bound: Tensor) -> Tensor:
        def element(row: Expr) -> Scalar:
            norm = t.call("sqrt", _total([term[row] for term in terms]))
            below = norm <= t.cast(bound[0], DType.F64)
            vote = t.select(below, t.const(0.5, DType.F32), t.const(-0.5, DType.F32))
            return t.select(mask[row] & t.isfinite(norm), vote, t.const(0, DType.F32))

        return t.reduce("sum", (), self.mask.tensor.shape, element, DType.F32)

    def to_onnx(self, o: OnnxEmitter, terms: tuple[str, ...], mask: str, bound: str) -> str:
        norm, half = _norm_onnx(o, terms), o.scalar(0.5, DType.F32)
        below = o.node("LessOrEqual", norm, o.cast(bound, DType.F64))
        votes = o.node("Where", below, half, o.scalar(-0.5, DType.F32))
        votes = o.node("Where", _live_onnx(o, mask, norm), votes, o.scalar(0, DType.F32))
        return o.node("ReduceSum", votes, o.ints(0), keepdims=0)


@dataclass(frozen=True, eq=False)
class ClippedSum(Op):
    """``sum_i c_i g_i`` of materialised per-example gradients ``g``: f32[N, …]."""

    name: ClassVar[str] = "dp.clipped_sum"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP

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

    def to_onnx(self, o: OnnxEmitter, g: str, c: str) -> str:
        """Dead rows are left out, and the sum is a product: ``c g`` of what remains."""
        dtype, inner = self.g.type.dtype, self.g.tensor.shape[1:]
        live = o.node("Greater", c, o.scalar(0, DType.F32))
        factors = o.node("Compress", c if dtype is DType.F32 else o.cast(c, dtype), live, axis=0)
        rows = o.reshape(g, (*self.g.tensor.shape[:1], numel(inner))) if len(inner) != 1 else g
        total = o.node("MatMul", factors, o.node("Compress", rows, live, axis=0))
        # A product over no rows is what lay in its memory, times 0: NaN, where that was NaN.
        some = o.node("Greater", o.node("ReduceSum", c, o.ints(0), keepdims=0), o.scalar(0, DType.F32))
        total = o.node("Where", some, total, o.scalar(0, dtype))
        return o.reshape(total, inner) if len(inner) != 1 else total


@dataclass(frozen=True, eq=False)
class Accumulate(Op):
    """``acc + x``: clipped sums of the micro-batches of one lot."""

    name: ClassVar[str] = "dp.accumulate"
    first_stage: ClassVar[Stage] = Stage.TARGET
    no_vjp: ClassVar[str] = NO_VJP

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

    def to_onnx(self, o: OnnxEmitter, acc: str, x: str) -> str:
        return o.node("Add", acc, x)


OPS: tuple[type[Op], ...] = (ScaleRows, SelectRows, RowNormSq, ClipFactor, CountBelow, ClippedSum, Accumulate)
