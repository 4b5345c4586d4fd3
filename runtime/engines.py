"""Which engine executes an artifact."""

from __future__ import annotations

from .artifact import Artifact
from .engine import Engine
from .errors import EngineError
from .processor import check_cpu


def engine_for(artifact: Artifact, threads: int | None = None) -> Engine:
    """The engine of this runtime for ``artifact``, with its code loaded.

    Args:
        artifact: its target decides.
        threads: threads of a step; None takes what `threads.thread_count` says.

    Raises EngineError when this release, machine or installation cannot execute it.
    """
    target = artifact.manifest.target
    if target.kind == "reference":
        raise EngineError(
            "a reference artifact is executed by the compiler's own engine, which the runtime does not contain",
            "target reference",
            "use `fluidc run`, pass an engine to Session.load, or compile with --target cpu",
        )
    if target.kind == "onnx":
        models = {name.removesuffix(".onnx"): data for name, data in artifact.modules.items() if name.endswith(".onnx")}
        if not models:
            raise EngineError("the artifact holds no code", "members *.onnx", "compile the script again")
        from .onnx_engine import OnnxEngine  # loads ONNX Runtime

        return OnnxEngine(models, threads)
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
