"""Getting the next batch ready in a thread while the present step runs.

One thing is under way at a time, and what makes it is used by nobody else meanwhile; so the same things are made in the
same order as without the thread, and each is the same.

Whether it gains is measured while it runs. It does where a core is idle, or rows come from a slow disk; where steps use
every core, a thread that copies rows takes from the step more than it gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")

WORTH_SECONDS = 3e-4
"""A thing that took less to make is made where it is needed: handing it over alone costs a tenth of this."""

_TRIED = 4
_KEPT = 100
_LONGEST_KEPT = 3200


class Trial:
    """Finds which of two ways of going on is faster, by the time from one call to the next.

    Tries both for a few calls each, the second for one only if that is far slower; keeps the better one, and tries the
    other again after 100 calls, 200, and so on.

    Args:
        clock: seconds that have passed.

    Attributes:
        ahead: the way to go: True is the way that is tried second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.ahead = False
        self._clock = clock
        self._left = _TRIED + 1
        self._kept = _KEPT
        self._times: list[float] = []
        self._found: dict[bool, float] = {}
        self._last: float | None = None

    def tick(self) -> None:
        """Another call: the time since the last one was taken by the present way."""
        now = self._clock()
        if self._last is not None:
            self._times.append(now - self._last)
        self._last = now
        self._left -= 1
        times = self._times[1:]  # the first was begun in the other way
        if self._left and not self._hopeless(times):
            return
        self._found[self.ahead] = sorted(times)[(len(times) - 1) // 2]
        self._times = []
        if len(self._found) == 1:
            self.ahead = not self.ahead
            self._left = _TRIED + 1
            return
        self.ahead = self._found[True] < self._found[False]
        self._found = {}
        self._left = self._kept
        self._kept = min(2 * self._kept, _LONGEST_KEPT)

    def _hopeless(self, times: list[float]) -> bool:
        """Whether the way that is tried second is far slower, as its last call tells."""
        return len(self._found) == 1 and bool(times) and times[-1] > 1.5 * self._found[not self.ahead]


class Prefetcher(Generic[T]):
    """Makes things one after another, the next one ahead of its use where that is faster.

    Args:
        enabled: False makes each where it is asked for, True ahead always, None as is faster.
    """

    def __init__(self, *, enabled: bool | None = None) -> None:
        self._enabled = enabled
        self._trial = Trial()
        self._pool: ThreadPoolExecutor | None = None
        self._next: Future[T] | None = None
        self._seconds = 0.0

    @property
    def waiting(self) -> bool:
        """Whether the next thing is being made, or has been, and nobody has taken it."""
        return self._next is not None

    @property
    def worthwhile(self) -> bool:
        """Whether to `start` the next thing: whether that gains time, as far as is known."""
        if self._enabled is not None:
            return self._enabled
        return self._seconds >= WORTH_SECONDS and self._trial.ahead

    def start(self, make: Callable[[], T]) -> None:
        """Begin to make the next thing; `take` gives it. What ``make`` touches is the thread's until then."""
        assert self._next is None, "one thing at a time"
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # runs on small data need none

            self._pool = ThreadPoolExecutor(1, "prefetch")
        self._next = self._pool.submit(self._made, make)

    def take(self, make: Callable[[], T]) -> T:
        """What `start` began, or else what ``make`` makes now. Raises what making it raised, from where it was."""
        self._trial.tick()
        if self._next is None:
            return self._made(make)
        started, self._next = self._next, None
        try:
            return started.result()
        except Exception as error:
            error.add_note("while the rows of the next batch were gathered ahead of their step")
            raise

    def close(self) -> None:
        """End the thread; a thing that nobody took is forgotten, and so is the error that making it gave."""
        self._next = None
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _made(self, make: Callable[[], T]) -> T:
        start = time.monotonic()
        made = make()
        self._seconds = time.monotonic() - start
        return made
