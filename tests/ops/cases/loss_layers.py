"""Losses expressed in core ops; what they decompose to is what is tested."""

import numpy as np
import scipy.special as sp
from cases import Case, ErrorCase, distinct, floats, tensor

from fluidc.compiler.ops.loss_layers import (
    CosSim,
    CrossEntropySoft,
    Huber,
    KlDiv,
    L2Normalize,
    LabelSmooth,
    LogLoss,
    MarginRankLoss,
    RankLoss,
    SmoothL1,
    SoftmaxCrossEntropySoft,
    SquareError,
)


def simplex(*shape: int, seed: int = 0) -> np.ndarray:
    return sp.softmax(floats(*shape, seed=seed), axis=-1).astype(np.float32)


ZEROS = np.array([[0.0, 1.0, 0.0], [0.25, 0.75, 0.0]], np.float32)
SOFT = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]], np.float32)


def huber(x: np.ndarray, y: np.ndarray, delta: float) -> np.ndarray:
    return sp.huber(delta, np.abs(y - x))


def smooth_l1(x, y, inside=1.0, outside=1.0, sigma=1.0):
    out = np.zeros((len(x), 1))
    for index in np.ndindex(x.shape):
        i = np.broadcast_to(inside, x.shape)[index]
        o = np.broadcast_to(outside, x.shape)[index]
        d = abs(i * (float(x[index]) - float(y[index])))
        out[index[0], 0] += o * (0.5 * (sigma * d) ** 2 if d < 1 / sigma**2 else d - 0.5 / sigma**2)
    return out


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = np.broadcast_to(y, x.shape)
    return np.array([[np.dot(a, c) / np.linalg.norm(a) / np.linalg.norm(c)] for a, c in zip(x, y, strict=True)])


