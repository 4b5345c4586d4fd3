"""What a program reads by itself: batches between ``start()`` and ``reset()``, then the end of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import EOFException, invalid
from ..lod import LoDTensor
from ..prefetch import Prefetch
from ..source import user_location
from .batches import Source, next_of, tensors_of


class BatchQueue:
    """Batches for the ``read`` ops of a program, made ahead by a thread.

    Args:
        name: Of the reader, for messages.
        capacity: Batches made ahead.
    """

    def __init__(self, name: str, capacity: int) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity <= 0:
            raise invalid(f"{name}: capacity is {capacity!r}", "give the number of batches to be read ahead")
        self.name = name
        self.capacity = capacity
        self._source: Source | None = None
        self._running: Prefetch[Sequence[Any]] | None = None
        self._given = 0
        self._ended = False

    @property
    def is_started(self) -> bool:
        """Whether it was started, and not reset since."""
        return self._running is not None

    def set_source(self, source: Source) -> None:
        """What gives the batches from the next `start` on."""
        if not callable(source):
            raise invalid(
                f"{self.name}: the data source is {type(source).__name__}",
                "give a function without arguments that returns an iterator",
            )
        self._source = source

    def start(self) -> None:
        """Begin at the first batch.

        Raises:
            ProgramError: There is no data source, or it was started before and not reset.
        """
        if self._source is None:
            raise invalid(
                f"start: the reader {self.name} has no data source",
                "give it one first, such as loader.set_sample_list_generator(paddle.batch(reader, 32)), "
                "reader.decorate_paddle_reader(...) for py_reader",
            )
        if self._running is not None:
            state = "is at the end of its data" if self._ended else "was started already"
            raise invalid(
                f"start: the reader {self.name} {state}",
                "call reset() first: after fluid.core.EOFException, or to begin again before the end",
            )
        self._given, self._ended = 0, False
        self._running = Prefetch(self._source, self.capacity)

    def reset(self) -> None:
        """Stop; what was read ahead is dropped. Nothing happens if it does not run."""
        running, self._running, self._ended = self._running, None, False
        if running is not None:
            running.close()

    def next(self, names: Sequence[str]) -> list[LoDTensor]:
        """The next batch, one tensor for every name.

        Raises:
            EOFException: There are no more.
            ProgramError: It was not started, or the batch does not fit.
            Exception: Whatever the data source raised.
        """
        if self._running is None:
            raise invalid(
                f"run: the reader {self.name} was not started",
                "call start() on the loader or reader before exe.run, and reset() after fluid.core.EOFException",
            )
        if self._ended:
            raise EOFException(
                f"the reader {self.name} is at the end of its data since an earlier run ({self._given} batches)",
                user_location().place,
                "call reset() and start() before the next epoch",
            )
        try:
            items = next_of(self._running)
        except StopIteration:
            self._ended = True
            raise EOFException(
                f"the reader {self.name} has no more data after {self._given} batches",
                user_location().place,
                "catch fluid.core.EOFException around the loop of exe.run, call reset(), and start() the next epoch",
            ) from None
        self._given += 1
        return tensors_of(self.name, names, items)
