"""What the processor of this machine can execute, and whether that is enough for an artifact."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from .errors import EngineError
from .manifest import TargetSpec

_CPU_INFO = Path("/proc/cpuinfo")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def machine() -> str:
    """The architecture of this machine, as target triples spell it."""
    return _spelled(platform.machine())


@cache
def host_flags() -> frozenset[str]:
    """The instruction sets that Linux lists for the first processor; empty where there is no such list."""
    try:
        text = _CPU_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    return flags(text)


def flags(cpu_info: str) -> frozenset[str]:
    """The instruction sets in the text of ``/proc/cpuinfo``."""
    for line in cpu_info.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def check_cpu(target: TargetSpec) -> None:
    """Raise EngineError when this processor lacks what the code uses; executing it would end the process.

    Where Linux lists no instruction sets only the architecture is compared.
    """
    built = _spelled(target.triple.partition("-")[0])
    if built and built != machine():
        raise EngineError(
            f"the artifact was compiled for {built} processors, this one is {machine()}",
            f"target {target.triple}",
            f"run it on such a machine, or compile the program again with --cpu of {machine()}; native is this one",
        )
    known = host_flags()
    missing = sorted(set(target.features) - known) if known else []
    if missing:
        raise EngineError(
            f"this processor lacks {', '.join(missing)}, which the code uses",
            f"target {target.cpu or target.triple}",
            "compile the program again on this machine, or with --cpu of an older processor, such as x86-64-v2",
        )


def _spelled(name: str) -> str:
    return _MACHINES.get(name.lower(), name.lower())
