"""Functions of one element.  Activations made of several of them are in activation.py."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, TensorType
from .base import Array, Op, OpBuilder, as_array
from .emit import Expr, Function1, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import Kind, aligned_kind
from .onnx_forms import FLOATS, NUMBERS, SINGLE_AND_DOUBLE, computed, expm1, if_finite, kernel_type, log1p

_NOT_DOUBLE = frozenset({DType.F16, DType.F32})
_UNSIGNED = (DType.U8, DType.U32, DType.U64)


@dataclass(frozen=True, eq=False)
class Unary(Op):
    """Base of ``f(x)``, element by element, of the operand's type."""

    numpy: ClassVar[Callable[..., Any]]
    onnx: ClassVar[str] = ""
    kernels: ClassVar[frozenset[DType]] = FLOATS  # element types for which ONNX Runtime has the nodes
    linear: ClassVar[bool] = False  # f(sum of x_i) is a sum of terms of one x_i each
    floats_only: ClassVar[bool] = True

    x: Value

    def infer(self) -> TensorType:
        dtype = self.x.tensor.dtype
        if dtype is DType.BOOL or (self.floats_only and not dtype.is_float):
            wanted = "floating-point numbers" if self.floats_only else "numbers"
            raise self.fail(f"the operand holds {wanted}, not {self.x.type}; cast it first")
        return self.x.tensor

    def evaluate(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(type(self).numpy(x), self.result.type.dtype.numpy)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None or not needs[0] else self.pullback(b, ct),)

    def pullback(self, b: OpBuilder, ct: Value) -> Value | None:
        """``f'(x) * ct``."""
        raise self.missing("vjp", self.no_vjp)

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        return self.clone({self.x: operands[0]})

    @abstractmethod
    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        """The result at one index."""

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        def element(a: Expr) -> Scalar:
            return self.element(t, a)

        return t.pointwise(element, x, dtype=self.result.type.dtype)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        def build(a: str) -> str:
            return self.nodes(o, a, kernel_type(self, self.x.type.dtype, self.kernels))

        return computed(self, o, self.x.type.dtype, self.kernels, build, x)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        """The result, in a type of ``kernels``."""
        return o.node(self.onnx, x)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        shape = self.x.tensor.shape
        return aligned_kind(self, kinds, [shape], shape, linear=self.linear)


class Elementary(Unary):
    """Base of the functions that a target's mathematics library has."""

    function: ClassVar[Function1]

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return t.call(self.function, x)


class Exp(Elementary):
    """``e ** x``."""

    name = "unary.exp"
    numpy = np.exp
    function = "exp"
    onnx = "Exp"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, self.result)


class Expm1(Elementary):
    """``e ** x - 1``, accurate near 0."""

    name = "unary.expm1"
    numpy = np.expm1
    function = "expm1"
    kernels = SINGLE_AND_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.exp(self.x))

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        return expm1(o, x, dtype)


class Log(Elementary):
    """The natural logarithm: -inf at 0, NaN below."""

    name = "unary.log"
    numpy = np.log
    function = "log"
    onnx = "Log"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.div(ct, self.x)


class Log1p(Elementary):
    """``log(1 + x)``, accurate near 0."""

    name = "unary.log1p"
    numpy = np.log1p
    function = "log1p"
    kernels = SINGLE_AND_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.div(ct, b.scale(self.x, 1.0, 1.0))

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        return log1p(o, x, dtype)


class Sqrt(Elementary):
    """The square root."""

    name = "unary.sqrt"
    numpy = np.sqrt
    function = "sqrt"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.div(b.scale(ct, 0.5), self.result)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        return _sqrt_onnx(o, x, dtype)


def _sqrt_onnx(o: OnnxEmitter, x: str, dtype: DType) -> str:
    # The vectorised kernel multiplies x by 1 / sqrt(x), which is NaN at infinity.
    return o.node("Where", o.node("Equal", x, o.scalar(math.inf, dtype)), x, o.node("Sqrt", x))


def _rsqrt(x: Array) -> Array:
    return 1.0 / np.sqrt(x)


class Rsqrt(Elementary):
    """``1 / sqrt(x)``."""

    name = "unary.rsqrt"
    numpy = _rsqrt
    function = "rsqrt"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(b.scale(ct, -0.5), b.div(self.result, self.x))

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        return o.node("Reciprocal", _sqrt_onnx(o, x, dtype))


class Sin(Elementary):
    """The sine of an angle in radians."""

    name = "unary.sin"
    numpy = np.sin
    function = "sin"
    onnx = "Sin"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.cos(self.x))


