"""``fluid.io.DataLoader`` over a data set that is read by index."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..dataset import DatasetBase
from ..errors import invalid, unsupported, wrong_type
from ..framework import default_main_program, in_dygraph_mode
from ..lod import LoDTensor
from ..places import Place
from ..prefetch import Prefetch
from ..variable import Variable
from .batches import array_of, each_of, grouped, places_of, tensors_of
from .generator import GeneratorLoader, check_feed_list, from_generator

Collate = Callable[[list[Any]], Sequence[Any]]


class Dataset:
    """Samples by index; a subclass gives ``__getitem__`` and ``__len__``."""

    def __getitem__(self, idx: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__")


class BatchSampler:
    """Lists of indices, one for every batch.

    Args:
        dataset: All its samples are taken; or give
        indices: those that are.
        shuffle: In random order, by numpy's global generator.
        batch_size: Indices of a batch.
        drop_last: Whether a last, smaller batch is left out.
    """

    def __init__(
        self,
        dataset: Dataset | None = None,
        indices: Sequence[int] | None = None,
        shuffle: bool = False,
        batch_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if (dataset is None) == (indices is None):
            raise invalid("BatchSampler: give either dataset or indices", "write BatchSampler(dataset=...)")
        if dataset is not None and not isinstance(dataset, Dataset):
            raise wrong_type(
                f"BatchSampler: dataset is {type(dataset).__name__}",
                "give an instance of a subclass of fluid.io.Dataset",
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise invalid(f"BatchSampler: batch_size is {batch_size!r}", "give a positive integer")
        for name, value in (("shuffle", shuffle), ("drop_last", drop_last)):
            if not isinstance(value, bool):
                raise wrong_type(f"BatchSampler: {name} is {value!r}", "give True or False")
        self.indices = list(range(len(dataset))) if dataset is not None else list(indices or ())
        self.shuffle = shuffle
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        if self.shuffle:
            np.random.shuffle(self.indices)  # noqa: NPY002 - fluid's stream, which np.random.seed seeds
        for first in range(0, len(self.indices), self.batch_size):
            batch = self.indices[first : first + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        extra = 0 if self.drop_last else self.batch_size - 1
        return (len(self.indices) + extra) // self.batch_size


def default_collate_fn(batch: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Samples as one array for every field; samples that are arrays themselves have one field.

    >>> [field.tolist() for field in default_collate_fn([(1, 2.0), (3, 4.0)])]
    [[1, 3], [2.0, 4.0]]
    """
    if isinstance(batch[0], np.ndarray):
        return [np.stack(batch, axis=0)]
    return [np.stack(column, axis=0) for column in zip(*batch)]


