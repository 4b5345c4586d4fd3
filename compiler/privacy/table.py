"""The ε(T, δ) table that an artifact carries, so that the runtime needs no accountant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .accounting import REPORT_INTERVAL, SEARCH_INTERVAL, epsilon, step_pld
from .cache import Cache, Key, Numbers, user_cache
from .mechanism import Mechanism

TABLE_DELTAS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
TABLE_ROWS = 16


@dataclass(frozen=True)
class EpsilonTable:
    """Upper bounds of ε on a full grid. A look-up takes the next larger count and the next smaller δ.

    Attributes:
        counts: Increasing numbers of releases: steps for poisson, begun epochs for the other samplers. The last
            is the budget.
        deltas: Decreasing δ.
        epsilons: ``epsilons[i][j]`` belongs to ``counts[i]`` and ``deltas[j]``; it grows with i and with j.
    """

    counts: tuple[int, ...]
    deltas: tuple[float, ...]
    epsilons: tuple[tuple[float, ...], ...]

    def entries(self) -> Iterator[tuple[int, float, float]]:
        """Yield (count, δ, ε), as the manifest stores them."""
        for count, row in zip(self.counts, self.epsilons):
            for delta, bound in zip(self.deltas, row):
                yield count, delta, bound


def epsilon_table(mechanism: Mechanism, max_steps: int, delta: float, cache: Cache | None = None) -> EpsilonTable:
    """Return the table of ``mechanism`` for up to ``max_steps`` steps.

    Up to 16 counts × δ ∈ {1e-3, …, 1e-10} and ``delta`` itself. The last row, which is the
    guarantee, is computed at the reporting interval, the others at the coarse one.

    Args:
        mechanism: The step; its noise is the accounted σ'.
        max_steps: T_max ≥ 1.
        delta: δ of the promise, at least 1e-12.
        cache: Where answers are kept; None is the user's cache directory.
    """
    deltas = tuple(sorted({*TABLE_DELTAS, delta}, reverse=True))
    last = mechanism.releases(max_steps)
    counts = row_counts(last)
    key: Key = ("table", *mechanism_key(mechanism), mechanism.noise, last, delta)
    store = user_cache() if cache is None else cache
    rows = store.get(key, lambda: _bounds(mechanism, counts, deltas))
    return EpsilonTable(counts, deltas, tuple(tuple(row) for row in rows))


def mechanism_key(mechanism: Mechanism) -> Key:
    """Return what a cached number depends on, the noise excepted."""
    return (mechanism.sampler, mechanism.adjacency, mechanism.q_num, mechanism.steps_per_epoch)


def row_counts(last: int) -> tuple[int, ...]:
    """Min(last, 16) increasing counts ending in ``last``, about last·(i/16)².

    ε grows about like √T, so squares spread the error of a look-up evenly over the run: at most ε_max/16.
    """
    counts: list[int] = []
    for i in range(1, min(last, TABLE_ROWS) + 1):
        square = -(-last * i * i // TABLE_ROWS**2)
        counts.append(max(square, counts[-1] + 1 if counts else 1))
    counts[-1] = last
    return tuple(counts)


def _bounds(mechanism: Mechanism, counts: tuple[int, ...], deltas: tuple[float, ...]) -> Numbers:
    # One epoch per release, or one step per release: so that counts are releases for every sampler.
    mechanism = replace(mechanism, steps_per_epoch=1)
    last = [epsilon([(mechanism, counts[-1])], delta, REPORT_INTERVAL) for delta in deltas]
    if mechanism.is_gaussian:
        return [*([epsilon([(mechanism, n)], delta) for delta in deltas] for n in counts[:-1]), last]
    rows: Numbers = []
    step, total, done = step_pld(mechanism, SEARCH_INTERVAL), None, 0
    for count in counts[:-1]:
        more = step.self_compose(count - done)
        total, done = more if total is None else total.compose(more), count
        # ε(T) ≤ ε(T_max), which was computed more tightly.
        rows.append([min(float(total.get_epsilon_for_delta(d)), cap) for d, cap in zip(deltas, last)])
    return [*rows, last]
