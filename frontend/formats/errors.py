"""The one error of everything that is read from files of saved state."""

from __future__ import annotations

from ...runtime.errors import FluidcError


class StateFileError(FluidcError, RuntimeError):
    """Saved state that is missing, damaged, unsafe, or not what was asked for; nothing was taken from it."""


def refused(what: str, source: str, offset: int) -> StateFileError:
    """The error for byte ``offset`` of the file ``source``."""
    return StateFileError(what, f"{source}, byte {offset}", "the file is damaged or of another kind: save it again")
