"""Data sets: named arrays of equally many rows, checked against the feeds once, before the first step.

They come from a mapping of arrays, a ``.npz`` archive, a folder of ``.npy`` files, or a table. What is large is mapped
and never in memory as a whole (`archives`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .archives import read_folder, read_npz
from .columns import Columns, is_table
from .engine import Array, aligned
from .errors import DataError
from .feeds import LENGTHS, FeedCheck, Watch, check_names
from .manifest import Manifest
from .sampler import Indices

DataSource = Path | str | Mapping[str, object]


class DataSet:
    """The arrays that one function reads.

    Attributes:
        arrays: by feed.
        rows: number of examples.
        where: what errors call it.
    """

    def __init__(self, checks: Sequence[FeedCheck], arrays: Mapping[str, Array], where: str) -> None:
        self._checks = checks
        self.arrays = arrays
        self.where = where
        counts = {
            check.spec.name: arrays[check.spec.name].shape[check.batch_axis]
            for check in checks
            if check.batch_axis is not None
        }
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
            raise DataError(
                f"the arrays have different numbers of rows: {listed}",
                where,
                "give arrays whose rows belong together, one row per example in each",
            )
        if not counts:
            raise DataError("no array has one row per example", where, "check the feeds of the program")
        self.rows = next(iter(counts.values()))
        if not self.rows:
            raise DataError("the data set has no rows", where, "give at least one example")

    def take(self, indices: Indices) -> dict[str, Array]:
        """The examples ``indices``, i64[size], in this order, in memory that engines read without a copy."""
        taken: dict[str, Array] = {}
        for check in self._checks:
            name, axis = check.spec.name, check.batch_axis
            source = self.arrays[name]
            if axis is None:
                taken[name] = source
                continue
            taken[name] = aligned((*source.shape[:axis], len(indices), *source.shape[axis + 1 :]), source.dtype)
            _gather(source, indices, axis, taken[name])
        return taken

    def slice(self, start: int, stop: int) -> dict[str, Array]:
        """The examples [start, stop), as views."""
        return {
            check.spec.name: (
                self.arrays[check.spec.name]
                if check.batch_axis is None
                else self.arrays[check.spec.name][(*(slice(None),) * check.batch_axis, slice(start, stop))]
            )
            for check in self._checks
        }


def _gather(source: Array, indices: Indices, axis: int, out: Array) -> None:
    """Copy the rows ``indices`` of ``source`` along ``axis`` into ``out``, and read no others.

    Indices come from a sampler that checked them; the mode "raise" would make numpy buffer the result.
    """
    if source.flags.c_contiguous and axis == 0:
        # As bytes: a mapped member of an archive begins at any address, and numpy would first copy all of an array
        # whose elements are not aligned.
        np.take(_as_bytes(source), indices, axis=0, out=_as_bytes(out), mode="clip")
    elif source.flags.c_contiguous and source.flags.aligned:
        np.take(source, indices, axis=axis, out=out, mode="clip")
    else:
        out[...] = source[(*(slice(None),) * axis, indices)]


def _as_bytes(array: Array) -> Array:
    """A C-contiguous array as its rows' bytes, u8[rows, bytes of a row]."""
    numbers = 1
    for size in array.shape[1:]:
        numbers *= size
    return array.reshape(len(array), numbers).view(np.uint8)


def load_data(
    source: DataSource,
    manifest: Manifest,
    function: str,
    columns: Columns | None = None,
    watch: Watch | None = None,
) -> DataSet:
    """The data set in ``source``, a mapping or the path of one of the forms above, for ``function``.

    Keys, and the names of ``.npy`` files, are the names of the feeds; columns of a table are those that ``columns``
    says, or named after the feeds (`columns.Chooser`). ``watch`` is told how far a long look at the data is.

    Raises DataError, listing both sides, for missing or unknown names, and for data of another type, shape, range or
    number of rows, or without a value in some row.
    """
    check_function(manifest, function)
    needed = [b.name for b in manifest.function(function).inputs if b.kind == "feed"]
    checks = [FeedCheck(manifest.feed(name)) for name in needed]
    divided = next((name for name in needed if name.endswith(LENGTHS)), None)
    if divided is not None:
        raise DataError(
            f"the feed {divided.removesuffix(LENGTHS)!r} holds sequences of different lengths, which no data set does",
            f"function {function!r}",
            f"feed it step by step, with {divided!r}: Session.run, Session.predict",
        )
    path = None if isinstance(source, Mapping) else Path(source)
    where = "data" if path is None else str(path)
    if path is not None and is_table(path):
        from .tables import read_table  # few runs read one

        # Columns of feeds that another function reads are none of this one's.
        others = {feed.name for feed in manifest.feeds} - set(needed)
        stated = {feed: names for feed, names in (columns or {}).items() if feed not in others}
        return DataSet(checks, read_table(path, checks, stated, watch), where)
    if columns:
        raise DataError(
            "columns are named, and the data is no table",
            f"{where}, --columns",
            "leave them out: arrays are named as the feeds are; tables end in .csv, .tsv, .parquet or .pq",
        )
    given = source if isinstance(source, Mapping) else open_arrays(Path(source))
    check_names(manifest, needed, given, where)
    try:
        arrays = {check.spec.name: check.accept(given[check.spec.name], watch) for check in checks}
    except DataError as error:
        raise DataError(error.what, f"{where}, {error.where}", error.hint or "") from None
    return DataSet(checks, arrays, where)


def check_function(manifest: Manifest, function: str) -> None:
    """Raise DataError where there is no such function to give data to."""
    if not manifest.has_function(function):
        known = ", ".join(each.name for each in manifest.functions)
        raise DataError(
            f"the artifact has no function {function!r} that data could be given to",
            "manifest, functions",
            f"its functions are {known}; compile the script again where one is missing",
        )


def open_arrays(path: Path) -> Mapping[str, Array]:
    """The arrays of a ``.npz`` archive or of a folder of ``.npy`` files, by name. Raises DataError."""
    return read_folder(path) if path.is_dir() else read_npz(path)
