"""The loss of probabilities of two classes, with fluid's limits where a probability is 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import TensorType
from .base import Array, Op, OpBuilder, same_dtype
from .emit import Expr, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import Kind, aligned_kind
from .onnx_forms import SINGLE_AND_DOUBLE, computed, kernel_type

LEAST_LOG = -100.0
"""What fluid's bce_loss takes for the logarithm of 0 and of anything below ``e ** -100``."""

LEAST_VARIANCE = 1e-12
"""The least ``x (1 - x)`` that its gradient is divided by."""


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy(Op):
    """``-label * log(x) - (1 - label) * log(1 - x)`` elementwise, of probabilities x; logarithms are at least -100.

    The slope in x is ``(x - label) / max(x (1 - x), 1e-12)``. What is no probability costs NaN.
    """

    name: ClassVar[str] = "loss.binary_cross_entropy"

    x: Value
    label: Value

    def infer(self) -> TensorType:
        kind = self.x.tensor
        if not kind.dtype.is_float:
            raise self.fail(f"works on floating-point values, not {kind}")
        same_dtype(self, self.x, self.label)
        if self.label.tensor.shape != kind.shape:
            raise self.fail(f"input and label have one shape, not {kind} and {self.label.type}")
        return kind

    def evaluate(self, x: Array, label: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            yes, no = np.log(x), np.log(1 - x)
            yes, no = (np.where(log < LEAST_LOG, LEAST_LOG, log) for log in (yes, no))
            return np.asarray((label - 1) * no - label * yes, x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        dtype, other = self.x.type.dtype, b.scale(self.x, -1.0, 1.0)
        dx = dlabel = None
        if needs[0]:
            variance = b.maximum(b.mul(self.x, other), b.fill((), dtype, LEAST_VARIANCE))
            dx = b.mul(ct, b.div(b.sub(self.x, self.label), variance))
        if needs[1]:
            least = b.fill((), dtype, LEAST_LOG)
            no, yes = (b.where(b.less(log, least), least, log) for log in (b.log(other), b.log(self.x)))
            dlabel = b.mul(ct, b.sub(no, yes))
        return dx, dlabel

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        shape = self.x.tensor.shape
        return aligned_kind(self, kinds, (shape, shape), shape, linear=False)

    def to_tvm(self, t: TvmEmitter, x: Tensor, label: Tensor) -> Tensor:
        def log(a: Expr) -> Expr:
            found = t.call("log", a)
            return t.select(found < LEAST_LOG, t.const(LEAST_LOG, x.dtype), found)

        def element(a: Expr, y: Expr) -> Scalar:
            return (y - 1.0) * log(1.0 - a) - y * log(a)

        return t.pointwise(element, x, label, dtype=x.dtype)

    def to_onnx(self, o: OnnxEmitter, x: str, label: str) -> str:
        dtype = self.x.type.dtype
        wide = kernel_type(self, dtype, SINGLE_AND_DOUBLE)
        one, least = o.scalar(1, wide), o.scalar(LEAST_LOG, wide)

        def log(a: str) -> str:
            found = o.node("Log", a)
            return o.node("Where", o.node("Less", found, least), least, found)

        def build(a: str, y: str) -> str:
            no = o.node("Mul", o.node("Sub", y, one), log(o.node("Sub", one, a)))
            return o.node("Sub", no, o.node("Mul", y, log(a)))

        return computed(self, o, dtype, SINGLE_AND_DOUBLE, build, x, label)


OPS: tuple[type[Op], ...] = (BinaryCrossEntropy,)
