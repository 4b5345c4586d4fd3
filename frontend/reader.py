"""Readers and what wraps them. A reader is a function without arguments that returns an iterator of samples."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

from .prefetch import Prefetch

Reader: TypeAlias = Callable[[], Iterable[Any]]


class ComposeNotAligned(ValueError):
    """Composed readers end at different samples."""


def batch(reader: Reader, batch_size: int, drop_last: bool = False) -> Reader:
    """Lists of ``batch_size`` samples; the last, shorter one only if not ``drop_last``.

    >>> list(batch(lambda: range(5), 2)())
    [[0, 1], [2, 3], [4]]
    """
    if int(batch_size) <= 0:
        raise ValueError(f"batch: batch_size is {batch_size}; give a positive number")

    def batched() -> Iterator[list[Any]]:
        samples = iter(reader())
        while chunk := list(itertools.islice(samples, batch_size)):
            if len(chunk) == batch_size or not drop_last:
                yield chunk

    return batched


def shuffle(reader: Reader, buf_size: int) -> Reader:
    """The samples in random order within windows of ``buf_size``; follows Python's ``random.seed``."""

    def shuffled() -> Iterator[Any]:
        samples = iter(reader())
        while window := list(itertools.islice(samples, buf_size)):
            random.shuffle(window)
            yield from window

    return shuffled


def buffered(reader: Reader, size: int) -> Reader:
    """The samples, read ahead by a thread by at most ``size``; its errors reach the caller."""

    def reading() -> Iterator[Any]:
        ahead = Prefetch(reader, size)
        try:
            yield from ahead
        finally:
            ahead.close()

    return reading


def cache(reader: Reader) -> Reader:
    """The samples, read once and kept in memory."""
    kept: list[Any] | None = None

    def cached() -> Iterator[Any]:
        nonlocal kept
        if kept is None:
            kept = list(reader())
        yield from kept

    return cached


def chain(*readers: Reader) -> Reader:
    """The samples of one reader after those of another."""

    def chained() -> Iterator[Any]:
        for reader in readers:
            yield from reader()

    return chained


def compose(*readers: Reader, check_alignment: bool = True) -> Reader:
    """Samples of several readers side by side, each flattened into one tuple.

    Raises:
        ComposeNotAligned: One reader ends before another; with ``check_alignment=False`` the shortest decides.
    """
    missing = object()

    def fields(sample: Any) -> tuple[Any, ...]:
        return sample if isinstance(sample, tuple) else (sample,)

    def composed() -> Iterator[tuple[Any, ...]]:
        sources = [reader() for reader in readers]
        if not check_alignment:
            for samples in zip(*sources):
                yield tuple(itertools.chain.from_iterable(map(fields, samples)))
            return
        for samples in itertools.zip_longest(*sources, fillvalue=missing):
            if any(s is missing for s in samples):
                raise ComposeNotAligned("compose: the readers have different numbers of samples")
            yield tuple(itertools.chain.from_iterable(map(fields, samples)))

    return composed


def map_readers(func: Callable[..., Any], *readers: Reader) -> Reader:
    """``func`` of the samples of several readers, one from each."""

    def mapped() -> Iterator[Any]:
        yield from map(func, *(reader() for reader in readers))

    return mapped


def firstn(reader: Reader, n: int) -> Reader:
    """The first ``n`` samples."""

    def first() -> Iterator[Any]:
        yield from itertools.islice(reader(), n)

    return first


def xmap_readers(
    mapper: Callable[[Any], Any], reader: Reader, process_num: int, buffer_size: int, order: bool = False
) -> Reader:
    """``mapper`` of the samples, computed by ``process_num`` threads, ``buffer_size`` samples ahead.

    The samples come in the reader's order, whether ``order`` asks for it or not.
    """
    del order
    if process_num <= 0 or buffer_size <= 0:
        raise ValueError(f"xmap_readers: process_num={process_num}, buffer_size={buffer_size}; both must be positive")

    def mapping() -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(process_num, "xmap_readers")
        try:
            for sample in reader():
                waiting.append(pool.submit(mapper, sample))
                if len(waiting) > max(process_num, buffer_size):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    return buffered(mapping, buffer_size)


def multiprocess_reader(readers: Sequence[Reader], use_pipe: bool = True, queue_size: int = 1000) -> Reader:
    """One sample of each reader in turn, all of them read at once.

    Threads read them, where fluid forks processes: a process with a compiler's threads in it cannot be forked safely.

    Args:
        readers: At least one.
        use_pipe: fluid's; without effect.
        queue_size: Samples read ahead from all readers together.

    Raises:
        ValueError: No reader; while reading: a sample is None.
    """
    del use_pipe
    if not readers:
        raise ValueError("multiprocess_reader: readers is empty; give at least one reader")

    def reading() -> Iterator[Any]:
        running = [Prefetch(reader, queue_size // len(readers)) for reader in readers]
        try:
            left = list(running)
            while left:
                for one in list(left):
                    try:
                        sample = next(one)
                    except StopIteration:
                        left.remove(one)
                        continue
                    if sample is None:
                        raise ValueError("multiprocess_reader: a reader gives None as a sample")
                    yield sample
        finally:
            for one in running:
                one.close()

    return reading
