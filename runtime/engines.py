"""Which engine executes an artifact."""

from __future__ import annotations

import platform
from pathlib import Path

from .artifact import Artifact, TargetSpec
from .engine import Engine
from .errors import EngineError

_CPU_INFO = Path("/proc/cpuinfo")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def engine_for(artifact: Artifact, threads: int | None = None) -> Engine:
    """The engine of this runtime for ``artifact``, with its code loaded.

    Args:
        artifact: its target decides.
        threads: threads of a step; None takes the engine's default.

    Raises EngineError when this release, machine or installation cannot execute it.
    """
    target = artifact.manifest.target
    if target.kind == "reference":
        raise EngineError(
            "a reference artifact is executed by the compiler's own engine, which the runtime does not contain",
            "target reference",
            "use `fluidc run`, pass an engine to Session.load, or compile with --target cpu",
        )
    if target.kind != "cpu":
        raise EngineError(
            f"this release cannot execute artifacts for the target {target.kind}",
            f"target {target.kind}",
            "compile with --target cpu",
        )
    if artifact.module is None:
        raise EngineError("the artifact holds no code", "module.so", "compile the script again")
    check_cpu(target)
    from .tvm_engine import TvmEngine  # TVM's library is large: only who executes an artifact loads it

    return TvmEngine(artifact.module, threads)


def check_cpu(target: TargetSpec) -> None:
    """Raise EngineError when this processor lacks what the code uses; executing it would end the process."""
    here = _machine(platform.machine())
    built = _machine(target.triple.partition("-")[0])
    if built and built != here:
        raise EngineError(
            f"the artifact was compiled for {built} processors, this one is {here}",
            f"target {target.triple}",
            "compile it on this kind of machine",
        )
    if not target.features or not _CPU_INFO.exists():
        return
    missing = sorted(set(target.features) - _features(_CPU_INFO.read_text()))
    if missing:
        raise EngineError(
            f"this processor lacks {', '.join(missing)}, which the code uses",
            f"target {target.cpu or target.triple}",
            "compile with --cpu of an older processor, such as x86-64-v2",
        )


def _machine(name: str) -> str:
    return _MACHINES.get(name.lower(), name.lower())


def _features(cpu_info: str) -> set[str]:
    """The instruction sets that Linux lists for the first processor."""
    for line in cpu_info.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    return set()
