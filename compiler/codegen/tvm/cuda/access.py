"""How what neighbouring threads read lies in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..expr import Index, Load, Node, index, loads, walk
from ..kit import Block, Value
from ..lower import Lowering
from ..tvm_api import sym, tirx


def stride(block: Block, read: Load, along: Index, bound: Mapping[Node, Value]) -> int | None:
    """Elements between what neighbours along an index read; None where that varies, or memory decides."""
    indirect = [place for place in read.children if loads(place)]
    if any(along in walk(place) for place in indirect):
        return None
    # An index that memory holds is some number, the same for all neighbours.
    where = tuple(index(None) if place in indirect else place for place in read.children)
    variable = tirx.Var("along", "int64")
    every: dict[Node, Value] = {
        node: bound.get(node, tirx.Var(block.names.fresh("probe"), "int64"))
        for node in walk(*where)
        if isinstance(node, Index)
    }
    if along not in every:
        return 0
    every[along] = variable
    flat, _ = Lowering(block, {}, every).offset(read.tensor, where)
    linear = sym.detect_linear_equation(flat, [variable])
    if not linear:
        return None
    step = block.simplify(linear[0])
    return int(step.value) if isinstance(step, tirx.IntImm) else None


def coalescing(block: Block, roots: Sequence[Node], along: Index, bound: Mapping[Node, Value]) -> int:
    """How well reads suit neighbouring threads along an index: side by side is good, apart bad."""
    steps = [stride(block, read, along, bound) for read in loads(*roots)]
    return sum({0: 0, 1: 1, -1: 1}.get(step, -1) if step is not None else -2 for step in steps)


def by_stride(
    block: Block, roots: Sequence[Node], indices: Sequence[Index], bound: Mapping[Node, Value]
) -> tuple[Index, ...]:
    """Loop variables from the one with the longest steps through what is read to that with the shortest."""
    longest: dict[Index, int] = {}
    for position, along in enumerate(indices):
        steps = [abs(step) for read in loads(*roots) if (step := stride(block, read, along, bound))]
        longest[along] = min(steps, default=len(indices) - position)
    return tuple(sorted(indices, key=lambda along: -longest[along]))