def soft(x: np.ndarray, y: np.ndarray, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    return -np.sum(y * sp.log_softmax(x, axis=axis), axis=axis, keepdims=True), sp.softmax(x, axis=axis)


CASES = [
    Case("loss.softmax_cross_entropy_soft", SoftmaxCrossEntropySoft, (floats(4, 5), simplex(4, 5, seed=1)), soft,
         (0, 1)),
    Case("loss.softmax_cross_entropy_soft-axis1", lambda x, y: SoftmaxCrossEntropySoft(x, y, 1),
         (floats(2, 3, 4), floats(2, 3, 4, low=0, seed=1)), lambda x, y: soft(x, y, 1), (0,)),
    Case("loss.cross_entropy_soft", CrossEntropySoft, (simplex(4, 5), simplex(4, 5, seed=1)),
         lambda p, y: -np.sum(y * np.log(p), axis=-1, keepdims=True), (0, 1)),
    Case("loss.cross_entropy_soft-zero", CrossEntropySoft, (ZEROS, SOFT),
         lambda p, y: np.array([[0.0], [0.5e20 - 0.5 * np.log(0.25)]])),
    Case("loss.cross_entropy_soft-time", CrossEntropySoft, (simplex(2, 3, 4), simplex(2, 3, 4, seed=1)),
         lambda p, y: -np.sum(y * np.log(p), axis=-1, keepdims=True), (0, 1)),
    Case("loss.square_error", SquareError, (floats(4, 3), floats(4, 3, seed=1)), lambda x, y: (x - y) ** 2, (0, 1)),
    Case("loss.huber", lambda x, y: Huber(x, y, 0.7), (floats(4, 3), floats(4, 3, seed=1)), lambda x,
         y: huber(x, y, 0.7),
         (0, 1)),
    Case("loss.log_loss", lambda x, y: LogLoss(x, y, 1e-3),
         (floats(4, 1, low=0.1, high=0.9), floats(4, 1, low=0, high=1)),
         lambda p, y: -y * np.log(p + 1e-3) - (1 - y) * np.log(1 - p + 1e-3), (0, 1)),
    Case("loss.kldiv", KlDiv, (floats(4, 3), simplex(4, 3, seed=1)), lambda x,
         y: np.mean(sp.rel_entr(y, np.exp(x))), (0, 1)),
    Case("loss.kldiv-none", lambda x, y: KlDiv(x, y, "none"), (floats(2, 3), SOFT),
         lambda x, y: sp.rel_entr(y, np.exp(x)), (0,)),
    Case("loss.kldiv-sum", lambda x, y: KlDiv(x, y, "sum"), (floats(4, 3), simplex(4, 3, seed=1)),
         lambda x, y: np.sum(sp.rel_entr(y, np.exp(x)))),
    Case("loss.kldiv-batchmean", lambda x, y: KlDiv(x, y, "batchmean"), (floats(4, 3), simplex(4, 3, seed=1)),
         lambda x, y: np.sum(sp.rel_entr(y, np.exp(x))) / 4, (0,)),
    Case("loss.smooth_l1", SmoothL1, (floats(4, 3), floats(4, 3, seed=1)), smooth_l1, (0, 1)),
    Case("loss.smooth_l1-weights", lambda x, y, i, o: SmoothL1(x, y, i, o, 1.5),
         (floats(3, 2, 2), floats(3, 2, 2, seed=1), floats(3, 2, 2, seed=2), floats(3, 2, 2, seed=3)),
         lambda x, y, i, o: smooth_l1(x, y, i, o, 1.5), (0, 3), rtol=1e-5),
    Case("loss.rank", RankLoss, (floats(4, 1, low=0, high=1), floats(4, 1, seed=1), floats(4, 1, seed=2)),
         lambda y, a, c: np.log1p(np.exp(a - c)) - y * (a - c), (0, 1, 2), rtol=1e-5),
    Case("loss.margin_rank", MarginRankLoss, (np.sign(floats(5, 1)), distinct(5, 1), distinct(5, 1, seed=1)),
         lambda y, a, c: np.maximum(0, -y * (a - c) + np.float32(0.1)), (1, 2)),
    Case("loss.label_smooth", lambda y: LabelSmooth(y, epsilon=0.2), (np.eye(4, dtype=np.float32),),
         lambda y: np.where(y == 1, 0.85, 0.05), (0,)),
    Case("loss.label_smooth-time", lambda y: LabelSmooth(y, epsilon=0.2),
         (np.tile(np.eye(4, dtype=np.float32)[:3], (2, 1, 1)),),
         lambda y: np.where(y == 1, 0.85, 0.05), (0,)),
    Case("loss.label_smooth-prior", LabelSmooth, (np.eye(4, dtype=np.float32), simplex(1, 4)),
         lambda y, q: 0.9 * y + 0.1 * q, (0, 1)),
    Case("loss.l2_normalize", lambda x: L2Normalize(x, 1), (floats(3, 4, 2),),
         lambda x: x / np.linalg.norm(x, axis=1, keepdims=True), (0,)),
    Case("loss.l2_normalize-zero", lambda x: L2Normalize(x, -1), (np.zeros((2, 3), np.float32),), np.zeros_like),
    Case("loss.cos_sim", CosSim, (floats(4, 3), floats(4, 3, seed=1)), cosine, (0, 1)),
    Case("loss.cos_sim-one-row", CosSim, (floats(4, 3), floats(1, 3, seed=1)), cosine, (0, 1)),
]  # fmt: skip

ERRORS = [
    ErrorCase("loss.square_error-types", SquareError, (tensor("f32[N,3]"), tensor("f32[N,1]")),
              "operands have one type, not f32[N,3] and f32[N,1]"),
    ErrorCase("loss.smooth_l1-rank", SmoothL1, (tensor("f32[N]"), tensor("f32[N]")),
              "needs a batch axis and at least one more"),
    ErrorCase("loss.label_smooth-classes", LabelSmooth, (tensor("f32[3,N]"),), "fixed number of classes"),
    ErrorCase("loss.label_smooth-prior", LabelSmooth, (tensor("f32[N,3]"), tensor("f32[1,4]")), "do not broadcast"),
    ErrorCase("loss.cos_sim-length", CosSim, (tensor("f32[N,3]"), tensor("f32[N,4]")), "compares rows of one length"),
]  # fmt: skip
