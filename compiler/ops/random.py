"""Random tensors and dropout.  Nothing here has hidden state.

An op draws either from the keystream of model randomness (``generator="chacha20"``: operands ``key`` u32[8]
and ``counter`` u64[], attribute ``stream`` < 2^24, a number of its own per op) or, for parity with seeded
fluid programs, from Paddle's generator started anew from ``seed`` (``generator="paddle"``: no operands).
Privacy noise is not made here: see ``dp``.

In a private step an op whose result has a part for every example also reads ``row``, the index in the lot of the
first row of the physical batch: an example then meets the same numbers however the lot is divided into batches.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...runtime import keystream
from ..ir.core import Value
from ..ir.types import DType, Shape, TensorType, numel, static_shape
from . import minstd
from .base import Array, Op, OpBuilder
from .drawing import Drawing, unflat
from .emit import Expr, Loops, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import ExampleKind, Kind, MixedKind, PublicKind, default_kind
from .onnx_forms import FLOATS, kernel_type

Implementation: TypeAlias = Literal["downgrade_in_infer", "upscale_in_train"]

_POLAR_TRIES = 64
"""A pair of the polar method is kept with probability pi/4: 64 tries fail with probability 1e-43."""


@dataclass(frozen=True, eq=False)
class Generated(Drawing):
    """Base of ops whose only result is a random tensor of ``type``."""

    no_vjp: ClassVar[str] = "no operands to differentiate"
    dtypes: ClassVar[tuple[DType, ...]] = (DType.F32,)

    type: TensorType

    def infer(self) -> TensorType:
        self.check_source(self.type.shape)
        if self.type.dtype not in self.dtypes:
            raise self.fail(f"draws {' or '.join(d.value for d in self.dtypes)}, not {self.type}; cast the result")
        return self.type

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.row_kind(kinds, self.type.shape)


@dataclass(frozen=True, eq=False)
class FromUniform(Generated):
    """Base of distributions that map one uniform to one value."""

    @abstractmethod
    def transform(self, u: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values for uniforms."""

    @abstractmethod
    def transform_tvm(self, t: TvmEmitter, u: Expr) -> Scalar:
        """The value for one uniform."""

    def evaluate(self, key: Array | None, counter: Array | None, row: Array | None = None) -> Array:
        return self.transform(self.uniforms(key, counter, row, static_shape(self.type.shape)))

    def to_tvm(self, t: TvmEmitter, key: Tensor | None, counter: Tensor | None, row: Tensor | None) -> Tensor:
        def element(u: Expr) -> Scalar:
            return self.transform_tvm(t, u)

        return t.pointwise(element, self.uniforms_tvm(t, key, counter, row, self.type.shape), dtype=DType.F32)

    @abstractmethod
    def transform_onnx(self, o: OnnxEmitter, u: str) -> str:
        """As ``transform``."""

    def to_onnx(self, o: OnnxEmitter, key: str | None, counter: str | None, row: str | None) -> str:
        return self.transform_onnx(o, self.uniforms_onnx(o, key, counter, row, self.type.shape))


@dataclass(frozen=True, eq=False)
class Uniform(FromUniform):
    """Uniform on ``[low, high)``: ``u * (high - low) + low`` in float32."""

    name: ClassVar[str] = "random.uniform"

    low: float
    high: float

    def _span(self) -> float:
        return float(np.float32(self.high) - np.float32(self.low))

    def transform(self, u: NDArray[np.float32]) -> NDArray[np.float32]:
        return u * np.float32(self._span()) + np.float32(self.low)

    def transform_tvm(self, t: TvmEmitter, u: Expr) -> Scalar:
        return u * self._span() + self.low

    def transform_onnx(self, o: OnnxEmitter, u: str) -> str:
        return _affine(o, u, self._span(), self.low)


@dataclass(frozen=True, eq=False)
class TruncatedNormal(FromUniform):
    """Normal of mean ``mean`` and deviation ``std`` conditioned on two deviations either side of the mean.

    Inverts the distribution function as Paddle does, to 4e-6 deviations near the ends.
    """

    name: ClassVar[str] = "random.truncated_normal"

    mean: float
    std: float

    def transform(self, u: NDArray[np.float32]) -> NDArray[np.float32]:
        return minstd.truncated_normals(u, self.mean, self.std)

    def transform_tvm(self, t: TvmEmitter, u: Expr) -> Scalar:
        x = (u * minstd.CDF_MASS + minstd.CDF_LOW) * 2.0 - 1.0
        wide = t.cast(x, DType.F64)
        r = t.cast(0.180625 - wide * 0.25 * wide, DType.F32)
        over, under = (_polynomial(t, coefficients, r) for coefficients in minstd.ERFINV)
        return x * over / under * (2.0**0.5 * self.std) + self.mean

    def transform_onnx(self, o: OnnxEmitter, u: str) -> str:
        return _affine(o, minstd.truncated_normals_onnx(o, u), self.std, self.mean)


