"""Generated code on disk, so that the same program is not compiled twice.

A file per key in a folder of the user's, which `folders` reads and writes.  What lies there is executed; the hash in a
file tells damage, not forgery.

A folder that cannot be used, and a file that is not what it should be, cost time and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..folders import opened, read_file, user_folder, write_file

MAGIC = b"fluidc code 1\n"
LIMIT = 512 << 20
"""Bytes kept; beyond, what was not used for longest goes."""

_KEPT = "compiled code"
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
        if self.folder is None:
            return None
        with suppress(OSError), opened(self.folder, _KEPT) as folder:
            content = None if folder is None else read_file(folder, key)
            if content is None:
                return None
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
            with opened(self.folder, _KEPT) as folder:
                if folder is not None:
                    write_file(folder, key, MAGIC + _digest(key, body) + body)
                    _evict(folder, self.limit)


def user_cache() -> Cache:
    """The cache of this user; see `folders.user_folder`."""
    return Cache(user_folder("code"))


def _digest(key: str, body: bytes) -> bytes:
    """The key too, so that a file under another name is none."""
    return hashlib.sha256(key.encode() + b"\n" + body).digest()


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
