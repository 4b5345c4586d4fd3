"""The op set: the explicit sum of what each family lists."""

from __future__ import annotations

from . import (
    activation,
    branching,
    control,
    conv,
    dp,
    dp_noise,
    dpsgd,
    elementwise,
    embedding,
    example_norm,
    grad,
    grid,
    indexing,
    linear,
    loss,
    loss_binary,
    loss_layers,
    metric,
    norm,
    optim,
    pool,
    ragged,
    random,
    reduce,
    shape,
    state,
    unary,
    update,
)
from .base import Op

OPS: tuple[type[Op], ...] = (
    *elementwise.OPS,
    *unary.OPS,
    *activation.OPS,
    *reduce.OPS,
    *shape.OPS,
    *linear.OPS,
    *embedding.OPS,
    *indexing.OPS,
    *loss.OPS,
    *loss_binary.OPS,
    *loss_layers.OPS,
    *conv.OPS,
    *pool.OPS,
    *norm.OPS,
    *metric.OPS,
    *optim.OPS,
    *dpsgd.OPS,
    *update.OPS,
    *random.OPS,
    *control.OPS,
    *branching.OPS,
    *ragged.OPS,
    *dp.OPS,
    *dp_noise.OPS,
    *grid.OPS,
    *example_norm.OPS,
    *grad.OPS,
    *state.OPS,
)

OPSET: dict[str, type[Op]] = {op.name: op for op in OPS}
assert len(OPSET) == len(OPS), "two ops share a name"
