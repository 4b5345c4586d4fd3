"""Losses.  Classes are on axis 1."""

from __future__ import annotations

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from ....compiler.ops.loss import LogSoftmax, SoftmaxCrossEntropy
from .node import Node, NodeRules, Results


def _negative_log_likelihood(n: Node) -> Value:
    return _picked(n, n.x("input"), n.x("target"), n.optional("weight"))


def _softmax_cross_entropy(n: Node) -> Results:
    scores, labels, weights = n.x("scores"), n.x("labels"), n.optional("weights")
    wants_log = n.wants("log_prob")
    ignored = n.attr("ignore_index")
    log = n.b(LogSoftmax(scores, 1)) if wants_log or weights is not None else None
    if weights is not None:
        assert log is not None
        loss = _picked(n, log, labels, weights)
    else:
        column = n.b.reshape(labels, (labels.tensor.shape[0], 1, *labels.tensor.shape[1:]))
        # Without an ignored class any label that is none costs NaN, this one too.
        none = n.fixed(scores, 1) if ignored is None else ignored
        each, _ = n.b.emit(SoftmaxCrossEntropy(scores, column, 1, none))
        loss = _reduced(n, n.b.reshape(each, labels.tensor.shape), _kept(n, labels))
    return loss if log is None else (loss, log)


def _kept(n: Node, labels: Value) -> Value | None:
    """Which labels count; None for all."""
    ignored = n.attr("ignore_index")
    return None if ignored is None else n.b.not_equal(labels, n.number(labels.tensor.dtype, ignored))


def _picked(n: Node, log: Value, labels: Value, weights: Value | None) -> Value:
    """The loss from log-probabilities."""
    b, dtype = n.b, log.tensor.dtype
    kept = _kept(n, labels)
    safe = labels if kept is None else b.where(kept, labels, n.number(labels.tensor.dtype, 0))
    column = b.reshape(safe, (safe.tensor.shape[0], 1, *safe.tensor.shape[1:]))
    each = b.neg(b.reshape(b.take_along(log, b.cast(column, DType.I64), 1), labels.tensor.shape))
    share = None if weights is None else b.gather(weights, safe, 0)
    if kept is not None:
        share = b.cast(kept, dtype) if share is None else b.where(kept, share, n.number(dtype, 0))
        each = b.where(kept, each, n.number(dtype, 0))
    if share is None:
        return _reduced(n, each, None)
    return _weighted(n, b.mul(each, share), share)


def _reduced(n: Node, each: Value, kept: Value | None) -> Value:
    if kept is None and n.attr("reduction") == "mean":
        return n.b.reduce_mean(each, range(each.tensor.rank))
    return _weighted(n, each, each if kept is None else n.b.cast(kept, each.tensor.dtype))


def _weighted(n: Node, each: Value, share: Value) -> Value:
    """What is asked for of the losses; their mean divides by the sum of their shares."""
    reduction, axes = n.attr("reduction"), range(each.tensor.rank)
    if reduction == "none":
        return each
    total = n.b.reduce_sum(each, axes)
    return n.b.div(total, n.b.reduce_sum(share, axes)) if reduction == "mean" else total


RULES: NodeRules = {
    "NegativeLogLikelihoodLoss": _negative_log_likelihood,
    "SoftmaxCrossEntropyLoss": _softmax_cross_entropy,
}
