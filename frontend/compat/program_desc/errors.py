"""The error of ProgramDescs that cannot be read or written."""

from __future__ import annotations

from ....compiler.errors import FluidcError


class ProgramDescError(FluidcError, ValueError):
    """A ``__model__`` that is damaged or uses what fluidc lacks, or a program that has no such form."""


def shown(name: str) -> str:
    """A name of the file as messages give it: short, and without characters that a terminal obeys."""
    return name if name.isprintable() and len(name) <= 200 else repr(name[:200])
