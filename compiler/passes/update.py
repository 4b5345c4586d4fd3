"""update: gradient clipping and regularisation become ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import Module
from ..ir.stage import Stage
from .base import Pass
from .decompose import expand
from .rewrite import rewrite


@dataclass(frozen=True)
class Update(Pass):
    """Replace gradient clipping and regularisation requests by their ``decompose`` rules.

    In a private program both act on the privatised gradient: they are post-processing.
    """

    name: ClassVar[str] = "update"
    requires: ClassVar[Stage] = Stage.PRIVATE
    ensures: ClassVar[Stage] = Stage.UPDATE

    def run(self, module: Module) -> Module:
        return module.map_functions(
            lambda function: rewrite(function, lambda b, op: expand(b, op, Stage.PRIVATE)), Stage.UPDATE
        )