class Cos(Elementary):
    """The cosine of an angle in radians."""

    name = "unary.cos"
    numpy = np.cos
    function = "cos"
    onnx = "Cos"
    kernels = _NOT_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.neg(b.mul(ct, b.sin(self.x)))


class Tan(Elementary):
    """The tangent of an angle in radians."""

    name = "unary.tan"
    numpy = np.tan
    function = "tan"
    onnx = "Tan"
    kernels = _NOT_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.scale(b.square(self.result), 1.0, 1.0))


class Asin(Elementary):
    """The inverse sine, in radians; NaN outside [-1, 1]."""

    name = "unary.asin"
    numpy = np.arcsin
    function = "asin"
    onnx = "Asin"
    kernels = _NOT_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.div(ct, b.sqrt(b.scale(b.square(self.x), -1.0, 1.0)))


class Acos(Elementary):
    """The inverse cosine, in radians; NaN outside [-1, 1]."""

    name = "unary.acos"
    numpy = np.arccos
    function = "acos"
    onnx = "Acos"
    kernels = _NOT_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.neg(b.div(ct, b.sqrt(b.scale(b.square(self.x), -1.0, 1.0))))


class Atan(Elementary):
    """The inverse tangent, in radians."""

    name = "unary.atan"
    numpy = np.arctan
    function = "atan"
    onnx = "Atan"
    kernels = _NOT_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.div(ct, b.scale(b.square(self.x), 1.0, 1.0))


class Sinh(Elementary):
    """The hyperbolic sine."""

    name = "unary.sinh"
    numpy = np.sinh
    function = "sinh"
    onnx = "Sinh"
    kernels = _NOT_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b(Cosh(self.x)))


class Cosh(Elementary):
    """The hyperbolic cosine."""

    name = "unary.cosh"
    numpy = np.cosh
    function = "cosh"
    onnx = "Cosh"
    kernels = _NOT_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b(Sinh(self.x)))


class Tanh(Elementary):
    """The hyperbolic tangent."""

    name = "unary.tanh"
    numpy = np.tanh
    function = "tanh"
    onnx = "Tanh"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.scale(b.square(self.result), -1.0, 1.0))


def _sigmoid(x: Array) -> Array:
    # exp of a non-positive number only: no overflow, and full precision in both tails.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


class Sigmoid(Elementary):
    """``1 / (1 + e ** -x)``."""

    name = "unary.sigmoid"
    numpy = _sigmoid
    function = "sigmoid"
    onnx = "Sigmoid"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.mul(self.result, b.scale(self.result, -1.0, 1.0)))


def _erf(x: Array) -> Array:
    values = [math.erf(float(v)) for v in x.reshape(-1)]
    return np.asarray(values, np.float64).reshape(x.shape)


class Erf(Elementary):
    """The error function, ``2 / sqrt(pi)`` times the integral of ``e ** -t²`` from 0 to ``x``."""

    name = "unary.erf"
    numpy = _erf
    function = "erf"
    onnx = "Erf"
    kernels = frozenset({DType.F32})

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.scale(b.exp(b.neg(b.square(self.x))), 2.0 / math.sqrt(math.pi)))

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        kind = self.x.tensor.with_dtype(dtype)

        def exact() -> str:
            # The kernel gives 1 for NaN; nothing else lies below -1.
            return o.node("Max", o.node("Erf", x), o.node("Min", x, o.scalar(-1, dtype)))

        return if_finite(o, x, kind, partial(o.node, "Erf", x), exact)


class Square(Unary):
    """``x * x``."""

    name = "unary.square"
    numpy = np.square
    floats_only = False
    kernels = NUMBERS

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(b.scale(ct, 2.0), self.x)

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return x * x

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        return o.node("Mul", x, x)


class Reciprocal(Unary):
    """``1 / x``."""

    name = "unary.reciprocal"
    numpy = np.reciprocal
    onnx = "Reciprocal"

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.neg(b.mul(ct, b.square(self.result)))

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return 1.0 / x


class Neg(Unary):
    """``-x``; unsigned integers wrap."""

    name = "unary.neg"
    numpy = np.negative
    onnx = "Neg"
    linear = True
    floats_only = False
    kernels = NUMBERS | {DType.I8}

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.neg(ct)

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return -x


class Abs(Unary):
    """``|x|``; no gradient flows at 0 (Paddle's rule)."""

    name = "unary.abs"
    numpy = np.abs
    onnx = "Abs"
    floats_only = False
    kernels = NUMBERS | {DType.I8, *_UNSIGNED}

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.sign(self.x))

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        if self.x.type.dtype.is_float:
            return t.call("abs", x)
        return x if self.x.type.dtype in _UNSIGNED else t.select(x < 0, -x, x)


