"""Between a process and the operating system: it dies at a chosen call, and its disk forgets what was not synced.

`Faults` wraps the functions of ``os`` that change files below a folder, in the process that installs it. At the call
of a given number the process ends by SIGKILL: before the call (``kill``); half way through it, if it is a write
(``torn``); or together with the machine (``power``): then what no fsync made durable is lost first, in part or as a
whole, as POSIX allows:

- the bytes of a file since its own last fsync: all of them, or all but a beginning;
- names made, replaced and removed since the last fsync of their folder: all of them, or all but the first few.

Instead of dying, the process may be refused: ``EIO`` at that call alone, or ``ENOSPC`` from there on.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

real_write = os.write


class Faults:
    """Counts the calls that change files below ``root``, and dies at one of them.

    Args:
        root: folder; what happens elsewhere is nobody's concern.
        fatal: number of the call, from 1; 0 for none.
        mode: ``kill``, ``torn`` or ``power``; ``EIO`` or ``ENOSPC``.
        seed: decides what is lost.
        missed: told of every change below ``root`` that came by no wrapped function.

    Attributes:
        calls: names of the calls so far.
    """

    def __init__(self, root: Path, fatal: int, mode: str, seed: int, missed: Callable[[str], None]) -> None:
        self.root = str(root)
        self.fatal = fatal
        self.mode = mode
        self.random = random.Random(seed)
        self.missed = missed
        self.calls: list[str] = []
        self.inside = False
        self.handles: dict[int, str] = {}
        self.failed: set[int] = set()
        """Inodes of files whose fsync has failed."""
        self.durable: dict[int, bytes] = {}
        """Inode -> what an fsync made durable, for files that were written to."""
        self.pending: list[tuple[str, Callable[[], None]]] = []
        """(folder, how to undo it) of every name that changed and was not made durable."""

    def install(self) -> None:
        """Wrap the functions for the rest of this process."""
        for name in ("open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "replace", "unlink", "mkdir"):
            setattr(os, name, self._wrapped(name, getattr(os, name), getattr(self, f"_{name}")))
        os.close = self._closing(os.close)
        sys.addaudithook(self._audit)

    # -- what the calls mean --------------------------------------------------------------------------------------

    def _wrapped(self, name: str, real: Callable[..., Any], meaning: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **options: Any) -> Any:
            if self.inside or not self._concerned(name, args):
                return real(*args, **options)
            self.inside = True
            try:
                self.calls.append(name)
                if self.mode in ("EIO", "ENOSPC"):
                    self._refuse(name, args)
                elif len(self.calls) == self.fatal:
                    self._die(name, args)
                return meaning(real, *args, **options)
            finally:
                self.inside = False

        return wrapper

    def _closing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def close(handle: int) -> None:
            self.handles.pop(handle, None)
            real(handle)

        return close

    def _concerned(self, name: str, args: tuple[Any, ...]) -> bool:
        if name == "open":
            return self._below(args[0]) and bool(args[1] & (os.O_CREAT | os.O_TRUNC))
        if name in ("replace", "unlink", "mkdir"):
            return self._below(args[0])
        return args[0] in self.handles or self._below(_path_of(args[0]))

    def _below(self, path: Any) -> bool:
        return os.path.abspath(os.fspath(path)).startswith(self.root)

    def _open(self, real: Callable[..., int], path: Any, flags: int, *args: Any, **options: Any) -> int:
        new = not os.path.exists(path)
        handle = real(path, flags, *args, **options)
        self.handles[handle] = os.fspath(path)
        if new:
            self.durable[os.fstat(handle).st_ino] = b""
            self._changed(path, lambda: os.path.exists(path) and os.unlink(path))
        elif flags & os.O_TRUNC:
            self._dirty(handle)
        return handle

    def _write(self, real: Callable[..., int], handle: int, data: Any) -> int:
        self._dirty(handle)
        return real(handle, data)

    def _pwrite(self, real: Callable[..., int], handle: int, data: Any, offset: int) -> int:
        self._dirty(handle)
        return real(handle, data, offset)

    def _ftruncate(self, real: Callable[..., None], handle: int, length: int) -> None:
        self._dirty(handle)
        real(handle, length)

    def _fsync(self, real: Callable[[int], None], handle: int) -> None:
        path = _path_of(handle)
        if os.path.isdir(path):
            self.pending = [entry for entry in self.pending if entry[0] != path]
        else:
            self.durable.pop(os.fstat(handle).st_ino, None)
        # The real call would only take time: whoever looks here afterwards sees what the kernel has.

    def _fdatasync(self, real: Callable[[int], None], handle: int) -> None:
        self._fsync(real, handle)

    def _replace(self, real: Callable[..., None], source: Any, target: Any) -> None:
        source, target = os.fspath(source), os.fspath(target)
        old = _content(target) if os.path.exists(target) else None

        def undo() -> None:
            os.rename(target, source)
            if old is not None:
                _put(target, old)

        real(source, target)
        self._changed(target, undo)

    def _unlink(self, real: Callable[..., None], path: Any) -> None:
        path = os.fspath(path)
        old = _content(path)
        self.failed.discard(os.stat(path).st_ino)  # another file may get this number
        real(path)
        self._changed(path, lambda: _put(path, old))

    def _mkdir(self, real: Callable[..., None], path: Any, *args: Any) -> None:
        real(path, *args)
        self._changed(path, lambda: shutil.rmtree(path))

    def _changed(self, path: Any, undo: Callable[[], Any]) -> None:
        self.pending.append((os.path.dirname(os.path.abspath(path)), undo))

    def _dirty(self, handle: int) -> None:
        """What is in the file now was durable, unless it is known that less was."""
        self.durable.setdefault(os.fstat(handle).st_ino, _content(_path_of(handle)))

    def _refuse(self, name: str, args: tuple[Any, ...]) -> None:
        """Fail as a bad or a full disk does; a full one still removes, renames and syncs."""
        if self.mode == "ENOSPC":
            if len(self.calls) >= self.fatal and name in ("open", "write", "pwrite", "mkdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        if name in ("fsync", "fdatasync") and not os.path.isdir(_path_of(args[0])):
            file = os.fstat(args[0]).st_ino
            if file in self.failed:
                self.missed(f"{name} was tried again after it had failed")
            if len(self.calls) == self.fatal:
                self.failed.add(file)
        if len(self.calls) == self.fatal:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    # -- the end --------------------------------------------------------------------------------------------------

    def _die(self, name: str, args: tuple[Any, ...]) -> None:
        if self.mode == "torn" and name == "write":
            data = bytes(args[1])
            real_write(args[0], data[: self.random.randrange(len(data) + 1)])
        if self.mode == "power":
            self._lose()
        os.kill(os.getpid(), signal.SIGKILL)

    def _lose(self) -> None:
        for folder, _, names in os.walk(self.root):
            for path in (os.path.join(folder, name) for name in names):
                kept = self.durable.get(os.stat(path).st_ino)
                if kept is None:
                    continue
                now = _content(path)
                if now.startswith(kept):
                    _put(path, now[: len(kept) + self._part(len(now) - len(kept))])
                elif self.random.random() < 0.5:
                    _put(path, kept)
        lost: set[int] = set()
        for folder in {folder for folder, _ in self.pending}:
            those = [number for number, entry in enumerate(self.pending) if entry[0] == folder]
            lost.update(those[self._part(len(those)) :])
        for number in sorted(lost, reverse=True):
            if os.path.isdir(self.pending[number][0]):  # else the folder itself is lost
                self.pending[number][1]()

    def _part(self, count: int) -> int:
        """How much of ``count`` survives: none half of the time, all in a quarter of the cases."""
        return self.random.choice((0, 0, count, self.random.randint(0, count)))

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self.inside or event not in ("open", "os.remove", "os.rename", "os.mkdir", "os.truncate", "os.rmdir"):
            return
        writes = event != "open" or (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and isinstance(args[0], str | os.PathLike) and self._below(args[0]):
            self.missed(f"{event} {args[0]}")


def _path_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _put(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
