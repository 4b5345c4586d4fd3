"""Metrics: accuracy as a mean over examples, and the area under the ROC curve from counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, TensorType
from .base import Array, Op, OpBuilder, scalar_type
from .composite import Composite
from .emit import Expr, Loops, OnnxEmitter, Tensor, TvmEmitter


@dataclass(frozen=True, eq=False)
class Accuracy(Composite):
    """How often the label is among an example's classes: results ``(accuracy, correct, total)``.

    ``classes`` are distinct class numbers per example, [N, k] (the positions of ``top_k``); ``label`` is
    [N, 1].  ``accuracy`` is f32[], the mean over examples; ``correct`` and ``total`` are i32[] counts.
    """

    name: ClassVar[str] = "metric.accuracy"

    classes: Value
    label: Value

    def infer(self) -> tuple[TensorType, TensorType, TensorType]:
        classes, label = self.classes.tensor, self.label.tensor
        if classes.rank != 2 or label.shape != (classes.shape[0], 1):
            raise self.fail(f"takes classes [N, k] and labels [N, 1], not {classes} and {label}")
        if not classes.dtype.is_integer or label.dtype is not classes.dtype:
            raise self.fail(f"classes and labels are integers of one type, not {classes} and {label}")
        return scalar_type(DType.F32), scalar_type(DType.I32), scalar_type(DType.I32)

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        hits = b.equal(self.classes, self.label)
        # An example's classes are distinct, so it has one hit at most.
        share = b.reduce_mean(b.reduce_sum(b.cast(hits, DType.F32), (1,)), (0,))
        correct = b.reduce_sum(b.cast(hits, DType.I32), (0, 1))
        return share, correct, b.extent(self.classes.tensor.shape[0], DType.I32)


@dataclass(frozen=True, eq=False)
class AucCounts(Composite):
    """Counts of scores by bucket, after this batch: results ``(positive, negative)``.

    ``scores`` [N, K] hold in their last column the probability of the positive class, which falls into
    bucket ``floor(score * (B - 1))``; ``label`` [N, 1] is positive above 0.  Both counts are i64[B].
    """

    name: ClassVar[str] = "metric.auc_counts"

    scores: Value
    label: Value
    positive: Value
    negative: Value

    def infer(self) -> tuple[TensorType, TensorType]:
        scores, label, counts = self.scores.tensor, self.label.tensor, self.positive.tensor
        if scores.rank != 2 or not isinstance(scores.shape[1], int) or not scores.dtype.is_float:
            raise self.fail(f"takes scores [N, K], not {scores}")
        if label.shape != (scores.shape[0], 1) or not label.dtype.is_integer:
            raise self.fail(f"takes integer labels [N, 1], not {label}")
        if not _is_row(counts) or self.negative.type != counts or not isinstance(counts.shape[0], int):
            raise self.fail(f"counts have one type i64[buckets], not {counts} and {self.negative.type}")
        return counts, counts

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        n, columns = self.scores.tensor.shape
        (buckets,) = self.positive.tensor.shape
        assert isinstance(columns, int)
        assert isinstance(buckets, int)
        score = b.reshape(b.slice(self.scores, 1, columns - 1, columns), (n,))
        bucket = b.cast(b.scale(score, float(buckets - 1)), DType.I64)
        zero = b.fill((), self.label.type.dtype, 0)
        is_positive = b.reshape(b.less(zero, self.label), (n,))
        ones = b.cast(is_positive, DType.I64)
        others = b.cast(b.logical_not(is_positive), DType.I64)
        return (
            b.scatter_add(self.positive, bucket, ones, 0),
            b.scatter_add(self.negative, bucket, others, 0),
        )


@dataclass(frozen=True, eq=False)
class Auc(Op):
    """Area under the ROC curve of bucketed scores, f64[], by the trapezoid rule; 0 without both classes."""

    name: ClassVar[str] = "metric.auc"
    no_vjp: ClassVar[str] = "a function of counts"

    positive: Value
    negative: Value

    def infer(self) -> TensorType:
        counts = self.positive.tensor
        if not _is_row(counts) or self.negative.type != counts:
            raise self.fail(f"counts have one type i64[buckets], not {counts} and {self.negative.type}")
        return scalar_type(DType.F64)

    def evaluate(self, positive: Array, negative: Array) -> Array:
        p, n = positive[::-1].astype(np.float64), negative[::-1].astype(np.float64)
        # A negative is outranked by the positives of higher buckets, and by half of those in its own.
        area = float(np.sum(n * (np.cumsum(p) - p / 2)))
        pairs = float(p.sum() * n.sum())
        return np.array(area / pairs if pairs > 0 else 0.0)

    def to_tvm(self, t: TvmEmitter, positive: Tensor, negative: Tensor) -> Tensor:
        buckets = self.positive.tensor.shape[0]

        def body(loops: Loops, out: Tensor) -> None:
            sums = loops.local(DType.F64, (3,))  # positives so far, negatives so far, area
            for i in range(3):
                loops.store(sums, i, t.const(0.0, DType.F64))

            def bucket(k: Expr) -> None:
                at = t.extent(buckets) - 1 - t.cast(k, DType.I64)
                p, n = t.cast(positive[at], DType.F64), t.cast(negative[at], DType.F64)
                loops.store(sums, 2, sums[2] + n * (sums[0] + p * 0.5))
                loops.store(sums, 0, sums[0] + p)
                loops.store(sums, 1, sums[1] + n)

            loops.serial(buckets, bucket)
            pairs = sums[0] * sums[1]
            loops.store(out, (), t.select(pairs > 0.0, sums[2] / pairs, t.const(0.0, DType.F64)))

        (area,) = t.loops([((), DType.F64)], body)
        return area

    def to_onnx(self, o: OnnxEmitter, positive: str, negative: str) -> str:
        p, n = o.cast(positive, DType.F64), o.cast(negative, DType.F64)
        higher = o.node("CumSum", p, o.scalar(0, DType.I64), exclusive=1, reverse=1)
        ranks = o.node("Add", higher, o.node("Mul", p, o.scalar(0.5, DType.F64)))
        area, positives, negatives = (o.node("ReduceSum", x, keepdims=0) for x in (o.node("Mul", n, ranks), p, n))
        pairs, zero = o.node("Mul", positives, negatives), o.scalar(0, DType.F64)
        return o.node("Where", o.node("Greater", pairs, zero), o.node("Div", area, pairs), zero)


def _is_row(counts: TensorType) -> bool:
    return counts.dtype is DType.I64 and counts.rank == 1


OPS: tuple[type[Op], ...] = (Accuracy, AucCounts, Auc)
