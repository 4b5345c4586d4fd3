"""What a pass is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import Module
from ..ir.stage import Stage


@dataclass(frozen=True)
class Pass:
    """A rewrite of a module.  Its dataclass fields are its options: ``fluidc opt -p 'specialise{batch=16}'``.

    ``requires`` is the stage a module must have, ``ensures`` the stage it has afterwards.  A pass that
    leaves the stage as it is sets ``ensures`` to None and runs at every stage from ``requires`` on.
    """

    name: ClassVar[str]
    requires: ClassVar[Stage]
    ensures: ClassVar[Stage | None] = None

    def run(self, module: Module) -> Module:
        """The rewritten module; the argument is left alone."""
        raise NotImplementedError(self.name)
