"""Values with their examples first: what rules on per-example gradients begin with."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.core import Value
from ..ir.types import Shape, dim_div, numel
from .base import Op, OpBuilder
from .kinds import ExampleKind, Kind, PublicKind


def examples_first(b: OpBuilder, x: Value, kind: ExampleKind) -> Value | None:
    """``x`` with its examples as axis 0: ``[N, *before, pre, post, *after]``, ``pre`` and ``post`` where not 1.

    None where the extent of the axis is not ``pre * N * post``, or another extent is not fixed.
    """
    shape, axis = x.tensor.shape, kind.axis
    batch = dim_div(shape[axis], kind.pre * kind.post)
    if batch is None or not all(isinstance(d, int) for i, d in enumerate(shape) if i != axis):
        return None
    pre: Shape = (kind.pre,) if kind.pre != 1 else ()
    post: Shape = (kind.post,) if kind.post != 1 else ()
    split = b.reshape(x, (*shape[:axis], *pre, batch, *post, *shape[axis + 1 :]))
    at = axis + len(pre)
    return b.transpose(split, (at, *(i for i in range(split.tensor.rank) if i != at)))


def tokens_of(b: OpBuilder, x: Value, kind: ExampleKind, vector: bool = True) -> Value | None:
    """``x`` as ``[N, T, last]``: every vector along its last axis is a token of its example.

    Without ``vector`` every element is one: ``[N, T]``.  None where the examples lie along the last axis.
    """
    if vector and kind.axis == x.tensor.rank - 1:
        return None
    rows = examples_first(b, x, kind)
    if rows is None:
        return None
    first, *rest = rows.tensor.shape
    inner = rest[:-1] if vector else rest
    return b.reshape(rows, (first, numel(inner), *(rest[-1:] if vector else ())))


def example_sum(b: OpBuilder, x: Value, kind: ExampleKind, shape: Shape) -> Value | None:
    """``[N, *shape]``: per example, ``x`` summed down to ``shape``, which was broadcast to the shape of ``x``.

    None where the parameter has an axis of examples, or an extent other than the batch is not fixed.
    """
    stretched = [1] * (x.tensor.rank - len(shape)) + list(shape)
    rows = examples_first(b, x, kind)
    if rows is None or stretched[kind.axis] != 1:
        return None
    folded = [1] * (rows.tensor.rank - x.tensor.rank)
    kept = [*stretched[: kind.axis], *folded, *stretched[kind.axis + 1 :]]
    summed = [i for i, (d, p) in enumerate(zip(rows.tensor.shape[1:], kept, strict=True), 1) if p == 1 and d != 1]
    return b.reshape(b.reduce_sum(rows, summed), (rows.tensor.shape[0], *shape))


def elementwise_example_grad(b: OpBuilder, op: Op, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
    """``[N, *shape]`` of a public operand of an op that works element by element, with broadcasting.

    Its vjp, as if the operand had been given for every element, summed by examples.
    """
    kind, parameter = op.example_axis(kinds), op.operands[operand]
    if not isinstance(kinds[operand], PublicKind) or not isinstance(kind, ExampleKind):
        return None
    everywhere = b.broadcast(parameter, ct.tensor.shape)
    again = op.clone({parameter: everywhere})
    b.emit(again)
    grad = again.vjp(b, [ct], [i == operand for i in range(len(op.operands))])[operand]
    return example_sum(b, grad, kind, parameter.tensor.shape) if grad is not None else None
