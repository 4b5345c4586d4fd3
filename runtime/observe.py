"""Who looks on while a run takes its steps, beside the display: what a report draws, and logs."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from .progress import Display, StepReport

_DENSE = 1000
_BINS = tuple(float(f"{digits}e{power}") for power in range(-6, 2) for digits in ("1", "1.5", "2", "3", "5", "7"))
"""Edges of the bins of step times, in seconds: six to a decade, from a microsecond to 70 s."""


class Observer(Protocol):
    """Sees some of the steps of a run, and every step's time."""

    def step(self, report: StepReport, seconds: float | None) -> None:
        """A step, and the time since the step before; None where times are not for the reader."""
        ...


def is_seen(count: int) -> bool:
    """Whether observers see the ``count``-th step of a run, from 1: every one to 1,000, every tenth to 10,000, ...

    It follows from the number alone, so which steps are seen tells nothing of how fast they were.
    """
    stride = 1
    while count > _DENSE * stride:
        stride *= 10
    return count % stride == 0


class Observed:
    """A display that has observers look on.

    Args:
        shown: the display itself.
        observers: who looks on.
        timed: whether they are told times.
        clock: seconds.
    """

    def __init__(
        self,
        shown: Display,
        observers: Sequence[Observer],
        *,
        timed: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._shown = shown
        self._observers = observers
        self._timed = timed
        self._clock = clock
        self._count = 0
        self._last = 0.0
        self._seconds = 0.0
        self._due: tuple[bool, bool] | None = None
        self.times = StepTimes()

    def __enter__(self) -> Self:
        self._shown.__enter__()
        self._last = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def due(self) -> bool:
        self._tick()
        self._due = is_seen(self._count), self._shown.due()
        return any(self._due)

    def show(self, report: StepReport) -> None:
        if self._due is None:  # the last step of a run is shown without being asked for
            self._tick()
        seen, shown = self._due or (True, True)
        self._due = None
        if seen:
            for observer in self._observers:
                observer.step(report, self._seconds if self._timed else None)
        if shown:
            self._shown.show(report)

    def note(self, text: str) -> None:
        self._shown.note(text)

    def _tick(self) -> None:
        now = self._clock()
        self._seconds, self._last = now - self._last, now
        self._count += 1
        if self._timed:
            self.times.add(self._seconds)


@dataclass
class StepTimes:
    """How long steps took: from the end of one to the end of the next, whatever happened between.

    Attributes:
        counts: steps in each bin; bin 0 holds what is below the first edge.
        total: seconds of all.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(_BINS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a step."""
        self.counts[bisect_right(_BINS, seconds)] += 1
        self.total += seconds

    @property
    def steps(self) -> int:
        """Steps counted."""
        return sum(self.counts)

    def bars(self) -> list[tuple[float, float, int]]:
        """(lower edge, upper edge, steps) of the bins from the first to the last with a step; seconds."""
        used = [place for place, count in enumerate(self.counts) if count]
        if not used:
            return []
        edges = (0.0, *_BINS, _BINS[-1] * 10)
        return [(edges[place], edges[place + 1], self.counts[place]) for place in range(used[0], used[-1] + 1)]


@dataclass(frozen=True)
class Point:
    """What a step of a curve shows: its number, its scalars, and epsilon so far."""

    step: int
    values: dict[str, float]
    epsilon: float | None


class History:
    """Keeps the scalars of the steps that it sees, for curves.

    Attributes:
        points: in order.
        not_private: names of values that depend on single examples without noise.
    """

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.not_private: frozenset[str] = frozenset()

    def step(self, report: StepReport, seconds: float | None) -> None:
        """See `Observer`."""
        if report.spent is not None:  # all of an ordinary program is exact, and nobody's secret
            self.not_private = report.not_private
        spent = None if report.spent is None else report.spent.so_far
        self.points.append(Point(report.step, scalars(report), spent))


def scalars(report: StepReport) -> dict[str, float]:
    """The fetched values of a step that are one number of a type with fractions."""
    return {
        name: float(value.reshape(()))
        for name, value in report.fetches.items()
        if value.size == 1 and value.dtype.kind == "f"
    }
