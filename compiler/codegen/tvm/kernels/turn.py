"""Lanes along memory: which index suits them, and blocks of elements turned in registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....ir.types import DType
from ..expr import Index, Node, index, loads, walk
from ..kit import Block, Value, lanes_of
from ..lower import Lowering, pick
from ..tvm_api import tirx


def contiguous(block: Block, body: Node, lane: Index, bound: Mapping[Node, Value]) -> int:
    """How well the loads of ``body`` suit lanes along ``lane``: contiguous is good, strided bad, gathering worse."""
    score = 0
    for read in loads(body):
        indirect = [place for place in read.children if loads(place)]
        if any(lane in walk(place) for place in indirect):
            score -= 2
            continue
        # An index that memory holds is some number, the same in every lane.
        where = tuple(index(None) if place in indirect else place for place in read.children)
        every: dict[Node, Value] = {
            node: bound.get(node, tirx.Var(block.names.fresh("probe"), "int64"))
            for node in walk(*where)
            if isinstance(node, Index)
        }
        flat, stride = Lowering(block, {}, every, lane, block.host.lanes).offset(read.tensor, where)
        score += -2 if flat is None or stride is None else {0: 0, 1: 1}.get(stride, -1)
    return score


def turned(block: Block, rows: Sequence[Value], dtype: DType) -> list[Value]:
    """A square of elements, one vector per row, as one vector per column."""
    width = len(rows)
    assert all(lanes_of(row) == width for row in rows)
    rows = [block.let(row, dtype) for row in rows]
    step = width // 2
    while step:
        # Exchange the squares of ``step`` that lie off the diagonal.
        low = [lane if not lane & step else width + lane - step for lane in range(width)]
        high = [lane + step if not lane & step else width + lane for lane in range(width)]
        for i in range(width):
            if not i & step:
                pair = [rows[i], rows[i + step]]
                rows[i] = block.let(pick(pair, low), dtype)
                rows[i + step] = block.let(pick(pair, high), dtype)
        step //= 2
    return rows
