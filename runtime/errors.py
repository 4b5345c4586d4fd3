"""Errors the runtime shows to people: what happened, where, and what to do next."""

from __future__ import annotations


class FluidcError(Exception):
    """An error in three parts, one per line of ``str(error)``.

    Args:
        what: what happened, in the user's words.
        where: the file, line, feed, record or member it concerns.
        hint: what to do next.
    """

    def __init__(self, what: str, where: str, hint: str) -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  what to do: {self.hint}"


class ArtifactError(FluidcError):
    """A ``.fluidc`` file, or a manifest, that cannot be trusted or understood."""


class EngineError(FluidcError):
    """The machine or its libraries cannot execute this artifact."""


class DataError(FluidcError):
    """Feeds or data sets that do not fit the program."""


class SamplerError(FluidcError):
    """A sampler asked for what it cannot do, or a lot that breaks its promise."""


class LedgerError(FluidcError):
    """A privacy ledger that is missing, damaged, busy, or of another artifact."""


class BudgetError(FluidcError):
    """A step, or an answer, beyond what the stored privacy accounting covers."""


class CheckpointError(FluidcError):
    """A checkpoint that is damaged or belongs to something else."""


class NumericsError(FluidcError):
    """A parameter became NaN or infinite."""
