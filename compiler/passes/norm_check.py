"""Whether a norm term belongs to a clipped sum: it reads the same rows, and on random ones it is no smaller."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from ..ir.bind import bind_op
from ..ir.core import OpBase, Value
from ..ir.types import DType, TensorType, static_shape
from ..ops.dp import ClipFactor, ClippedSum, ScaleRows, SelectRows
from ..ops.elementwise import Fill
from ..ops.embedding import LookupGrad, LookupNormSq
from ..ops.example_norm import GramNormSq
from ..ops.region import Environment, evaluate_op
from ..ops.shape import Reshape, Transpose
from ..ops.state import Read
from .separability import BATCH


def product_reads(total: Value) -> set[Value]:
    """The raw rows that a clipped sum is made of."""
    found: set[Value] = set()
    pending = [total]
    while pending:
        op = pending.pop().op
        if isinstance(op, ScaleRows | SelectRows):
            found.add(_root(op.x))
        elif isinstance(op, ClippedSum):
            found.add(_root(op.g))
        elif op is not None and not isinstance(op, Read):
            pending.extend(op.operands)
    return found


def term_reads(term: Value, leaves: Set[Value]) -> set[Value]:
    """The raw rows, among ``leaves``, that a squared norm is computed from."""
    found: set[Value] = set()
    pending, seen = [term], set[Value]()
    while pending:
        value = _root(pending.pop())
        if value in seen:
            continue
        seen.add(value)
        if value in leaves:
            found.add(value)
        elif value.op is not None:
            pending.extend(value.op.operands)
    return found


def varying(values: Set[Value]) -> set[Value]:
    """``values`` without constants, which passes may fold into the norm."""
    return {value for value in values if not isinstance(value.op, Fill)}


def norm_bounds_sum(factor: ClipFactor, term: Value, total: Value, rows: Set[Value]) -> bool:
    """Whether ``term`` is at least the squared norm of ``total``, for lots of one random example with factor 1.

    Args:
        factor: The op whose result scales and selects rows behind ``total``.
        term: ``f64[N]``, computed from ``rows``.
        total: The clipped sum, computed from ``rows`` and the factor.
        rows: The raw rows; they get random values, whatever computes them.
    """
    ops = _between((term, total), {*rows, factor.result})
    looked_up = any(value.type.dtype.is_integer for value in rows)
    draws: list[int | None] = [*sorted(_ids_of_interest(ops)), None] if looked_up else [None]
    return all(_bounds_drawn(factor, term, total, ops, same) for same in draws)


def _bounds_drawn(factor: ClipFactor, term: Value, total: Value, ops: list[OpBase], same: int | None) -> bool:
    """``norm_bounds_sum`` for one draw, in which all ids are ``same``, or random ones."""
    rng = np.random.default_rng(0 if same is None else same + 1)
    high = min((op.rows for op in ops if isinstance(op, LookupGrad) and isinstance(op.rows, int)), default=1)
    made = {value for op in ops for value in op.results}
    bound: dict[Value, Value] = {}
    environment: Environment = {}
    for value in dict.fromkeys([*(v for op in ops for v in op.operands), term, total]):
        if value not in made:
            kind = value.tensor.bind({BATCH: 1})
            bound[value] = Value(kind, value.hint)
            if value is factor.result:
                environment[bound[value]] = np.ones(1, np.float32)
            else:
                environment[bound[value]] = _drawn(rng, kind, high, same)
    with np.errstate(all="ignore"):
        for op in ops:
            copy = bind_op(op, {BATCH: 1}, bound)
            evaluate_op(copy, environment)
            bound.update(zip(op.results, copy.results, strict=True))
    gradient = np.asarray(environment[bound[total]], np.float64)
    bound_sq = float(np.asarray(environment[bound[term]]).reshape(-1)[0])
    return bound_sq >= float(np.sum(np.square(gradient))) * (1 - 1e-5)


def _root(value: Value) -> Value:
    """The value behind reshapes and transposes, which passes may compose or take back."""
    while isinstance(value.op, Reshape | Transpose):
        value = value.op.x
    return value


def _between(results: tuple[Value, ...], leaves: Set[Value]) -> list[OpBase]:
    """The ops that ``results`` need, in order, back to ``leaves`` and to parameters."""
    order: list[OpBase] = []
    seen: set[OpBase] = set()

    def visit(value: Value) -> None:
        op = value.op
        if op is None or value in leaves or op in seen or isinstance(op, Read):
            return
        seen.add(op)
        for operand in op.operands:
            visit(operand)
        order.append(op)

    for value in results:
        visit(value)
    return order


def _ids_of_interest(ops: list[OpBase]) -> set[int]:
    """Ids that, the same one everywhere, are hardest: cotangents add up, or are left out by one side alone."""
    found = {0}
    for op in ops:
        match op:
            case LookupGrad(padding_idx=int(padding)) | LookupNormSq(padding_idx=int(padding)):
                found.add(padding)
            case GramNormSq(padding=paddings):
                found.update(padding for padding in paddings if padding >= 0)
            case _:
                pass
    return found


def _drawn(rng: np.random.Generator, kind: TensorType, high: int, same: int | None) -> NDArray[np.generic]:
    shape = static_shape(kind.shape)
    if kind.dtype.is_float:
        return rng.normal(size=shape).astype(kind.dtype.numpy)
    if kind.dtype is DType.BOOL:
        return np.ones(shape, np.bool_)
    ids = rng.integers(0, high, shape) if same is None else np.full(shape, min(same, high - 1))
    return ids.astype(kind.dtype.numpy)
