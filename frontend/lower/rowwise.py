"""Whether code keeps the rows of a batch apart: where only some of them count, the others must not be seen.

Loops over sequences compute rows whose sequence has ended, and both blocks of an ``IfElse`` compute all rows.  What
puts rows together (a mean over the batch, say) would count those, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from ...compiler.ir.core import OpBase, Value
from ...compiler.ir.types import RaggedType
from ...compiler.ops.base import Op
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.indexing import Cumsum
from ...compiler.ops.kinds import PUBLIC, ExampleKind, Kind, MixedKind, TotalKind

ROWS = ExampleKind(0)


def mixing(ops: Iterable[OpBase], given: Mapping[Value, Kind], results: Sequence[Value]) -> str | None:
    """What puts rows together on the way to ``results``; None where every row depends on its own row alone.

    Args:
        ops: The code.
        given: Kinds of what it reads: `ROWS` where axis 0 are the rows, public where all rows read the same.
        results: What must have one row per row.
    """
    kinds: dict[Value, Kind] = dict(given)
    _extend(kinds, ops)
    for value in results:
        found = kinds.get(value, PUBLIC)
        if isinstance(found, MixedKind):
            return found.reason
        if isinstance(found, TotalKind):
            return f"a {found.form} over the rows is one of its results"
        if isinstance(found, ExampleKind) and found != ROWS:
            return "a result has its rows on another axis than the first"
    return None


def _extend(kinds: dict[Value, Kind], ops: Iterable[OpBase]) -> None:
    """Add the kinds of the results of ``ops``."""
    for op in ops:
        kinds.update(zip(op.results, _kinds(op, [kinds.get(value, PUBLIC) for value in op.operands]), strict=True))


def _kinds(op: OpBase, operands: Sequence[Kind]) -> Sequence[Kind]:
    """The kinds of an op's results.  Sequences are one row each, and so is each of their tokens."""
    if isinstance(op, Op) and op.has_decomposition:
        # It has no rule of its own, but those of what it consists of.
        b, inside = OpBuilder(), dict(zip(op.operands, operands, strict=True))
        results = op.decompose(b)
        _extend(inside, b.ops)
        return [inside.get(value, PUBLIC) for value in results]
    if any(isinstance(value.type, RaggedType) for value in (*op.operands, *op.results)):
        mixed = next((kind for kind in operands if isinstance(kind, MixedKind | TotalKind)), None)
        return [mixed or ROWS for _ in op.results]
    found = cast(Op, op).example_axis(operands)
    every = found if isinstance(found, tuple) else [found] * len(op.results)
    if isinstance(op, Cumsum):
        # Places of tokens are counted over all sequences.
        every = [kind if value.type.dtype.is_float else _place(kind) for value, kind in zip(op.results, every)]
    return every


def _place(kind: Kind) -> Kind:
    return PUBLIC if isinstance(kind, MixedKind | TotalKind) else kind
