"""Writing files so that a crash leaves either the old content or the new, never half of it."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

MAX_FILE_BYTES = 64 << 30
"""Of an artifact or a checkpoint, which are read as a whole."""


def fsync_directory(path: Path) -> None:
    """Make the names in directory ``path`` durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path) -> None:
    """Make ``path`` and its parents, each name durable before anything is put into it. Raises OSError."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    fsync_directory(path.parent)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write every byte of ``data``; ``os.write`` may take fewer. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def temporary_name(path: Path) -> Path:
    """The file next to ``path`` that `write_atomically` fills first."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_left_overs(path: Path) -> None:
    """Remove what processes that died in `write_atomically` left, for the only writer of ``path``. Raises OSError."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
    for name in os.listdir(path.parent):
        if pattern.fullmatch(name):
            path.with_name(name).unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``: new file, fsync, rename, fsync of the directory.

    On any failure the old file is as it was and the new one is removed. Raises OSError.
    """
    temporary = temporary_name(path)
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that does not exist yet, with exactly the permissions ``mode`` and durable.

    On a failure nothing is left. Raises OSError, FileExistsError for a path that exists, be it a link to nowhere.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(handle, mode)  # whatever the umask is
            write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def read_regular(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most ``limit`` bytes.

    A pipe, a device or a folder is refused without waiting for it. Raises OSError whose ``strerror`` says why.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "It is a pipe or a device, not a file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"It has {status.st_size} bytes, more than {limit}", str(path))
        data = file.read(status.st_size + 1)
    if len(data) > status.st_size:
        raise OSError(errno.EBUSY, "It grew while it was read", str(path))
    return data
