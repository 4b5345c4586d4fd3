"""Generated code on disk, so that the same program is not compiled twice.

A file per key in a folder of the user's.  What lies there is executed, so the folder is believed only while nobody
else could have put it there: it and every file used must belong to this user and be writable by nobody else.  The
hash in a file tells damage, not forgery.

Files are written to a temporary name and renamed: compilers running at the same time see whole files.  A folder that
cannot be used, and a file that is not what it should be, cost time and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..folders import VARIABLE, user_folder

MAGIC = b"fluidc code 1\n"
LIMIT = 512 << 20
"""Bytes kept; beyond, what was not used for longest goes."""

_STALE = 3600.0  # seconds after which a temporary file is one that a killed compiler left behind
_HASH = 32


@dataclass(frozen=True)
class Cache:
    """A folder of code; ``folder`` None keeps nothing.  ``limit``: bytes kept."""

    folder: Path | None
    limit: int = LIMIT

    def read(self, key: str) -> bytes | None:
        """What was kept under ``key``, as it was written; None where there is nothing, or nothing to be believed.

        Args:
            key: Hexadecimal digits.
        """
        with suppress(OSError), self._opened() as folder:
            if folder is None:
                return None
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(key, flags, dir_fd=folder), "rb") as file:
                if _is_shared(os.fstat(file.fileno())):
                    return None
                content = file.read()
                os.utime(file.fileno())  # used now: the last to go
            body = content[len(MAGIC) + _HASH :]
            if content[: len(MAGIC) + _HASH] == MAGIC + _digest(key, body):
                return body
        return None

    def write(self, key: str, body: bytes) -> None:
        """Keep ``body`` under ``key``; what cannot be written is not kept."""
        if self.folder is None:
            return
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._opened() as folder:
                if folder is not None:
                    _write(folder, key, MAGIC + _digest(key, body) + body)
                    _evict(folder, self.limit)

    @contextmanager
    def _opened(self) -> Generator[int | None]:
        """A descriptor of the folder, through which files are reached: it cannot be exchanged meanwhile.

        None, with a warning, for a folder in which others could have put something.
        """
        if self.folder is None:
            yield None
            return
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            shared = _is_shared(os.fstat(folder))
            if shared:
                warnings.warn(
                    f"compiled code is not kept: {self.folder} {shared}; make the folder yours alone (chmod 700), or "
                    f"name another in {VARIABLE}",
                    UserWarning,
                    stacklevel=5,
                )
            yield None if shared else folder
        finally:
            os.close(folder)


def user_cache() -> Cache:
    """The cache of this user; see `folders.user_folder`."""
    return Cache(user_folder("code"))


def _digest(key: str, body: bytes) -> bytes:
    """The key too, so that a file under another name is none."""
    return hashlib.sha256(key.encode() + b"\n" + body).digest()


def _is_shared(found: os.stat_result) -> str:
    """Why others may have written what was found; empty where they cannot have."""
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others"
    return ""


def _write(folder: int, key: str, content: bytes) -> None:
    temporary = f".new-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, key, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _evict(folder: int, limit: int) -> None:
    """Remove what was not used for longest until the rest has at most ``limit`` bytes."""
    found: list[tuple[float, int, str]] = []
    now = time.time()
    for name in os.listdir(folder):
        with suppress(OSError):  # another compiler may have removed it
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not name.startswith("."):
                found.append((status.st_mtime, status.st_size, name))
            elif now - status.st_mtime > _STALE:
                os.unlink(name, dir_fd=folder)
    total = sum(size for _, size, _ in found)
    for _, size, name in sorted(found):
        if total <= limit:
            return
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        total -= size
