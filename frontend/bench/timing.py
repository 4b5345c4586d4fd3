"""Timing calls in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

PAUSE = 0.2
"""Seconds between two contestants: a pool of threads spins for a while after its last call."""
LONG_STEP = 2.0
"""Seconds from which one call is a burst of its own."""


def burst(call: Callable[[], object], seconds: float) -> float:
    """Seconds per call: the mean of a burst of about ``seconds``, after a call that warms up."""
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    if first > LONG_STEP:
        return first
    calls = max(1, round(seconds / first))
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def rounds_of(calls: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds per call of each contestant, one mean per round; they take turns, with a pause between them."""
    means: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            means[name].append(burst(call, seconds))
    return means
