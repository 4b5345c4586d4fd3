"""Gradients that Paddle 1.8.5 computes and that are not the derivatives of its results.

Programs that are trained follow Paddle's numbers, so the lowering adds what differs: ``y + (u - stop(u))`` is ``y``,
and passes y's gradient on to ``u``, too.
"""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, numel
from ...compiler.ops.grad import StopGradient
from .context import OpLowering


def trained(o: OpLowering) -> bool:
    """Whether the program asks for gradients."""
    return any(op.type == "backward" for op in o.function.program.global_block().ops)


def with_gradient_of(o: OpLowering, y: Value, u: Value) -> Value:
    """The value of ``y`` with the gradients of ``y + u``."""
    return o.b.add(y, o.b.sub(u, o.b(StopGradient(u))))


def scattered(o: OpLowering, x: Value, y: Value) -> Value:
    """``y``, some of whose rows replaced those of ``x``, with the whole gradient passed on to x's rows."""
    return with_gradient_of(o, y, x)


def group_normalized(o: OpLowering, y: Value, x: Value, groups: int, epsilon: float) -> Value:
    """``y``, normalised but not scaled images ``[N, C, ...]``, with a gradient that forgets that the mean moves."""
    shape = x.tensor.shape
    inner = numel(shape[1:])
    assert isinstance(inner, int)
    rows: tuple[Dim, ...] = (shape[0], groups, inner // groups)
    grouped = o.b.reshape(x, rows)
    mean = o.b.reduce_mean(grouped, (2,), keepdims=True)
    variance = o.b.reduce_mean(o.b.square(o.b.sub(grouped, mean)), (2,), keepdims=True)
    width = o.b(StopGradient(o.b.rsqrt(o.b.scale(variance, 1.0, epsilon))))
    moved = o.b.reshape(o.b.broadcast(o.b.mul(mean, width), rows), shape)
    return with_gradient_of(o, y, moved)


def softly_labelled(o: OpLowering, cost: Value, logits: Value, label: Value, axis: int) -> Value:
    """The cost of labels that may sum to other numbers than 1, whose gradient is ``softmax(logits) - label``."""
    at = axis % logits.tensor.rank
    largest = o.b(StopGradient(o.b.reduce_max(logits, (at,), keepdims=True)))
    total = o.b.log(o.b.reduce_sum(o.b.exp(o.b.sub(logits, largest)), (at,), keepdims=True))
    missing = o.b.scale(o.b.reduce_sum(o.b(StopGradient(label)), (at,), keepdims=True), -1.0, 1.0)
    return with_gradient_of(o, cost, o.b.mul(missing, total))
