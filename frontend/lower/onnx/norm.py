"""Normalisation and softmax."""

from __future__ import annotations

from ....compiler.ir.core import Value
from ....compiler.ir.types import numel
from ....compiler.ops import loss, norm
from .node import Node, NodeRules, Results


def _batch_normalization(n: Node) -> Results:
    """The statistics of the model, which stay; or where it says so those of the batch, which then move them."""
    o = n.lowering
    mean_slot, variance_slot = ("input_mean", "input_var") if o.has("input_mean") else ("mean", "var")
    for slot in (mean_slot, variance_slot):
        for name in o.op.input(slot):
            var = o.function.program.global_block().vars.get(name)
            if var is not None and var.persistable:
                o.function.shared.declare(var, "statistic")
    stored = not n.attr("training_mode", 0) or bool(n.attr("is_test", False))
    layer = norm.BatchNorm(
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


def _layer_normalization(n: Node) -> Results:
    x, scale, bias = n.x("X"), n.x("Scale"), n.optional("B")
    begin = n.axis(n.attr("axis"), x.tensor.rank)
    axes = tuple(range(begin, x.tensor.rank))
    y, mean, variance = n.b.emit(norm.Standardize(x, axes, n.attr("epsilon")))
    out = n.b.mul(y, scale)
    out = out if bias is None else n.b.add(out, bias)
    return out, mean, n.b.rsqrt(n.b.scale(variance, 1.0, n.attr("epsilon")))


def _instance_normalization(n: Node) -> Value:
    x = n.x("input")
    return n.b(norm.InstanceNorm(x=x, scale=n.x("scale"), bias=n.x("B"), epsilon=n.attr("epsilon")))


def _group_normalization(n: Node) -> Value:
    """Opset 18 scales by group, 21 by channel."""
    x, scale, bias, groups = n.x("X"), n.x("scale"), n.x("bias"), n.attr("num_groups")
    channels = n.fixed(x, 1)
    if n.version < 21:
        if groups < 1 or channels % groups:
            raise n.error(f"{channels} channels in {groups} groups", "correct the model")
        scale, bias = (_by_channel(n, v, channels // groups) for v in (scale, bias))
    layer = norm.GroupNorm(x=x, scale=scale, bias=bias, groups=groups, epsilon=n.attr("epsilon"))
    return n.b.emit(layer)[0]


def _by_channel(n: Node, per_group: Value, channels: int) -> Value:
    """A number per group as one per channel."""
    groups = n.fixed(per_group, 0)
    return n.b.reshape(n.b.broadcast(n.b.reshape(per_group, (groups, 1)), (groups, channels)), (groups * channels,))


def _softmax(n: Node, make: type[loss.Softmax] | type[loss.LogSoftmax]) -> Value:
    """Along one axis; before opset 13 along all from ``axis`` on together."""
    x = n.x("input")
    axis = n.axis(n.attr("axis"), x.tensor.rank)
    if n.version >= 13 or axis == x.tensor.rank - 1:
        return n.b(make(x, axis))
    flat = n.b.reshape(x, (*x.tensor.shape[:axis], numel(x.tensor.shape[axis:])))
    return n.b.reshape(n.b(make(flat, axis)), x.tensor.shape)


RULES: NodeRules = {
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _group_normalization,
    "Softmax": lambda n: _softmax(n, loss.Softmax),
    "LogSoftmax": lambda n: _softmax(n, loss.LogSoftmax),
}
