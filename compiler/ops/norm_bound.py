"""Per-example squared norms that are never too small (privacy documentation §4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, Shape, dim_div
from .base import Array, OpBuilder
from .emit import Expr, OnnxEmitter, TvmEmitter
from .kinds import ExampleKind

F32_ROUNDOFF = 2.0**-24
F64_ROUNDOFF = 2.0**-53
LEAST_SHARE = 2.0**-10
"""Least norm to state, as a share of the sum of the norms of the vectors that cancel.

Until they have cancelled, vectors of that length are part of the float32 sum over all examples, and what the others add
meanwhile is rounded to their size: with no such share, an example of norm near 0 would swallow the sums of hundreds."""


def gram_roundoff(rows: int, columns: int, terms: int) -> float:
    """``(d + p + 2T + 8) u``: error of a float64 Gram form of T outer products, relative to ``(sum of norms)^2``."""
    return (rows + columns + 2 * terms + 8) * F64_ROUNDOFF


def guarded(squares: Array, lengths: Array, gram: float, terms: int) -> Array:
    """The squared norm to state for a computed one.

    Args:
        squares: The computed squared norm of a sum of ``terms`` vectors, float64; may be below 0.
        lengths: The sum of the vectors' norms.
        gram: Relative roundoff of ``squares`` against ``lengths**2``; 0 where the sum itself was squared.
        terms: The clipped sum adds that many vectors in float32; where they cancel so far that its rounding
            could matter, the bound ``(terms + 2) u lengths`` on it is added to the norm, which is then at least
            `LEAST_SHARE` of the lengths.
    """
    with np.errstate(all="ignore"):
        error = gram * np.square(lengths)
        bounded = np.where(error <= 2.0**-11 * squares, squares, np.maximum(squares, 0.0) + error)
        norm, rounding = np.sqrt(bounded), (terms + 2) * F32_ROUNDOFF * lengths
        stated = np.square(np.maximum(norm + rounding, LEAST_SHARE * lengths))
        return np.where((rounding <= 2.0**-12 * norm) | np.isnan(norm), bounded, stated)


def lower_guarded(t: TvmEmitter, squares: Expr, lengths: Expr, gram: float, terms: int) -> Expr:
    """``guarded`` of one example."""
    zero = t.const(0.0, DType.F64)
    error: Any = lengths * lengths * gram
    bounded = t.select(error <= squares * 2.0**-11, squares, t.maximum(squares, zero) + error)
    norm: Any = t.call("sqrt", bounded)
    rounding: Any = lengths * ((terms + 2) * F32_ROUNDOFF)
    exact = (rounding <= norm * 2.0**-12) | norm.ne(norm)
    stated: Any = t.maximum(norm + rounding, lengths * LEAST_SHARE)
    return t.select(exact, bounded, stated * stated)


def onnx_guarded(o: OnnxEmitter, squares: str, lengths: str, gram: float, terms: int) -> str:
    """``guarded`` of f64[N]."""

    def times(x: str, factor: float) -> str:
        return o.node("Mul", x, o.scalar(factor, DType.F64))

    zero = o.scalar(0.0, DType.F64)
    error = times(o.node("Mul", lengths, lengths), gram)
    # Where, and not Max, of what may be NaN: ONNX Runtime does not promise that Max passes it on.
    least = o.node("Where", o.node("Less", squares, zero), zero, squares)
    small = o.node("LessOrEqual", error, times(squares, 2.0**-11))
    bounded = o.node("Where", small, squares, o.node("Add", least, error))
    norm, rounding = o.node("Sqrt", bounded), times(lengths, (terms + 2) * F32_ROUNDOFF)
    exact = o.node("Or", o.node("LessOrEqual", rounding, times(norm, 2.0**-12)), o.node("IsNaN", norm))
    stated = o.node("Max", o.node("Add", norm, rounding), times(lengths, LEAST_SHARE))
    return o.node("Where", exact, bounded, o.node("Mul", stated, stated))


def direct_norm_sq(b: OpBuilder, squares: Value, lengths: Value, terms: int) -> Value:
    """The squared norm of a sum of ``terms`` vectors per example, f64[N].

    ``squares`` is the squared norm of the float64 sum, ``lengths`` the sum of the vectors' norms.  The clipped
    sum adds the same vectors in float32: where they cancel so far that its rounding could matter, the bound
    ``(terms + 2) u lengths`` on that rounding (u = 2^-24) is added to the norm, which is then at least `LEAST_SHARE`
    of ``lengths``.
    """
    if terms == 1:
        return squares
    norm = b.sqrt(squares)
    bound = b.scale(lengths, (terms + 2) * F32_ROUNDOFF)
    exact = b.less_equal(bound, b.scale(norm, 2.0**-12))
    return b.where(exact, squares, b.square(b.maximum(b.add(norm, bound), b.scale(lengths, LEAST_SHARE))))


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
