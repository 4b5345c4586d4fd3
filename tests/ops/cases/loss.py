"""Softmax and the losses with kernels of their own."""

import numpy as np
import scipy.special as sp
from cases import Case, ErrorCase, floats, ints, tensor

from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind
from fluidc.compiler.ops.loss import (
    CrossEntropy,
    LogSoftmax,
    SigmoidCrossEntropy,
    Softmax,
    SoftmaxCrossEntropy,
)
from fluidc.compiler.ops.loss_binary import BinaryCrossEntropy

ROWS, MEAN = ExampleKind(0), TotalKind("mean")


def labels(*values: int) -> np.ndarray:
    return np.array(values, np.int64)[:, None]


def probabilities(*shape: int, seed: int = 0) -> np.ndarray:
    return sp.softmax(floats(*shape, seed=seed), axis=-1).astype(np.float32)


def row_by_row(logits: np.ndarray, label: np.ndarray, ignore: int = -100) -> tuple[np.ndarray, np.ndarray]:
    """Softmax cross entropy over the last axis of [N, C], one number at a time in float64."""
    wide = logits.astype(np.float64)
    loss = np.zeros(label.shape)
    for n, c in enumerate(label[:, 0]):
        if c == ignore:
            continue
        loss[n, 0] = sp.logsumexp(wide[n]) - wide[n, c] if 0 <= c < logits.shape[1] else np.nan
    return loss, sp.softmax(wide, axis=1)


