"""Ops that draw."""

from __future__ import annotations

from ....compiler.ir.types import DType
from ....compiler.ops import random
from ..creation import source
from .node import Node, NodeRules, Results


def _dropout(n: Node) -> Results:
    """Nothing is dropped unless the model says that it trains; a clone for testing never drops."""
    x = n.x("data")
    trains = n.version >= 12 and n.has("training_mode") and bool(n.one("training_mode"))
    p = 0.5 if n.version >= 12 else n.attr("ratio")
    if n.version >= 12 and n.has("ratio"):
        p = float(n.one("ratio"))
    if not trains or n.attr("is_test", False) or p == 0.0:
        return x, n.b.fill(x.tensor.shape, DType.BOOL, True)
    if not 0.0 <= p < 1.0:
        raise n.error(f"the ratio is {p}", "it is at least 0 and below 1")
    draw = random.Dropout(x=x, p=p, implementation="upscale_in_train", **source(n.lowering, 0))
    out, mask = n.b.emit(draw)
    return out, n.b.not_equal(mask, n.number(mask.tensor.dtype, 0))


RULES: NodeRules = {"Dropout": _dropout}
