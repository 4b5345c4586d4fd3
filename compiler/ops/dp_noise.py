"""The ops that make noise of a keystream and add it: the only way from a clipped sum to ``public``.

    clipped<%c>  --noisy_mean-->  public

passes/privacy_flow.py holds their constants, keys and streams to those of the module.
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
from ..ir.types import DType, Shape, TensorType, static_shape
from .base import Array, Op
from .dp import NO_VJP, check_bound
from .emit import Expr, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import PUBLIC, Kind

GRADIENT = int(Domain.GRADIENT)
QUANTILE = int(Domain.QUANTILE)
PHASE = TensorType(DType.I64, ())
"""The type of the index of a step's phase."""


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

    def to_onnx(self, o: OnnxEmitter, key: str, draw: str) -> str:
        return _bits(o, key, draw, self.domain, self.tensor, self.count)


@dataclass(frozen=True, eq=False)
class NoisyMean(Op):
    """``(total + sigma * clip * sqrt(groups) * z) / lot`` with z standard normal: the only way to ``public``.

    ``c`` names the factors that clipped ``total``; absent where the total comes from ``lot`` state, and for a count.
    ``lot`` is the stated lot size, a public constant, never the number of rows at hand.
    ``groups`` is the number of clip groups: with noise sigma C_k sqrt(K) on each, all together cost what one costs.
    With ``bound`` (f32[1], the one that clipped) C is its value at run time, and ``clip`` only where it starts.
    With ``phase`` (i64[]) sigma and the lot size are the entries of ``sigmas`` and ``lots`` at its value; ``sigma`` and
    ``lot`` are the first.
    """

    name: ClassVar[str] = "dp.noisy_mean"
    first_stage: ClassVar[Stage] = Stage.PRIVATE
    no_vjp: ClassVar[str] = NO_VJP
    no_tvm: ClassVar[str] = "fused with its bits (dp.add_noise) before lowering"

    total: Value
    c: Value | None
    bits: Value
    sigma: float
    clip: float
    lot: float
    param: StateName
    groups: int = 1
    bound: Value | None = None
    phase: Value | None = None
    sigmas: tuple[float, ...] = ()
    lots: tuple[float, ...] = ()

    def infer(self) -> TensorType:
        count = self.total.tensor.numel
        if not isinstance(count, int) or self.bits.type != TensorType(DType.U32, words_shape(count)):
            raise self.fail(f"{self.bits.type} are not the keystream words of {self.total.type}")
        _check(self)
        return self.total.tensor

    def evaluate(self, total: Array, c: Array | None, bits: Array, bound: Array | None, phase: Array | None) -> Array:
        return _evaluated(self, total, bits, bound, phase)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC

    def to_onnx(
        self, o: OnnxEmitter, total: str, c: str | None, bits: str, bound: str | None, phase: str | None
    ) -> str:
        return _noisy_mean_onnx(self, o, total, bits, bound, phase)


def _check(op: NoisyMean | AddNoise) -> None:
    """Raises VerifyError for constants that do not go together."""
    if op.groups < 1:
        raise op.fail(f"groups is {op.groups}; there is at least one clip group")
    check_bound(op, op.bound)
    if op.phase is None:
        if op.sigmas or op.lots:
            raise op.fail("it has sigmas or lots of phases, and no operand that says which")
        return
    if op.phase.type != PHASE:
        raise op.fail(f"a phase is {PHASE}, not {op.phase.type}")
    if not op.sigmas or len(op.sigmas) != len(op.lots):
        raise op.fail(f"{len(op.sigmas)} sigmas and {len(op.lots)} lots: each phase has one of both")
    if (op.sigma, op.lot) != (op.sigmas[0], op.lots[0]):
        raise op.fail(f"sigma={op.sigma:g}, lot={op.lot:g} are not those of the first phase")


def _multiplier(op: NoisyMean | AddNoise, sigma: float) -> float:
    """Standard deviation of the noise per unit of the bound."""
    return sigma * math.sqrt(op.groups)


def _evaluated(op: NoisyMean | AddNoise, total: Array, bits: Array, bound: Array | None, phase: Array | None) -> Array:
    sigma, lot = (op.sigma, op.lot) if phase is None else _at(op, int(phase))
    return _noisy_mean(total, bits, _multiplier(op, sigma) * (op.clip if bound is None else float(bound[0])), lot)


def _noisy_mean(total: Array, bits: Array, std: float, lot: float) -> Array:
    noise = normals_from_words(bits, total.size).reshape(total.shape)
    dtype = total.dtype.type
    return (total + dtype(std) * noise.astype(total.dtype)) * dtype(1.0 / lot)