class Stepwise(Unary):
    """Base of the piecewise constant functions: their derivative is 0 almost everywhere."""

    def pullback(self, b: OpBuilder, ct: Value) -> None:
        return None


class Sign(Stepwise):
    """-1, 0 or 1; NaN stays NaN."""

    name = "unary.sign"
    numpy = np.sign
    onnx = "Sign"
    floats_only = False
    kernels = (NUMBERS | {DType.I8, *_UNSIGNED}) - {DType.F16}

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        dtype = self.x.type.dtype
        below = x if dtype in _UNSIGNED else t.select(x < 0, t.const(-1, dtype), x)
        return t.select(x > 0, t.const(1, dtype), below)


class Floor(Stepwise):
    """The largest integer not above ``x``."""

    name = "unary.floor"
    numpy = np.floor
    onnx = "Floor"

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return t.call("floor", x)


class Ceil(Stepwise):
    """The smallest integer not below ``x``."""

    name = "unary.ceil"
    numpy = np.ceil
    onnx = "Ceil"

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return t.call("ceil", x)


def _round(x: Array) -> Array:
    size = np.abs(x)
    whole = np.floor(size)
    return np.copysign(whole + (size - whole >= 0.5), x)


class Round(Stepwise):
    """The nearest integer, halves away from 0 (C's ``round``, which Paddle uses)."""

    name = "unary.round"
    numpy = _round
    kernels = SINGLE_AND_DOUBLE

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        # size - whole is exact, unlike size + 0.5, which is off by one above 2**23 and just below 0.5.
        dtype = self.x.type.dtype
        size = t.call("abs", x)
        whole = t.call("floor", size)
        up = t.select((size - whole) >= 0.5, t.const(1.0, dtype), t.const(0.0, dtype))
        return t.select(x < 0, -(whole + up), whole + up)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        # ONNX rounds halves to even.
        size = o.node("Abs", x)
        whole = o.node("Floor", size)
        up = o.node("GreaterOrEqual", o.node("Sub", size, whole), o.scalar(0.5, dtype))
        return o.node("Mul", o.node("Add", whole, o.cast(up, dtype)), o.node("Sign", x))


@dataclass(frozen=True, eq=False)
class Scale(Unary):
    """``x * factor + bias``; on integers both constants are truncated first, as Paddle does."""

    name: ClassVar[str] = "unary.scale"
    linear: ClassVar[bool] = True
    floats_only: ClassVar[bool] = False
    kernels: ClassVar[frozenset[DType]] = NUMBERS

    factor: float
    bias: float = 0.0

    def evaluate(self, x: Array) -> Array:
        dtype = self.x.type.dtype
        with np.errstate(all="ignore"):
            return np.asarray(x * as_array(self.factor, dtype) + as_array(self.bias, dtype), x.dtype)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return ct if self.factor == 1.0 else b.scale(ct, self.factor)

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        dtype = self.x.type.dtype
        factor, bias = (v if dtype.is_float else int(v) for v in (self.factor, self.bias))
        scaled = x if factor == 1 else x * t.const(factor, dtype)
        return scaled if bias == 0 else scaled + t.const(bias, dtype)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        narrow = self.x.type.dtype
        factor, bias = (as_array(v, narrow).astype(dtype.numpy) for v in (self.factor, self.bias))
        if factor != 1:
            x = o.node("Mul", x, o.array(factor))
        return o.node("Add", x, o.array(bias)) if bias else x


class Relu(Unary):
    """``max(x, 0)``, NaN for NaN; no gradient flows at 0."""

    name = "unary.relu"
    onnx = "Relu"

    def evaluate(self, x: Array) -> Array:
        return np.maximum(x, np.zeros((), x.dtype))

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        zero = b.fill((), ct.type.dtype, 0.0)
        return b.where(b.less(zero, self.result), ct, zero)

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return t.maximum(x, t.const(0.0, self.x.type.dtype))


