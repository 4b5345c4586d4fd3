"""Errors that people are meant to read: what happened, where, and what to do next.

The base of every error of fluidc is here, since the runtime is the room that all the others may import.
"""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Controls other than tab and newline, halves of surrogates, and what turns the direction of writing around."""


def printable(text: str) -> str:
    r"""``text`` as it can be shown: names in files that nobody vouches for can hold commands to a terminal.

    >>> printable("red\x1b[31m")
    'red\\x1b[31m'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def is_printable(text: str) -> bool:
    """Whether `printable` leaves ``text`` as it is, and it is one line without tabs."""
    return _UNPRINTABLE.search(text) is None and "\n" not in text and "\t" not in text


class FluidcError(Exception):
    """An error of the user's program, data, files or arguments; ``str`` gives one line per part.

    >>> print(FluidcError("the label 12 is out of range", where="train.py:8", hint="labels are 0 to 9"))
    the label 12 is out of range
      at train.py:8
      labels are 0 to 9

    Args:
        what: What happened, in the user's words (the fluid layer's or argument's name as it was written).
        where: The place: ``file.py:12``, an IR line, a feed, a record, a member; None when there is none.
        hint: What to do next; None when ``what`` already says so.
    """

    def __init__(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  at {self.where}")
        if self.hint is not None:
            lines.append(f"  {self.hint}")
        return printable("\n".join(lines))


class Refusal(FluidcError):
    """An error of the runtime, which always knows the place and the next step."""

    def __init__(self, what: str, where: str, hint: str) -> None:
        super().__init__(what, where, hint)


class ArtifactError(Refusal):
    """A ``.fluidc`` file, or a manifest, that cannot be trusted or understood."""


class SignatureError(ArtifactError):
    """A signature that is missing, wrong, or of a key that is not trusted; or a key that cannot be used."""


class EngineError(Refusal):
    """The machine or its libraries cannot execute this artifact."""


class DataError(Refusal):
    """Feeds or data sets that do not fit the program."""


class SamplerError(Refusal):
    """A sampler asked for what it cannot do, or a lot that breaks its promise."""


class LedgerError(Refusal):
    """A privacy ledger that is missing, damaged, busy, or of another artifact."""


class BudgetError(Refusal):
    """A step, or an answer, beyond what the stored privacy accounting covers."""


class CheckpointError(Refusal):
    """A checkpoint that is damaged or belongs to something else."""


class NumericsError(Refusal):
    """A parameter became NaN or infinite."""


class PrivacyWarning(UserWarning):
    """Something that weakens a privacy guarantee, leaves it unknown, or is not covered by it."""
