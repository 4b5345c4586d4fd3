"""Checking what the caller feeds: names, dtypes, shapes and value ranges, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from .engine import Array
from .errors import DataError
from .manifest import FeedSpec, Manifest, numpy_dtype

BATCH = "N"
"""The symbol of the example axis."""

LENGTHS = "@lengths"
"""Suffix of the feed i64[N] that says how many rows each sequence of a feed has; its rows lie one after another."""

OUTER = "@outer"
"""Suffix of the feed i64[N] that says how many sequences each group has, where sequences are grouped."""

Watch = Callable[[str, int, int], None]
"""Is told how far a long piece of work is: what it does, how much of it is done, and of how much."""

_CHECKED_BYTES = 16 << 20
"""Values are looked at in parts of this size: a mapped array never has to be in memory as a whole."""


class FeedCheck:
    """One feed of a program, with all that a step needs to know about it worked out beforehand.

    Attributes:
        spec: the declaration.
        dtype: its numpy dtype.
        symbols: (axis, symbol) of every symbolic dim.
        batch_axis: axis of the examples, or None for a feed that has none.
        filler: value of padded rows; one that the declared range allows.
    """

    __slots__ = ("_fixed", "_ranged", "batch_axis", "dtype", "filler", "spec", "symbols")

    def __init__(self, spec: FeedSpec) -> None:
        self.spec = spec
        self.dtype = numpy_dtype(spec.dtype, f"feed {spec.name!r}")
        self.symbols = tuple((axis, dim) for axis, dim in enumerate(spec.shape) if isinstance(dim, str))
        self.batch_axis = spec.shape.index(BATCH) if BATCH in spec.shape else None
        self._fixed = tuple((axis, dim) for axis, dim in enumerate(spec.shape) if isinstance(dim, int))
        self._ranged = spec.low is not None or spec.high is not None
        self.filler = max(0, spec.low or 0) if spec.high is None else min(max(0, spec.low or 0), spec.high - 1)

    @property
    def where(self) -> str:
        """The feed as errors show it."""
        return f"feed {self.spec.name!r}, declared {_spelled(self.spec)}"

    def accept(self, value: object, watch: Watch | None = None) -> Array:
        """``value`` as an array of the declared dtype, rank and sizes, not copied if it is one already.

        ``watch`` is told how far the look at its values is. Raises DataError for anything else, a label out of range
        included. Nothing is ever cast.
        """
        array = self._as_array(value)
        if array.dtype != self.dtype:
            raise self._wrong_dtype(array)
        shape = array.shape
        if len(shape) != len(self.spec.shape) or any(shape[axis] != size for axis, size in self._fixed):
            raise self._wrong_shape(shape)
        self.check_range(array, watch=watch)
        return array

    def check_range(self, array: Array, first: int = 0, watch: Watch | None = None) -> None:
        """Look at every value of ``array``, whose first row is row ``first`` of the data. Raises DataError."""
        if not self._ranged or not array.size:
            return
        if self.batch_axis != 0 or array.nbytes <= _CHECKED_BYTES:
            self._check_part(array, first)
            return
        rows = len(array)
        step = max(1, _CHECKED_BYTES * rows // array.nbytes)
        for start in range(0, rows, step):
            self._check_part(array[start : start + step], first + start)
            if watch is not None:
                watch(f"checking {self.spec.name!r}", min(start + step, rows), rows)

    def _as_array(self, value: object) -> Array:
        if isinstance(value, np.ndarray):
            return cast("Array", value)
        try:
            return np.asarray(value)
        except ValueError as error:
            raise DataError(
                f"feed {self.spec.name!r} cannot be read as an array ({error})",
                self.where,
                "feed a numpy array; rows of different lengths must be padded",
            ) from None

    def _wrong_dtype(self, array: Array) -> DataError:
        wanted = self.dtype.name
        if array.dtype.kind not in "biuf":
            hint = f"feed a numpy array of numbers, of dtype {wanted}"
        else:
            hint = f'cast it: feed {self.spec.name}.astype("{wanted}")'
        return DataError(f"feed {self.spec.name!r} is {array.dtype}, the program wants {wanted}", self.where, hint)

    def _wrong_shape(self, shape: tuple[int, ...]) -> DataError:
        name, declared = self.spec.name, self.spec.shape
        if len(shape) != len(declared):
            what = f"feed {name!r} has {len(shape)} dims, the program wants {len(declared)}"
        else:
            axis, size = next((axis, size) for axis, size in self._fixed if shape[axis] != size)
            what = f"feed {name!r} has size {shape[axis]} in dim {axis}, the program wants {size}"
        hint = f"reshape it: its shape is {list(shape)}, wanted is {_dims(declared)}"
        if len(shape) == len(declared) - 1 and declared[-1] == 1:
            hint += f"; {name}[..., None] adds the last dim"
        return DataError(what, self.where, hint)

    def _check_part(self, array: Array, first: int) -> None:
        low, high = self.spec.low, self.spec.high
        too_low = low is not None and int(array.min()) < low
        if not too_low and (high is None or int(array.max()) < high):
            return
        bad = array < low if too_low else array >= high
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        axis = self.batch_axis
        at = f"row {first + place[axis]}" if axis is not None else f"place {list(place)}"
        bounds = f"at least {low}" if high is None else f"below {high}" if low is None else f"in [{low}, {high})"
        raise DataError(
            f"feed {self.spec.name!r} holds {array[place]} in {at}, values must be {bounds}",
            f"{self.where}, {at}",
            "correct the data, or build the program for this range of values",
        )


@dataclass(frozen=True)
class SequenceCheck:
    """What is fed as sequences to one function: that lengths add up, and agree where they must.

    Feeds whose rows have the same symbol are joined row by row, so their sequences have the same lengths.

    Attributes:
        divided: (name, index of what is divided, index of the lengths, what the parts are); of feeds that are joined
            only the first, since the others have its rows and its lengths.
        joined: for every such symbol, (name, index of the lengths) of its feeds.
    """

    divided: tuple[tuple[str, int, int, str], ...]
    joined: tuple[tuple[tuple[str, int], ...], ...]

    @classmethod
    def of(cls, specs: Sequence[FeedSpec]) -> SequenceCheck:
        """The check of a function's feeds, in their order."""
        place = {spec.name: i for i, spec in enumerate(specs)}
        divided: list[tuple[str, int, int, str]] = []
        joined: dict[int | str, list[tuple[str, int]]] = {}
        for i, spec in enumerate(specs):
            lengths, outer = place.get(spec.name + LENGTHS), place.get(spec.name + OUTER)
            if lengths is None or not spec.shape:
                continue
            known = joined.setdefault(spec.shape[0], [])
            if not known or isinstance(spec.shape[0], int):
                divided.append((spec.name, i, lengths, "rows"))
            known.append((spec.name, lengths))
            if outer is not None:
                divided.append((spec.name, lengths, outer, "sequences"))
                joined.setdefault(f"{spec.shape[0]}{OUTER}", []).append((spec.name + OUTER, outer))
        shared = (found for dim, found in joined.items() if isinstance(dim, str) and len(found) > 1)
        return cls(tuple(divided), tuple(map(tuple, shared)))

    def check(self, arrays: Sequence[Array]) -> None:
        """Raise DataError for lengths that do not fit; ``arrays`` are in the order of the feeds."""
        for feeds in self.joined:
            (first, known), *others = feeds
            for name, index in others:
                if not np.array_equal(arrays[known], arrays[index]):
                    raise different_lengths(first, arrays[known], name, arrays[index])
        for name, whole, index, parts in self.divided:
            lengths, size = arrays[index], len(arrays[whole])
            # No length is above the size: the sum of larger ones could begin again from below.
            fit = int(lengths.min(initial=0)) >= 0 and int(lengths.max(initial=0)) <= size
            if not fit or int(lengths.sum()) != size:
                total = sum(map(int, lengths))
                raise DataError(
                    f"feed {name!r} has {size} {parts}; its lengths {_few(lengths)} add up to {total}",
                    f"feed {name!r}",
                    "feed lengths of at least 0 that add up to what they divide",
                )


