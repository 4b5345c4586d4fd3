"""From what a script's generators give to the tensors of one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...compiler.errors import FluidcError
from ..data_feeder import DataFeeder
from ..errors import invalid, wrong_type
from ..lod import LoDTensor
from ..places import CPUPlace, CUDAPinnedPlace, CUDAPlace, Place
from ..prefetch import Prefetch
from ..reader import Reader, batch
from ..source import user_location
from ..variable import Variable

T = TypeVar("T")
Source: TypeAlias = Callable[[], Iterable[Sequence[Any]]]
"""Gives batches, each a sequence of one array or LoDTensor for every variable."""


def array_of(owner: str, name: str, item: Any) -> NDArray[Any]:
    """One field of a batch as an array.  Raises ArgumentTypeError for lists of different lengths."""
    try:
        array = np.asarray(item)
    except ValueError:  # numpy says so of lists of different lengths
        array = np.empty(0, object)
    if array.dtype == object:
        raise wrong_type(
            f"{owner}: the batch's field {name} holds lists of different lengths, or Python objects",
            "give one array; sequences of different lengths as fluid.create_lod_tensor(data, [lengths], place)",
        )
    return array


def tensors_of(owner: str, names: Sequence[str], items: Sequence[Any]) -> list[LoDTensor]:
    """The fields of a batch as tensors, one for every name.

    Raises:
        ProgramError: Another number of fields.
        ArgumentTypeError: A field that is no array.
    """
    fields = list(items) if isinstance(items, list | tuple) else [items]
    if len(fields) != len(names):
        raise invalid(
            f"{owner}: a batch has {len(fields)} fields, but is read into {len(names)} variables ({', '.join(names)})",
            "give one array for each variable, in their order",
        )
    tensors: list[LoDTensor] = []
    for name, field in zip(names, fields):
        if not isinstance(field, LoDTensor):
            tensor = LoDTensor()
            tensor.set(array_of(owner, name, field))
            field = tensor
        tensors.append(field)
    return tensors


def next_of(running: Prefetch[T]) -> T:
    """The next item; an error of ours that was found in the thread, where there is no line of the user, gets his."""
    try:
        return next(running)
    except FluidcError as error:
        error.where = error.where or user_location().place
        raise


def each_of(running: Prefetch[T]) -> Iterator[T]:
    """The items of `next_of`, and the end of the reading when the iteration ends, be it early."""
    try:
        while True:
            try:
                item = next_of(running)
            except StopIteration:
                return
            yield item
    finally:
        running.close()


def of_sample_lists(reader: Reader, feed_list: Sequence[Variable]) -> Source:
    """Batches of what gives lists of samples; fields take the declared shape and element type."""
    feeder = DataFeeder(feed_list, CPUPlace())

    def batches() -> Iterator[Sequence[Any]]:
        for samples in reader():
            fed = feeder.feed(samples)
            yield [fed[var.name] for var in feed_list]

    return batches


def of_samples(owner: str, generator: Reader, batch_size: int, drop_last: bool) -> Reader:
    """Lists of ``batch_size`` samples of what gives single ones."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
        raise invalid(f"{owner}: batch_size is {batch_size!r}", "give a positive integer")
    return batch(generator, batch_size, drop_last)


def places_of(owner: str, places: Place | Sequence[Place]) -> list[Place]:
    """One place or several as a list.  Raises ArgumentTypeError for anything else."""
    listed: list[Any] = list(places) if isinstance(places, list | tuple) else [places]
    for place in listed:
        if not isinstance(place, CPUPlace | CUDAPlace | CUDAPinnedPlace):
            raise wrong_type(f"{owner}: places holds {place!r}", "give fluid.cpu_places() or fluid.CPUPlace()")
    if not listed:
        raise invalid(f"{owner}: places is empty", "give fluid.cpu_places() or fluid.CPUPlace()")
    return listed


def grouped(batches: Iterable[T], size: int, *, drop_last: bool) -> Iterator[list[T]]:
    """``size`` batches at a time, one for each place; too few at the end are dropped, or given as they are."""
    group: list[T] = []
    for one in batches:
        group.append(one)
        if len(group) == size:
            yield group
            group = []
    if group and not drop_last:
        yield group
