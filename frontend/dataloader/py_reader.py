"""``fluid.io.PyReader``: `DataLoader.from_generator` under the names of fluid 1.5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..places import Place
from ..reader import Reader
from ..variable import Variable
from .batches import Source
from .mapped import DataLoader


class PyReader:
    """Batches of a generator; the arguments are those of `DataLoader.from_generator`."""

    def __init__(
        self,
        feed_list: Sequence[Variable] | None = None,
        capacity: int | None = None,
        use_double_buffer: bool = True,
        iterable: bool = True,
        return_list: bool = False,
    ) -> None:
        self._loader = DataLoader.from_generator(feed_list, capacity, use_double_buffer, iterable, return_list)

    @property
    def queue(self) -> object:
        """What batches wait in; None where nothing is read yet."""
        return self._loader.queue

    @property
    def iterable(self) -> bool:
        """Whether it is iterated over, and not part of a program."""
        return self._loader.iterable

    def decorate_sample_generator(
        self,
        sample_generator: Reader,
        batch_size: int,
        drop_last: bool = True,
        places: Place | Sequence[Place] | None = None,
    ) -> None:
        """Read what gives one sample at a time."""
        self._loader.set_sample_generator(sample_generator, batch_size, drop_last, places)

    def decorate_sample_list_generator(self, reader: Reader, places: Place | Sequence[Place] | None = None) -> None:
        """Read what gives lists of samples."""
        self._loader.set_sample_list_generator(reader, places)

    def decorate_batch_generator(self, reader: Source, places: Place | Sequence[Place] | None = None) -> None:
        """Read what gives whole batches."""
        self._loader.set_batch_generator(reader, places)

    def start(self) -> None:
        """Begin to read, for a run of the program.  Raises ProgramError if it is iterable."""
        self._loader.start()

    def reset(self) -> None:
        """Stop reading.  Raises ProgramError if it is iterable."""
        self._loader.reset()

    def __call__(self) -> PyReader:
        return self

    def __iter__(self) -> Iterator[Any]:
        iter(self._loader)
        return self

    def __next__(self) -> Any:
        return next(self._loader)

    def next(self) -> Any:
        """`__next__` by Python 2's name."""
        return next(self)
