"""Where and with what something was measured."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ...runtime.processor import host_flags
from ...runtime.threads import available_cores

_TOLD = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "asimd", "sve")


@dataclass(frozen=True)
class Machine:
    """A machine and the libraries on it.

    Attributes:
        cpu: the processor's name.
        flags: those of its instruction sets that matter here.
        cores: that the process may use.
        threads: of a step.
        load: processes that wanted a core, averaged over a minute: the larger of before and after measuring.
        noisy: that was more than there are cores, so other work took time from what was measured.
        versions: of fluidc, of what it computes with, and of the peers.
    """

    cpu: str
    flags: list[str]
    cores: int
    threads: int
    load: float
    noisy: bool
    versions: dict[str, str]


def load() -> float:
    """Processes that want a core, averaged over a minute."""
    return os.getloadavg()[0]


def machine(threads: int, load_before: float, peers: dict[str, str] | None = None) -> Machine:
    """The present machine, at the end of measuring."""
    cores, most = available_cores(), round(max(load_before, load()), 2)
    versions = {name: metadata.version(name) for name in ("fluidc", "apache-tvm", "numpy")}
    versions |= {"python": platform.python_version()} | (peers or {})
    flags = [flag for flag in _TOLD if flag in host_flags()]
    return Machine(_processor(), flags, cores, threads, most, most > cores, versions)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
