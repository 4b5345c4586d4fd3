"""Making a folder of ``.npy`` files of data that cannot be mapped as it is: a large table, a compressed archive."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .buffers import Array
from .columns import Columns, is_table
from .data import DataSet, check_function, load_data
from .errors import DataError
from .feeds import FeedCheck, Watch
from .files import fsync_directory
from .manifest import Manifest
from .tables import blocks

_HEADER_BYTES = 256
"""Room for the header of a file whose number of rows is known at its end."""


def convert(
    source: Path,
    folder: Path,
    manifest: Manifest,
    function: str,
    columns: Columns | None = None,
    watch: Watch | None = None,
) -> DataSet:
    """Write the data in ``source`` as ``folder``, one ``FEED.npy`` for each feed of ``function``; returns it, opened.

    A table is never in memory as a whole. The folder appears when it is complete, or not at all. Raises DataError for
    a folder that exists or cannot be written, and what `load_data` raises for data that does not fit.
    """
    check_function(manifest, function)
    needed = [b.name for b in manifest.function(function).inputs if b.kind == "feed"]
    for name in needed:
        if Path(name).name != name or name.startswith("."):
            raise DataError(
                f"the feed {name!r} cannot be the name of a file",
                f"feed {name!r}",
                "write the data as .npz, uncompressed",
            )
    if folder.exists():
        raise DataError("the folder exists already", str(folder), "name one that does not, or remove it")
    if not folder.parent.is_dir() or not os.access(folder.parent, os.W_OK):  # before the work, not after it
        raise _unwritable("there is no folder that it could be put into", folder)
    try:
        with _new_folder(folder) as made:
            if is_table(source):
                checks = [FeedCheck(manifest.feed(name)) for name in needed]
                _write_blocks(source, made, checks, columns or {}, watch)
            else:
                _write_arrays(load_data(source, manifest, function, columns, watch), made)
    except OSError as error:
        raise _unwritable(str(error.strerror or error), folder) from None
    return load_data(folder, manifest, function)


@contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    """A folder beside ``folder`` that takes its name in the end, and is gone after any failure. Raises OSError."""
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        hidden.mkdir()
        yield hidden
        fsync_directory(hidden)
        os.rename(hidden, folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    fsync_directory(folder.parent)


def _write_arrays(data: DataSet, folder: Path) -> None:
    for name, array in data.arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
            _flush(file)


def _write_blocks(
    source: Path, folder: Path, checks: Sequence[FeedCheck], columns: Columns, watch: Watch | None
) -> None:
    rows = 0
    with ExitStack() as stack:
        files = {
            check.spec.name: stack.enter_context((folder / f"{check.spec.name}.npy").open("wb")) for check in checks
        }
        for file in files.values():
            file.write(bytes(_HEADER_BYTES))
        last: dict[str, Array] = {}
        for last in blocks(source, checks, columns, watch):
            for name, array in last.items():
                files[name].write(array.data)
            rows += len(next(iter(last.values())))
        for name, file in files.items():
            file.seek(0)
            file.write(_header((rows, *last[name].shape[1:]), last[name].dtype))
            _flush(file)


def _header(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> bytes:
    """The header of a ``.npy`` file of version 1.0, filled up to a fixed size."""
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    start = b"\x93NUMPY\x01\x00" + (_HEADER_BYTES - 10).to_bytes(2, "little")
    return start + text.encode("latin1").ljust(_HEADER_BYTES - 11) + b"\n"


def _unwritable(why: str, folder: Path) -> DataError:
    return DataError(
        f"the folder cannot be written: {why}", str(folder), "choose a place that exists, is writable and has space"
    )


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
