"""Metrics, counted by hand or pair by pair."""

import numpy as np
from cases import Case, ErrorCase, ints, tensor

from fluidc.compiler.ops.metric import Accuracy, Auc, AucCounts

TOP2 = np.array([[3, 1], [0, 2], [2, 1], [1, 0], [2, 3]], np.int64)
LABELS = np.array([[1], [1], [2], [3], [2]], np.int64)
SCORES = np.stack([np.linspace(1, 0, 7), np.linspace(0, 1, 7)], axis=1).astype(np.float32)
POSITIVE = np.array([0, 3, 1, 0, 4], np.int64)
NEGATIVE = np.array([5, 0, 2, 2, 1], np.int64)


def pairs(positive: np.ndarray, negative: np.ndarray) -> float:
    """The share of pairs in which the positive scores higher; equal buckets count half."""
    p, n = np.repeat(np.arange(len(positive)), positive), np.repeat(np.arange(len(negative)), negative)
    return np.mean((p[:, None] > n) + 0.5 * (p[:, None] == n))


def counted(scores, label, positive, negative):
    found = positive.copy(), negative.copy()
    for row, y in zip(scores, label[:, 0], strict=True):
        found[0 if y > 0 else 1][int(row[-1] * (len(positive) - 1))] += 1
    return found


CASES = [
    Case("metric.accuracy", Accuracy, (TOP2, LABELS), lambda c, y: (np.float32(0.6), np.int32(3), np.int32(5))),
    Case(
        "metric.accuracy-top1",
        Accuracy,
        (TOP2[:, :1], LABELS),
        lambda c, y: (np.float32(0.4), np.int32(2), np.int32(5)),
    ),
    Case("metric.auc_counts", AucCounts, (SCORES, ints(7, 1, high=2), POSITIVE, NEGATIVE), counted),
    Case("metric.auc", Auc, (POSITIVE, NEGATIVE), pairs),
    Case(
        "metric.auc-perfect", Auc, (np.array([0, 4], np.int64), np.array([3, 0], np.int64)), lambda p, n: np.float64(1)
    ),
    Case(
        "metric.auc-one-pair", Auc, (np.array([0, 1], np.int64), np.array([1, 0], np.int64)), lambda p, n: np.float64(1)
    ),
    Case("metric.auc-one-class", Auc, (POSITIVE, np.zeros(5, np.int64)), lambda p, n: np.float64(0)),
]

ERRORS = [
    ErrorCase("metric.accuracy-labels", Accuracy, (tensor("i64[N,2]"), tensor("i64[N]")), "labels [N, 1]"),
    ErrorCase("metric.accuracy-types", Accuracy, (tensor("i64[N,2]"), tensor("i32[N,1]")), "integers of one type"),
    ErrorCase("metric.auc_counts-scores", AucCounts, (tensor("f32[N]"), tensor("i64[N,1]"), tensor("i64[5]"),
              tensor("i64[5]")),
              "takes scores [N, K]"),
    ErrorCase("metric.auc-types", Auc, (tensor("i64[5]"), tensor("i64[4]")), "one type i64[buckets]"),
]  # fmt: skip
