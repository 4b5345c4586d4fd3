"""``fluid.io.DataLoader.from_generator``: batches from what a script generates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import unique_name
from ..errors import invalid, warn, wrong_type
from ..framework import default_main_program
from ..lod import LoDTensor
from ..places import Place
from ..prefetch import Prefetch
from ..reader import Reader
from ..variable import Variable
from .batches import Source, array_of, grouped, next_of, of_sample_lists, of_samples, places_of, tensors_of
from .queue import BatchQueue
from .reader_variable import create_py_reader, double_buffered, record_read

_names = unique_name.UniqueNameGenerator()
"""Names of readers: of the process, since two programs may share a scope."""


class GeneratorLoader(ABC):
    """Batches of a generator, made ahead by a thread; `fluid.io.DataLoader.from_generator` makes them.

    One of ``set_sample_generator``, ``set_sample_list_generator`` and ``set_batch_generator`` says where the data
    comes from; each returns the loader.
    """

    def __init__(self, capacity: int | None) -> None:
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity <= 0:
            raise invalid(
                f"DataLoader.from_generator: capacity is {capacity!r}", "give the number of batches to be read ahead"
            )
        self._capacity = capacity

    @property
    @abstractmethod
    def iterable(self) -> bool:
        """Whether it is iterated over, and not part of a program."""

    @property
    @abstractmethod
    def queue(self) -> object:
        """What batches wait in; None where nothing is read yet."""

    def set_sample_generator(
        self,
        reader: Reader,
        batch_size: int,
        drop_last: bool = True,
        places: Place | Sequence[Place] | None = None,
    ) -> GeneratorLoader:
        """Read what gives one sample at a time.

        Args:
            reader: A function without arguments that returns an iterator of samples, sequences of fields.
            batch_size: Samples of a batch.
            drop_last: Whether a last, smaller batch is left out.
            places: Where the batches go; needed if the loader is iterable and the program no dygraph.
        """
        samples = of_samples("set_sample_generator", reader, batch_size, drop_last)
        return self.set_sample_list_generator(samples, places)

    def set_sample_list_generator(
        self, reader: Reader, places: Place | Sequence[Place] | None = None
    ) -> GeneratorLoader:
        """Read what gives lists of samples, such as ``paddle.batch(reader, 32)``."""
        return self.set_batch_generator(self._of_sample_lists(reader), places)

    @abstractmethod
    def _of_sample_lists(self, reader: Reader) -> Source:
        """Batches of lists of samples."""

    @abstractmethod
    def set_batch_generator(self, reader: Source, places: Place | Sequence[Place] | None = None) -> GeneratorLoader:
        """Read what gives whole batches: a sequence of arrays or LoDTensors each."""

    def __call__(self) -> GeneratorLoader:
        return self

    def __iter__(self) -> Iterator[Any]:
        raise self._not_iterable()

    def __next__(self) -> Any:
        raise self._not_iterable()

    def next(self) -> Any:
        """`__next__` by Python 2's name."""
        return self.__next__()

    def start(self) -> None:
        """Begin to read, for a run of the program.  Raises ProgramError for an iterable loader."""
        raise invalid("start: the DataLoader is iterable", "iterate over it, or make it with iterable=False")

    def reset(self) -> None:
        """Stop reading.  Raises ProgramError for an iterable loader."""
        raise invalid("reset: the DataLoader is iterable", "iterate over it, or make it with iterable=False")

    def _not_iterable(self) -> Exception:
        return invalid(
            "the DataLoader is not iterable", "call start() and exe.run without a feed, or make it with iterable=True"
        )


class _Iterated(GeneratorLoader):
    """One that a script iterates over; a second ``iter`` begins again at the first batch."""

    def __init__(self, capacity: int | None) -> None:
        super().__init__(capacity)
        self._source: Source | None = None
        self._running: Prefetch[Any] | None = None

    @property
    def iterable(self) -> bool:
        return True

    @property
    def queue(self) -> object:
        return self._running

    def __iter__(self) -> Iterator[Any]:
        if self._source is None:
            raise invalid(
                "the DataLoader has no data source",
                "call set_sample_generator, set_sample_list_generator or set_batch_generator first",
            )
        if self._running is not None:
            self._running.close()
        self._running = Prefetch(self._items(self._source), self._capacity)
        return self

    def _items(self, source: Source) -> Any:
        """What the thread calls for the items to be made ahead."""
        return source

    def __next__(self) -> Any:
        if self._running is None:
            raise invalid("next: the DataLoader is not being iterated over", "write: for data in loader():")
        try:
            return self._given(next_of(self._running))
        except StopIteration:
            self._running = None
            raise

    @abstractmethod
    def _given(self, item: Any) -> Any:
        """What the script gets of an item."""


