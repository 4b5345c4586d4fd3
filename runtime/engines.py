"""Which engine executes an artifact."""

from __future__ import annotations

from .artifact import Artifact
from .engine import Engine
from .errors import EngineError
from .manifest import TargetSpec
from .processor import check_cpu


def engine_for(artifact: Artifact, threads: int | None = None, device: int | None = None) -> Engine:
    """The engine of this runtime for ``artifact``, with its code loaded.

    Args:
        artifact: its target decides.
        threads: threads of a step; None takes what `threads.thread_count` says.  Of no use to a GPU.
        device: number of the GPU for an artifact that runs on one; None takes the first.

    Raises EngineError when this release, machine or installation cannot execute it.
    """
    target = artifact.manifest.target
    check_device(target, device)
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
    if artifact.module is None:
        raise EngineError("the artifact holds no code", "module.so", "compile the script again")
    if target.kind == "cuda":
        from .cuda.engine import CudaEngine  # loads NVIDIA's libraries

        return CudaEngine(artifact.module, target, device or 0)
    check_cpu(target)
    from .tvm_engine import TvmEngine  # TVM's library is large: only who executes an artifact loads it

    return TvmEngine(artifact.module, threads)


def check_device(target: TargetSpec, device: int | None) -> None:
    """Raise EngineError when a device is named for an artifact that runs on none."""
    if device is not None and target.kind != "cuda":
        raise EngineError(
            f"device {device} is named, and the artifact runs on none: it was compiled for {target.kind}",
            "--device",
            "leave it out, or compile with --target cuda",
        )
