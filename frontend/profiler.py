"""``fluid.profiler``: what the runs of executors took, as a table and as a trace for a browser."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .errors import invalid

_STATES = ("CPU", "GPU", "All")
_OPTIONS = ("Default", "OpDetail", "AllOpDetail")


@dataclass(frozen=True)
class _Event:
    """One stretch of time, in seconds of the process's clock."""

    name: str
    begin: float
    seconds: float


@dataclass
class _Row:
    name: str
    times: list[float] = field(default_factory=list)

    @property
    def total(self) -> float:
        return sum(self.times)

    @property
    def mean(self) -> float:
        return self.total / len(self.times)


_KEYS: dict[str, Callable[[_Row], float]] = {
    "calls": lambda row: len(row.times),
    "total": lambda row: row.total,
    "max": lambda row: max(row.times),
    "min": lambda row: min(row.times),
    "ave": lambda row: row.mean,
}
_events: list[_Event] | None = None


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Note the time inside the ``with`` block under ``name``, if somebody profiles."""
    if _events is None:
        yield
        return
    begin = time.perf_counter()
    try:
        yield
    finally:
        if _events is not None:
            _events.append(_Event(name, begin, time.perf_counter() - begin))


def start_profiler(state: str, tracer_option: str = "Default") -> None:
    """Begin to note times; nothing happens if it was begun.

    Args:
        state: CPU, GPU or All: the same here, where a run ends when its results are there.
        tracer_option: fluid's detail of single ops; a compiled step is timed as one (`fluidc bench` times kernels).

    Raises ProgramError for other values.
    """
    global _events
    if state not in _STATES:
        raise invalid(f"profiler: state is {state!r}", "give 'CPU', 'GPU' or 'All'")
    if tracer_option not in _OPTIONS:
        raise invalid(f"profiler: tracer_option is {tracer_option!r}", f"give one of {', '.join(_OPTIONS)}")
    if _events is None:
        _events = []


@contextlib.contextmanager
def profiler_restored() -> Iterator[None]:
    """Leave the profiler as it is found, whatever is begun inside the ``with`` block."""
    global _events
    before, _events = _events, None
    try:
        yield
    finally:
        _events = before


def reset_profiler() -> None:
    """Forget the times that were noted."""
    if _events is not None:
        _events.clear()


def stop_profiler(sorted_key: str | None = None, profile_path: str = "/tmp/profile") -> None:
    """Print the table of the times, and write them as a trace; nothing happens if it was not begun.

    Args:
        sorted_key: calls, total, max, min or ave; None: in the order of their first end.
        profile_path: A file for chrome://tracing and Perfetto.

    Raises ProgramError for another key.
    """
    global _events
    if sorted_key not in (None, "default", *_KEYS):
        raise invalid(f"profiler: sorted_key is {sorted_key!r}", f"give None or one of {', '.join(_KEYS)}")
    if _events is None:
        return
    events, _events = _events, None
    print(_table(events, sorted_key))
    if profile_path:
        _write_trace(events, profile_path)


@contextlib.contextmanager
def profiler(
    state: str, sorted_key: str | None = None, profile_path: str = "/tmp/profile", tracer_option: str = "Default"
) -> Iterator[None]:
    """`start_profiler` and `stop_profiler` around the ``with`` block."""
    start_profiler(state, tracer_option)
    try:
        yield
    finally:
        stop_profiler(sorted_key, profile_path)


@contextlib.contextmanager
def cuda_profiler(
    output_file: str, output_mode: str | None = None, config: Sequence[str] | None = None
) -> Iterator[None]:
    """Nothing but the ``with`` block: nvprof, which it started, is gone from CUDA.

    Warns:
        UserWarning: Always.
    """
    del output_file, config
    if output_mode not in (None, "kvp", "csv"):
        raise invalid(f"cuda_profiler: output_mode is {output_mode!r}", "give 'kvp' or 'csv'")
    warnings.warn(
        "fluid.profiler.cuda_profiler writes nothing: run the script under NVIDIA's nsys, or use profiler()",
        UserWarning,
        stacklevel=3,
    )
    yield


def _table(events: Sequence[_Event], sorted_key: str | None) -> str:
    rows: dict[str, _Row] = {}
    for event in events:
        rows.setdefault(event.name, _Row(event.name)).times.append(event.seconds * 1e3)
    ordered = list(rows.values())
    if sorted_key in _KEYS:
        ordered.sort(key=_KEYS[sorted_key], reverse=True)
    run = rows.get(RUN)
    whole = sum(row.total for row in ordered) if run is None else run.total
    width = max([len("event"), *(len(row.name) for row in ordered)])
    head = f"{'event':{width}}  {'calls':>6}  {'total':>10}  {'min':>9}  {'max':>9}  {'mean':>9}  {'share':>6}"
    lines = ["times in ms; the shares are of all runs, which hold the other events", head]
    lines += [
        f"{row.name:{width}}  {len(row.times):6d}  {row.total:10.3f}  {min(row.times):9.3f}  {max(row.times):9.3f}  "
        f"{row.mean:9.3f}  {row.total / whole if whole else 0.0:6.1%}"
        for row in ordered
    ]
    return "\n".join(lines if ordered else ["nothing was run while the profiler was on"])


def _write_trace(events: Sequence[_Event], path: str) -> None:
    trace = [
        {"name": e.name, "ph": "X", "ts": e.begin * 1e6, "dur": e.seconds * 1e6, "pid": os.getpid(), "tid": 0}
        for e in events
    ]
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": trace}, file)
    except OSError as error:
        raise invalid(f"profiler: {path} cannot be written: {error.strerror}", "give another profile_path") from None


RUN = "Executor.run"

__all__ = ["cuda_profiler", "profiler", "reset_profiler", "start_profiler", "stop_profiler"]