@dataclass(frozen=True, eq=False)
class LeakyRelu(Unary):
    """``x`` where it is not negative, else ``alpha * x``."""

    name: ClassVar[str] = "unary.leaky_relu"

    alpha: float

    def evaluate(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.where(x < 0, x * as_array(self.alpha, self.x.type.dtype), x)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        negative = b.less(self.x, b.fill((), ct.type.dtype, 0.0))
        return b.where(negative, b.scale(ct, self.alpha), ct)

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return t.select(x < 0, x * t.const(self.alpha, self.x.type.dtype), x)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        if dtype is not DType.F64:
            return o.node("LeakyRelu", x, alpha=self.alpha)
        return o.node("Where", o.node("Less", x, o.scalar(0, dtype)), o.node("Mul", x, o.scalar(self.alpha, dtype)), x)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


class Softplus(Unary):
    """``log(1 + e ** x)``, without overflow."""

    name = "unary.softplus"
    numpy = _softplus
    onnx = "Softplus"
    kernels = SINGLE_AND_DOUBLE

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.mul(ct, b.sigmoid(self.x))

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        tail = t.call("log1p", t.call("exp", -t.call("abs", x)))
        return t.maximum(x, t.const(0.0, self.x.type.dtype)) + tail

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        tail = log1p(o, o.node("Exp", o.node("Neg", o.node("Abs", x))), dtype)
        return o.node("Add", o.node("Relu", x), tail)


@dataclass(frozen=True, eq=False)
class Clip(Unary):
    """``x`` limited to ``[low, high]``; NaN stays NaN, and no gradient flows at or beyond a limit (Paddle's rule)."""

    name: ClassVar[str] = "unary.clip"
    floats_only: ClassVar[bool] = False
    kernels: ClassVar[frozenset[DType]] = (NUMBERS | {DType.I8, *_UNSIGNED}) - {DType.F16}

    low: float
    high: float

    def infer(self) -> TensorType:
        if not self.low <= self.high:
            raise self.fail(f"the lower limit {self.low:g} is above the upper limit {self.high:g}")
        return super().infer()

    def limits(self) -> tuple[float, float]:
        """The limits as values of the operand's type: an integer operand takes the integers between them."""
        dtype = self.x.type.dtype
        if dtype.is_float:
            return self.low, self.high
        bounds: Any = np.iinfo(cast(Any, dtype.numpy))
        least, most = int(bounds.min), int(bounds.max)
        low = least if self.low <= least else math.ceil(self.low)
        high = most if self.high >= most else math.floor(self.high)
        return low, high

    def evaluate(self, x: Array) -> Array:
        low, high = (as_array(limit, self.x.type.dtype) for limit in self.limits())
        return np.minimum(np.maximum(x, low), high)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        dtype = self.x.type.dtype
        above = b.less(b.fill((), dtype, self.low), self.x)
        below = b.less(self.x, b.fill((), dtype, self.high))
        return b.where(b.logical_and(above, below), ct, b.fill((), dtype, 0.0))

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        low, high = (t.const(limit, self.x.type.dtype) for limit in self.limits())
        return t.minimum(t.maximum(x, low), high)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        low, high = self.limits()
        if math.isfinite(low) and math.isfinite(high):
            return o.node("Clip", x, o.scalar(low, dtype), o.scalar(high, dtype))
        # Clip without a limit has the largest finite number.
        x = x if low == -math.inf else o.node("Max", x, o.scalar(low, dtype))
        return x if high == math.inf else o.node("Min", x, o.scalar(high, dtype))


class Predicate(Unary):
    """Base of the questions about one element: BOOL results."""

    no_vjp = "boolean output"

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        def build(a: str) -> str:
            return self.nodes(o, a, kernel_type(self, self.x.type.dtype, self.kernels))

        return computed(self, o, self.x.type.dtype, self.kernels, build, x, result=DType.BOOL)

    def infer(self) -> TensorType:
        return super().infer().with_dtype(DType.BOOL)


class IsFinite(Predicate):
    """Neither infinite nor NaN."""

    name = "unary.isfinite"
    numpy = np.isfinite

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return t.isfinite(x)

    def nodes(self, o: OnnxEmitter, x: str, dtype: DType) -> str:
        return o.node("Less", o.node("Abs", x), o.scalar(math.inf, dtype))


class IsNan(Predicate):
    """Not a number."""

    name = "unary.isnan"
    numpy = np.isnan
    onnx = "IsNaN"
    kernels = FLOATS | {DType.BF16}

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return x.ne(x)


class Not(Predicate):
    """``not x`` of a boolean."""

    name = "unary.not"
    numpy = np.logical_not
    onnx = "Not"
    kernels = frozenset({DType.BOOL})

    def infer(self) -> TensorType:
        if self.x.tensor.dtype is not DType.BOOL:
            raise self.fail(f"the operand is boolean, not {self.x.type}")
        return self.x.tensor

    def element(self, t: TvmEmitter, x: Expr) -> Scalar:
        return ~x


OPS: tuple[type[Op], ...] = (
    Exp, Expm1, Log, Log1p, Sqrt, Rsqrt, Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Tanh, Sigmoid, Erf,
    Square, Reciprocal, Neg, Abs, Sign, Floor, Ceil, Round, Scale, Relu, LeakyRelu, Softplus, Clip,
    IsFinite, IsNan, Not,
)  # fmt: skip
