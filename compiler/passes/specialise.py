"""specialise: the batch gets one physical size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.bind import bind
from ..ir.core import Module
from ..ir.stage import Stage
from .base import Pass
from .separability import BATCH


@dataclass(frozen=True)
class Specialise(Pass):
    """Replace the symbolic batch by ``batch`` rows; 0 leaves it symbolic."""

    name: ClassVar[str] = "specialise"
    requires: ClassVar[Stage] = Stage.CAPTURED

    batch: int = 0

    def run(self, module: Module) -> Module:
        return bind(module, {BATCH: self.batch}) if self.batch else module