@dataclass(frozen=True, eq=False)
class Normal(Generated):
    """Normal of mean ``mean`` and standard deviation ``std``; both generators have complete tails."""

    name: ClassVar[str] = "random.normal"
    capacity: ClassVar[int] = keystream.MAX_BLOCKS * keystream.NORMALS_PER_BLOCK

    mean: float
    std: float

    def evaluate(self, key: Array | None, counter: Array | None, row: Array | None = None) -> Array:
        shape = static_shape(self.type.shape)
        if key is None or counter is None:
            z = minstd.normals(self.seed, math.prod(shape)).reshape(shape)
        else:
            z = self.normals(key, counter, row, shape)
        return z * np.float32(self.std) + np.float32(self.mean)

    def to_tvm(self, t: TvmEmitter, key: Tensor | None, counter: Tensor | None, row: Tensor | None) -> Tensor:
        shape = self.type.shape
        if key is None or counter is None:
            return t.pointwise(self._scaled, self._polar(t, shape), dtype=DType.F32)
        z = self.normals_tvm(t, key, counter, row, shape)
        return t.compute(shape, DType.F32, lambda *index: self._scaled(z(*index)))

    def to_onnx(self, o: OnnxEmitter, key: str | None, counter: str | None, row: str | None) -> str:
        shape = self.type.shape
        if key is None or counter is None:
            z = o.reshape(minstd.normals_onnx(o, self.seed, numel(shape)), shape)
        else:
            z = self.normals_onnx(o, key, counter, row, shape)
        return _affine(o, z, self.std, self.mean)

    def _scaled(self, z: Expr) -> Expr:
        return z * self.std + self.mean

    def _polar(self, t: TvmEmitter, shape: Shape) -> Tensor:
        """Standard normals of Paddle's generator: see ``minstd.normals``."""
        count = t.extent(numel(shape))

        def body(loops: Loops, out: Tensor) -> None:
            state = self.engine(t, loops)
            open_, pair = loops.local(DType.I32), loops.local(DType.F32, (3,))

            def keep(k: Expr) -> Callable[[], None]:
                def stored() -> None:
                    loops.store(open_, 0, 0)
                    loops.store(pair, 2, t.call("sqrt", t.call("log", pair[2]) * -2.0 / pair[2]))
                    loops.store(out, unflat(t, k * 2, shape), pair[1] * pair[2])

                    def second() -> None:
                        loops.store(out, unflat(t, k * 2 + 1, shape), pair[0] * pair[2])

                    loops.when(k * 2 + 1 < count, second)

                return stored

            def one(step: Expr) -> None:
                k = t.cast(step, DType.I64)
                loops.store(open_, 0, 1)

                def attempt(_: Expr) -> None:
                    def draw() -> None:
                        for which in (0, 1):
                            loops.store(pair, which, self.advance(t, loops, state) * 2.0 - 1.0)
                        loops.store(pair, 2, pair[0] * pair[0] + pair[1] * pair[1])
                        loops.when((pair[2] <= 1.0) & pair[2].ne(0.0), keep(k))

                    loops.when(open_[0].eq(1), draw)

                loops.serial(_POLAR_TRIES, attempt)

            loops.serial((count + 1) // 2, one)

        (out,) = t.loops([(shape, DType.F32)], body)
        return out


@dataclass(frozen=True, eq=False)
class Bits(Generated):
    """The words of the keystream themselves, u32."""

    name: ClassVar[str] = "random.bits"
    dtypes: ClassVar[tuple[DType, ...]] = (DType.U32,)

    def infer(self) -> TensorType:
        if self.generator == "paddle":
            raise self.fail("Paddle's generator has 31-bit states, not random words")
        return super().infer()

    def evaluate(self, key: Array, counter: Array, row: Array | None = None) -> Array:
        return self.words(key, counter, row, static_shape(self.type.shape))

    def to_tvm(self, t: TvmEmitter, key: Tensor, counter: Tensor, row: Tensor | None) -> Tensor:
        return t.compute(self.type.shape, DType.U32, self.words_tvm(t, key, counter, row, self.type.shape))

    def to_onnx(self, o: OnnxEmitter, key: str, counter: str, row: str | None) -> str:
        return self.words_onnx(o, key, counter, row, self.type.shape)


@dataclass(frozen=True, eq=False)
class Dropout(Drawing):
    """Dropout in training: results ``(out, mask)`` with ``out = x * mask``.

    An element is dropped where its uniform is below ``p``.  ``mask``, of x's type, is 0 there and elsewhere
    1 (``downgrade_in_infer``: inference multiplies by ``1 - p``) or ``1 / (1 - p)`` (``upscale_in_train``:
    inference is the identity).  The mask depends on x's shape only.
    """

    name: ClassVar[str] = "random.dropout"

    x: Value
    p: float
    implementation: Implementation = "downgrade_in_infer"

    def infer(self) -> tuple[TensorType, TensorType]:
        kind = self.x.tensor
        self.check_source(kind.shape)
        if not kind.dtype.is_float:
            raise self.fail(f"drops floating-point values, not {kind}")
        if not 0 <= self.p <= 1:
            raise self.fail(f"the dropout probability {self.p} is outside [0, 1]")
        return kind, kind

    @property
    def factor(self) -> float:
        """What a kept element is multiplied by."""
        return 1 / (1 - self.p) if self.implementation == "upscale_in_train" and self.p < 1 else 1.0

    def kept(self, u: NDArray[np.float32]) -> NDArray[np.bool_]:
        # Uniforms are below 1 in float32, too: p = 1 keeps nothing.
        return u >= np.float32(self.p)

    def evaluate(self, key: Array | None, counter: Array | None, row: Array | None, x: Array) -> tuple[Array, Array]:
        kept = self.kept(self.uniforms(key, counter, row, x.shape))
        mask = np.where(kept, np.asarray(self.factor, x.dtype), np.asarray(0, x.dtype))
        # A selection: a dropped Inf or NaN leaves nothing behind.
        return np.where(kept, x, mask) * mask, mask

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        ct = cts[0]
        dx = None if ct is None else b.mul(ct, self.results[1])
        return (*(None for _ in self.operands[:-1]), dx)

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, Kind]:
        *source, x = kinds
        mask = self.row_kind(source, self.x.tensor.shape)
        if isinstance(mask, MixedKind):
            return mask, mask
        if isinstance(x, ExampleKind):
            if not isinstance(mask, ExampleKind):
                return x, mask
            if mask.axis == x.axis:
                # Elements of the mask are independent: they split along the examples however x does.
                return x, x
        if isinstance(x, PublicKind):
            return mask, mask
        return default_kind(self, (x,)), mask

    def to_tvm(
        self, t: TvmEmitter, key: Tensor | None, counter: Tensor | None, row: Tensor | None, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        u = self.uniforms_tvm(t, key, counter, row, x.shape)
        threshold = float(np.float32(self.p))
        zero = t.const(0.0, x.dtype)

        def kept(a: Expr) -> Scalar:
            return t.select(a >= threshold, t.const(self.factor, x.dtype), zero)

        def applied(a: Expr, m: Expr) -> Scalar:
            return t.select(m.ne(0.0), a * m, zero)

        mask = t.pointwise(kept, u, dtype=x.dtype)
        return t.pointwise(applied, x, mask, dtype=x.dtype), mask

    def to_onnx(self, o: OnnxEmitter, key: str | None, counter: str | None, row: str | None, x: str) -> tuple[str, str]:
        dtype = self.x.tensor.dtype
        u = self.uniforms_onnx(o, key, counter, row, self.x.tensor.shape)
        kept = o.node("GreaterOrEqual", u, o.scalar(self.p, DType.F32))
        wide = kernel_type(self, dtype, FLOATS)
        out = o.node("Where", kept, x if wide is dtype else o.cast(x, wide), o.scalar(0.0, wide))
        mask = o.cast(kept, wide)
        if self.factor != 1.0:
            factor = o.scalar(float(np.asarray(self.factor, dtype.numpy)), wide)
            out, mask = o.node("Mul", out, factor), o.node("Mul", mask, factor)
        return (out, mask) if wide is dtype else (o.cast(out, dtype), o.cast(mask, dtype))


def _polynomial(t: TvmEmitter, coefficients: tuple[float, ...], x: Expr) -> Expr:
    """Horner's scheme, the highest power first."""
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def _affine(o: OnnxEmitter, x: str, scale: float, offset: float) -> str:
    return o.node("Add", o.node("Mul", x, o.scalar(scale, DType.F32)), o.scalar(offset, DType.F32))


OPS: tuple[type[Op], ...] = (Uniform, Normal, TruncatedNormal, Bits, Dropout)
