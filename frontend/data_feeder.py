"""From lists of samples to what `Executor.run` is fed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .errors import invalid
from .framework import Program, default_main_program
from .lod import LoDTensor
from .places import CUDAPlace, Place, cpu_places, cuda_places
from .reader import Reader
from .variable import Variable


class DataFeeder:
    """Turns mini-batches of samples into LoDTensors, field by field.

    Args:
        feed_list: Data Variables, or names of them in ``program``, in the order of a sample's fields.
        place: Accepted for fluid's sake.
        program: Where names are looked up; the default main program if None.
    """

    def __init__(self, feed_list: Sequence[Variable | str], place: Place, program: Program | None = None) -> None:
        program = program or default_main_program()
        self.place = place
        self._vars = [program.global_block().var(v) if isinstance(v, str) else v for v in feed_list]

    def feed(self, iterable: Iterable[Sequence[Any]]) -> dict[str, LoDTensor]:
        """One batch: dense fields take the declared shape and type, sequences are put one after another.

        Raises:
            ProgramError: A sample has another number of fields, or a field does not fit its declaration.
        """
        columns: list[list[Any]] = [[] for _ in self._vars]
        for sample in iterable:
            if len(sample) != len(self._vars):
                names = ", ".join(v.name for v in self._vars)
                raise invalid(
                    f"DataFeeder: a sample has {len(sample)} fields, but feed_list has {len(self._vars)} ({names})",
                    "give one field per Variable, in their order",
                )
            for column, field in zip(columns, sample):
                column.append(field)
        return {v.name: self._column(v, column) for v, column in zip(self._vars, columns)}

    def feed_parallel(
        self, iterable: Iterable[Iterable[Sequence[Any]]], num_places: int | None = None
    ) -> Iterator[dict[str, LoDTensor]]:
        """`feed` of one batch for each device; ``list`` of it is what a data parallel program is fed.

        Raises ProgramError for another number of batches than ``num_places``, where that is given.
        """
        batches = list(iterable)
        if num_places is not None and len(batches) != num_places:
            raise invalid(
                f"feed_parallel: {len(batches)} batches for {num_places} places", "give one batch for each place"
            )
        return map(self.feed, batches)

    def decorate_reader(
        self, reader: Reader, multi_devices: bool, num_places: int | None = None, drop_last: bool = True
    ) -> Callable[[], Iterator[Any]]:
        """A reader of what `feed` makes of the batches of ``reader``.

        Args:
            reader: Gives lists of samples.
            multi_devices: Several batches at a time, as `feed_parallel` makes them.
            num_places: How many; None: as many as ``fluid.cpu_places()`` or ``cuda_places()`` has.
            drop_last: Whether batches too few for all devices are left out; else they are an error.
        """

        def feeds() -> Iterator[Any]:
            if not multi_devices:
                yield from map(self.feed, reader())
                return
            places = len(cuda_places() if isinstance(self.place, CUDAPlace) else cpu_places())
            size = places if num_places is None else num_places
            batches = iter(reader())
            while group := list(itertools.islice(batches, size)):
                if len(group) == size:
                    yield list(self.feed_parallel(group))
                elif not drop_last:
                    raise invalid(
                        f"decorate_reader: the last {len(group)} batches are too few for {size} places",
                        "use drop_last=True, or give full batches",
                    )

        return feeds

    def _column(self, var: Variable, column: list[Any]) -> LoDTensor:
        tensor = LoDTensor()
        dtype = var.dtype.numpy
        if var.lod_level == 0:
            rows = np.array(column, dtype=dtype)
            shape = [len(column), *var.shape[1:]]
            if shape.count(-1) > 1:
                shape = list(rows.shape)
            try:
                rows = rows.reshape(shape)
            except ValueError:
                raise invalid(
                    f"DataFeeder: field {var.name} has samples of shape {list(rows.shape[1:])}, "
                    f"declared is {list(var.shape[1:])}",
                    "feed samples of the declared shape",
                ) from None
            tensor.set(rows, self.place)
            return tensor
        lengths: list[list[int]] = [[] for _ in range(var.lod_level)]
        items = column
        for depth, level in enumerate(lengths):
            flat = next((item for item in items if not hasattr(item, "__len__")), None)
            if flat is not None:
                raise invalid(
                    f"DataFeeder: field {var.name} has lod_level {var.lod_level}, a sample holds {flat!r} where "
                    f"{'a sequence' if depth == var.lod_level - 1 else 'a list of sequences'} is expected",
                    "give a list per sequence: [[1, 2, 3], [4]] are two",
                )
            level.extend(len(item) for item in items)
            items = [part for item in items for part in item]
        try:
            rows = np.array(items, dtype=dtype).reshape([len(items), *var.shape[1:]])
        except ValueError:
            raise invalid(
                f"DataFeeder: field {var.name} has rows of shape {_shapes(items)}, declared is {list(var.shape[1:])}",
                "give rows of the declared shape, and lod_level as many lists around them",
            ) from None
        tensor.set(rows, self.place)
        tensor.set_recursive_sequence_lengths(lengths)
        return tensor


def _shapes(items: list[Any]) -> str:
    """The shapes of rows, each once."""
    return " and ".join(str(list(shape)) for shape in sorted({np.shape(item) for item in items})[:3])
