"""Gradient clipping and regularisation: what fluid does between the gradients and the optimizer.

They act on gradients as the program sees them (privatised ones in a private program) and are expanded by
the ``update`` pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import Value
from ..ir.stage import Stage
from ..ir.types import DType, TensorType
from .base import Op, OpBuilder
from .composite import Composite
from .kinds import Kind, default_kind


class UpdatePhase(Composite):
    """Base: lives until the gradients are final."""

    last_stage: ClassVar[Stage] = Stage.PRIVATE
    no_evaluate: ClassVar[str] = "expanded by the update pass"
    no_vjp: ClassVar[str] = "acts on gradients, after the backward pass"
    no_tvm: ClassVar[str] = "expanded by the update pass"
    no_onnx: ClassVar[str] = "expanded by the update pass"

    def example_axis(self, kinds: Sequence[Kind]) -> Kind | tuple[Kind, ...]:
        return (default_kind(self, kinds),) * len(self.results)


def _float_type(op: Op, value: Value) -> TensorType:
    kind = value.tensor
    if not kind.dtype.is_float:
        raise op.fail(f"works on floating-point gradients, not {kind}")
    return kind


def _const(b: OpBuilder, like: Value, value: float) -> Value:
    return b.fill((), like.type.dtype, value)


def _sum_of_squares(b: OpBuilder, x: Value) -> Value:
    return b.reduce_sum(b.square(x), tuple(range(x.tensor.rank)))


@dataclass(frozen=True, eq=False)
class ClipByValue(UpdatePhase):
    """``min(max(grad, low), high)``."""

    name: ClassVar[str] = "update.clip_by_value"

    grad: Value
    low: float
    high: float

    def infer(self) -> TensorType:
        if not self.low <= self.high:
            raise self.fail(f"the lower bound {self.low} lies above the upper bound {self.high}")
        return _float_type(self, self.grad)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        raised = b.maximum(self.grad, _const(b, self.grad, self.low))
        return (b.minimum(raised, _const(b, self.grad, self.high)),)


@dataclass(frozen=True, eq=False)
class ClipByNorm(UpdatePhase):
    """``grad * clip / |grad|`` where the 2-norm of this gradient alone exceeds ``clip``."""

    name: ClassVar[str] = "update.clip_by_norm"

    grad: Value
    clip: float

    def infer(self) -> TensorType:
        if not self.clip > 0:
            raise self.fail(f"the norm bound is positive, not {self.clip}")
        return _float_type(self, self.grad)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        bound = _const(b, self.grad, self.clip)
        norm = b.sqrt(_sum_of_squares(b, self.grad))
        # Dividing by the larger of both keeps a gradient of norm 0 away from 0 / 0.
        return (b.mul(self.grad, b.div(bound, b.maximum(norm, bound))),)


@dataclass(frozen=True, eq=False)
class ClipByGlobalNorm(UpdatePhase):
    """Every gradient times ``clip / max(clip, |all gradients together|)``: one result per gradient."""

    name: ClassVar[str] = "update.clip_by_global_norm"

    grads: tuple[Value, ...]
    clip: float

    def infer(self) -> tuple[TensorType, ...]:
        if not self.clip > 0:
            raise self.fail(f"the norm bound is positive, not {self.clip}")
        if not self.grads:
            raise self.fail("there is no gradient to clip")
        return tuple(_float_type(self, grad) for grad in self.grads)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        # Half-precision gradients: their common norm is a float32 number.
        dtypes = {grad.type.dtype for grad in self.grads}
        wide = DType.F64 if DType.F64 in dtypes else DType.F32
        total: Value | None = None
        for grad in self.grads:
            term = _sum_of_squares(b, _cast(b, grad, wide))
            total = term if total is None else b.add(total, term)
        assert total is not None
        bound = b.fill((), wide, self.clip)
        factor = b.div(bound, b.maximum(b.sqrt(total), bound))
        return tuple(b.mul(grad, _cast(b, factor, grad.type.dtype)) for grad in self.grads)


def _cast(b: OpBuilder, x: Value, dtype: DType) -> Value:
    return x if x.type.dtype is dtype else b.cast(x, dtype)


@dataclass(frozen=True, eq=False)
class Decay(UpdatePhase):
    """Base of the regularisers: the gradient of a penalty on ``param`` is added to ``grad``."""

    grad: Value
    param: Value
    coeff: float

    def infer(self) -> TensorType:
        kind = _float_type(self, self.grad)
        if self.param.type != kind:
            raise self.fail(f"a gradient of type {kind} belongs to a parameter of type {self.param.type}")
        return kind


class L1Decay(Decay):
    """``grad + coeff * sign(param)``."""

    name = "update.l1_decay"

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        return (b.add(self.grad, b.scale(b.sign(self.param), self.coeff)),)


class L2Decay(Decay):
    """``grad + coeff * param`` (fluid's L2Decay has no factor 1/2 to cancel)."""

    name = "update.l2_decay"

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        return (b.add(self.grad, b.scale(self.param, self.coeff)),)


OPS: tuple[type[Op], ...] = (ClipByValue, ClipByNorm, ClipByGlobalNorm, L1Decay, L2Decay)
