"""Errors of the compiler, each in the three parts of `FluidcError`."""

from __future__ import annotations

from ..runtime.errors import FluidcError


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
