"""Files of state on the disk: read whole, written together, never half."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from ...runtime.files import fsync_directory, make_directory, temporary_name, write_all
from .errors import StateFileError

Chunks: TypeAlias = Iterable[bytes | memoryview]
"""What a file holds, piece by piece."""


def read_file(path: Path) -> bytes:
    """All of a regular file.  Raises StateFileError for anything else, and where it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever, a device never end
            raise StateFileError("this is not a file", str(path), "give the file that was saved")
        return path.read_bytes()
    except OSError as error:
        raise StateFileError(
            f"the file cannot be read: {error.strerror}", str(path), "give the path that it was saved under"
        ) from None


def write_files(contents: Mapping[Path, Chunks]) -> None:
    """Replace files, all or none: what is there stays where writing fails.  Folders are made.

    Every new file is complete on the disk before the first takes its name.  Between the names a power failure leaves
    old files beside new ones, each of them whole.

    Raises:
        StateFileError: A file cannot be written; all files are as they were.
    """
    new: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path, chunks in contents.items():
            _check_place(path)
            make_directory(path.parent)
            temporary = temporary_name(path)
            new.append((temporary, path))
            _write(temporary, chunks, _mode(path))
        _rename(new)
    except OSError as error:
        raise StateFileError(
            f"the file cannot be written: {error.strerror}",
            str(path),
            "choose a folder that is writable and has space; files that were there are as before",
        ) from None
    finally:
        for temporary, _ in new:
            with contextlib.suppress(OSError):  # it was never made, for one because its name is too long
                temporary.unlink()


def _check_place(path: Path) -> None:
    """Raises OSError where a folder is in the place of the file, or a file in that of one of its folders."""
    if path.is_dir():
        raise IsADirectoryError(0, "there is a folder of that name")
    file = next((parent for parent in path.parents if parent.is_file()), None)
    if file is not None:
        raise NotADirectoryError(0, f"{file} is a file, not a folder")


def _mode(path: Path) -> int | None:
    """The permissions of the file that is replaced, which the new one keeps; None where there is none."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def _write(path: Path, chunks: Chunks, mode: int | None) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644 if mode is None else mode & 0o644)
    try:
        if mode is not None:
            with contextlib.suppress(PermissionError):  # a file system that has no permissions
                os.fchmod(handle, mode)
        for chunk in chunks:
            write_all(handle, chunk)
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(new: list[tuple[Path, Path]]) -> None:
    """Give the new files their names; on a failure the old ones get theirs back."""
    kept: dict[Path, Path | None] = {}
    try:
        for temporary, path in new:
            kept[path] = _set_aside(path)
            temporary.replace(path)
        for folder in {path.parent for _, path in new}:
            fsync_directory(folder)
    except BaseException:
        for path, old in kept.items():
            if old is not None:
                old.replace(path)
            else:
                path.unlink(missing_ok=True)
        raise
    finally:
        for old in kept.values():
            if old is not None:
                old.unlink(missing_ok=True)


def _set_aside(path: Path) -> Path | None:
    """A second name for the file at ``path``, None if there is none; it keeps the first one, too."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    old.unlink(missing_ok=True)
    if not path.exists():
        return None
    try:
        os.link(path, old)
    except OSError:  # a file system without second names
        shutil.copyfile(path, old)
    return old
