"""How many threads a step gets: what was asked for, else every core that this process may use.

`thread_count` is the only place that decides it.  A core that the process is not scheduled on, or that its
container's CPU quota does not pay for, would make every parallel loop wait for the worker that has to share.
"""

from __future__ import annotations

import ctypes
import math
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .errors import EngineError

VARIABLE = "FLUIDC_THREADS"
MOST = 1024
"""More threads than this are refused: no machine has use for them, and making them would take it down."""
_DIGITS = 9

_ENGINE_VARIABLE = "TVM_NUM_THREADS"
# Read before an engine of this process sets it for its own pool.
_ENGINE_THREADS = os.environ.get(_ENGINE_VARIABLE)


def thread_count(asked: int | None = None) -> int:
    """The threads of a step.

    Args:
        asked: What an option or argument says; None or nothing: the environment's FLUIDC_THREADS, else what
            TVM_NUM_THREADS said when this module was loaded, else `available_cores`.

    Warns:
        UserWarning: There are fewer cores than that.

    Raises EngineError for what is no number of threads.
    """
    if asked is not None:
        return _checked(asked, f"threads is {asked}", "argument threads")
    for variable, text in ((VARIABLE, os.environ.get(VARIABLE)), (_ENGINE_VARIABLE, _ENGINE_THREADS)):
        if text:
            # Python would also take digits of other scripts, spaces, and more digits than it turns into a number.
            number = int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0
            return _checked(number, f"{variable} is {text!r}", "environment")
    return available_cores()


def available_cores() -> int:
    """Cores that this process may use: its affinity, and its control group's CPU quota rounded up; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPU quota of this process' control groups in cores; None where nothing limits it.

    The tightest of the group and its parents holds, of both versions of control groups.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    quotas: list[float] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            folder, quota_of = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            folder, quota_of = root / "sys/fs/cgroup" / controllers, _quota_v1
            if not folder.is_dir():
                folder = root / "sys/fs/cgroup/cpu"
        else:
            continue
        # In a container the path may be the host's, and the mount the container's own: its root is looked at too.
        group = folder / path.lstrip("/")
        while group != folder and folder in group.parents:
            quotas += quota_of(group)
            group = group.parent
        quotas += quota_of(folder)
    return min(quotas, default=None)


@contextmanager
def numpy_threads(count: int) -> Generator[None]:
    """Let numpy's BLAS use ``count`` threads inside the block, where it is the OpenBLAS of numpy's wheels.

    Its workers spin for a tenth of a second after every product and take the cores from a step that follows.
    """
    library = _openblas()
    if library is None:
        yield
        return
    before = int(library.scipy_openblas_get_num_threads64_())
    library.scipy_openblas_set_num_threads64_(ctypes.c_int(count))
    try:
        yield
    finally:
        library.scipy_openblas_set_num_threads64_(ctypes.c_int(before))


def _checked(count: int, what: str, where: str) -> int:
    cores = available_cores()
    if not 1 <= count <= MOST:
        raise EngineError(what, where, f"give a number from 1 to {MOST}, or leave it out: this process has {cores}")
    if count > cores:
        warnings.warn(
            f"{count} threads on {cores} {'core' if cores == 1 else 'cores'}: a step waits for the threads that have "
            "to share one",
            UserWarning,
            stacklevel=4,
        )
    return count


def _quota_v2(group: Path) -> list[float]:
    quota, period = [*_read(group / "cpu.max").split(), "", ""][:2]
    return _ratio(quota, period)


def _quota_v1(group: Path) -> list[float]:
    return _ratio(_read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> list[float]:
    """Cores of a quota per period; none for ``max`` and -1, which stand for no limit."""
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return []
    return [int(quota) / int(period)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _openblas() -> ctypes.CDLL | None:
    """The OpenBLAS that numpy has loaded."""
    for line in _read(Path("/proc/self/maps")).splitlines():
        path = line.rpartition(" ")[2]
        if "libscipy_openblas64_" in path:
            library = ctypes.CDLL(path)
            return library if hasattr(library, "scipy_openblas_set_num_threads64_") else None
    return None
