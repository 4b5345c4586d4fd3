"""to-target: a module without privacy enters the target stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..ir.core import Module
from ..ir.stage import Stage
from .base import Pass


@dataclass(frozen=True)
class ToTarget(Pass):
    """Only the stage changes: the module holds nothing that a code generator does not know."""

    name: ClassVar[str] = "to-target"
    requires: ClassVar[Stage] = Stage.UPDATE
    ensures: ClassVar[Stage] = Stage.TARGET

    def run(self, module: Module) -> Module:
        return replace(module, stage=Stage.TARGET)
