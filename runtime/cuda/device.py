"""One CUDA device as this process uses it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from weakref import WeakSet

from ..buffers import Buffer
from ..errors import EngineError
from .cudart import Runtime, runtime


class Device:
    """A device, and the one stream in which every engine of this process works on it: they share memory.

    Attributes:
        ordinal: Its number, from 0.
        name: For messages.
        capability: Compute capability.
        runtime: CUDA's runtime library.
        stream: Where everything happens, in order.
        lock: Held by the thread that works on the device.
        buffers: State that may be there.
        resources: What has memory there, or refers to it.
    """

    def __init__(self, ordinal: int) -> None:
        self.runtime: Runtime = runtime()
        count = self.runtime.devices()
        if not 0 <= ordinal < count:
            seen = "1 device, number 0" if count == 1 else f"{count} devices, numbers 0 to {count - 1}"
            raise EngineError(
                f"there is no CUDA device {ordinal}: this process sees {seen}",
                f"device {ordinal}",
                "give a number that exists; CUDA_VISIBLE_DEVICES chooses what a process sees",
            )
        self.ordinal = ordinal
        self.name = f"CUDA device {ordinal}"
        self.capability = self.runtime.capability(ordinal)
        self.lock = threading.RLock()
        self.buffers: WeakSet[Buffer] = WeakSet()
        self.resources: WeakSet[object] = WeakSet()
        self._lost = False
        self._left: list[Buffer] = []
        self.runtime.use(ordinal)
        self.stream = self.runtime.make_stream()
        os.register_at_fork(before=self._before_fork, after_in_parent=self._left.clear, after_in_child=self._after_fork)

    @contextmanager
    def used(self) -> Generator[None]:
        """Work on it, alone.  Raises EngineError in a process that was forked from the one that uses it."""
        if self._lost:
            raise self.loss()
        with self.lock:
            before = self.runtime.current()
            self.runtime.use(self.ordinal)
            try:
                yield
            finally:
                if before != self.ordinal:  # who works on another device, and looks at what is here, goes on there
                    self.runtime.use(before)

    def loss(self) -> EngineError:
        """What is said in a forked process."""
        return EngineError(
            "this process was forked from one that uses the GPU, and cannot use it",
            self.name,
            "start it by the spawn method, or before an artifact is loaded",
        )

    def wait(self) -> None:
        """Until everything has ended."""
        self.runtime.wait(self.stream)

    def memory(self) -> str:
        """Its free memory, in words."""
        free, total = self.runtime.free_memory()
        return f"{in_words(free)} of {in_words(total)} are free"

    @property
    def is_lost(self) -> bool:
        """Whether this process was forked from the one that uses it."""
        return self._lost

    def _before_fork(self) -> None:
        """The child cannot ask the device: leave it the values where it can reach them."""
        self._left.clear()
        if not self._lost:
            for buffer in self._away():
                buffer.copy_home()
                self._left.append(buffer)

    def _after_fork(self) -> None:
        if self._lost:
            return
        self._lost = True
        self.lock = threading.RLock()
        for buffer in self._left:
            buffer.put(buffer.home)
        for each in list(self.resources):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))  # its end would call a driver that this process lacks

    def _away(self) -> list[Buffer]:
        """Buffers with their newest values here."""
        return [b for b in list(self.buffers) if b.remote is not None and b.remote is b.remotes.get(self.ordinal)]


@cache
def open_device(ordinal: int) -> Device:
    """The device of this number.  Raises EngineError where there is none, or no driver."""
    return Device(ordinal)


def in_words(size: int) -> str:
    """Bytes, for people."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
