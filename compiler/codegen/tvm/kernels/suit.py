"""Which loop suits the lanes of a vector."""

from __future__ import annotations

from collections.abc import Mapping

from ..expr import Index, Node, index, loads, walk
from ..kit import Block, Value
from ..lower import Lowering
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
