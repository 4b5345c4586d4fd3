"""Normalisation, and the softmax family."""

from __future__ import annotations

from functools import reduce

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from ....compiler.ops.loss import LogSoftmax, Softmax
from ....compiler.ops.norm import BatchNorm, GroupNorm, InstanceNorm, Standardize
from .node import Node, NodeRules, Results


def _softmax(n: Node) -> Value:
    return n.per_axis(n.x("input"), lambda x, axis: n.b(Softmax(x, axis)))


def _log_softmax(n: Node) -> Value:
    return n.per_axis(n.x("input"), lambda x, axis: n.b(LogSoftmax(x, axis)))


def _batch(n: Node) -> Results:
    """The statistics of the model, which stay; or where it says so those of the batch, which then move them."""
    o = n.lowering
    mean_slot, variance_slot = ("input_mean", "input_var") if o.has("input_mean") else ("mean", "var")
    for slot in (mean_slot, variance_slot):
        for name in o.op.input(slot):
            var = o.function.program.global_block().vars.get(name)
            if var is not None and var.persistable:
                o.function.shared.declare(var, "statistic")
    stored = not n.attr("training_mode", 0) or bool(n.attr("is_test", False))
    layer = BatchNorm(
        x=n.x("X"),
        scale=n.x("scale"),
        bias=n.x("B"),
        mean=n.x(mean_slot),
        variance=n.x(variance_slot),
        momentum=n.attr("momentum"),
        epsilon=n.attr("epsilon"),
        stored=stored,
    )
    y, mean, variance, _, _ = n.b.emit(layer)
    return y if stored else (y, mean, variance)


def _layer(n: Node) -> Results:
    x, scale, bias = n.x("X"), n.x("Scale"), n.optional("B")
    axes = _from_axis(n, x)
    y, mean, variance = n.b.emit(Standardize(x, axes, n.attr("epsilon")))
    y = n.b.mul(y, scale)
    inverse = n.b.rsqrt(n.b.scale(variance, 1.0, n.attr("epsilon")))
    stash = DType.F32 if n.attr("stash_type") == 1 else x.tensor.dtype
    return y if bias is None else n.b.add(y, bias), n.b.cast(mean, stash), n.b.cast(inverse, stash)


def _from_axis(n: Node, x: Value) -> tuple[int, ...]:
    return tuple(range(n.axis(n.attr("axis"), x.tensor.rank), x.tensor.rank))


def _rms(n: Node) -> Value:
    x, scale = n.x("X"), n.x("scale")
    half = x.tensor.dtype in (DType.F16, DType.BF16)
    wide = n.b.cast(x, DType.F32) if half and n.attr("stash_type") == 1 else x
    level = n.b.reduce_mean(n.b.square(wide), _from_axis(n, x), keepdims=True)
    y = n.b.div(wide, n.b.sqrt(n.b.scale(level, 1.0, n.attr("epsilon"))))
    return n.b.mul(n.b.cast(y, x.tensor.dtype), scale)


def _group(n: Node) -> Value:
    x, scale, bias = n.x("X"), n.x("scale"), n.x("bias")
    y, _, _ = n.b.emit(GroupNorm(x, scale, bias, n.attr("num_groups"), n.attr("epsilon")))
    return y


def _instance(n: Node) -> Value:
    return n.b(InstanceNorm(n.x("input"), n.x("scale"), n.x("B"), n.attr("epsilon")))


def _mean_variance(n: Node) -> Value:
    x = n.x("X")
    axes = n.axes(n.attr("axes"), x.tensor.rank)
    away = n.b.sub(x, n.b.reduce_mean(x, axes, keepdims=True))
    deviation = n.b.sqrt(n.b.reduce_mean(n.b.square(away), axes, keepdims=True))
    return n.b.div(away, n.b.scale(deviation, 1.0, 1e-9))


def _lp(n: Node) -> Value:
    x = n.x("input")
    axes = (n.axis(n.attr("axis"), x.tensor.rank),)
    p = n.attr("p")
    if p not in (1, 2):
        raise n.error(f"p is {p}", "it is 1 or 2")
    squares = p == 2
    total = n.b.reduce_sum(n.b.square(x) if squares else n.b.abs(x), axes, keepdims=True)
    # What is 0 altogether stays 0.
    zero, one = n.number(x.tensor.dtype, 0), n.number(x.tensor.dtype, 1)
    total = n.b.where(n.b.equal(total, zero), one, total)
    return n.b.div(x, n.b.sqrt(total) if squares else total)


def _local_response(n: Node) -> Value:
    x, size = n.x("X"), n.attr("size")
    low: int = (size - 1) // 2
    rank = x.tensor.rank
    channels = n.fixed(x, 1)
    squares = n.b.pad(
        n.b.square(x),
        [low if i == 1 else 0 for i in range(rank)],
        [size - 1 - low if i == 1 else 0 for i in range(rank)],
    )
    n.within("channels that are normalised together", size, 1 << 12)
    total = reduce(n.b.add, [n.b.slice(squares, 1, i, i + channels) for i in range(size)])
    level = n.b.scale(total, n.attr("alpha") / size, n.attr("bias"))
    return n.b.div(x, n.b.pow(level, n.number(x.tensor.dtype, n.attr("beta"))))


RULES: NodeRules = {
    "BatchNormalization": _batch,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "LayerNormalization": _layer,
    "RMSNormalization": _rms,
    "GroupNormalization": _group,
    "InstanceNormalization": _instance,
    "MeanVarianceNormalization": _mean_variance,
    "LpNormalization": _lp,
    "LRN": _local_response,
}
