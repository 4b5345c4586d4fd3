"""Ending a run at the end of a step when the process is asked to stop, and no step in its middle."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a run to end: Ctrl-C, service managers and schedulers, a terminal that is closed."""

_ONE = 0.5
"""Seconds within which signals are one wish: a wrapper passes Ctrl-C on to a process that has got it already."""


class StopSignals:
    """Notes the signals of `STOPPING` while entered; a second one, half a second later or more, acts as it did before.

    Signals that the process ignores stay ignored (``nohup``). All are left alone where ``enabled`` is false, and
    outside the main thread, where Python cannot catch them.

    Attributes:
        raised: one has come.
        name: its name, or "".
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and threading.current_thread() is threading.main_thread()
        self._before: dict[signal.Signals, Any] = {}
        self._first = 0.0
        self.raised = False
        self.name = ""

    def __enter__(self) -> Self:
        if self._enabled:
            for number in STOPPING:
                before = signal.getsignal(number)
                if before is not None and before is not signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.raised:
            self.raised, self._first, self.name = True, now, signal.Signals(number).name
        elif now - self._first >= _ONE:
            self._restore()
            os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class PutOffInterrupt:
    """Puts SIGINT off until it is left, so that Ctrl-C falls before what it guards or after it.

    Does nothing outside the main thread, where Python raises no KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._frame: FrameType | None = None
        self._raised = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is None:
            return
        signal.signal(signal.SIGINT, self._before)
        if self._raised:
            self._before(signal.SIGINT, self._frame)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._raised, self._frame = True, frame


class Interruptible:
    """Makes SIGTERM and SIGHUP end what is under way as Ctrl-C does: by KeyboardInterrupt, with everything cleaned up.

    For commands, around what has nothing to finish. Signals that are ignored, or have a handler, are left alone.
    """

    def __init__(self) -> None:
        self._changed: list[signal.Signals] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, signal.default_int_handler)
                    self._changed.append(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._changed:
            signal.signal(number, signal.SIG_DFL)
