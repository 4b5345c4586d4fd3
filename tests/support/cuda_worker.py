"""Functions run in a process that has the emulated CUDA device, which lives for many of them.

    with Worker() as worker:
        outcome = worker.run(cuda_jobs.kernel, code, ...)

A function is one of an importable module (of tests/support); what it takes and returns can be pickled.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from cuda_device import Device, Launched

ROOT = Path(__file__).parents[2]


class WorkerError(Exception):
    """A function that failed on the device; ``str`` ends with its error."""


@dataclass(frozen=True)
class Outcome:
    """What a function returned, and what the device did meanwhile."""

    value: Any
    trace: list[Launched] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


class Worker:
    """A process with the emulated device; started when it is needed, and again after it has died.

    Args:
        checked: Kernels check every access.
        settings: See `Device.configure`.
    """

    def __init__(self, *, checked: bool = True, **settings: int | str) -> None:
        self._checked, self._settings = checked, settings
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None

    def run(self, function: Callable[..., Any], *arguments: Any, timeout: float = 300) -> Outcome:
        """Call a function there.

        Raises:
            WorkerError: It raised, took longer than ``timeout`` s, or ended its process.
        """
        connection = self._connection or self._start()
        connection.send_bytes(pickle.dumps((function, arguments)))
        try:
            if not connection.poll(timeout):
                raise WorkerError(f"{function.__name__} took longer than {timeout} s")
            kind, content = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            raise WorkerError(f"{function.__name__} ended its process: {self._end()}") from None
        except WorkerError:
            self._end()
            raise
        if kind == "error":
            raise WorkerError(content)
        return Outcome(*content)

    def _start(self) -> Connection[Any, Any]:
        atexit.register(self._end)  # whoever keeps one for many tests does not leave it
        own, other = Pipe()
        path = [str(ROOT / "tests" / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "TVM_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "error::UserWarning", __file__, str(other.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[other.fileno()], env=environment)
        other.close()
        own.send_bytes(pickle.dumps((self._checked, self._settings)))
        self._connection = own
        return own

    def _end(self) -> str:
        """End the process; returns how it has ended."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is None:
            return "it was not running"
        try:
            code = process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()


_device: Device | None = None


def device() -> Device:
    """The device of this process, for the functions that a Worker runs."""
    assert _device is not None
    return _device


def _serve(connection: Connection[Any, Any]) -> None:
    global _device
    checked, settings = pickle.loads(connection.recv_bytes())
    _device = Device.load(**settings)
    _device.checked = checked
    while True:
        try:
            function, arguments = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        _device.reset()
        _device.configure(**settings)
        try:
            value = function(*arguments)
            answer = ("value", (value, _device.trace(), _device.counters()))
        except Exception:
            answer = ("error", traceback.format_exc())
        connection.send_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    # Under its own name: functions that are unpickled look there for the device.
    import cuda_worker

    cuda_worker._serve(Connection(int(sys.argv[1])))