def different_lengths(first: str, known: Array, second: str, found: Array) -> DataError:
    """The error for two feeds that are joined row by row and do not have the same sequences."""
    if known.size != found.size:
        differs = f"{known.size} sequences in {first!r}, {found.size} in {second!r}"
    else:
        at = int(np.argmax(known != found))
        differs = f"sequence {at} has {int(known[at])} rows in {first!r}, {int(found[at])} in {second!r}"
    return DataError(
        f"the program joins the feeds {first!r} and {second!r} row by row, and their sequences have different lengths: "
        f"{differs}",
        f"feeds {first!r}, lengths {_few(known)}, and {second!r}, lengths {_few(found)}",
        "feed sequences of the same lengths; to join what belongs to a sequence as a whole, pool it, or expand it by "
        "sequence_expand",
    )


def _few(lengths: Array) -> str:
    shown = ", ".join(str(int(n)) for n in lengths[:8])
    return f"[{shown}, ...]" if lengths.size > 8 else f"[{shown}]"


def check_names(manifest: Manifest, needed: Iterable[str], given: Mapping[str, object], where: str) -> None:
    """Raise DataError when a needed feed is missing or a given one is unknown, listing both sides."""
    needed = list(needed)
    missing = [name for name in needed if name not in given]
    known = {feed.name for feed in manifest.feeds}
    unknown = [name for name in given if name not in known]
    if not missing and not unknown:
        return
    parts = [f"{_listed(missing)} is not fed" if len(missing) == 1 else f"{_listed(missing)} are not fed"]
    if not missing:
        parts = []
    if unknown:
        parts.append(f"{_listed(unknown)} {'is no feed' if len(unknown) == 1 else 'are no feeds'} of the program")
    raise DataError(
        "; ".join(parts),
        f"{where}: given {_listed(sorted(given)) or 'nothing'}; wanted {_listed(needed) or 'nothing'}",
        "name the arrays as the program's data variables are named",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _spelled(spec: FeedSpec) -> str:
    return f"{spec.dtype}{_dims(spec.shape)}"


def _dims(shape: tuple[int | str, ...]) -> str:
    return "[" + ",".join(str(dim) for dim in shape) + "]"
