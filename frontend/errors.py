"""Errors of the fluid API; each also derives from the builtin that fluid scripts expect to catch."""

from __future__ import annotations

import warnings

from ..compiler.errors import FluidcError
from .source import user_location


class ProgramError(FluidcError, ValueError):
    """A value, shape or name that the called layer cannot take."""


class ArgumentTypeError(FluidcError, TypeError):
    """An argument or a Variable of the wrong type or element type."""


class UnsupportedError(FluidcError, NotImplementedError):
    """Part of fluid's API that fluidc does not have."""


class SequencesError(FluidcError, RuntimeError):
    """Sequences where only dense data can be handed over."""


class EOFException(Exception):
    """The readers of a program have no more data; caught at the end of every epoch (fluid's ``core.EOFException``).

    As in Paddle it is no `FluidcError`, which ``core.EnforceNotMet`` is here.

    Args:
        what: Which reader is at its end.
        where: The user's line.
        hint: What to do next.
    """

    def __init__(self, what: str, where: str, hint: str) -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return str(FluidcError(self.what, self.where, self.hint))


def invalid(what: str, hint: str) -> ProgramError:
    """A `ProgramError` at the user's current line."""
    return ProgramError(what, where=user_location().place, hint=hint)


def wrong_type(what: str, hint: str) -> ArgumentTypeError:
    """An `ArgumentTypeError` at the user's current line."""
    return ArgumentTypeError(what, where=user_location().place, hint=hint)


def unsupported(what: str, hint: str) -> UnsupportedError:
    """An `UnsupportedError` at the user's current line."""
    return UnsupportedError(what, where=user_location().place, hint=hint)


def warn(what: str) -> None:
    """A UserWarning at the user's current line."""
    where = user_location()
    warnings.warn_explicit(what, UserWarning, where.file, where.line)
