"""Normalisation."""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ir.types import numel
from ...compiler.ops import grad, norm
from .context import OpLowering, Rules
from .conv import channels_first
from .paddle_gradients import group_normalized, trained


def _batch_norm(o: OpLowering) -> None:
    for slot in ("Mean", "Variance"):
        for name in o.op.input(slot):
            var = o.function.program.global_block().vars.get(name)
            if var is not None:
                o.function.shared.declare(var, "statistic")
    testing = o.attr("is_test", False) and not o.attr("trainable_statistics", False)
    stored = bool(testing or o.attr("use_global_stats", False))
    x = o.x()
    layer = norm.BatchNorm(
        x=x,
        scale=o.x("Scale"),
        bias=o.x("Bias"),
        mean=o.x("Mean"),
        variance=o.x("Variance"),
        momentum=o.attr("momentum", 0.9),
        epsilon=o.attr("epsilon", 1e-5),
        stored=stored,
        axis=x.tensor.rank - 1 if o.attr("data_layout", "NCHW") == "NHWC" else 1,
    )
    y, mean, variance, _, _ = o.b.emit(layer)
    o.set(o.b.relu(y) if o.attr("fuse_with_relu", False) else y, "Y")
    if not stored:
        o.set(mean, "MeanOut")
        o.set(variance, "VarianceOut")


def _layer_norm(o: OpLowering) -> None:
    layer = norm.LayerNorm(
        x=o.tokens(),
        scale=o.optional("Scale"),
        bias=o.optional("Bias"),
        begin=o.attr("begin_norm_axis", 1),
        epsilon=o.attr("epsilon", 1e-5),
    )
    o.set(o.b.emit(layer)[0], "Y")


def _group_norm(o: OpLowering) -> None:
    x, formatted = channels_first(o)
    layer = norm.GroupNorm(
        x=x,
        scale=o.optional("Scale"),
        bias=o.optional("Bias"),
        groups=o.attr("groups", 1),
        epsilon=o.attr("epsilon", 1e-5),
    )
    y = o.b.emit(layer)[0]
    if layer.scale is None and trained(o):
        y = group_normalized(o, y, x, layer.groups, layer.epsilon)
    o.set(formatted(y), "Y")


def _instance_norm(o: OpLowering) -> None:
    layer = norm.InstanceNorm(o.x(), o.optional("Scale"), o.optional("Bias"), o.attr("epsilon", 1e-5))
    o.set(o.b(layer), "Y")


def _spectral_norm(o: OpLowering) -> None:
    weight, u, v = o.x("Weight"), o.x("U"), o.x("V")
    (dim,) = o.axes(weight, [o.attr("dim", 0)])
    rows = weight.tensor.shape[dim]
    others = [i for i in range(weight.tensor.rank) if i != dim]
    moved = o.b.transpose(weight, (dim, *others))
    matrix = o.b.reshape(moved, (rows, numel(moved.tensor.shape[1:])))
    fixed = o.b(grad.StopGradient(matrix))
    for _ in range(o.attr("power_iters", 1)):
        v = _unit(o, o.b.matmul(fixed, _column(o, u), ta=True))
        u = _unit(o, o.b.matmul(fixed, v))
    largest = o.b.matmul(_column(o, u), o.b.matmul(matrix, _column(o, v)), ta=True)
    o.set(o.b.div(weight, o.b.reshape(largest, ())))


def _column(o: OpLowering, vector: Value) -> Value:
    return o.b.reshape(vector, (numel(vector.tensor.shape), 1))


def _unit(o: OpLowering, column: Value) -> Value:
    length = o.b.sqrt(o.b.reduce_sum(o.b.square(column), (0, 1)))
    return o.b.div(column, o.b.scale(length, 1.0, o.attr("eps", 1e-12)))


RULES: Rules = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "spectral_norm": _spectral_norm,
}
