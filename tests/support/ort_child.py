"""Trains on-device artifacts by ONNX Runtime's training API; imports nothing of fluidc.

``python ort_child.py FOLDER JOB.npz OUT.npz``: a process of its own, since ONNX Runtime may crash.  JOB holds what goes
into every call, ``train/STEP/NUMBER`` and ``eval/NUMBER``, in the order of the models; OUT gets what came back.  With
``--without-torch`` the classes of ``onnxruntime.training.api`` are imported past the package's own ``__init__``, the
part of it that needs torch.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np


def training_api(*, without_torch: bool) -> Any:
    if without_torch:
        import onnxruntime

        package = types.ModuleType("onnxruntime.training")
        package.__path__ = [str(Path(onnxruntime.__file__).parent / "training")]
        sys.modules["onnxruntime.training"] = package
    from onnxruntime.training import api

    return api


def calls(job: Any, kind: str) -> list[np.ndarray]:
    return [job[f"{kind}/{number}"] for number in range(sum(name.startswith(f"{kind}/") for name in job.files))]


def outputs(found: Any) -> list[np.ndarray]:
    """What a Module returns: one array, or several."""
    return list(found) if isinstance(found, tuple) else [found]


def main(folder: Path, job_file: str, out_file: str, *, without_torch: bool) -> None:
    api = training_api(without_torch=without_torch)
    job = np.load(job_file)
    steps = sum(name.startswith("train/") and name.endswith("/0") for name in job.files)
    out: dict[str, Any] = {}

    def loaded(checkpoint: Path) -> tuple[Any, Any, Any]:
        state = api.CheckpointState.load_checkpoint(checkpoint)
        model = api.Module(folder / "training_model.onnx", state, folder / "eval_model.onnx")
        return state, model, api.Optimizer(folder / "optimizer_model.onnx", model)

    state, model, optimizer = loaded(folder / "checkpoint")
    optimizer.set_learning_rate(state.properties["learning_rate"])
    for kind, mode in (("train", model.train), ("eval", model.eval)):
        out[f"{kind} inputs"], out[f"{kind} outputs"] = np.array(mode().input_names()), np.array(mode().output_names())
    for step in range(steps):
        if step == steps // 2:  # train on from a file
            kept = Path(out_file).with_suffix(".checkpoint")
            api.CheckpointState.save_checkpoint(state, kept, include_optimizer_state=True)
            state, model, optimizer = loaded(kept)
            optimizer.set_learning_rate(state.properties["learning_rate"])
        model.train()
        for number, value in enumerate(outputs(model(*calls(job, f"train/{step}")))):
            out[f"train/{step}/{number}"] = np.array(value)
        if step == 0:
            out |= {f"gradient/{name}": p.grad.copy() for name, p in state.parameters if p.requires_grad}
        optimizer.step()
        model.lazy_reset_grad()
    out |= {f"parameter/{name}": p.data.copy() for name, p in state.parameters}
    model.eval()
    for number, value in enumerate(outputs(model(*calls(job, "eval")))):
        out[f"eval/{number}"] = np.array(value)
    inference = Path(out_file).with_suffix(".onnx")
    model.export_model_for_inferencing(inference, [str(out["eval outputs"][-1])])
    np.savez(out_file, **out)


if __name__ == "__main__":
    positional = [argument for argument in sys.argv[1:] if argument != "--without-torch"]
    main(Path(positional[0]), positional[1], positional[2], without_torch="--without-torch" in sys.argv)
