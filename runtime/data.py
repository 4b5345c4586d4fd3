"""Data sets: named arrays of equally many rows, checked against the feeds once, before the first step."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from .engine import Array, aligned
from .errors import DataError
from .feeds import FeedCheck, check_names
from .manifest import Manifest
from .sampler import Indices

DataSource = Path | str | Mapping[str, object]


class DataSet:
    """The arrays that one function reads.

    Attributes:
        rows: number of examples.
        where: what errors call it.
    """

    def __init__(self, checks: Sequence[FeedCheck], arrays: Mapping[str, Array], where: str) -> None:
        self._checks = checks
        self._arrays = arrays
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
            source = self._arrays[name]
            if axis is None:
                taken[name] = source
                continue
            taken[name] = aligned((*source.shape[:axis], len(indices), *source.shape[axis + 1 :]), source.dtype)
            # Indices come from a sampler that checked them; "raise" would make numpy buffer the result.
            np.take(source, indices, axis=axis, out=taken[name], mode="clip")
        return taken

    def slice(self, start: int, stop: int) -> dict[str, Array]:
        """The examples [start, stop), as views."""
        return {
            check.spec.name: (
                self._arrays[check.spec.name]
                if check.batch_axis is None
                else self._arrays[check.spec.name][(*(slice(None),) * check.batch_axis, slice(start, stop))]
            )
            for check in self._checks
        }


def load_data(source: DataSource, manifest: Manifest, function: str) -> DataSet:
    """The data set in ``source``, a ``.npz`` file or a mapping, for ``function``.

    Keys are the names of the feeds. Raises DataError, listing both sides, for missing or unknown ones, and for
    arrays of another dtype, shape, range or number of rows.
    """
    if isinstance(source, Mapping):
        given, where = source, "data"
    else:
        given, where = _read_npz(Path(source)), str(source)
    needed = [b.name for b in manifest.function(function).inputs if b.kind == "feed"]
    check_names(manifest, needed, given, where)
    checks = [FeedCheck(manifest.feed(name)) for name in needed]
    try:
        arrays = {check.spec.name: check.accept(given[check.spec.name]) for check in checks}
    except DataError as error:
        raise DataError(error.what, f"{where}, {error.where}", error.hint or "") from None
    return DataSet(checks, arrays, where)


def _read_npz(path: Path) -> Mapping[str, object]:
    try:
        loaded: object = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise DataError(
                "the file holds one array without a name", str(path), "write it with numpy.savez, one name per feed"
            )
        with loaded:
            arrays = cast("Mapping[str, object]", loaded)
            return {name: arrays[name] for name in loaded.files}
    except FileNotFoundError:
        raise DataError("the data file does not exist", str(path), "check the path") from None
    except OSError as error:
        raise DataError(
            f"the data file cannot be read: {error.strerror or error}", str(path), "give a readable .npz file"
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the data file is not a .npz archive of plain arrays ({error})",
            str(path),
            "write it with numpy.savez; arrays of Python objects are not accepted",
        ) from None
