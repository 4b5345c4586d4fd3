"""What ``--dump-ir`` and ``--print-ir-after`` show of a compilation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ...compiler.errors import FluidcError
from ...compiler.ir.core import Module
from ...compiler.ir.printer import to_text
from ...compiler.pipeline import PASSES


class Observing:
    """An observer of the pass manager.

    Args:
        folder: Where ``NN-PASS.ir`` is written after every pass, ``00-input.ir`` before the first; None for nowhere.
        every: Print the module after every pass.
        after: Passes to print the module after.

    Raises:
        click.BadParameter: A pass that does not exist.
    """

    def __init__(self, folder: Path | None, every: bool, after: Sequence[str]) -> None:
        known = [step.name for step in PASSES]
        for name in after:
            if name not in known:
                raise click.BadParameter(
                    f"there is no pass {name!r}; use one of {', '.join(known)}", param_hint="--print-ir-after"
                )
        self._folder = folder
        self._every = every
        self._after = frozenset(after)

    def __call__(self, number: int, name: str, module: Module) -> None:
        """Show the module after pass ``name``; number 0 is the input.  Raises FluidcError for an unwritable folder."""
        printed = name in self._after or (self._every and number > 0)
        if self._folder is None and not printed:
            return
        text = to_text(module)
        if printed:
            click.echo(f"// after {name}\n{text}", err=True, nl=False)
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / f"{number:02d}-{name}.ir").write_text(text, encoding="utf-8")
            except OSError as error:
                raise FluidcError(
                    f"the IR cannot be written: {error.strerror}",
                    where=str(self._folder),
                    hint="give --dump-ir a folder that is writable and has space",
                ) from None
