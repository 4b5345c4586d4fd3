"""Which loop suits the lanes of a vector."""

from __future__ import annotations

from collections.abc import Mapping

from ..expr import Index, Node, loads, walk
from ..kit import Block, Value
from ..lower import Lowering
from ..tvm_api import tirx


def contiguous(block: Block, body: Node, lane: Index, bound: Mapping[Node, Value]) -> int:
    """How well the loads of ``body`` suit lanes along ``lane``: contiguous is good, strided bad, gathering worse."""
    score = 0
    every: dict[Node, Value] = {
        node: bound.get(node, tirx.Var(block.names.fresh("probe"), "int64"))
        for node in walk(body)
        if isinstance(node, Index)
    }
    probe = Lowering(block, {}, every, lane, block.host.lanes)
    for read in loads(body):
        if any(loads(position) for position in read.children):
            continue
        flat, stride = probe.offset(read.tensor, read.children)
        score += -2 if flat is None or stride is None else {0: 0, 1: 1}.get(stride, -1)
    return score
