"""Activations that are a few functions of one element: each is its formula (``decompose``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import Value
from ..ir.types import TensorType
from .base import Op, OpBuilder
from .composite import Composite
from .kinds import Kind, aligned_kind
from .unary import Clip, Expm1, Relu, Softplus


@dataclass(frozen=True, eq=False)
class Activation(Composite):
    """Base of the composites ``f(x)`` on floating-point numbers."""

    x: Value

    def infer(self) -> TensorType:
        if not self.x.tensor.dtype.is_float:
            raise self.fail(f"the operand holds floating-point numbers, not {self.x.type}; cast it first")
        return self.x.tensor

    def formula(self, b: OpBuilder, x: Value) -> Value:
        """The result in terms of core ops."""
        raise NotImplementedError

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        return (self.formula(b, self.x),)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        shape = self.x.tensor.shape
        return aligned_kind(self, kinds, [shape], shape, linear=False)


def _zero(b: OpBuilder, x: Value) -> Value:
    """One zero, broadcast where it is used: a whole tensor of them would depend on the size of the batch."""
    return b.fill((), x.type.dtype, 0.0)


def _positive(b: OpBuilder, x: Value) -> Value:
    return b.less(_zero(b, x), x)


@dataclass(frozen=True, eq=False)
class Relu6(Activation):
    """``x`` limited to ``[0, threshold]``."""

    name: ClassVar[str] = "activation.relu6"

    threshold: float = 6.0

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b(Clip(x, 0.0, self.threshold))


@dataclass(frozen=True, eq=False)
class BRelu(Activation):
    """``x`` limited to ``[low, high]``."""

    name: ClassVar[str] = "activation.brelu"

    low: float = 0.0
    high: float = 24.0

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b(Clip(x, self.low, self.high))


@dataclass(frozen=True, eq=False)
class Elu(Activation):
    """``x`` above 0, else ``alpha * (e ** x - 1)`` (Clevert et al., ICLR'16)."""

    name: ClassVar[str] = "activation.elu"

    alpha: float = 1.0

    def formula(self, b: OpBuilder, x: Value) -> Value:
        # exp sees no positive number: an overflow in the branch not taken would spoil the gradient.
        below = b(Expm1(b.minimum(x, _zero(b, x))))
        return b.where(_positive(b, x), x, b.scale(below, self.alpha))


@dataclass(frozen=True, eq=False)
class Selu(Activation):
    """``scale * elu(x, alpha)`` (Klambauer et al., NIPS'17)."""

    name: ClassVar[str] = "activation.selu"

    factor: float = 1.0507009873554804934193349852946
    alpha: float = 1.6732632423543772848170429916717

    def formula(self, b: OpBuilder, x: Value) -> Value:
        below = b(Expm1(b.minimum(x, _zero(b, x))))
        return b.scale(b.where(_positive(b, x), x, b.scale(below, self.alpha)), self.factor)


@dataclass(frozen=True, eq=False)
class Gelu(Activation):
    """``x`` times the standard normal's distribution function at ``x``, or its tanh approximation."""

    name: ClassVar[str] = "activation.gelu"

    approximate: bool = False

    def formula(self, b: OpBuilder, x: Value) -> Value:
        if self.approximate:
            cubed = b.mul(b.square(x), x)
            inner = b.scale(b.add(x, b.scale(cubed, 0.044715)), math.sqrt(2.0 / math.pi))
            curve = b.tanh(inner)
        else:
            curve = b.erf(b.scale(x, math.sqrt(0.5)))
        return b.mul(x, b.scale(curve, 0.5, 0.5))


class Softsign(Activation):
    """``x / (1 + |x|)``."""

    name = "activation.softsign"

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b.div(x, b.scale(b.abs(x), 1.0, 1.0))


@dataclass(frozen=True, eq=False)
class Swish(Activation):
    """``x * sigmoid(beta * x)``."""

    name: ClassVar[str] = "activation.swish"

    beta: float = 1.0

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b.mul(x, b.sigmoid(b.scale(x, self.beta)))


@dataclass(frozen=True, eq=False)
class HardSigmoid(Activation):
    """``slope * x + offset`` limited to ``[0, 1]``."""

    name: ClassVar[str] = "activation.hard_sigmoid"

    slope: float = 0.2
    offset: float = 0.5

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b(Clip(b.scale(x, self.slope, self.offset), 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class HardSwish(Activation):
    """``x`` times ``x + offset`` limited to ``[0, threshold]``, over ``factor``."""

    name: ClassVar[str] = "activation.hard_swish"

    threshold: float = 6.0
    factor: float = 6.0
    offset: float = 3.0

    def formula(self, b: OpBuilder, x: Value) -> Value:
        gate = b(Clip(b.scale(x, 1.0, self.offset), 0.0, self.threshold))
        return b.scale(b.mul(x, gate), 1.0 / self.factor)


class LogSigmoid(Activation):
    """``log(sigmoid(x))``, without overflow."""

    name = "activation.logsigmoid"

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b.neg(b(Softplus(b.neg(x))))


@dataclass(frozen=True, eq=False)
class STanh(Activation):
    """``outer * tanh(inner * x)``."""

    name: ClassVar[str] = "activation.stanh"

    inner: float = 0.67
    outer: float = 1.7159

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b.scale(b.tanh(b.scale(x, self.inner)), self.outer)


class TanhShrink(Activation):
    """``x - tanh(x)``."""

    name = "activation.tanh_shrink"

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b.sub(x, b.tanh(x))


@dataclass(frozen=True, eq=False)
class SoftShrink(Activation):
    """``x`` moved towards 0 by ``threshold``, and 0 within it."""

    name: ClassVar[str] = "activation.softshrink"

    threshold: float = 0.5

    def formula(self, b: OpBuilder, x: Value) -> Value:
        # Two ramps: at most one of them is on.
        return b.sub(b(Relu(b.scale(x, 1.0, -self.threshold))), b(Relu(b.scale(x, -1.0, -self.threshold))))


@dataclass(frozen=True, eq=False)
class HardShrink(Activation):
    """``x``, but 0 within ``[-threshold, threshold]``."""

    name: ClassVar[str] = "activation.hard_shrink"

    threshold: float = 0.5

    def formula(self, b: OpBuilder, x: Value) -> Value:
        limit = b.fill((), x.type.dtype, self.threshold)
        return b.where(b.less(limit, b.abs(x)), x, _zero(b, x))


@dataclass(frozen=True, eq=False)
class ThresholdedRelu(Activation):
    """``x`` above ``threshold``, else 0."""

    name: ClassVar[str] = "activation.thresholded_relu"

    threshold: float = 1.0

    def formula(self, b: OpBuilder, x: Value) -> Value:
        limit = b.fill((), x.type.dtype, self.threshold)
        return b.where(b.less(limit, x), x, _zero(b, x))


@dataclass(frozen=True, eq=False)
class SoftRelu(Activation):
    """``log(1 + e ** x)`` of ``x`` limited to ``[-threshold, threshold]``."""

    name: ClassVar[str] = "activation.soft_relu"

    threshold: float = 40.0

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b(Softplus(b(Clip(x, -self.threshold, self.threshold))))


class Mish(Activation):
    """``x * tanh(softplus(x))`` (Misra, BMVC'20)."""

    name = "activation.mish"

    def formula(self, b: OpBuilder, x: Value) -> Value:
        return b.mul(x, b.tanh(b(Softplus(x))))


@dataclass(frozen=True, eq=False)
class PRelu(Composite):
    """``x`` above 0, else ``alpha * x`` with learned ``alpha``, broadcast against ``x``."""

    name: ClassVar[str] = "activation.prelu"
    x: Value
    alpha: Value

    def infer(self) -> TensorType:
        if self.x.tensor.dtype != self.alpha.tensor.dtype or not self.x.tensor.dtype.is_float:
            raise self.fail(f"x and alpha hold floats of one type, not {self.x.type} and {self.alpha.type}")
        return self.x.tensor

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        return (b.add(b(Relu(self.x)), b.mul(self.alpha, b.minimum(self.x, _zero(b, self.x)))),)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        shapes = [v.tensor.shape for v in self.operands]
        return aligned_kind(self, kinds, shapes, self.x.tensor.shape, linear=False)


OPS: tuple[type[Op], ...] = (
    Relu6, BRelu, Elu, Selu, Gelu, Softsign, Swish, HardSigmoid, HardSwish, LogSigmoid, STanh, TanhShrink,
    SoftShrink, HardShrink, ThresholdedRelu, SoftRelu, Mish, PRelu,
)  # fmt: skip
