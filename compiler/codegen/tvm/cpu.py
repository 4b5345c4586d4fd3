"""Which CPU a module is built for: names, vector width, and what this machine has."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import TargetError
from .kit import Host
from .tvm_api import tvm

LEVELS: dict[str, tuple[str, ...]] = {
    "x86-64-v2": ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"),
    "x86-64-v3": ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"),
    "x86-64-v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}
"""The micro-architecture levels of the x86-64 psABI, each with the flags of /proc/cpuinfo it adds."""

_VECTOR_BYTES = {"x86-64-v2": 16, "x86-64-v3": 32, "x86-64-v4": 64, "aarch64": 32}


@dataclass(frozen=True)
class Cpu:
    """A CPU to build for.

    ``name`` is what ``--cpu`` takes and the artifact records; ``vector_bytes`` the width of its vectors.
    """

    name: str
    vector_bytes: int

    @property
    def triple(self) -> str:
        return "aarch64-linux-gnu" if self.name == "aarch64" else "x86_64-linux-gnu"

    @property
    def features(self) -> tuple[str, ...]:
        """What the code needs, as Linux names it: the flags of the level and of all below."""
        needed: set[str] = set()
        for level, flags in LEVELS.items():
            needed.update(flags)
            if level == self.name:
                return tuple(sorted(needed))
        return ()

    def host(self, threads: int) -> Host:
        return Host(self.vector_bytes, threads)

    def target(self) -> Any:
        """The TVM target."""
        processor = "generic" if self.name == "aarch64" else self.name
        return tvm.target.Target({"kind": "llvm", "mtriple": self.triple, "mcpu": processor})


@cache
def host_flags() -> frozenset[str]:
    """CPU feature flags of this machine, as Linux names them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@cache
def host_cpu() -> Cpu:
    """The best level that this machine supports; raises TargetError where there is none."""
    if platform.machine() in ("aarch64", "arm64"):
        return Cpu("aarch64", _VECTOR_BYTES["aarch64"])
    found: str | None = None
    for level, flags in LEVELS.items():
        if not host_flags().issuperset(flags):
            break
        found = level
    if found is None:
        raise TargetError(
            f"the cpu target needs at least an x86-64-v2 machine; this is {platform.machine()}",
            hint="compile with `--target onnx` or `--target reference`, or name a level with `--cpu`",
        )
    return Cpu(found, _VECTOR_BYTES[found])


def named_cpu(name: str) -> Cpu:
    """The CPU called ``name`` (``native``: this machine); raises TargetError for an unknown name."""
    if name == "native":
        return host_cpu()
    if name not in _VECTOR_BYTES:
        known = ", ".join(["native", *_VECTOR_BYTES])
        raise TargetError(f"unknown CPU {name!r}", hint=f"known are {known}")
    return Cpu(name, _VECTOR_BYTES[name])
