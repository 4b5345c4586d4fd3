"""Undoing the sum: from a total over the batch back to the term of each example."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from ..errors import PrivacyError
from ..ir.core import OpBase, Value
from ..ir.types import Dim, DType, Sym
from ..ops import elementwise, reduce, shape, unary
from ..ops.construct import OpBuilder
from ..ops.grad import StopGradient
from ..ops.kinds import ExampleKind, Kind, TotalKind
from .separability import BATCH

ROW = Sym(BATCH)


@dataclass(frozen=True)
class Terms:
    """``total = (1/N or 1) * sum_i per_example[i] + free``.

    ``per_example`` is ``f32[N, *shape of the total]``; ``free`` has the shape of the total, None for zero.
    """

    form: Literal["mean", "sum"]
    per_example: Value
    free: Value | None


def split(b: OpBuilder, value: Value, kinds: dict[Value, Kind], stops: Set[Value] = frozenset()) -> Terms:
    """The terms of a value of kind ``total``; no gradient flows through the terms of a value in ``stops``.

    Raises PrivacyError for a way of building totals that has no rule here.
    """
    terms = _split(b, value, kinds, stops)
    if value not in stops:
        return terms
    free = None if terms.free is None else b(StopGradient(terms.free))
    return Terms(terms.form, b(StopGradient(terms.per_example)), free)


def _split(b: OpBuilder, value: Value, kinds: dict[Value, Kind], stops: Set[Value]) -> Terms:
    kind, op = kinds[value], value.op
    assert isinstance(kind, TotalKind)
    assert op is not None
    with b.at(op.loc):
        if isinstance(op, reduce.Sum | reduce.Mean):
            if isinstance(kinds[op.x], ExampleKind):
                return _reduced(b, op, kinds)
            inner = split(b, op.x, kinds, stops)
            axes = tuple(axis % op.x.tensor.rank for axis in op.axes)
            fold = b.reduce_sum if isinstance(op, reduce.Sum) else b.reduce_mean
            free = None if inner.free is None else fold(inner.free, axes, op.keepdims)
            rows = fold(inner.per_example, tuple(axis + 1 for axis in axes), op.keepdims)
            return Terms(inner.form, rows, free)
        if isinstance(op, elementwise.Add | elementwise.Sub):
            return _sum(b, op, kinds, kind, stops)
        if isinstance(op, elementwise.Mul | elementwise.Div):
            return _scaled(b, op, kinds, stops)
        if isinstance(op, unary.Neg):
            inner = split(b, op.x, kinds, stops)
            return Terms(inner.form, b.neg(inner.per_example), None if inner.free is None else b.neg(inner.free))
        if isinstance(op, unary.Scale):
            inner = split(b, op.x, kinds, stops)
            free = b.scale(inner.free, op.factor, op.bias) if inner.free is not None else None
            if free is None and op.bias != 0.0:
                free = b.fill(value.tensor.shape, value.type.dtype, op.bias)
            return Terms(inner.form, b.scale(inner.per_example, op.factor), free)
        if isinstance(op, shape.Reshape):
            inner = split(b, op.x, kinds, stops)
            target = value.tensor.shape
            free = None if inner.free is None else b.reshape(inner.free, target)
            return Terms(inner.form, b.reshape(inner.per_example, (ROW, *target)), free)
        if isinstance(op, elementwise.Cast) and value.type.dtype.is_float:
            inner = split(b, op.x, kinds, stops)
            free = None if inner.free is None else b.cast(inner.free, op.dtype)
            return Terms(inner.form, b.cast(inner.per_example, op.dtype), free)
    raise _unsupported(op)


def _unsupported(op: OpBase) -> PrivacyError:
    return PrivacyError(
        f"`{op.loc.layer or op.name}` makes a sum over the batch that cannot be taken apart into examples",
        where=op.loc.place or None,
        hint="write the loss as a mean (or sum) over examples, then add, subtract or scale",
    )


def _reduced(b: OpBuilder, op: reduce.Sum | reduce.Mean, kinds: dict[Value, Kind]) -> Terms:
    """A sum or mean over axes that hold the examples: leave the examples out."""
    kind = kinds[op.x]
    assert isinstance(kind, ExampleKind)
    dims = op.x.tensor.shape
    axes = {axis % len(dims) for axis in op.axes}
    rows = op.x
    if kind == ExampleKind(0):
        reduced = sorted(axes - {0})
    else:
        # [.., pre*N*post, ..] -> [.., pre, N, post, ..] -> N first, so that folded axes are covered too.
        opened: tuple[Dim, ...] = (*dims[: kind.axis], kind.pre, ROW, kind.post, *dims[kind.axis + 1 :])
        row_axis = kind.axis + 1
        others = [axis for axis in range(len(opened)) if axis != row_axis]
        rows = b.transpose(b.reshape(op.x, opened), (row_axis, *others))
        # Axes of `rows`: 0 is N; then the opened axes without N, where the example axis has become two.
        reduced = sorted({1 + axis + (axis > kind.axis) for axis in axes} | {2 + kind.axis})
    fold = b.reduce_sum if isinstance(op, reduce.Sum) else b.reduce_mean
    per_example = fold(rows, reduced) if reduced else rows
    form: Literal["mean", "sum"] = "sum" if isinstance(op, reduce.Sum) else "mean"
    return Terms(form, b.reshape(per_example, (ROW, *op.result.tensor.shape)), None)


def _sum(
    b: OpBuilder,
    op: elementwise.Add | elementwise.Sub,
    kinds: dict[Value, Kind],
    kind: TotalKind,
    stops: Set[Value],
) -> Terms:
    join = b.add if isinstance(op, elementwise.Add) else b.sub
    out = op.result.tensor.shape
    parts = [split(b, v, kinds, stops) if isinstance(kinds[v], TotalKind) else None for v in (op.x, op.y)]
    left, right = parts
    per_example: Value
    if left is not None and right is not None:
        per_example = join(_rows(b, left, out), _rows(b, right, out))
    elif left is not None:
        per_example = _rows(b, left, out)
    else:
        assert right is not None
        rows = _rows(b, right, out)
        per_example = rows if isinstance(op, elementwise.Add) else b.neg(rows)
    free = [part.free if part is not None else v for part, v in zip(parts, (op.x, op.y), strict=True)]
    return Terms(kind.form, per_example, _joined_free(b, free[0], free[1], out, isinstance(op, elementwise.Add)))


def _joined_free(b: OpBuilder, x: Value | None, y: Value | None, out: tuple[Dim, ...], plus: bool) -> Value | None:
    if x is not None and y is not None:
        return b.add(x, y) if plus else b.sub(x, y)
    if x is not None:
        return b.broadcast(x, out)
    if y is None:
        return None
    return b.broadcast(y if plus else b.neg(y), out)


def _rows(b: OpBuilder, terms: Terms, out: tuple[Dim, ...]) -> Value:
    """The per-example terms broadcast from their total's shape to ``out``."""
    own = terms.per_example.tensor.shape[1:]
    if own == out:
        return terms.per_example
    padded: tuple[Dim, ...] = (ROW, *(1,) * (len(out) - len(own)), *own)
    return b.broadcast(b.reshape(terms.per_example, padded), (ROW, *out))


def _scaled(b: OpBuilder, op: elementwise.Mul | elementwise.Div, kinds: dict[Value, Kind], stops: Set[Value]) -> Terms:
    """A total times or divided by something public."""
    out = op.result.tensor.shape
    total, public = (op.x, op.y) if isinstance(kinds[op.x], TotalKind) else (op.y, op.x)
    apply = b.mul if isinstance(op, elementwise.Mul) else b.div
    inner = split(b, total, kinds, stops)
    free = None if inner.free is None else apply(inner.free, public)
    return Terms(inner.form, apply(_rows(b, inner, out), public), free)


def per_example_loss(b: OpBuilder, loss: Value, kinds: dict[Value, Kind], stops: Set[Value]) -> Terms:
    """The terms of a loss of one element, with ``per_example`` of shape ``f32[N]``."""
    terms = split(b, loss, kinds, stops)
    rows = b.reshape(terms.per_example, (ROW,))
    if rows.type.dtype is not DType.F32:
        rows = b.cast(rows, DType.F32)
    return Terms(terms.form, rows, terms.free)
