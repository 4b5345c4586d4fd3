"""Errors that the user is meant to read: what happened, where, and what to do next."""

from __future__ import annotations


class FluidcError(Exception):
    """An error of the user's program, data or arguments.

    Args:
        what: What happened, in the user's words (the fluid layer's or argument's name as it was written).
        where: The place, usually ``file.py:12``, an IR line, or both; None when there is no place.
        hint: What to do next; None when ``what`` already says so.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  at {self.where}")
        if self.hint is not None:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)


class PrivacyError(FluidcError):
    """The stated privacy parameters, or the program under them, cannot keep the promise."""


class VerifyError(FluidcError):
    """A module breaks a rule of the IR or of its stage."""


class PassError(FluidcError):
    """A pass failed, or its result does not verify."""


class ParseError(FluidcError):
    """IR text that is not well formed."""


class TargetError(FluidcError):
    """The target, or its tools on this machine, cannot build or run the module."""


class MissingRule(FluidcError):
    """An op lacks the rule that this compilation needs (a gradient, a kernel, ...)."""


class LoweringError(FluidcError):
    """A Program that has no meaning as IR."""
