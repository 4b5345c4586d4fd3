"""outputs: for every fetch, how its values over several batches become one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..ir.core import Function, Module, Output
from ..ir.stage import Stage
from ..ops.kinds import ExampleKind, Kind, TotalKind
from .base import Pass
from .separability import extend, param_kinds


@dataclass(frozen=True)
class Outputs(Pass):
    """Means and sums over the batch, and rows of examples, are marked as such.

    The runtime needs it to evaluate on data that do not fit into one batch.  Private steps are marked by
    ``separate``, which also masks their padding.
    """

    name: ClassVar[str] = "outputs"
    requires: ClassVar[Stage] = Stage.CORE
    ensures: ClassVar[Stage] = Stage.CORE

    def run(self, module: Module) -> Module:
        return module.map_functions(lambda function: _marked(module, function))


def _marked(module: Module, function: Function) -> Function:
    if function.param("mask") is not None:
        return function
    kinds = param_kinds(module, function, strict=False)
    extend(kinds, module, function.ops)
    return replace(function, outputs=tuple(_combined(out, kinds[out.value]) for out in function.outputs))


def _combined(out: Output, kind: Kind) -> Output:
    match kind:
        case TotalKind(form=form):
            return replace(out, combine=form)
        case ExampleKind(axis=0, pre=1, post=1):
            return replace(out, combine="rows")
        case _:
            return out
