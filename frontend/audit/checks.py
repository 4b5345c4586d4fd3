"""What an audit says: one check per line, with what was measured and the bound it was held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["passed", "failed", "not measured"]


@dataclass(frozen=True)
class Check:
    """One criterion.

    Attributes:
        name: short and fixed: tests and scripts may look for it.
        measured: the number found, for people.
        bound: what it had to keep, for people.
        verdict: ``not measured`` where the artifact offers no way to measure it; it says why in ``measured``.
        values: the same as numbers.
    """

    name: str
    measured: str
    bound: str
    verdict: Verdict
    values: Mapping[str, float | int | str] = field(default_factory=dict[str, "float | int | str"])

    def to_json(self) -> dict[str, object]:
        """The check as JSON."""
        return {
            "name": self.name,
            "measured": self.measured,
            "bound": self.bound,
            "verdict": self.verdict,
            "values": dict(self.values),
        }


def judged(name: str, measured: str, bound: str, holds: bool, /, **values: float | int | str) -> Check:
    """A check that was measured."""
    return Check(name, measured, bound, "passed" if holds else "failed", values)


def unmeasured(name: str, why: str, bound: str) -> Check:
    """A check that could not be measured."""
    return Check(name, why, bound, "not measured")


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        pairs: most pairs of neighbouring lots.
        values: noise values wanted of every tensor.
        draws: most noise draws, whatever the tensors' sizes.
        seconds: after so many, a measurement of pairs or of noise ends with a smaller number of them.
        trials: releases with, and as many without the canary.
        alpha: false alarm rate of every test of the noise.
    """

    pairs: int
    values: int
    draws: int
    seconds: float
    trials: int
    alpha: float = 1e-9


QUICK = Effort(pairs=100, values=100_000, draws=2_000, seconds=5.0, trials=2_000)
FULL = Effort(pairs=500, values=1_000_000, draws=50_000, seconds=120.0, trials=20_000)
FOR_MUTANTS = Effort(pairs=24, values=20_000, draws=500, seconds=2.0, trials=1_000)
