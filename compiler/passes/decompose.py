"""decompose: composite layers become core ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import Module, OpBase, Value
from ..ir.stage import Stage
from ..ops.base import Op
from ..ops.construct import OpBuilder
from .base import Pass
from .rewrite import rewrite


def expand(b: OpBuilder, op: OpBase, last: Stage) -> Sequence[Value] | None:
    """The decomposition of ``op`` if it may not live beyond stage ``last``; decompositions may nest."""
    if not isinstance(op, Op) or op.last_stage > last or not op.has_decomposition:
        return None
    inner = OpBuilder()
    with inner.at(op.loc):
        values = op.decompose(inner)
    mapping: dict[Value, Value] = {}
    for made in inner.ops:
        current = made.clone(mapping) if any(v in mapping for v in made.operands) else made
        deeper = expand(b, current, last)
        if deeper is None:
            b.ops.append(current)
            deeper = current.results
        mapping.update((old, new) for old, new in zip(made.results, deeper, strict=True) if old is not new)
    return tuple(mapping.get(value, value) for value in values)


@dataclass(frozen=True)
class Decompose(Pass):
    """Replace every op that mirrors a composite fluid layer by its ``decompose`` rule."""

    name: ClassVar[str] = "decompose"
    requires: ClassVar[Stage] = Stage.CAPTURED
    ensures: ClassVar[Stage] = Stage.CORE

    def run(self, module: Module) -> Module:
        return module.map_functions(
            lambda function: rewrite(function, lambda b, op: expand(b, op, Stage.CAPTURED)), Stage.CORE
        )
