"""Per-example squared norms that are never too small (privacy documentation §4)."""

from __future__ import annotations

from ..ir.core import Value
from ..ir.types import DType, Shape, dim_div
from .base import OpBuilder
from .kinds import ExampleKind

F32_ROUNDOFF = 2.0**-24


def direct_norm_sq(b: OpBuilder, squares: Value, lengths: Value, terms: int) -> Value:
    """The squared norm of a sum of ``terms`` vectors per example, f64[N].

    ``squares`` is the squared norm of the float64 sum, ``lengths`` the sum of the vectors' norms.  The clipped
    sum adds the same vectors in float32: where they cancel so far that its rounding could matter, the bound
    ``(terms + 2) u lengths`` on that rounding (u = 2^-24) is added to the norm.
    """
    if terms == 1:
        return squares
    norm = b.sqrt(squares)
    bound = b.scale(lengths, (terms + 2) * F32_ROUNDOFF)
    exact = b.less_equal(bound, b.scale(norm, 2.0**-12))
    return b.where(exact, squares, b.square(b.add(norm, bound)))


def broadcast_norm_sq(b: OpBuilder, ct: Value, kind: ExampleKind, shape: Shape) -> Value | None:
    """f64[N]: per example, the squared norm of ``ct`` summed down to ``shape``, a parameter that was broadcast.

    ``kind`` is the example axis of ``ct``.  None where an extent other than the batch is not fixed.
    """
    axis, out = kind.axis, list(ct.tensor.shape)
    stretched = [1] * (len(out) - len(shape)) + list(shape)
    if stretched[axis] != 1 or not all(isinstance(d, int) for i, d in enumerate(out) if i != axis):
        return None
    # The batch becomes an axis of its own; time that was folded into it becomes axes of the parameter's sum.
    batch = dim_div(out[axis], kind.pre * kind.post)
    if batch is None:
        return None
    out[axis : axis + 1] = [kind.pre, batch, kind.post]
    stretched[axis : axis + 1] = [1, 1, 1]
    example = axis + 1
    wide = b.cast(b.reshape(ct, tuple(out)), DType.F64)
    summed = [i for i, (d, p) in enumerate(zip(out, stretched, strict=True)) if p == 1 and d != 1 and i != example]
    terms = 1
    for i in summed:
        extent = out[i]
        assert isinstance(extent, int)
        terms *= extent
    features = [i for i in range(len(out)) if i != example and i not in summed]
    total = b.reduce_sum(wide, summed, keepdims=True)
    others = [i for i in range(len(out)) if i != example]
    squares = b.reduce_sum(b.square(total), others)
    if terms == 1:
        return squares
    lengths = b.sqrt(b.reduce_sum(b.square(wide), features, keepdims=True))
    return direct_norm_sq(b, squares, b.reduce_sum(lengths, others), terms)