def _at(op: NoisyMean | AddNoise, phase: int) -> tuple[float, float]:
    """Sigma and lot size of a phase.  Of one that there is not: NaN, as in compiled code, rather than too little."""
    known = 0 <= phase < len(op.sigmas)
    return (op.sigmas[phase], op.lots[phase]) if known else (math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class AddNoise(Op):
    """``dp.noisy_mean`` of ``dp.bits`` in one kernel: the keystream never reaches memory."""

    name: ClassVar[str] = "dp.add_noise"
    first_stage: ClassVar[Stage] = Stage.TARGET
    no_vjp: ClassVar[str] = NO_VJP

    total: Value
    c: Value | None
    key: Value
    draw: Value
    tensor: int
    sigma: float
    clip: float
    lot: float
    param: StateName
    groups: int = 1
    bound: Value | None = None
    domain: int = GRADIENT
    phase: Value | None = None
    sigmas: tuple[float, ...] = ()
    lots: tuple[float, ...] = ()

    def infer(self) -> TensorType:
        _check(self)
        return self.total.tensor

    def evaluate(
        self,
        total: Array,
        c: Array | None,
        key: Array,
        draw: Array,
        bound: Array | None,
        phase: Array | None,
    ) -> Array:
        bits = _words(key, draw, Domain(self.domain), self.tensor, total.size)
        return _evaluated(self, total, bits, bound, phase)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC

    def to_tvm(
        self,
        t: TvmEmitter,
        total: Tensor,
        c: Tensor | None,
        key: Tensor,
        draw: Tensor,
        bound: Tensor | None,
        phase: Tensor | None,
    ) -> Tensor:
        shape, dtype = self.total.tensor.shape, self.total.type.dtype
        normals = t.chacha_normals(key, draw, self.tensor, self.domain, self.total.tensor.numel)
        clip = self.clip if bound is None else 1.0

        def selected(of_phases: Sequence[float], alone: float) -> Scalar:
            """The number of this phase; of a phase that there is not, NaN rather than too little noise."""
            if phase is None:
                return t.const(alone, dtype)
            value: Scalar = t.const(math.nan, dtype)
            for number, constant in enumerate(of_phases):
                value = t.select(phase[()].eq(t.const(number, DType.I64)), t.const(constant, dtype), value)
            return value

        def element(*index: Expr) -> Scalar:
            flat: Any = 0
            for position, extent in zip(index, shape, strict=True):
                flat = flat * extent + position
            std: Any = selected(
                [_multiplier(self, s) * clip for s in self.sigmas], _multiplier(self, self.sigma) * clip
            )
            if bound is not None:
                std = std * t.cast(bound[0], dtype)
            scale: Any = selected([1.0 / lot for lot in self.lots], 1.0 / self.lot)
            return (total[index] + std * t.cast(normals[flat], dtype)) * scale

        return t.compute(shape, dtype, element)

    def to_onnx(
        self,
        o: OnnxEmitter,
        total: str,
        c: str | None,
        key: str,
        draw: str,
        bound: str | None,
        phase: str | None,
    ) -> str:
        bits = _bits(o, key, draw, self.domain, self.tensor, _count(self))
        return _noisy_mean_onnx(self, o, total, bits, bound, phase)


def _bits(o: OnnxEmitter, key: str, draw: str, domain: int, tensor: int, count: int) -> str:
    return o.keystream(key, draw, domain=domain, tensor=tensor, blocks=blocks_for(count))


def _count(op: NoisyMean | AddNoise) -> int:
    """Elements of the total: a parameter, so fixed."""
    return math.prod(static_shape(op.total.tensor.shape))


def _noisy_mean_onnx(
    op: NoisyMean | AddNoise, o: OnnxEmitter, total: str, bits: str, bound: str | None, phase: str | None
) -> str:
    """As ``_noisy_mean``."""
    kind = op.total.tensor
    z = o.reshape(o.normals(bits, _count(op)), kind.shape)
    z = z if kind.dtype is DType.F32 else o.cast(z, kind.dtype)

    def selected(of_phases: Sequence[float], alone: float, dtype: DType) -> str:
        """The number of this phase; of a phase that there is not, NaN rather than too little noise."""
        if phase is None:
            return o.scalar(alone, dtype)
        # Index -1 of the table is its last entry.
        table = o.array(np.asarray([*of_phases, math.nan, math.nan], dtype.numpy))
        last = o.scalar(len(of_phases), DType.I64)
        return o.node("Gather", table, o.node("Clip", phase, o.scalar(-1, DType.I64), last), axis=0)

    # With a bound in float64, as ``evaluate`` has it, until the last rounding.
    wide = kind.dtype if bound is None else DType.F64
    clip = op.clip if bound is None else 1.0
    std = selected([_multiplier(op, s) * clip for s in op.sigmas], _multiplier(op, op.sigma) * clip, wide)
    if bound is not None:
        std = o.node("Mul", std, o.reshape(o.cast(bound, DType.F64), ()))
        std = std if kind.dtype is DType.F64 else o.cast(std, kind.dtype)
    noisy = o.node("Add", total, o.node("Mul", z, std))
    return o.node("Mul", noisy, selected([1.0 / lot for lot in op.lots], 1.0 / op.lot, kind.dtype))


OPS: tuple[type[Op], ...] = (Bits, NoisyMean, AddNoise)