def along_axis_1(logits: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, c, t = logits.shape
    flat, chosen = logits.transpose(0, 2, 1).reshape(-1, c), label.transpose(0, 2, 1).reshape(-1, 1)
    loss, p = row_by_row(flat, chosen)
    return loss.reshape(n, t, 1).transpose(0, 2, 1), p.reshape(n, t, c).transpose(0, 2, 1)


def from_probabilities(p: np.ndarray, label: np.ndarray, ignore: int = -100) -> np.ndarray:
    out = np.zeros(label.shape)
    for n, c in enumerate(label[:, 0]):
        if c == ignore:
            out[n] = 0
        elif not 0 <= c < p.shape[1]:
            out[n] = np.nan
        else:
            out[n] = -np.log(np.float64(p[n, c])) if p[n, c] > 0 else 1e20
    return out


def logistic(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return -label * sp.log_expit(wide) - (1 - label) * sp.log_expit(-wide)


FAR = np.array([[0, -200, 50], [1000, 0, -1000]], np.float32)
CERTAIN = np.array([0, 1, 0, 1, 2, -1], np.float32)
ZERO_AT = np.array([[0.0, 1.0, 0.0], [0.25, 0.75, 0.0]], np.float32)

CASES = [
    Case("loss.softmax", Softmax, (floats(4, 5),), lambda x: sp.softmax(x, axis=-1), (0,), kinds=(ROWS,), kind=ROWS),
    Case("loss.softmax-axis1", lambda x: Softmax(x, 1), (floats(3, 4, 2),), lambda x: sp.softmax(x, axis=1), (0,),
         kinds=(ExampleKind(2),), kind=ExampleKind(2)),
    Case("loss.softmax-across", lambda x: Softmax(x, 0), (floats(3, 2),), lambda x: sp.softmax(x, axis=0),
         kinds=(ROWS,), kind="mixed"),
    # Paddle's floor: exp(-64), not 0, two hundred below the largest.
    Case("loss.softmax-far", Softmax, (FAR[:1],),
         lambda x: np.array([[np.exp(-50.0), np.exp(-64.0), 1.0]]), rtol=1e-5, atol=0),
    Case("loss.log_softmax", LogSoftmax, (floats(4, 5),), lambda x: sp.log_softmax(x, axis=-1), (0,), kinds=(ROWS,),
         kind=ROWS),
    Case("loss.log_softmax-axis1", lambda x: LogSoftmax(x, 1), (floats(3, 4, 2),), lambda x: sp.log_softmax(x, axis=1),
         (0,)),
    Case("loss.log_softmax-far", LogSoftmax, (FAR,), lambda x: np.array([[-50.0, -250, 0], [0, -1000, -2000]])),
    Case("loss.softmax_cross_entropy", SoftmaxCrossEntropy, (floats(4, 5), ints(4, 1, high=5)), row_by_row, (0,),
         kinds=(ROWS, ROWS), kind=(ROWS, ROWS)),
    Case("loss.softmax_cross_entropy-ignored", lambda x, y: SoftmaxCrossEntropy(x, y, ignore_index=2),
         (floats(4, 3), labels(2, 0, 2, 1)), lambda x, y: row_by_row(x, y, 2), (0,)),
    Case("loss.softmax_cross_entropy-outside", SoftmaxCrossEntropy, (floats(4, 3), labels(3, 0, -1, -100)), row_by_row),
    Case("loss.softmax_cross_entropy-far", SoftmaxCrossEntropy, (FAR, labels(1, 2)),
         lambda x, y: (np.array([[250.0], [2000.0]]), sp.softmax(x, axis=1)), atol=1e-30),
    Case("loss.softmax_cross_entropy-axis1", lambda x, y: SoftmaxCrossEntropy(x, y, axis=1),
         (floats(2, 3, 4), ints(2, 1, 4, high=3)), along_axis_1, (0,), kinds=(ROWS, ROWS), kind=(ROWS, ROWS)),
    Case("loss.softmax_cross_entropy-classes", SoftmaxCrossEntropy, (floats(4, 5), ints(4, 1, high=5)), row_by_row,
         kinds=(ExampleKind(1), PUBLIC), kind="mixed"),
    Case("loss.softmax_cross_entropy-total", SoftmaxCrossEntropy, (floats(4, 5), ints(4, 1, high=5)), row_by_row,
         kinds=(PUBLIC, MEAN), kind=("mixed", PUBLIC)),
    Case("loss.cross_entropy-total", CrossEntropy, (probabilities(4, 5), ints(4, 1, high=5)), from_probabilities,
         kinds=(PUBLIC, MEAN), kind="mixed"),
    Case("loss.cross_entropy-classes", CrossEntropy, (probabilities(4, 5), ints(4, 1, high=5)), from_probabilities,
         kinds=(ExampleKind(1), PUBLIC), kind="mixed"),
    Case("loss.cross_entropy-time", CrossEntropy, (probabilities(2, 3, 4), ints(2, 3, 1, high=4)),
         lambda p, y: from_probabilities(p.reshape(6, 4), y.reshape(6, 1)).reshape(2, 3, 1), (0,), kinds=(ROWS, ROWS),
         kind=ROWS),
    Case("loss.sigmoid_cross_entropy-total", SigmoidCrossEntropy, (floats(4, 3), floats(4, 3, seed=1, low=0)), logistic,
         kinds=(MEAN, PUBLIC), kind="mixed"),
    Case("loss.cross_entropy", CrossEntropy, (probabilities(4, 5), ints(4, 1, high=5)), from_probabilities, (0,),
         kinds=(ROWS, ROWS), kind=ROWS),
    Case("loss.cross_entropy-zero", CrossEntropy, (ZERO_AT, labels(0, 1)), from_probabilities),
    Case("loss.cross_entropy-ignored", lambda p, y: CrossEntropy(p, y, 1), (probabilities(4, 3), labels(1, 0, 2, 1)),
         lambda p, y: from_probabilities(p, y, 1), (0,)),
    Case("loss.cross_entropy-outside", CrossEntropy, (probabilities(3, 3), labels(3, -1, -100)), from_probabilities),
    Case("loss.sigmoid_cross_entropy", SigmoidCrossEntropy, (floats(4, 3), floats(4, 3, seed=1, low=0, high=1)),
         logistic,
         (0, 1), kinds=(ROWS, ROWS), kind=ROWS),
    Case("loss.sigmoid_cross_entropy-far", SigmoidCrossEntropy,
         (np.array([200, -200, 200, -200], np.float32), np.array([0, 0, 1, 1], np.float32)),
         lambda x, y: np.array([200.0, 0, 0, 200])),
    Case("loss.sigmoid_cross_entropy-ignored", lambda x, y: SigmoidCrossEntropy(x, y, ignore_index=-1),
         (floats(4), np.array([-1, 0, 1, -1], np.float32)),
         lambda x, y: np.where(y == -1, 0, logistic(x, y)), (0,)),
    Case("loss.binary_cross_entropy", BinaryCrossEntropy,
         (floats(4, 3, low=0.1, high=0.9), floats(4, 3, seed=1, low=0, high=1)),
         lambda x, y: -sp.xlogy(y, x.astype(np.float64)) - sp.xlog1py(1 - y, -x.astype(np.float64)), (0, 1),
         kinds=(ROWS, ROWS), kind=ROWS),
    Case("loss.binary_cross_entropy-certain", BinaryCrossEntropy, (CERTAIN, np.array([1, 0, 0, 1, 1, 0.5], np.float32)),
         lambda x, y: np.array([100.0, 100.0, 0, 0, np.nan, np.nan])),
    Case("loss.binary_cross_entropy-total", BinaryCrossEntropy, (floats(4, 3, low=0.1, high=0.9), floats(4, 3, low=0)),
         lambda x, y: -sp.xlogy(y, x.astype(np.float64)) - sp.xlog1py(1 - y, -x.astype(np.float64)),
         kinds=(MEAN, PUBLIC), kind="mixed"),
]  # fmt: skip

ERRORS = [
    ErrorCase("loss.softmax-integers", Softmax, (tensor("i64[4,3]"),), "floating-point values, not i64[4,3]"),
    ErrorCase("loss.softmax-axis", lambda x: Softmax(x, 2), (tensor("f32[4,3]"),),
              "axis 2 is outside a tensor of rank 2"),
    ErrorCase("loss.softmax_cross_entropy-labels", SoftmaxCrossEntropy, (tensor("f32[N,3]"), tensor("i64[N]")),
              "integers of shape [N, 1], not i64[N]"),
    ErrorCase("loss.cross_entropy-soft", CrossEntropy, (tensor("f32[N,3]"), tensor("f32[N,3]")),
              "soft labels need soft_label=True"),
    ErrorCase("loss.binary_cross_entropy-shapes", BinaryCrossEntropy, (tensor("f32[N,3]"), tensor("f32[N,1]")),
              "one shape, not f32[N,3] and f32[N,1]"),
    ErrorCase("loss.binary_cross_entropy-integers", BinaryCrossEntropy, (tensor("i64[N]"), tensor("i64[N]")),
              "floating-point values, not i64[N]"),
    ErrorCase("loss.sigmoid_cross_entropy-shapes", SigmoidCrossEntropy, (tensor("f32[N,3]"), tensor("f32[N,1]")),
              "one shape, not f32[N,3] and f32[N,1]"),
]  # fmt: skip
