"""Which CPU a module is built for: names, vector width, and what this machine has.  TVM is not needed to ask."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ....runtime.processor import host_flags
from ...errors import TargetError

_V2 = ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
_VBMI = ("avx512_bitalg", "avx512_vbmi2", "avx512_vnni", "avx512_vpopcntdq", "avx512ifma", "avx512vbmi", "gfni")
_NEON = ("asimd", "fp")
_ARM_8_2 = (*_NEON, "asimddp", "asimdhp", "asimdrdm", "atomics", "fphp", "lrcpc")
_SVE = (*_ARM_8_2, "bf16", "fcma", "i8mm", "sve")


@dataclass(frozen=True)
class Cpu:
    """A CPU to build for.

    Attributes:
        name: What ``--cpu`` takes and the artifact records.
        machine: Its architecture: ``x86_64`` or ``aarch64``.
        processor: LLVM's name of it.
        vector_bytes: Width of the vectors that kernels are written with.
        features: The instruction sets that LLVM may use for it in code like ours, as Linux names them in
            ``/proc/cpuinfo``.  What only hand-written intrinsics reach (AES, AMX) is left out.
    """

    name: str
    machine: str
    processor: str
    vector_bytes: int
    features: tuple[str, ...]

    @property
    def triple(self) -> str:
        return f"{self.machine}-linux-gnu"


@dataclass(frozen=True)
class Options:
    """How to build.

    Attributes:
        cpu: The CPU to build for.
        threads: How many threads the kernels' loops are cut for.
        channels_last: Names of parameters and outputs, images ``[N, C, H, W]`` of functions without ragged values,
            that lie in memory as ``[N, H, W, C]``.  All others are row-major.
    """

    cpu: Cpu
    threads: int = 2
    channels_last: tuple[str, ...] = ()


def _x86(name: str, vector_bytes: int, *features: str) -> Cpu:
    return Cpu(name, "x86_64", name, vector_bytes, tuple(sorted(features)))


def _arm(name: str, processor: str, *features: str) -> Cpu:
    # A vector of eight floats becomes two registers of four.  With 32 registers that leaves the tiles of the
    # products whole, and loads and stores in pairs.
    return Cpu(name, "aarch64", processor, 32, tuple(sorted(features)))


CPUS: Mapping[str, Cpu] = {
    cpu.name: cpu
    for cpu in (
        # The micro-architecture levels of the x86-64 psABI.
        _x86("x86-64-v2", 16, *_V2),
        _x86("x86-64-v3", 32, *_V3),
        _x86("x86-64-v4", 64, *_V4),
        _x86("haswell", 32, *_V3),
        _x86("znver2", 32, *_V3, "sse4a"),
        _x86("znver3", 32, *_V3, "sse4a"),
        _x86("znver4", 64, *_V4, *_VBMI, "avx512_bf16", "sse4a"),
        _x86("znver5", 64, *_V4, *_VBMI, "avx512_bf16", "avx_vnni", "sse4a"),
        _x86("skylake-avx512", 64, *_V4),
        _x86("cascadelake", 64, *_V4, "avx512_vnni"),
        _x86("icelake-server", 64, *_V4, *_VBMI),
        _x86("sapphirerapids", 64, *_V4, *_VBMI, "avx512_bf16", "avx512_fp16", "avx_vnni"),
        _arm("aarch64", "generic", *_NEON),
        _arm("neoverse-n1", "neoverse-n1", *_ARM_8_2),
        _arm("neoverse-v1", "neoverse-v1", *_SVE),
        _arm("neoverse-n2", "neoverse-n2", *_SVE, "frint", "sve2"),
        _arm("neoverse-v2", "neoverse-v2", *_SVE, "frint", "sve2"),
    )
}
"""Every CPU by the name that ``--cpu`` takes."""

LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
"""What ``native`` means on x86-64, the least first: an artifact then runs on every machine of its level."""

_ALIASES = {"aarch64+neon": "aarch64", "armv8-a": "aarch64"}


@cache
def host_cpu() -> Cpu:
    """The best level that this machine supports; raises TargetError where there is none."""
    if platform.machine() in ("aarch64", "arm64"):
        return CPUS["aarch64"]
    found: Cpu | None = None
    for level in LEVELS:
        if not host_flags().issuperset(CPUS[level].features):
            break
        found = CPUS[level]
    if found is None:
        raise TargetError(
            f"the cpu target needs at least an x86-64-v2 machine; this is {platform.machine()}",
            hint="compile with `--target reference`, or name the CPU to compile for with `--cpu`",
        )
    return found


def named_cpu(name: str) -> Cpu:
    """The CPU called ``name`` (``native``: this machine); raises TargetError for an unknown name."""
    if name == "native":
        return host_cpu()
    known = CPUS.get(_ALIASES.get(name, name))
    if known is None:
        raise TargetError(f"unknown CPU {name!r}", hint=f"known are {', '.join(['native', *CPUS])}")
    return known
