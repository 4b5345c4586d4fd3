"""Where results are kept between compilations, and how they are read and written there.

What lies in such a folder is executed, or says what privacy costs, so it is believed only while nobody else could have
put it there: the folder and every file used must belong to this user and be writable by nobody else.

Files are written to a temporary name and renamed: compilers running at the same time see whole files.
"""

from __future__ import annotations

import os
import secrets
import stat
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

VARIABLE = "FLUIDC_CACHE"


def user_folder(kind: str) -> Path | None:
    """The folder for results of a kind; None where nothing is to be kept.

    ``$FLUIDC_CACHE/KIND`` if the variable is set (set and empty: nothing is kept), else
    ``$XDG_CACHE_HOME/fluidc/KIND``, else ``~/.cache/fluidc/KIND``.
    """
    stated = os.environ.get(VARIABLE)
    if stated is not None:
        return Path(stated).absolute() / kind if stated else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG specification says to ignore relative ones
        return Path(base) / "fluidc" / kind
    try:
        return Path.home() / ".cache" / "fluidc" / kind
    except RuntimeError:  # a user without a home
        return None


@contextmanager
def opened(folder: Path, kept: str) -> Generator[int | None]:
    """A descriptor of ``folder``, through which files are reached: it cannot be exchanged meanwhile.  Raises OSError.

    None, with a warning once per process, for a folder in which others could have put something.

    Args:
        folder: An existing one, no symbolic link.
        kept: What the folder is for, as the warning calls it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        shared = _is_shared(os.fstat(descriptor))
        if shared:
            _warn(folder, kept, shared)
        yield None if shared else descriptor
    finally:
        os.close(descriptor)


def read_file(folder: int, name: str) -> bytes | None:
    """The content of a file, which counts as used now; None for what others may have written and for what is no file.

    Raises OSError.
    """
    # Without O_NONBLOCK the opening of a pipe waits until somebody writes to it.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or _is_shared(found):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read()
        os.utime(descriptor)
        return content
    finally:
        os.close(descriptor)


def write_file(folder: int, name: str, content: bytes) -> None:
    """Replace what is called ``name``, whatever it is but a folder that holds something.  Raises OSError."""
    temporary = f".new-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        try:
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=folder)
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _is_shared(found: os.stat_result) -> str:
    """Why others may have written what was found; empty where they cannot have."""
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others"
    return ""


@cache
def _warn(folder: Path, kept: str, shared: str) -> None:
    """Say it once per folder and process: a compilation reads and writes many files."""
    warnings.warn(
        f"{kept} is not kept: {folder} {shared}; make the folder yours alone (chmod 700), or name another in "
        f"{VARIABLE}",
        UserWarning,
        stacklevel=6,
    )