class DataLoader:
    """Batches of a data set, in the order of a sampler, made ahead by threads.

    Args:
        dataset: A `Dataset`.
        feed_list: Variables that the fields are fed to; needed unless ``return_list``, or in dygraph.
        places: Where the batches go: one for every place, in one list; in dygraph there is one place.
        return_list: Lists of LoDTensors instead of dicts by name; in dygraph lists of Variables in any case.
        batch_sampler: Gives the indices of the batches; or
        batch_size, shuffle, drop_last: make one.
        collate_fn: Makes the fields of a batch from the list of its samples; `default_collate_fn` if None.
        num_workers: Threads that read samples; 0 and 1 read one batch after the other. The order is the sampler's.
        use_buffer_reader, use_shared_memory, timeout: fluid's, for its processes; without effect.
        worker_init_fn: Called with its number by every worker.
    """

    def __init__(
        self,
        dataset: Dataset,
        feed_list: Sequence[Variable] | None = None,
        places: Place | Sequence[Place] | None = None,
        return_list: bool = False,
        batch_sampler: BatchSampler | None = None,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Collate | None = None,
        num_workers: int = 0,
        use_buffer_reader: bool = True,
        use_shared_memory: bool = True,
        timeout: int = 0,
        worker_init_fn: Callable[[int], object] | None = None,
    ) -> None:
        del use_buffer_reader, use_shared_memory
        if not isinstance(dataset, Dataset):
            raise wrong_type(
                f"DataLoader: dataset is {type(dataset).__name__}",
                "give an instance of a subclass of fluid.io.Dataset",
            )
        if places is None:
            raise invalid("DataLoader: places is None", "give places=fluid.cpu_places()")
        self.places = places_of("DataLoader", places)
        eager = in_dygraph_mode()
        if eager and len(self.places) != 1:
            raise invalid("DataLoader: several places in dygraph", "give one place")
        if feed_list is not None or not (return_list or eager):
            self.feed_list = check_feed_list("DataLoader", feed_list)
        else:
            self.feed_list = []
        if num_workers < 0 or timeout < 0:
            raise invalid(f"DataLoader: num_workers={num_workers}, timeout={timeout}", "neither may be negative")
        if batch_sampler is not None and not isinstance(batch_sampler, BatchSampler):
            raise wrong_type(
                f"DataLoader: batch_sampler is {type(batch_sampler).__name__}", "give a fluid.io.BatchSampler"
            )
        if batch_sampler is not None and (batch_size != 1 or shuffle or drop_last):
            raise invalid(
                "DataLoader: batch_size, shuffle and drop_last are the batch_sampler's",
                "leave them out, or leave out batch_sampler",
            )
        self.dataset = dataset
        self.return_list = return_list
        self.batch_sampler = batch_sampler or BatchSampler(
            dataset=dataset, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last
        )
        self.collate_fn = collate_fn or default_collate_fn
        self.num_workers = num_workers
        self.worker_init_fn = worker_init_fn

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batch_sampler)

    def __call__(self) -> Iterator[Any]:
        return iter(self)

    def __iter__(self) -> Iterator[Any]:
        eager = in_dygraph_mode()
        order = iter(self.batch_sampler)
        first = next(order, None)  # here, since a shuffle follows the script's stream of random numbers
        indices = itertools.chain([] if first is None else [first], order)
        batches = each_of(Prefetch(lambda: self._batches(indices), 2 * len(self.places)))
        return self._eager(batches) if eager else self._static(batches)

    def _eager(self, batches: Iterator[Sequence[Any]]) -> Iterator[list[Variable]]:
        for batch in batches:
            yield [
                default_main_program().variable_of(array_of("DataLoader", str(i), field))
                for i, field in enumerate(batch)
            ]

    def _static(self, batches: Iterator[Sequence[Any]]) -> Iterator[list[Any]]:
        names = [var.name for var in self.feed_list]
        tensors = (tensors_of("DataLoader", names or list(map(str, range(len(b)))), b) for b in batches)
        for group in grouped(tensors, len(self.places), drop_last=True):
            yield group if self.return_list else [dict(zip(names, each)) for each in group]

    def _read(self, indices: Sequence[int]) -> Sequence[Any]:
        return self.collate_fn([self.dataset[i] for i in indices])

    def _batches(self, order: Iterable[Sequence[int]]) -> Iterator[Sequence[Any]]:
        if self.num_workers == 0:
            yield from map(self._read, order)
            return
        numbers = itertools.count()
        init = self.worker_init_fn
        pool = ThreadPoolExecutor(self.num_workers, "DataLoader", None if init is None else lambda: init(next(numbers)))
        waiting: deque[Future[Sequence[Any]]] = deque()
        try:
            for indices in order:
                waiting.append(pool.submit(self._read, indices))
                if len(waiting) > 2 * self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    @staticmethod
    def from_generator(
        feed_list: Sequence[Variable] | None = None,
        capacity: int | None = None,
        use_double_buffer: bool = True,
        iterable: bool = True,
        return_list: bool = False,
        use_multiprocess: bool = False,
        drop_last: bool = True,
    ) -> GeneratorLoader:
        """A loader of what a script generates.

            loader = fluid.io.DataLoader.from_generator(feed_list=[image, label], capacity=16)
            loader.set_sample_list_generator(paddle.batch(train_reader, 32), places=fluid.cpu_places())
            for data in loader():
                exe.run(main, feed=data, fetch_list=[loss])

        With ``iterable=False`` it is a reader of the default main program instead: ``loader.start()``, then runs
        without a feed until ``fluid.core.EOFException``, then ``loader.reset()``.

        Args:
            feed_list: The Variables that are fed; not needed in dygraph.
            capacity: Batches made ahead, by a thread.
            use_double_buffer: fluid's; without effect on the batches.
            iterable: See above; always so in dygraph.
            return_list: Lists instead of dicts; always so in dygraph.
            use_multiprocess: fluid's; the thread makes the same batches.
            drop_last: With several places: whether batches that are too few for all are left out.
        """
        del use_multiprocess
        return from_generator(
            feed_list, capacity, use_double_buffer, iterable, return_list, drop_last, eager=in_dygraph_mode()
        )

    @staticmethod
    def from_dataset(dataset: DatasetBase, places: Place | Sequence[Place], drop_last: bool = True) -> DatasetLoader:
        """The batches of a `fluid.DatasetFactory` data set, as dicts of LoDTensors, one for every place."""
        return DatasetLoader(dataset, places, drop_last)


class DatasetLoader:
    """The batches of a data set of files; every ``iter`` reads them anew.

    Args:
        dataset: What `fluid.DatasetFactory` made.
        places: Where the batches go: one for every place, in one list.
        drop_last: Whether a last, smaller batch, and batches too few for all places, are left out.
    """

    def __init__(self, dataset: DatasetBase, places: Place | Sequence[Place], drop_last: bool) -> None:
        if not isinstance(dataset, DatasetBase):
            raise wrong_type(
                f"DataLoader.from_dataset: dataset is {type(dataset).__name__}",
                "give what fluid.DatasetFactory().create_dataset(...) made",
            )
        if in_dygraph_mode():
            raise unsupported("DataLoader.from_dataset is for Programs", "use DataLoader.from_generator in dygraph")
        self._dataset = dataset
        self._places = places_of("DataLoader.from_dataset", places)
        self._drop_last = drop_last

    def __call__(self) -> Iterator[list[dict[str, LoDTensor]]]:
        return iter(self)

    def __iter__(self) -> Iterator[list[dict[str, LoDTensor]]]:
        running = Prefetch(lambda: self._dataset.batches(drop_last=self._drop_last), 2 * len(self._places))
        return grouped(each_of(running), len(self._places), drop_last=self._drop_last)
