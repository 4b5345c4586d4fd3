"""Engines for artifacts: the runtime's own, and the compiler's for the reference target."""

from __future__ import annotations

from ...runtime.artifact import Artifact
from ...runtime.engine import Engine
from ...runtime.engines import check_device, engine_for
from ...runtime.errors import ArtifactError


def choose_engine(artifact: Artifact, threads: int | None, device: int | None = None) -> Engine:
    """The engine that runs ``artifact``; raises FluidcError where there is none on this machine."""
    if artifact.manifest.target.kind != "reference":
        return engine_for(artifact, threads, device)
    check_device(artifact.manifest.target, device)
    return reference_engine(artifact)


def reference_engine(artifact: Artifact) -> Engine:
    """The compiler's engine for the program text in ``artifact``; raises ArtifactError where there is none."""
    text = artifact.ir.get("target")
    if text is None:
        raise ArtifactError(
            "the artifact holds no program text, which the reference target executes",
            "member ir/target.ir",
            "compile the script again",
        )
    from ...compiler.codegen.reference import ReferenceEngine  # the compiler is loaded for this target only
    from ...compiler.ir.parser import parse
    from ...compiler.ops import OPSET

    return ReferenceEngine(parse(text, OPSET))
