"""Elementwise arithmetic, comparison, selection and conversion, with numpy broadcasting."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, TensorType, static_shape
from .base import Array, Op, OpBuilder, aligned, as_array, broadcast_shapes, same_dtype
from .by_example import elementwise_example_grad
from .emit import Expr, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import (
    ONE_SUM,
    OWN_COUNT,
    ExampleKind,
    Kind,
    MixedKind,
    PublicKind,
    TotalKind,
    aligned_kind,
    constant_rows,
    first_mixed,
)
from .norm_bound import broadcast_norm_sq
from .onnx_forms import (
    NUMBERS,
    SINGLE_AND_DOUBLE,
    computed,
    kernel_type,
    power,
    quotient,
    remainder,
    safe_divisor,
    selected,
)


def _aligned(op: Op, kinds: Sequence[Kind], *, linear: bool) -> Kind:
    out = op.result.tensor.shape
    return aligned_kind(op, kinds, [v.tensor.shape for v in op.operands], out, linear=linear)


@dataclass(frozen=True, eq=False)
class Binary(Op):
    """Base of ``f(x, y)`` on equal element types."""

    numpy: ClassVar[np.ufunc]
    onnx: ClassVar[str] = ""
    kernels: ClassVar[frozenset[DType]] = NUMBERS  # element types for which ONNX Runtime has the node

    x: Value
    y: Value

    def infer(self) -> TensorType:
        dtype = same_dtype(self, self.x, self.y)
        return TensorType(dtype, broadcast_shapes(self, self.x.tensor.shape, self.y.tensor.shape))

    def evaluate(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.numpy(x, y), x.dtype)

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        x, y = aligned(b, operands, over, self.result.tensor.rank)
        return type(self)(x, y)

    @abstractmethod
    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        """The result at one index."""

    def to_tvm(self, t: TvmEmitter, x: Tensor, y: Tensor) -> Tensor:
        def element(a: Expr, b: Expr) -> Scalar:
            return self.element(t, a, b)

        return t.pointwise(element, x, y, dtype=self.result.type.dtype)

    def to_onnx(self, o: OnnxEmitter, x: str, y: str) -> str:
        return computed(self, o, self.x.type.dtype, self.kernels, partial(o.node, self.onnx), x, y)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return _aligned(self, kinds, linear=False)

    def example_grad(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        return elementwise_example_grad(b, self, operand, ct, kinds)


class Additive(Binary):
    """Base of the ops that are linear in both operands together: sums of totals are totals."""

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return _aligned(self, kinds, linear=True)


class Add(Additive):
    """``x + y``."""

    name = "elementwise.add"
    numpy = np.add
    onnx = "Add"

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        dx = b.unbroadcast(ct, self.x.tensor.shape) if needs[0] else None
        dy = b.unbroadcast(ct, self.y.tensor.shape) if needs[1] else None
        return dx, dy

    def example_norm_sq(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        """A bias: its gradient is the cotangent summed over the axes along which it was repeated."""
        kind = self.example_axis(kinds)
        if not isinstance(kinds[operand], PublicKind) or not isinstance(kind, ExampleKind):
            return None
        return broadcast_norm_sq(b, ct, kind, self.operands[operand].tensor.shape)

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x + y


class Sub(Additive):
    """``x - y``."""

    name = "elementwise.sub"
    numpy = np.subtract
    onnx = "Sub"

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        dx = b.unbroadcast(ct, self.x.tensor.shape) if needs[0] else None
        dy = b.neg(b.unbroadcast(ct, self.y.tensor.shape)) if needs[1] else None
        return dx, dy

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x - y


class Mul(Binary):
    """``x * y``."""

    name = "elementwise.mul"
    numpy = np.multiply
    onnx = "Mul"

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        dx = b.unbroadcast(b.mul(ct, self.y), self.x.tensor.shape) if needs[0] else None
        dy = b.unbroadcast(b.mul(ct, self.x), self.y.tensor.shape) if needs[1] else None
        return dx, dy

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x * y

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        # A total times something public is a total; a total times a total is not.
        one_total = sum(isinstance(kind, TotalKind) for kind in kinds) == 1
        return _aligned(self, kinds, linear=one_total)


class Div(Binary):
    """``x / y``; integers round towards zero, as C and Paddle do."""

    name = "elementwise.div"
    onnx = "Div"

    def evaluate(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            if self.result.type.dtype.is_float:
                return np.asarray(np.divide(x, y), x.dtype)
            # In integers throughout: 64-bit values do not fit a float.
            down = np.floor_divide(x, y)
            up = (down < 0) & (down * y != x)
            return np.asarray(down + up, x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        dx = b.div(ct, self.y)
        dy = b.neg(b.div(b.mul(dx, self.x), self.y)) if needs[1] else None
        return (
            b.unbroadcast(dx, self.x.tensor.shape) if needs[0] else None,
            b.unbroadcast(dy, self.y.tensor.shape) if dy is not None else None,
        )

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        dtype = self.result.type.dtype
        if dtype.is_float:
            return x / y
        down = x // y
        return t.select((down < 0) & (down * y).ne(x), down + 1, down)

    def to_onnx(self, o: OnnxEmitter, x: str, y: str) -> str:
        dtype = self.x.type.dtype
        wide = kernel_type(self, dtype, self.kernels, ordered=True)

        def build(a: str, b: str) -> str:
            return o.node("Div", a, b) if wide.is_float else quotient(o, a, b, wide)

        return computed(self, o, dtype, self.kernels, build, x, y)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if first_mixed(kinds) is None and isinstance(kinds[1], TotalKind):
            return MixedKind(
                f"{self.name} divides by a sum over the batch, which every example changes", self, OWN_COUNT
            )
        linear = isinstance(kinds[0], TotalKind) and isinstance(kinds[1], PublicKind)
        return _aligned(self, kinds, linear=linear)


class Extremum(Binary):
    """Base of maximum and minimum: the cotangent goes to the operand taken, to ``y`` on a tie (Paddle's rule)."""

    kernels = frozenset({DType.F32, DType.F64, DType.I32, DType.I64, DType.U32, DType.U64})

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if first_mixed(kinds) is None and any(isinstance(kind, TotalKind) for kind in kinds):
            # Most often a count kept above zero, to be divided by.
            return MixedKind(
                f"{self.name} bounds a sum over the batch, and the result is no sum over examples",
                self,
                f"{ONE_SUM}; to normalise, {OWN_COUNT}",
            )
        return super().example_axis(kinds)

    def takes_x(self, b: OpBuilder) -> Value:
        """Where the cotangent goes to ``x``."""
        raise NotImplementedError

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        zero, takes_x = b.zeros_like(ct), self.takes_x(b)
        dx = b.unbroadcast(b.where(takes_x, ct, zero), self.x.tensor.shape) if needs[0] else None
        dy = b.unbroadcast(b.where(takes_x, zero, ct), self.y.tensor.shape) if needs[1] else None
        return dx, dy


class Maximum(Extremum):
    """``max(x, y)``; NaN if either is NaN."""

    name = "elementwise.max"
    numpy = np.maximum
    onnx = "Max"

    def takes_x(self, b: OpBuilder) -> Value:
        return b.less(self.y, self.x)

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return t.maximum(x, y)


class Minimum(Extremum):
    """``min(x, y)``; NaN if either is NaN."""

    name = "elementwise.min"
    numpy = np.minimum
    onnx = "Min"

    def takes_x(self, b: OpBuilder) -> Value:
        return b.less(self.x, self.y)

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return t.minimum(x, y)


class Pow(Binary):
    """``x ** y``."""

    name = "elementwise.pow"

    def evaluate(self, x: Array, y: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(np.power(x, y), x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        dx = dy = None
        if needs[0]:
            one = b.fill((), self.y.type.dtype, 1.0)
            dx = b.unbroadcast(b.mul(ct, b.mul(self.y, b.pow(self.x, b.sub(self.y, one)))), self.x.tensor.shape)
        if needs[1]:
            # x = 0 contributes 0, not 0 * log 0.
            zero = b.zeros_like(self.x)
            log = b.where(b.less(zero, self.x), b.log(self.x), zero)
            dy = b.unbroadcast(b.mul(ct, b.mul(self.result, log)), self.y.tensor.shape)
        return dx, dy

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return t.pow(x, y)

    def to_onnx(self, o: OnnxEmitter, x: str, y: str) -> str:
        dtype = self.x.type.dtype
        exponent = self.y.op
        if dtype.is_float:
            return computed(self, o, dtype, SINGLE_AND_DOUBLE, partial(o.node, "Pow"), x, y)
        # ONNX Runtime computes powers of integers in floating point.
        if not isinstance(exponent, Fill) or exponent.value < 0 or self.result.type != self.x.type:
            raise self.missing(
                "to_onnx", "ONNX Runtime raises integers only to a fixed power, 0 or above; cast them to f64 first"
            )

        def build(a: str) -> str:
            return power(o, a, int(exponent.value), kernel_type(self, dtype, NUMBERS))

        return computed(self, o, dtype, NUMBERS, build, x)


class Integer(Binary):
    """Base of the ops without a derivative of interest."""

    no_vjp = "piecewise constant"


class Mod(Integer):
    """``x - floor(x / y) * y``: the sign of ``y``, as Python and Paddle do."""

    name = "elementwise.mod"
    numpy = np.mod

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        dtype = self.result.type.dtype
        if not dtype.is_float:
            return x % y
        # Of an infinite divisor all of x is left, or the divisor itself where they have different signs.
        zero, one, infinity = t.const(0.0, dtype), t.const(1.0, dtype), t.const(np.inf, dtype)
        endless = t.call("abs", y).eq(infinity) & t.isfinite(x)
        whole = t.select((x * y) < zero, y, x)
        safe = t.select(endless, one, y)
        return t.select(endless, whole, x - t.call("floor", x / safe) * safe)

    def to_onnx(self, o: OnnxEmitter, x: str, y: str) -> str:
        dtype = self.x.type.dtype
        kernels = SINGLE_AND_DOUBLE if dtype.is_float else NUMBERS
        wide = kernel_type(self, dtype, kernels, ordered=True)

        def build(a: str, b: str) -> str:
            return remainder(o, a, b, wide)[0] if wide.is_float else o.node("Mod", a, safe_divisor(o, b, wide)[0])

        return computed(self, o, dtype, kernels, build, x, y)


class FloorDiv(Integer):
    """``floor(x / y)``."""

    name = "elementwise.floordiv"
    numpy = np.floor_divide

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return t.call("floor", x / y) if self.result.type.dtype.is_float else x // y

    def to_onnx(self, o: OnnxEmitter, x: str, y: str) -> str:
        dtype = self.x.type.dtype
        kernels = SINGLE_AND_DOUBLE if dtype.is_float else NUMBERS
        wide = kernel_type(self, dtype, kernels, ordered=True)
        zero = o.scalar(0, wide)

        def of_floats(a: str, b: str) -> str:
            # As numpy: a whole number of times fits, and rounding the quotient must not make it one more.
            _, left, other_sign = remainder(o, a, b, wide)
            times = o.node("Round", o.node("Div", o.node("Sub", a, left), b))
            down = o.node("Sub", times, o.cast(other_sign, wide))
            return o.node("Where", o.node("Equal", b, zero), o.node("Div", a, b), down)

        def of_integers(a: str, b: str) -> str:
            times = quotient(o, a, b, wide)
            left = o.node("Sub", a, o.node("Mul", times, b))
            other_sign = o.node("Less", o.node("Mul", o.node("Sign", left), o.node("Sign", b)), zero)
            return o.node("Sub", times, o.cast(other_sign, wide))

        return computed(self, o, dtype, kernels, of_floats if dtype.is_float else of_integers, x, y)


@dataclass(frozen=True, eq=False)
class Comparison(Binary):
    """Base of comparisons: BOOL results."""

    no_vjp: ClassVar[str] = "boolean output"

    def infer(self) -> TensorType:
        return super().infer().with_dtype(DType.BOOL)

    def evaluate(self, x: Array, y: Array) -> Array:
        return np.asarray(self.numpy(x, y), np.bool_)

    def to_onnx(self, o: OnnxEmitter, x: str, y: str) -> str:
        dtype, build = self.x.type.dtype, partial(o.node, self.onnx)
        ordered = DType.BOOL not in self.kernels
        return computed(self, o, dtype, self.kernels, build, x, y, ordered=ordered, result=DType.BOOL)


class Equal(Comparison):
    """``x == y``."""

    name = "elementwise.equal"
    numpy = np.equal
    onnx = "Equal"
    kernels = NUMBERS | {DType.BOOL}

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x.eq(y)


class NotEqual(Comparison):
    """``x != y``."""

    name = "elementwise.not_equal"
    numpy = np.not_equal
    onnx = "Equal"
    kernels = NUMBERS | {DType.BOOL}

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        # LLVM's ordered comparison finds NaN different from nothing.
        return x.ne(y) | x.ne(x) | y.ne(y) if self.x.tensor.dtype.is_float else x.ne(y)

    def to_onnx(self, o: OnnxEmitter, x: str, y: str) -> str:
        return o.node("Not", super().to_onnx(o, x, y))


class Less(Comparison):
    """``x < y``."""

    name = "elementwise.less"
    numpy = np.less
    onnx = "Less"

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x < y


class LessEqual(Comparison):
    """``x <= y``."""

    name = "elementwise.less_equal"
    numpy = np.less_equal
    onnx = "LessOrEqual"

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x <= y


class Logical(Comparison):
    """Base of the logical connectives of booleans."""

    kernels = frozenset({DType.BOOL})

    def infer(self) -> TensorType:
        for value in (self.x, self.y):
            if value.type.dtype is not DType.BOOL:
                raise self.fail(f"operands are boolean, not {value.type}")
        return super().infer()


class And(Logical):
    """``x and y``."""

    name = "elementwise.and"
    numpy = np.logical_and
    onnx = "And"

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x & y


class Or(Logical):
    """``x or y``."""

    name = "elementwise.or"
    numpy = np.logical_or
    onnx = "Or"

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x | y


class Xor(Logical):
    """Exactly one of ``x`` and ``y``."""

    name = "elementwise.xor"
    numpy = np.logical_xor
    onnx = "Xor"

    def element(self, t: TvmEmitter, x: Expr, y: Expr) -> Scalar:
        return x ^ y


@dataclass(frozen=True, eq=False)
class Where(Op):
    """``x`` where ``condition`` holds, else ``y``: a selection, so a NaN not taken leaves no trace."""

    name: ClassVar[str] = "elementwise.where"

    condition: Value
    x: Value
    y: Value

    def infer(self) -> TensorType:
        if self.condition.type.dtype is not DType.BOOL:
            raise self.fail(f"the condition is boolean, not {self.condition.type}")
        dtype = same_dtype(self, self.x, self.y)
        return TensorType(dtype, broadcast_shapes(self, *(v.tensor.shape for v in self.operands)))

    def evaluate(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None, None
        zero = b.zeros_like(ct)
        dx = b.unbroadcast(b.where(self.condition, ct, zero), self.x.tensor.shape) if needs[1] else None
        dy = b.unbroadcast(b.where(self.condition, zero, ct), self.y.tensor.shape) if needs[2] else None
        return None, dx, dy

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        condition, x, y = aligned(b, operands, over, self.result.tensor.rank)
        return Where(condition, x, y)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        # Of a branch on data both condition and values are mixed; the values say that it was a branch.
        return first_mixed(kinds[1:]) or _aligned(self, kinds, linear=False)

    def example_grad(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        return elementwise_example_grad(b, self, operand, ct, kinds)

    def to_tvm(self, t: TvmEmitter, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return t.pointwise(t.select, condition, x, y, dtype=self.result.type.dtype)

    def to_onnx(self, o: OnnxEmitter, condition: str, x: str, y: str) -> str:
        kind = self.result.tensor
        if kind.dtype is DType.F32 and _is_zero(self.y) and self.x.tensor == kind:
            return selected(o, condition, x, kind)
        build = partial(o.node, "Where", condition)
        return computed(self, o, kind.dtype, NUMBERS | {DType.U8}, build, x, y)


def _is_zero(value: Value) -> bool:
    """Whether a value is known to be all zeros."""
    return isinstance(value.op, Fill) and value.op.value == 0


@dataclass(frozen=True, eq=False)
class Cast(Op):
    """``x`` converted to ``dtype``; floats become integers by truncation."""

    name: ClassVar[str] = "elementwise.cast"

    x: Value
    dtype: DType

    def infer(self) -> TensorType:
        return self.x.tensor.with_dtype(self.dtype)

    def evaluate(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return x.astype(self.dtype.numpy)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        differentiable = self.dtype.is_float and self.x.type.dtype.is_float
        return (b.cast(ct, self.x.type.dtype) if ct is not None and differentiable else None,)

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        return Cast(operands[0], self.dtype)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return _aligned(self, kinds, linear=self.dtype.is_float)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        def element(a: Expr) -> Scalar:
            return t.cast(a, self.dtype)

        return t.pointwise(element, x, dtype=self.dtype)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        return x if self.dtype is self.x.type.dtype else o.cast(x, self.dtype)


@dataclass(frozen=True, eq=False)
class Fill(Op):
    """A tensor of ``type`` whose every element is ``value``."""

    name: ClassVar[str] = "elementwise.fill"
    no_vjp: ClassVar[str] = "no operands"

    value: float
    type: TensorType

    def infer(self) -> TensorType:
        return self.type

    def evaluate(self) -> Array:
        return np.full(static_shape(self.type.shape), as_array(self.value, self.type.dtype), self.type.dtype.numpy)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return constant_rows(self, self.type.shape)

    def to_tvm(self, t: TvmEmitter) -> Tensor:
        def element(*_: Any) -> Scalar:
            return t.const(self.value, self.type.dtype)

        return t.compute(self.type.shape, self.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter) -> str:
        return o.full(self.type.shape, self.value, self.type.dtype)


OPS: tuple[type[Op], ...] = (
    Add, Sub, Mul, Div, Maximum, Minimum, Pow, Mod, FloorDiv, Equal, NotEqual, Less, LessEqual,
    And, Or, Xor, Where, Cast, Fill,
)  # fmt: skip
