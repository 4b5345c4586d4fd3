"""How work is shared out among threads: over a launch of its own, or over the threads of a team."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from ....ir.types import DType
from ..kit import Value, integer
from ..tvm_api import tirx
from .device import BLOCKS_WANTED, THREADS, WARP, DeviceBlock, Part


class Space(Protocol):
    """Threads that work together on the elements of a nest.

    What is stored within `each`, `tiles` and `teams` is seen by all threads of the space afterwards.
    """

    @property
    def block(self) -> DeviceBlock: ...

    @property
    def widest(self) -> int:
        """Threads of the largest team that `tiles` has."""
        ...

    @property
    def alone(self) -> bool:
        """Whether the space is the whole device: its teams run at the same time, and more of them are welcome."""
        ...

    def each(self, count: Value) -> AbstractContextManager[Value]:
        """Numbers below ``count`` (i64), each in one thread; neighbouring threads have neighbouring numbers."""
        ...

    def tiles(self, count: Value) -> AbstractContextManager[tuple[Value, Team]]:
        """Numbers below ``count``, each taken by a team of ``widest`` threads, all of which run all statements."""
        ...

    def teams(self, count: Value, threads: int) -> AbstractContextManager[tuple[Value, Team]]:
        """Numbers below ``count``, each taken by a team of ``threads`` threads if there is a choice."""
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
    widest: int = THREADS
    alone: bool = True

    @contextmanager
    def each(self, count: Value) -> Generator[Value]:
        block = self.block
        size = block_threads(block.simplify(count))
        threads = integer(size)
        blocks = tirx.floordiv(count + threads - integer(1), threads)
        with block.launch(blocks, size) as (number, thread), self._guarded():
            at = block.simplify(number * threads + thread)
            with block.when(at < count):
                yield at

    @contextmanager
    def tiles(self, count: Value) -> Generator[tuple[Value, Team]]:
        with self.teams(count, self.widest) as found:
            yield found

    @contextmanager
    def teams(self, count: Value, threads: int = THREADS) -> Generator[tuple[Value, Team]]:
        block = self.block
        if threads > WARP:
            with block.launch(count, threads) as (number, thread), self._guarded():
                yield number, Team(block, thread, threads)
            return
        slots = THREADS // WARP
        blocks = tirx.floordiv(count + integer(slots - 1), integer(slots))
        with block.launch(blocks, THREADS) as (number, thread), self._guarded():
            slot = block.simplify(tirx.floordiv(thread, integer(WARP)))
            lane = block.simplify(tirx.floormod(thread, integer(WARP)))
            at = block.simplify(number * integer(slots) + slot)
            with block.when(at < count):  # the same in all threads of a warp
                yield at, Team(block, lane, WARP, slot, slots)

    @contextmanager
    def _guarded(self) -> Generator[None]:
        with ExitStack() as stack:
            for condition in self.when:
                stack.enter_context(self.block.when(condition(self.block)))
            yield


def block_threads(count: Value) -> int:
    """Threads of a block where so many elements are shared out, one each: few elements go to many multiprocessors."""
    if not isinstance(count, tirx.IntImm):
        return THREADS
    known = max(int(count.value), 1)
    if known < WARP:
        return known
    size = WARP
    while size < THREADS and size * BLOCKS_WANTED < known:
        size *= 2
    return size


class Condition(Protocol):
    """A truth value that every thread reads for itself, the same in all."""

    def __call__(self, block: DeviceBlock) -> Value: ...


@dataclass(frozen=True)
class Team:
    """The threads of one block, or of one of its warps.

    Attributes:
        block: Where statements go, inside a launch.
        thread: Number of the thread (i64).
        threads: How many there are.
        slot: Number of the team among those of its thread block.
        slots: Teams of a thread block; several only where each is a warp.
    """

    block: DeviceBlock
    thread: Value
    threads: int
    slot: Value | None = None
    slots: int = 1
    alone: bool = False

    @property
    def widest(self) -> int:
        return self.threads

    def sync(self) -> None:
        """A barrier of the team, which also orders what its threads wrote to memory."""
        if self.slots > 1:
            self.block.sync_warp()
        else:
            self.block.sync()

    def shared(self, dtype: DType, count: int, name: str = "shared") -> Part:
        """``count`` elements that the threads of the team share, uninitialised."""
        whole = self.block.shared(dtype, count * self.slots, name)
        first = integer(0) if self.slot is None else self.block.simplify(self.slot * integer(count))
        return Part(whole, first)

    @contextmanager
    def each(self, count: Value) -> Generator[Value]:
        block, threads = self.block, integer(self.threads)
        with block.loop(tirx.floordiv(count + threads - integer(1), threads), "turn") as turn:
            at = block.simplify(turn * threads + self.thread)
            with block.when(at < count):
                yield at
        self.sync()

    @contextmanager
    def tiles(self, count: Value) -> Generator[tuple[Value, Team]]:
        with self.block.loop(count, "turn") as turn:
            yield turn, self
        self.sync()

    @contextmanager
    def teams(self, count: Value, threads: int = THREADS) -> Generator[tuple[Value, Team]]:
        with self.tiles(count) as found:
            yield found


@dataclass(frozen=True)
class Share:
    """Some of the blocks of a launch, for one nest among several that run side by side.

    Attributes:
        block: Where statements go, inside the launch.
        number: Number of the thread block among those of the share.
        thread: Number of the thread in its block.
        threads: Of a block.
    """

    block: DeviceBlock
    number: Value
    thread: Value
    threads: int = THREADS
    alone: bool = False

    @property
    def widest(self) -> int:
        return self.threads

    @contextmanager
    def each(self, count: Value) -> Generator[Value]:
        at = self.block.simplify(self.number * integer(self.threads) + self.thread)
        with self.block.when(at < count):
            yield at

    @contextmanager
    def tiles(self, count: Value) -> Generator[tuple[Value, Team]]:
        del count  # one in each block of the share
        yield self.number, Team(self.block, self.thread, self.threads)

    def teams(self, count: Value, threads: int = THREADS) -> AbstractContextManager[tuple[Value, Team]]:
        del threads
        return self.tiles(count)


@dataclass
class Count:
    """Finds out how many thread blocks a nest asks for; what is emitted into it goes nowhere."""

    block: DeviceBlock
    threads: int = THREADS
    alone: bool = False
    blocks: Value | None = None

    @property
    def widest(self) -> int:
        return self.threads

    @contextmanager
    def each(self, count: Value) -> Generator[Value]:
        threads = integer(self.threads)
        with self.tiles(tirx.floordiv(count + threads - integer(1), threads)):
            yield integer(0)

    @contextmanager
    def tiles(self, count: Value) -> Generator[tuple[Value, Team]]:
        assert self.blocks is None, "a nest that asks for several launches"
        self.blocks = self.block.simplify(count)
        with self.block.discarded():
            yield integer(0), Team(self.block, integer(0), self.threads)

    def teams(self, count: Value, threads: int = THREADS) -> AbstractContextManager[tuple[Value, Team]]:
        del threads
        return self.tiles(count)
