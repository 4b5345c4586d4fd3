"""Readers and what wraps them. A reader is a function without arguments that returns an iterator of samples."""

from __future__ import annotations

import itertools
import queue
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

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
        ahead: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=size)
        stop = threading.Event()

        def put(item: tuple[bool, Any]) -> None:
            while not stop.is_set():
                try:
                    ahead.put(item, timeout=0.1)
                    return
                except queue.Full:
                    continue

        def fill() -> None:
            try:
                for sample in reader():
                    put((True, sample))
                    if stop.is_set():
                        return
                put((False, None))
            except BaseException as error:  # handed over to the consumer, whatever it is
                put((False, error))

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        try:
            while True:
                more, value = ahead.get()
                if not more:
                    if value is not None:
                        raise value
                    return
                yield value
        finally:
            stop.set()
            thread.join()

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
