"""How work is shared out among threads: over a launch of its own, or over the threads of one block."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from ..kit import Value, integer
from ..tvm_api import tirx
from .device import THREADS, DeviceBlock


class Space(Protocol):
    """Threads that work together on the elements of a nest.

    What `each` and `teams` have stored when they are left is seen by all threads of the space.
    """

    @property
    def block(self) -> DeviceBlock: ...

    def each(self, count: Value) -> AbstractContextManager[Value]:
        """Numbers below ``count`` (i64), each in one thread; neighbouring threads have neighbouring numbers."""
        ...

    def teams(self, count: Value, threads: int) -> AbstractContextManager[tuple[Value, Team]]:
        """Numbers below ``count``, each taken by a team of threads (``threads`` of them, if there is a choice)."""
        ...


@dataclass(frozen=True)
class Grid:
    """All threads that a device has: every nest is a launch.

    Attributes:
        block: Where launches go.
        when: Conditions, read on the device, without which nothing happens.
    """

    block: DeviceBlock
    when: tuple[Condition, ...] = ()

    @contextmanager
    def each(self, count: Value) -> Generator[Value]:
        block, threads = self.block, integer(THREADS)
        blocks = tirx.floordiv(count + threads - integer(1), threads)
        with block.launch(blocks, THREADS) as (number, thread), self._guarded():
            at = block.simplify(number * threads + thread)
            with block.when(at < count):
                yield at

    @contextmanager
    def teams(self, count: Value, threads: int = THREADS) -> Generator[tuple[Value, Team]]:
        with self.block.launch(count, threads) as (number, thread), self._guarded():
            yield number, Team(self.block, thread, threads)

    @contextmanager
    def _guarded(self) -> Generator[None]:
        with ExitStack() as stack:
            for condition in self.when:
                stack.enter_context(self.block.when(condition(self.block)))
            yield


class Condition(Protocol):
    """A truth value that every thread reads for itself, the same in all."""

    def __call__(self, block: DeviceBlock) -> Value: ...


@dataclass(frozen=True)
class Team:
    """The threads of one block.

    Attributes:
        block: Where statements go, inside a launch.
        thread: Number of the thread (i64).
        threads: How many there are.
    """

    block: DeviceBlock
    thread: Value
    threads: int

    @contextmanager
    def each(self, count: Value) -> Generator[Value]:
        block, threads = self.block, integer(self.threads)
        with block.loop(tirx.floordiv(count + threads - integer(1), threads), "turn") as turn:
            at = block.simplify(turn * threads + self.thread)
            with block.when(at < count):
                yield at
        block.sync()

    @contextmanager
    def teams(self, count: Value, threads: int = THREADS) -> Generator[tuple[Value, Team]]:
        with self.block.loop(count, "turn") as turn:
            yield turn, self
