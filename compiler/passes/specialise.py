"""specialise: the batch of training steps gets one physical size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.bind import bind
from ..ir.core import Function, Module
from ..ir.stage import Stage
from .base import Pass
from .separability import BATCH


@dataclass(frozen=True)
class Specialise(Pass):
    """Replace the symbolic batch by ``batch`` rows, 0 leaves it symbolic; ``infer`` takes any number of rows."""

    name: ClassVar[str] = "specialise"
    requires: ClassVar[Stage] = Stage.CAPTURED

    batch: int = 0

    def run(self, module: Module) -> Module:
        return module.map_functions(self._function) if self.batch else module

    def _function(self, function: Function) -> Function:
        return function if function.name == "infer" else bind(function, {BATCH: self.batch})
