"""Reductions over axes, and the positions of extremes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import Dim, DType, Shape, TensorType, numel, static_shape
from .base import Array, Op, OpBuilder
from .emit import Expr, Loops, OnnxEmitter, ReduceKind, Scalar, Tensor, TvmEmitter
from .kinds import OWN_COUNT, ExampleKind, Kind, MixedKind, TotalKind, default_kind, first_mixed
from .loops import each
from .onnx_forms import NUMBERS, SINGLE_AND_DOUBLE, computed, kernel_type


def accumulator(dtype: DType) -> DType:
    """The type in which sums of ``dtype`` run: half precision is summed in single."""
    return DType.F32 if dtype in (DType.F16, DType.BF16) else dtype


def batch_size_kind(op: Op, axes: Sequence[int], shape: Shape) -> MixedKind | None:
    """A sum over an axis of symbolic extent counts examples, whatever it sums: mixed unless those are the terms."""
    if all(isinstance(shape[axis], int) for axis in axes):
        return None
    return MixedKind(
        f"{op.name} over a batch-sized axis of a value that is not per example depends on the size of the batch",
        op,
        OWN_COUNT,
    )


@dataclass(frozen=True, eq=False)
class Reduction(Op):
    """Base of the reductions over ``axes`` (ascending, from 0); ``keepdims`` leaves extents of 1."""

    kind: ClassVar[ReduceKind]
    numpy: ClassVar[Callable[..., Any]]
    onnx: ClassVar[str]
    kernels: ClassVar[frozenset[DType]] = NUMBERS - {DType.F16}  # element types for which ONNX Runtime has the node
    ordered: ClassVar[bool] = False  # large u64 must not be taken for negative numbers
    empty: ClassVar[float] = 0.0  # of no elements

    x: Value
    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self) -> TensorType:
        x = self.x.tensor
        if list(self.axes) != sorted(set(self.axes)) or any(not 0 <= a < x.rank for a in self.axes):
            raise self.fail(f"axes {list(self.axes)} are not distinct ascending axes of {x}")
        self.check_dtype(x.dtype)
        return x.with_shape(self.kept if self.keepdims else self.left)

    def check_dtype(self, dtype: DType) -> None:
        """Raises VerifyError for an element type that the reduction does not have."""
        if dtype is DType.BOOL:
            raise self.fail(f"the operand holds numbers, not {self.x.type}; cast it first")

    @property
    def kept(self) -> Shape:
        """The operand's shape with extent 1 in place of every reduced axis."""
        return tuple(1 if i in self.axes else d for i, d in enumerate(self.x.tensor.shape))

    @property
    def left(self) -> Shape:
        """The operand's shape without the reduced axes."""
        return tuple(d for i, d in enumerate(self.x.tensor.shape) if i not in self.axes)

    @property
    def count(self) -> Dim:
        """How many elements make one element of the result; raises VerifyError for a square of a symbol."""
        try:
            return numel(self.x.tensor.shape[axis] for axis in self.axes)
        except ValueError:
            raise self.fail(
                f"the number of elements of {self.x.type} along axes {list(self.axes)} is no multiple of one extent",
                "compile for one size of the batch, or reduce the axes one after the other",
            ) from None

    def evaluate(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(type(self).numpy(x, axis=self.axes, keepdims=self.keepdims), self.result.type.dtype.numpy)

    def spread(self, b: OpBuilder, value: Value) -> Value:
        """A value of the result's type repeated over the reduced axes."""
        return b.broadcast(b.reshape(value, self.kept), self.x.tensor.shape)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None or not needs[0] else self.pullback(b, ct),)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        """The operand's cotangent."""
        raise self.missing("vjp", self.no_vjp)

    def kept_example(self, kinds: Sequence[Kind]) -> Kind | None:
        """The kind where examples stay apart, or mixed operands; None where the op's own rule decides."""
        (kind,) = kinds
        if isinstance(kind, MixedKind):
            return kind
        if isinstance(kind, ExampleKind) and kind.axis not in self.axes:
            axis = kind.axis if self.keepdims else kind.axis - sum(a < kind.axis for a in self.axes)
            return ExampleKind(axis, kind.pre, kind.post)
        return None

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        kept = self.kept_example(kinds)
        if kept is not None:
            return kept
        if isinstance(kinds[0], ExampleKind):
            return MixedKind(
                f"{self.name} over the batch axis is not a sum over examples",
                self,
                "reduce within each example, then take the mean over the batch",
            )
        return default_kind(self, kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        return self.reduced(t, x, self.result.type.dtype)

    def reduced(self, t: TvmEmitter, x: Tensor, dtype: DType) -> Tensor:
        """The plain reduction of ``x``, in the result's shape."""
        shape = self.x.tensor.shape
        out = self.result.tensor.shape

        def element(*index: Expr) -> Scalar:
            outer, inner = list(index[: len(out)]), list(index[len(out) :])
            if self.keepdims:
                outer = [i for axis, i in enumerate(outer) if axis not in self.axes]
            full = [inner.pop(0) if axis in self.axes else outer.pop(0) for axis in range(len(shape))]
            return x[tuple(full)]

        return t.reduce(self.kind, out, tuple(shape[a] for a in self.axes), element, dtype, accumulator(dtype))

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        dtype = self.x.type.dtype
        if not self.axes:
            return x
        if 0 in self.x.tensor.shape:
            return o.full(self.result.tensor.shape, self.empty, dtype)

        def build(a: str) -> str:
            return self.nodes(o, a, kernel_type(self, dtype, self.kernels))

        return computed(self, o, dtype, self.kernels, build, x, ordered=self.ordered)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        """The result, in a type of ``kernels``."""
        return self.node(o, self.onnx, x)

    def node(self, o: OnnxEmitter, op_type: str, x: str) -> str:
        """One node that reduces as this op does."""
        return o.node(op_type, x, o.ints(*self.axes), keepdims=int(self.keepdims))


class Sum(Reduction):
    """The sum over ``axes``."""

    name = "reduce.sum"
    kind = "sum"
    onnx = "ReduceSum"

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        if self.x.type.dtype not in (DType.I64, DType.U64):
            return super().nodes(o, x, dtype)
        # ONNX Runtime 1.32 sums i64 in float64.  Halves of 32 bits it sums exactly, up to two million of them.
        half = o.scalar(1 << 32, DType.I64)
        low = o.node("Mod", x, half)
        high = o.node("Div", o.node("Sub", x, low), half)
        low, high = super().nodes(o, low, dtype), super().nodes(o, high, dtype)
        return o.node("Add", o.node("Mul", high, half), low)

    def evaluate(self, x: Array) -> Array:
        dtype = self.x.type.dtype
        with np.errstate(all="ignore"):
            total = np.sum(x, axis=self.axes, keepdims=self.keepdims, dtype=accumulator(dtype).numpy)
        return np.asarray(total, dtype.numpy)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return self.spread(b, ct)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (kind,) = kinds
        if isinstance(kind, ExampleKind) and kind.axis in self.axes:
            others = [axis for axis in self.axes if axis != kind.axis]
            return batch_size_kind(self, others, self.x.tensor.shape) or TotalKind("sum")
        if first_mixed(kinds) is None:
            counted = batch_size_kind(self, self.axes, self.x.tensor.shape)
            if counted is not None:
                return counted
        if isinstance(kind, TotalKind):
            return kind
        return super().example_axis(kinds)


class Mean(Reduction):
    """The mean over ``axes``."""

    name = "reduce.mean"
    kind = "sum"
    onnx = "ReduceMean"
    kernels = SINGLE_AND_DOUBLE
    empty = math.nan

    def check_dtype(self, dtype: DType) -> None:
        if not dtype.is_float:
            raise self.fail(f"the operand holds floating-point numbers, not {self.x.type}; cast it first")

    def evaluate(self, x: Array) -> Array:
        dtype = self.x.type.dtype
        count = static_shape((self.count,))[0]
        with np.errstate(all="ignore"):
            total = np.sum(x, axis=self.axes, keepdims=self.keepdims, dtype=accumulator(dtype).numpy)
            return np.asarray(np.divide(total, np.asarray(count, total.dtype)), dtype.numpy)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        if isinstance(self.count, int):
            return self.spread(b, b.scale(ct, 1.0 / max(self.count, 1)))
        return self.spread(b, b.div(ct, b.extent(self.count, self.x.type.dtype)))

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (kind,) = kinds
        if isinstance(kind, ExampleKind) and kind.axis in self.axes:
            return TotalKind("mean")
        if isinstance(kind, TotalKind):
            return kind
        return super().example_axis(kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        dtype = self.result.type.dtype
        wide = accumulator(dtype)
        total = self.reduced(t, x, wide)

        def divided(s: Expr) -> Scalar:
            return t.cast(s / t.cast(t.extent(self.count), wide), dtype)

        return t.pointwise(divided, total, dtype=dtype)


class Extreme(Reduction):
    """Base of max and min: every element that equals the extreme takes the whole cotangent (Paddle's rule)."""

    kernels = (NUMBERS | {DType.I8, DType.U8}) - {DType.F16}
    ordered = True

    def infer(self) -> TensorType:
        if any(self.x.tensor.shape[a] == 0 for a in self.axes if 0 <= a < self.x.tensor.rank):
            raise self.fail(f"no element to take the extreme of: {self.x.type} over axes {list(self.axes)}")
        return super().infer()

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        ct = self.spread(b, ct)
        return b.where(b.equal(self.x, self.spread(b, self.result)), ct, b.fill((), ct.type.dtype, 0.0))

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        found = self.node(o, self.onnx, x)
        if not dtype.is_float:
            return found
        # The kernels skip NaN.
        unknown = self.node(o, "ReduceMax", o.node("IsNaN", x))
        return o.node("Where", unknown, o.scalar(math.nan, dtype), found)


class Max(Extreme):
    """The largest element over ``axes``; NaN if one is NaN."""

    name = "reduce.max"
    kind = "max"
    onnx = "ReduceMax"
    numpy = np.max


class Min(Extreme):
    """The smallest element over ``axes``; NaN if one is NaN."""

    name = "reduce.min"
    kind = "min"
    onnx = "ReduceMin"
    numpy = np.min


class Prod(Reduction):
    """The product over ``axes``."""

    name = "reduce.prod"
    kind = "prod"
    onnx = "ReduceProd"
    kernels = frozenset({DType.F32, DType.I32, DType.I64})
    empty = 1.0

    def evaluate(self, x: Array) -> Array:
        dtype = self.x.type.dtype
        with np.errstate(all="ignore"):
            product = np.prod(x, axis=self.axes, keepdims=self.keepdims, dtype=accumulator(dtype).numpy)
        return np.asarray(product, dtype.numpy)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        # The product of the others is result / x only where no factor is 0; with one zero factor, that factor
        # alone has a derivative; with two, none has.
        dtype = self.x.type.dtype
        zero, one = b.fill((), dtype, 0.0), b.fill((), dtype, 1.0)
        is_zero = b.equal(self.x, zero)
        factors = b.where(is_zero, one, self.x)
        zeros = self.spread(b, b.reduce_sum(b.cast(is_zero, dtype), self.axes, self.keepdims))
        product = self.spread(b, b(Prod(factors, self.axes, self.keepdims)))
        own = b.cast(is_zero, dtype)
        others = b.where(b.equal(zeros, own), b.div(product, factors), zero)
        return b.mul(self.spread(b, ct), others)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if self.kept_example(kinds) is None:
            counted = batch_size_kind(self, self.axes, self.x.tensor.shape)
            if counted is not None and not isinstance(kinds[0], ExampleKind):
                return counted
        return super().example_axis(kinds)


class Quantifier(Reduction):
    """Base of any and all, of booleans."""

    no_vjp = "boolean output"
    kernels = frozenset({DType.BOOL})

    def check_dtype(self, dtype: DType) -> None:
        if dtype is not DType.BOOL:
            raise self.fail(f"the operand is boolean, not {self.x.type}")


class Any_(Quantifier):
    """Whether any element over ``axes`` holds."""

    name = "reduce.any"
    kind = "any"
    onnx = "ReduceMax"
    numpy = np.any


class All(Quantifier):
    """Whether every element over ``axes`` holds."""

    name = "reduce.all"
    kind = "all"
    onnx = "ReduceMin"
    empty = True
    numpy = np.all


@dataclass(frozen=True, eq=False)
class Position(Op):
    """Base of argmax and argmin: the first position along ``axis``, i64; the first NaN counts as the extreme."""

    numpy: ClassVar[Callable[..., Any]]
    no_vjp: ClassVar[str] = "integer output"
    onnx: ClassVar[str]
    extreme: ClassVar[str]  # the reduction to the element itself
    beyond: ClassVar[float]  # takes the place of NaN in a first search

    x: Value
    axis: int
    keepdims: bool = False

    def infer(self) -> TensorType:
        x = self.x.tensor
        if not 0 <= self.axis < x.rank:
            raise self.fail(f"axis {self.axis} is not an axis of {x}")
        if x.shape[self.axis] == 0 or x.dtype is DType.BOOL:
            raise self.fail(f"no extreme among the elements of {x} along axis {self.axis}")
        middle: Shape = (1,) if self.keepdims else ()
        return TensorType(DType.I64, x.shape[: self.axis] + middle + x.shape[self.axis + 1 :])

    def evaluate(self, x: Array) -> Array:
        return np.asarray(type(self).numpy(x, axis=self.axis, keepdims=self.keepdims), np.int64)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (kind,) = kinds
        if isinstance(kind, ExampleKind):
            if kind.axis == self.axis:
                return MixedKind(f"{self.name} along the batch axis compares examples", self)
            lower = 1 if kind.axis > self.axis and not self.keepdims else 0
            return ExampleKind(kind.axis - lower, kind.pre, kind.post)
        return default_kind(self, kinds)

    def better(self, x: Expr, best: Expr) -> Expr:
        """Whether ``x`` beats ``best``, both numbers."""
        raise NotImplementedError

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        shape = self.x.tensor.shape
        outer = shape[: self.axis] + shape[self.axis + 1 :]

        def body(loops: Loops, out: Tensor) -> None:
            def one(*index: Expr) -> None:
                def at(k: Expr) -> Expr:
                    return x[(*index[: self.axis], k, *index[self.axis :])]

                best = loops.local(DType.I64)
                loops.store(best, 0, t.const(0, DType.I64))

                def visit(k: Expr) -> None:
                    position = t.cast(k, DType.I64)
                    value, kept = at(position), at(best[0])
                    wins = self.better(value, kept)
                    if self.x.type.dtype.is_float:
                        wins = (wins | value.ne(value)) & kept.eq(kept)
                    loops.when(wins, lambda: loops.store(best, 0, position))

                loops.serial(shape[self.axis], visit)
                where = (*index[: self.axis], 0, *index[self.axis :]) if self.keepdims else index
                loops.store(out, where, best[0])

            each(t, loops, outer, one)

        (out,) = t.loops([(self.result.tensor.shape, DType.I64)], body)
        return out

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        dtype = self.x.type.dtype
        build = self._of_floats if dtype.is_float else self._of_integers
        kernels = SINGLE_AND_DOUBLE if dtype.is_float else frozenset({DType.I32, DType.I64})
        wide = kernel_type(self, dtype, kernels, ordered=True)
        return computed(self, o, dtype, kernels, partial(build, o, dtype=wide), x, ordered=True, result=DType.I64)

    def _of_floats(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        unknown = o.node("IsNaN", x)
        known = o.node("Where", unknown, o.scalar(self.beyond, dtype), x)
        some = o.node("ReduceMax", unknown, o.ints(self.axis), keepdims=int(self.keepdims))
        return o.node("Where", some, self._first(o, unknown), self._node(o, self.onnx, known))

    def _of_integers(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        if dtype is DType.I32:
            return self._node(o, self.onnx, x)
        # No kernel takes i64 everywhere.
        best = o.node(self.extreme, x, o.ints(self.axis), keepdims=1)
        return self._first(o, o.node("Equal", x, best))

    def _first(self, o: OnnxEmitter, holds: str) -> str:
        """Where a condition first holds along the axis."""
        return self._node(o, "ArgMax", o.cast(holds, DType.U8))

    def _node(self, o: OnnxEmitter, op_type: str, x: str) -> str:
        return o.node(op_type, x, axis=self.axis, keepdims=int(self.keepdims))


class Argmax(Position):
    """Where the largest element is."""

    name = "reduce.argmax"
    numpy = np.argmax
    onnx = "ArgMax"
    extreme = "ReduceMax"
    beyond = math.inf

    def better(self, x: Expr, best: Expr) -> Expr:
        return x > best


class Argmin(Position):
    """Where the smallest element is."""

    name = "reduce.argmin"
    numpy = np.argmin
    onnx = "ArgMin"
    extreme = "ReduceMin"
    beyond = -math.inf

    def better(self, x: Expr, best: Expr) -> Expr:
        return x < best


OPS: tuple[type[Op], ...] = (Sum, Mean, Max, Min, Prod, Any_, All, Argmax, Argmin)