class StaticIterable(_Iterated):
    """Dicts (or lists) of LoDTensors, one for each place, in one list.

    Args:
        feed_list: What the fields are fed to.
        capacity: Batches made ahead.
        return_list: Lists of LoDTensors instead of dicts by name.
        drop_last: Whether batches that are too few for all places are left out.
    """

    def __init__(self, feed_list: Sequence[Variable], capacity: int | None, return_list: bool, drop_last: bool) -> None:
        super().__init__(capacity)
        self._feed_list = feed_list
        self._return_list = return_list
        self._drop_last = drop_last
        self._places: list[Place] = []

    def _of_sample_lists(self, reader: Reader) -> Source:
        return of_sample_lists(reader, self._feed_list)

    def set_batch_generator(self, reader: Source, places: Place | Sequence[Place] | None = None) -> GeneratorLoader:
        if places is None:
            raise invalid(
                "the DataLoader is iterable, and places is None",
                "give places=fluid.cpu_places() (or the place of the Executor)",
            )
        self._places = places_of("DataLoader", places)
        self._source = reader
        return self

    def _items(self, source: Source) -> Any:
        names = [var.name for var in self._feed_list]
        size, drop_last = len(self._places), self._drop_last
        return lambda: grouped(
            (tensors_of("DataLoader", names, batch) for batch in source()), size, drop_last=drop_last
        )

    def _given(self, item: list[list[LoDTensor]]) -> list[list[LoDTensor]] | list[dict[str, LoDTensor]]:
        if self._return_list:
            return item
        return [{var.name: tensor for var, tensor in zip(self._feed_list, tensors)} for tensors in item]


class EagerIterable(_Iterated):
    """Lists of Variables of dygraph."""

    def _of_sample_lists(self, reader: Reader) -> Source:
        def batches() -> Iterable[Sequence[Any]]:
            for samples in reader():
                yield [list(column) for column in zip(*samples)]

        return batches

    def set_batch_generator(self, reader: Source, places: Place | Sequence[Place] | None = None) -> GeneratorLoader:
        if places is not None and len(places_of("DataLoader", places)) != 1:
            raise invalid("DataLoader: several places in dygraph", "give one place, or none")
        self._source = reader
        return self

    def _items(self, source: Source) -> Any:
        def arrays() -> Iterable[list[np.ndarray[Any, Any]]]:
            for batch in source():
                yield [array_of("DataLoader", str(i), item) for i, item in enumerate(batch)]

        return arrays

    def _given(self, item: list[np.ndarray[Any, Any]]) -> list[Variable]:
        return [default_main_program().variable_of(array) for array in item]


class ProgramLoader(GeneratorLoader):
    """A reader of the default main program: ``start()``, runs without a feed, ``reset()`` at the end.

    Args:
        feed_list: What every run reads a batch into.
        capacity: Batches made ahead.
        use_double_buffer: One more record, as fluid has it.
        drop_last: fluid's, for several devices.
    """

    def __init__(
        self, feed_list: Sequence[Variable], capacity: int | None, use_double_buffer: bool, drop_last: bool
    ) -> None:
        super().__init__(capacity)
        self._feed_list = feed_list
        queue_name, reader_name, buffer_name = map(
            _names, ("lod_tensor_blocking_queue", "create_py_reader", "double_buffer")
        )
        self._queue = BatchQueue("of the DataLoader", self._capacity)
        block = default_main_program().current_block()
        reader = create_py_reader(block, queue_name, reader_name, self._queue, feed_list)
        if use_double_buffer:
            reader = double_buffered(reader, buffer_name)
        record_read(reader, feed_list, drop_last)

    @property
    def iterable(self) -> bool:
        return False

    @property
    def queue(self) -> object:
        return self._queue

    def _of_sample_lists(self, reader: Reader) -> Source:
        return of_sample_lists(reader, self._feed_list)

    def set_batch_generator(self, reader: Source, places: Place | Sequence[Place] | None = None) -> GeneratorLoader:
        del places  # where the program runs
        self._queue.set_source(reader)
        return self

    def start(self) -> None:
        """Begin to read at the first batch.

        Raises:
            ProgramError: There is no data source, or it was started before and not `reset`.
        """
        self._queue.start()

    def reset(self) -> None:
        """Stop reading; what was read ahead is dropped."""
        self._queue.reset()


def check_feed_list(owner: str, feed_list: object) -> list[Variable]:
    """Refuse what is no list of Variables."""
    if not isinstance(feed_list, list | tuple) or not feed_list:
        raise invalid(f"{owner}: feed_list is {feed_list!r}", "give a list of the Variables that are fed")
    for var in feed_list:
        if not isinstance(var, Variable):
            raise wrong_type(f"{owner}: feed_list holds {type(var).__name__}", "give the Variables that are fed")
    return list(feed_list)


def from_generator(
    feed_list: Sequence[Variable] | None,
    capacity: int | None,
    use_double_buffer: bool,
    iterable: bool,
    return_list: bool,
    drop_last: bool,
    *,
    eager: bool,
) -> GeneratorLoader:
    """The loader for these arguments (`fluid.io.DataLoader.from_generator`)."""
    if eager:
        if not iterable or not return_list:
            warn("DataLoader.from_generator: in dygraph it is iterable, and gives lists")
        return EagerIterable(capacity)
    variables = check_feed_list("DataLoader.from_generator", feed_list)
    if iterable:
        return StaticIterable(variables, capacity, return_list, drop_last)
    return ProgramLoader(variables, capacity, use_double_buffer, drop_last)
