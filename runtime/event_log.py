"""Event files that TensorBoard shows: values of steps, epsilon, times.

Written by tensorboardX, which is small and writes the format without TensorFlow, a server or a GUI; to look at them
needs TensorBoard itself. Its writer with a queue and a thread is left alone: it waits for ever once the disk is full.
"""

from __future__ import annotations

import importlib
import math
import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import DataError
from .evaluate import Evaluation
from .model import Model
from .observe import scalars
from .progress import StepReport

_FLUSH_SECONDS = 5.0
_FLUSH_EVENTS = 100

NOT_PRIVATE = "NOT_PRIVATE"
"""First part of the tag of what depends on single examples without noise."""


class EventLog:
    """Logs the steps that it sees to a folder; enter it before the run, leave it after.

    Tags: ``step/NAME`` for each fetched scalar, ``learning_rate/NAME``, ``epsilon/so_far`` and ``epsilon/budget``,
    ``time/step_seconds`` and ``time/examples_per_second``, ``evaluation/NAME``. In a private run those that are not
    private stand under ``NOT_PRIVATE/``. ``untimed``, as for a private report, logs no times and gives every event the
    time 0.

    Args:
        folder: made where it does not exist; one for each run, as TensorBoard has it.
        model: what is trained.
        untimed: log nothing that tells how long anything took.

    A disk that refuses what is logged ends the log with a warning, and not the run. Raises DataError where tensorboardX
    is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: Path, model: Model, *, untimed: bool = False) -> None:
        self._folder = folder
        self._model = model
        self._untimed = untimed
        self._writer: Any = _writer(folder)
        self._ended = False
        self._event: Any = importlib.import_module("tensorboardX.proto.event_pb2").Event
        self._summary: Any = importlib.import_module("tensorboardX.proto.summary_pb2").Summary
        self._flushed = time.monotonic()
        self._events = 0
        self._rates = [s.name for s in model.manifest.state if s.role == "learning_rate" and math.prod(s.shape) == 1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended:
            with suppress(OSError, ValueError):
                self._writer.close()
        self._try(self._writer.close)

    def step(self, report: StepReport, seconds: float | None) -> None:
        """Log a step; see `Observer`."""
        private = self._model.private
        values: dict[str, float] = {}
        for name, value in scalars(report).items():
            exposed = private and name in report.not_private
            values[f"{NOT_PRIVATE}/step/{name}" if exposed else f"step/{name}"] = value
        for name in self._rates:
            values[f"learning_rate/{name}"] = float(self._model.state[name].reshape(()))
        if report.spent is not None and report.spent.so_far is not None and report.spent.budget is not None:
            values["epsilon/so_far"] = report.spent.so_far
            values["epsilon/budget"] = report.spent.budget
        under = f"{NOT_PRIVATE}/time" if private else "time"
        if seconds is not None:
            values[f"{under}/step_seconds"] = seconds
        if report.examples_per_second is not None:
            values[f"{under}/examples_per_second"] = report.examples_per_second
        self._write(values, report.step)

    def evaluation(self, found: Evaluation) -> None:
        """Log the values over held-out rows, at the last step."""
        under = f"{NOT_PRIVATE}/evaluation" if found.private else "evaluation"
        self._write({f"{under}/{name}": value for name, value in found.values.items()}, self._model.step)

    def _write(self, values: dict[str, float], step: int) -> None:
        summary: Any = self._summary()
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=value)
        event: Any = self._event(step=step, summary=summary)
        if not self._untimed:
            event.wall_time = time.time()
        self._try(lambda: self._writer.write_event(event))
        self._events += 1
        late = not self._untimed and time.monotonic() - self._flushed > _FLUSH_SECONDS
        if late or self._events % _FLUSH_EVENTS == 0:
            self._flushed = time.monotonic()
            self._try(self._writer.flush)

    def _try(self, call: Callable[[], object]) -> None:
        if self._ended:
            return
        try:
            call()
        except (OSError, ValueError) as error:
            self._ended = True
            warnings.warn(f"the log in {self._folder} ends here: {error}", UserWarning, stacklevel=2)


def _writer(folder: Path) -> Any:
    try:
        module: Any = importlib.import_module("tensorboardX.event_file_writer")
    except ImportError:
        raise DataError(
            "a log for TensorBoard needs tensorboardX, which is not installed",
            f"--log {folder}",
            "pip install tensorboardX",
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return module.EventsWriter(str(folder / "events"), f".{os.getpid()}")
    except OSError as error:
        raise DataError(
            f"the log cannot be written: {error.strerror or error}",
            f"--log {folder}",
            "choose a folder that can be made, or is writable and has space",
        ) from None
