"""One run at a time in a directory: locks of the operating system, which end with the process, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from .files import make_directory

LOCK = "run.lock"


class InUse(Exception):
    """Somebody else has the lock; the text says who."""


def lock(handle: int, holder: Path) -> None:
    """Lock the open file ``handle`` exclusively, or raise InUse with the process that ``holder`` names.

    The lock belongs to the open file: it ends when the last process that has it open closes it or dies, so a process
    that was killed leaves no stale one. Raises OSError where the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(_described(holder)) from None


def is_at(handle: int, path: Path) -> bool:
    """Whether the open file ``handle`` is still the one that ``path`` names."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


class FolderLock:
    """The right to write into a folder, which one process at a time has: a lock on ``run.lock`` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has taken it, and not released it."""
        return self._handle is not None

    def take(self) -> None:
        """Take the lock, making the folder; where it is held already, see that it still guards what the path names.

        Raises InUse, and OSError where the folder cannot be made or written.
        """
        path = self.folder / LOCK
        if self._handle is not None and is_at(self._handle, path):
            return
        self.release()
        while self._handle is None:
            make_directory(self.folder)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                lock(handle, path)
                if is_at(handle, path):  # else it was removed between the two calls
                    self._handle = handle
            finally:
                if self._handle is None:
                    os.close(handle)
        with suppress(OSError):  # who holds it is told to people only
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Give the lock up; calling it again does nothing."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)


def _described(holder: Path) -> str:
    """The process that wrote its number into the file ``holder``."""
    try:
        text = holder.read_text(errors="replace").strip()
    except OSError:
        text = ""
    if not text.isdecimal():
        return "an unknown process"
    try:
        os.kill(int(text), 0)
    except (OSError, OverflowError) as error:
        if isinstance(error, OverflowError) or error.errno == errno.ESRCH:
            return f"a process that was started by process {text}, which has ended"
    return f"process {text}"
