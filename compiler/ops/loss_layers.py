"""Losses and normalisers of fluid that core ops express: each is its formula, written once in ``decompose``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..ir.core import Value
from ..ir.types import Dim, Shape, TensorType
from .base import Op, OpBuilder, broadcast_shapes, normal_axis, same_dtype, scalar_type
from .composite import Composite
from .loss import LOG_OF_ZERO, LogSoftmax, SigmoidCrossEntropy


def _const(b: OpBuilder, like: Value, value: float) -> Value:
    return b.fill((), like.type.dtype, value)


def _same_type(op: Op, *values: Value) -> TensorType:
    """The common type of floating-point operands; raises VerifyError naming them."""
    kinds = [value.tensor for value in values]
    if any(kind != kinds[0] for kind in kinds[1:]):
        raise op.fail(f"operands have one type, not {' and '.join(map(str, kinds))}")
    if not kinds[0].dtype.is_float:
        raise op.fail(f"works on floating-point values, not {kinds[0]}")
    return kinds[0]


def _row_shape(op: Op, kind: TensorType) -> tuple[Shape, tuple[int, ...]]:
    """``[N, 1]`` and the axes summed away, of a loss with one value per row."""
    if kind.rank < 2:
        raise op.fail(f"needs a batch axis and at least one more, not {kind}")
    return (kind.shape[0], 1), tuple(range(1, kind.rank))


@dataclass(frozen=True, eq=False)
class SoftLabels(Composite):
    """Base of the losses that take one probability per class; classes lie along ``axis``."""

    def along(self, kind: TensorType, axis: int) -> tuple[int, TensorType]:
        """The class axis counted from 0, and the type of the loss (extent 1 there)."""
        at = normal_axis(self, axis, kind.rank)
        return at, kind.with_shape((*kind.shape[:at], 1, *kind.shape[at + 1 :]))


@dataclass(frozen=True, eq=False)
class SoftmaxCrossEntropySoft(SoftLabels):
    """``-sum(label * log_softmax(logits))`` along ``axis``: results ``(loss, softmax)``."""

    name: ClassVar[str] = "loss.softmax_cross_entropy_soft"

    logits: Value
    label: Value
    axis: int = -1

    def infer(self) -> tuple[TensorType, TensorType]:
        kind = _same_type(self, self.logits, self.label)
        return self.along(kind, self.axis)[1], kind

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        at, _ = self.along(self.logits.tensor, self.axis)
        log = b(LogSoftmax(self.logits, at))
        return b.neg(b.reduce_sum(b.mul(self.label, log), (at,), keepdims=True)), b.exp(log)


@dataclass(frozen=True, eq=False)
class CrossEntropySoft(SoftLabels):
    """``-sum(label * log(p))`` along the last axis; ``log(0)`` counts as -1e20 and passes no gradient."""

    name: ClassVar[str] = "loss.cross_entropy_soft"

    p: Value
    label: Value

    def infer(self) -> TensorType:
        return self.along(_same_type(self, self.p, self.label), -1)[1]

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        at, _ = self.along(self.p.tensor, -1)
        empty = b.equal(self.p, _const(b, self.p, 0.0))
        log = b.log(b.where(empty, _const(b, self.p, 1.0), self.p))
        log = b.where(empty, _const(b, self.p, LOG_OF_ZERO), log)
        return (b.neg(b.reduce_sum(b.mul(self.label, log), (at,), keepdims=True)),)


@dataclass(frozen=True, eq=False)
class Paired(Composite):
    """Base of ``f(x, label)`` on two tensors of one type."""

    x: Value
    label: Value

    def infer(self) -> TensorType:
        return _same_type(self, self.x, self.label)


class SquareError(Paired):
    """``(x - label) ** 2``."""

    name = "loss.square_error"

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        return (b.square(b.sub(self.x, self.label)),)


@dataclass(frozen=True, eq=False)
class Huber(Paired):
    """``r**2 / 2`` for ``|r| <= delta``, else ``delta * (|r| - delta / 2)``, with ``r = label - x``."""

    name: ClassVar[str] = "loss.huber"

    delta: float

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        r = b.sub(self.label, self.x)
        size = b.abs(r)
        near = b.less_equal(size, _const(b, r, self.delta))
        far = b.scale(size, self.delta, -0.5 * self.delta * self.delta)
        return (b.where(near, b.scale(b.square(r), 0.5), far),)


@dataclass(frozen=True, eq=False)
class LogLoss(Paired):
    """``-label * log(x + epsilon) - (1 - label) * log(1 - x + epsilon)``, ``x`` a probability."""

    name: ClassVar[str] = "loss.log_loss"

    epsilon: float = 1e-4

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        yes = b.mul(self.label, b.log(b.scale(self.x, 1.0, self.epsilon)))
        no = b.mul(b.scale(self.label, -1.0, 1.0), b.log(b.scale(self.x, -1.0, 1.0 + self.epsilon)))
        return (b.neg(b.add(yes, no)),)


@dataclass(frozen=True, eq=False)
class KlDiv(Composite):
    """``target * (log(target) - x)`` where ``target > 0``, else 0; ``x`` are log-probabilities.

    ``reduction``: ``none`` keeps the shape; ``mean`` over all elements, ``sum``, and ``batchmean``
    (sum divided by the extent of axis 0) give a scalar.
    """

    name: ClassVar[str] = "loss.kldiv"

    x: Value
    target: Value
    reduction: Literal["none", "mean", "sum", "batchmean"] = "mean"

    def infer(self) -> TensorType:
        kind = _same_type(self, self.x, self.target)
        return kind if self.reduction == "none" else scalar_type(kind.dtype)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        zero, one = _const(b, self.x, 0.0), _const(b, self.x, 1.0)
        positive = b.less(zero, self.target)
        log = b.log(b.where(positive, self.target, one))
        loss = b.where(positive, b.mul(self.target, b.sub(log, self.x)), zero)
        shape = self.x.tensor.shape
        axes = tuple(range(len(shape)))
        if self.reduction == "none":
            return (loss,)
        if self.reduction == "mean":
            return (b.reduce_mean(loss, axes),)
        if self.reduction == "sum":
            return (b.reduce_sum(loss, axes),)
        return (b.reduce_mean(b.reduce_sum(loss, axes[1:]), (0,)),)


@dataclass(frozen=True, eq=False)
class SmoothL1(Composite):
    """Per row, the sum of ``d**2 * sigma**2 / 2`` where ``|d| < 1 / sigma**2``, else ``|d| - 1 / (2 sigma**2)``.

    ``d = inside * (x - y)``; each term is multiplied by ``outside``.  The result is ``[N, 1]``.
    """

    name: ClassVar[str] = "loss.smooth_l1"

    x: Value
    y: Value
    inside: Value | None = None
    outside: Value | None = None
    sigma: float = 1.0

    def infer(self) -> TensorType:
        kind = _same_type(self, *self.operands)
        return kind.with_shape(_row_shape(self, kind)[0])

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        shape, axes = _row_shape(self, self.x.tensor)
        square = self.sigma * self.sigma
        d = b.sub(self.x, self.y)
        if self.inside is not None:
            d = b.mul(d, self.inside)
        size = b.abs(d)
        near = b.less(size, _const(b, d, 1.0 / square))
        loss = b.where(near, b.scale(b.square(d), 0.5 * square), b.scale(size, 1.0, -0.5 / square))
        if self.outside is not None:
            loss = b.mul(loss, self.outside)
        return (b.reshape(b.reduce_sum(loss, axes), shape),)


@dataclass(frozen=True, eq=False)
class RankLoss(Composite):
    """``log(1 + exp(left - right)) - label * (left - right)``."""

    name: ClassVar[str] = "loss.rank"

    label: Value
    left: Value
    right: Value

    def infer(self) -> TensorType:
        return _same_type(self, self.label, self.left, self.right)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        # The logistic loss of left - right; a label is a probability here, so none is ever ignored.
        return (b(SigmoidCrossEntropy(b.sub(self.left, self.right), self.label)),)


@dataclass(frozen=True, eq=False)
class MarginRankLoss(Composite):
    """``max(0, -label * (left - right) + margin)``."""

    name: ClassVar[str] = "loss.margin_rank"

    label: Value
    left: Value
    right: Value
    margin: float = 0.1

    def infer(self) -> TensorType:
        return _same_type(self, self.label, self.left, self.right)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        gap = b.scale(b.mul(self.label, b.sub(self.left, self.right)), -1.0, self.margin)
        return (b.maximum(gap, _const(b, gap, 0.0)),)


@dataclass(frozen=True, eq=False)
class LabelSmooth(Composite):
    """``(1 - epsilon) * label + epsilon * prior``; without a prior, ``epsilon / K`` for each of K classes."""

    name: ClassVar[str] = "loss.label_smooth"

    label: Value
    prior: Value | None = None
    epsilon: float = 0.1

    def infer(self) -> TensorType:
        kind = self.label.tensor
        if not kind.dtype.is_float:
            raise self.fail(f"smooths one-hot labels in floating point, not {kind}")
        if not isinstance(self._classes(), int):
            raise self.fail(f"needs a fixed number of classes on the last axis of {kind}")
        if self.prior is not None:
            same_dtype(self, self.label, self.prior)
            if broadcast_shapes(self, kind.shape, self.prior.tensor.shape) != kind.shape:
                raise self.fail(f"a prior of type {self.prior.type} does not fit labels of type {kind}")
        return kind

    def _classes(self) -> Dim | None:
        return self.label.tensor.shape[-1] if self.label.tensor.shape else None

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        if self.prior is not None:
            return (b.add(b.scale(self.label, 1.0 - self.epsilon), b.scale(self.prior, self.epsilon)),)
        classes = self._classes()
        assert isinstance(classes, int)
        return (b.scale(self.label, 1.0 - self.epsilon, self.epsilon / classes),)


@dataclass(frozen=True, eq=False)
class L2Normalize(Composite):
    """``x / sqrt(sum(x**2) + epsilon)`` along ``axis``."""

    name: ClassVar[str] = "loss.l2_normalize"

    x: Value
    axis: int
    epsilon: float = 1e-12

    def infer(self) -> TensorType:
        kind = _same_type(self, self.x)
        normal_axis(self, self.axis, kind.rank)
        return kind

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        axis = self.axis % self.x.tensor.rank
        norm = b.sqrt(b.scale(b.reduce_sum(b.square(self.x), (axis,), keepdims=True), 1.0, self.epsilon))
        return (b.div(self.x, norm),)


@dataclass(frozen=True, eq=False)
class CosSim(Composite):
    """The cosine of the angle between rows of ``x`` and ``y``, ``[N, 1]``; ``y`` may be one row for all."""

    name: ClassVar[str] = "loss.cos_sim"

    x: Value
    y: Value

    def infer(self) -> TensorType:
        dtype = same_dtype(self, self.x, self.y)
        x, y = self.x.tensor, self.y.tensor
        shape, _ = _row_shape(self, x)
        if not dtype.is_float or x.shape[1:] != y.shape[1:] or y.shape[0] not in (1, x.shape[0]):
            raise self.fail(f"compares rows of one length, not {x} and {y}")
        return TensorType(dtype, shape)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        shape, axes = _row_shape(self, self.x.tensor)
        dot = b.reduce_sum(b.mul(self.x, self.y), axes)
        x2 = b.reduce_sum(b.square(self.x), axes)
        y2 = b.reduce_sum(b.square(self.y), axes)
        return (b.reshape(b.div(dot, b.mul(b.sqrt(x2), b.sqrt(y2))), shape),)


OPS: tuple[type[Op], ...] = (
    SoftmaxCrossEntropySoft, CrossEntropySoft, SquareError, Huber, LogLoss, KlDiv, SmoothL1, RankLoss,
    MarginRankLoss, LabelSmooth, L2Normalize, CosSim,
)  # fmt: skip
