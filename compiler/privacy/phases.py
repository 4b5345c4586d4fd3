"""Phases of training: steps with noise, lot size and sampling rate of their own, fixed before the first.

What a run of several phases costs is the composition of its steps, in whatever order (privacy documentation:
phases); the constants must not depend on anything that was seen, so they are compiled in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import PrivacyError
from .accounting import REPORT_INTERVAL, SEARCH_INTERVAL, Run, composed_pld, epsilon
from .cache import Cache, Key, Numbers, user_cache
from .calibrate import FINITE_BIT_SHARE, check_finite_bits
from .table import TABLE_DELTAS, EpsilonTable, mechanism_key, row_counts


@dataclass(frozen=True)
class PhaseRequest:
    """What a script states about a phase; None takes what it states for the whole run.

    Attributes:
        steps: How many.
        sigma: Noise multiplier.
        lot: L.
        sample_rate: q.
    """

    steps: int
    sigma: float | None = None
    lot: float | None = None
    sample_rate: float | None = None


@dataclass(frozen=True)
class PhasePlan:
    """The resolved constants of a phase.

    Attributes:
        steps: How many.
        sigma: σ.
        lot: L, the divisor of the noisy sum.
        q_num: Sampling rate times 2^32, rounded up; None when it is not stated.
    """

    steps: int
    sigma: float
    lot: float
    q_num: int | None


def until(runs: Sequence[Run], count: int) -> tuple[Run, ...]:
    """The first ``count`` steps of ``runs``, which follow each other."""
    taken: list[Run] = []
    for mechanism, steps in runs:
        taken.append((mechanism, min(steps, count)))
        count -= taken[-1][1]
        if count == 0:
            break
    return tuple(taken)


def check_bits(runs: Sequence[Run], delta: float, where: str | None) -> float:
    """Part of δ that finite-bit noise may cost in all phases; PrivacyError when it is above δ/100."""
    costs = [check_finite_bits(mechanism, steps, delta, where) for mechanism, steps in runs]
    if math.fsum(costs) > FINITE_BIT_SHARE * delta:
        raise PrivacyError(
            f"the 64-bit noise of all phases costs delta={math.fsum(costs):.2g}, above 1/100 of delta={delta:g}",
            where=where,
            hint="use larger sigmas",
        )
    return math.fsum(costs)


def phased_table(runs: Sequence[Run], delta: float, cache: Cache | None = None) -> EpsilonTable:
    """Return the table of ``runs``, which follow each other: ε after the first t steps of them.

    As `epsilon_table`; the end of every phase has a row of its own.

    Args:
        runs: The mechanism and the number of steps of each phase.
        delta: δ of the promise, at least 1e-12.
        cache: Where answers are kept; None is the user's cache directory.
    """
    deltas = tuple(sorted({*TABLE_DELTAS, delta}, reverse=True))
    ends = [sum(steps for _, steps in runs[: number + 1]) for number in range(len(runs))]
    counts = tuple(sorted({*row_counts(ends[-1]), *ends}))
    store = user_cache() if cache is None else cache
    rows = store.get(("phases", *runs_key(runs), delta), lambda: _bounds(runs, counts, deltas))
    return EpsilonTable(counts, deltas, tuple(tuple(row) for row in rows))


def runs_key(runs: Sequence[Run]) -> Key:
    """What a cached number of these runs depends on."""
    return tuple(part for run, count in runs for part in (*mechanism_key(run), run.noise, count))


def _bounds(runs: Sequence[Run], counts: tuple[int, ...], deltas: tuple[float, ...]) -> Numbers:
    rows: Numbers = [[epsilon(runs, delta, REPORT_INTERVAL) for delta in deltas]]
    for row in reversed(list(_coarse(runs, counts[:-1], deltas))):
        # ε(t) ≤ ε(t') for t < t', which may have been computed more tightly.
        rows.append([min(bound, cap) for bound, cap in zip(row, rows[-1])])
    return rows[::-1]


def _coarse(runs: Sequence[Run], counts: Sequence[int], deltas: Sequence[float]) -> Iterator[list[float]]:
    """ε of the first steps at the coarse interval; what lies before the last row is composed once."""
    if all(mechanism.is_gaussian for mechanism, _ in runs):
        for count in counts:
            yield [epsilon(until(runs, count), delta) for delta in deltas]
        return
    total, done = None, 0
    for count in counts:
        start = 0
        for mechanism, steps in runs:
            more = min(count, start + steps) - max(done, start)
            start += steps
            if more > 0:
                part = composed_pld(mechanism, more, SEARCH_INTERVAL)
                total = part if total is None else total.compose(part)
        done = count
        assert total is not None, "counts begin at 1"
        yield [float(total.get_epsilon_for_delta(delta)) for delta in deltas]
