"""The ops that make noise of a keystream and add it: the only way from a clipped sum to ``public``.

    clipped<%c>  --noisy_mean-->  public

passes/privacy_flow.py holds their constants, keys and streams to those of the module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...runtime.keystream import Domain, blocks_for, normals_from_words, words
from ..ir.core import StateName, Value
from ..ir.stage import Stage
from ..ir.types import DType, Shape, TensorType
from .base import Array, Op
from .dp import NO_ONNX, NO_VJP, check_bound
from .emit import Expr, Scalar, Tensor, TvmEmitter
from .kinds import PUBLIC, Kind

GRADIENT = int(Domain.GRADIENT)
QUANTILE = int(Domain.QUANTILE)


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
    """``(total + sigma * clip * sqrt(groups) * z) / lot`` with z standard normal: the only way to ``public``.

    ``c`` names the factors that clipped ``total``; absent where the total comes from ``lot`` state, and for a count.
    ``lot`` is the stated lot size, a public constant, never the number of rows at hand.
    ``groups`` is the number of clip groups: with noise sigma C_k sqrt(K) on each, all together cost what one costs.
    With ``bound`` (f32[1], the one that clipped) C is its value at run time, and ``clip`` only where it starts.
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
    groups: int = 1
    bound: Value | None = None

    def infer(self) -> TensorType:
        count = self.total.tensor.numel
        if not isinstance(count, int) or self.bits.type != TensorType(DType.U32, words_shape(count)):
            raise self.fail(f"{self.bits.type} are not the keystream words of {self.total.type}")
        _check_groups(self, self.groups)
        check_bound(self, self.bound)
        return self.total.tensor

    def evaluate(self, total: Array, c: Array | None, bits: Array, bound: Array | None) -> Array:
        return _noisy_mean(total, bits, _std(self, bound), self.lot)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC


def _check_groups(op: Op, groups: int) -> None:
    if groups < 1:
        raise op.fail(f"groups is {groups}; there is at least one clip group")


def _multiplier(op: NoisyMean | AddNoise) -> float:
    """Standard deviation of the noise per unit of the bound."""
    return op.sigma * math.sqrt(op.groups)


def _std(op: NoisyMean | AddNoise, bound: Array | None) -> float:
    return _multiplier(op) * (op.clip if bound is None else float(bound[0]))


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
    groups: int = 1
    bound: Value | None = None
    domain: int = GRADIENT

    def infer(self) -> TensorType:
        _check_groups(self, self.groups)
        check_bound(self, self.bound)
        return self.total.tensor

    def evaluate(self, total: Array, c: Array | None, key: Array, draw: Array, bound: Array | None) -> Array:
        bits = _words(key, draw, Domain(self.domain), self.tensor, total.size)
        return _noisy_mean(total, bits, _std(self, bound), self.lot)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC

    def to_tvm(
        self, t: TvmEmitter, total: Tensor, c: Tensor | None, key: Tensor, draw: Tensor, bound: Tensor | None
    ) -> Tensor:
        shape, dtype = self.total.tensor.shape, self.total.type.dtype
        normals = t.chacha_normals(key, draw, self.tensor, self.domain, self.total.tensor.numel)
        scale = t.const(1.0 / self.lot, dtype)

        def element(*index: Expr) -> Scalar:
            flat: Any = 0
            for position, extent in zip(index, shape, strict=True):
                flat = flat * extent + position
            if bound is None:
                std = t.const(_multiplier(self) * self.clip, dtype)
            else:
                std = t.const(_multiplier(self), dtype) * t.cast(bound[0], dtype)
            return (total[index] + std * t.cast(normals[flat], dtype)) * scale

        return t.compute(shape, dtype, element)


OPS: tuple[type[Op], ...] = (Bits, NoisyMean, AddNoise)
