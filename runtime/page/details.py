"""Gathering what the page shows beside the report: where and how the run was made, and of what."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from importlib import metadata

from ..model import Model
from ..observe import History, StepTimes
from ..profile import Profile
from .html import Details, Section
from .layers import layer_graph


def details_of(
    model: Model,
    command: str,
    data: str,
    history: History,
    times: StepTimes,
    profile: Profile | None,
    warnings: Sequence[str],
    *,
    private: bool,
) -> Details:
    """What the page shows.

    Args:
        model: that was trained.
        command: the line that the run was started with.
        data: what the data set is called.
        history: values of steps.
        times: of steps.
        profile: times of kernels, or None.
        warnings: given while it ran.
        private: leave out everything that depends on examples without noise, and what would tell one run from another.
    """
    manifest = model.manifest
    spelled = {s.name: f"{s.dtype}[{','.join(map(str, s.shape))}]" for s in manifest.state}
    return Details(
        history=history,
        times=None if private else times,
        profile=None if private else profile,
        graph=layer_graph(model.artifact.ir),
        parameters=tuple((s.name, spelled[s.name], math.prod(s.shape)) for s in manifest.state if s.trainable),
        sections=(
            Section("Run", tuple(_run(model, command, data, private))),
            Section("Artifact", tuple(_artifact(model))),
            Section("Versions", tuple(_versions(model))),
        ),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _run(model: Model, command: str, data: str, private: bool) -> list[tuple[str, str]]:
    rows = [("command", command), ("data", data)]
    course = model.course
    if course is not None:
        rows += [("batch", f"{course.batch} rows"), ("sampler", course.sampler), ("examples", f"{course.examples:,}")]
    if not private:
        rows.append(("seed", str(model.seed)))
    return rows


def _artifact(model: Model) -> list[tuple[str, str]]:
    manifest = model.manifest
    target = manifest.target
    rows = [("target", " ".join(part for part in (target.kind, target.triple, target.cpu) if part))]
    if target.threads:
        rows.append(("threads of a step", str(target.threads)))
    rows.append(("rows of a step", "any number" if manifest.batch is None else str(manifest.batch)))
    for feed in manifest.feeds:
        rows.append((f"feed {feed.name}", f"{feed.dtype}[{','.join(map(str, feed.shape))}]"))
    rows.append(("SHA-256", model.artifact_sha256))
    return rows


def _versions(model: Model) -> list[tuple[str, str]]:
    rows = [("compiled by fluidc", model.manifest.fluidc_version)]
    for name, told in (("fluidc", "run by fluidc"), ("numpy", "numpy"), *_ENGINES.get(model.manifest.target.kind, ())):
        found = _version(name)
        if found:
            rows.append((told, found))
    rows += [("Python", platform.python_version()), ("machine", f"{platform.system()} {platform.machine()}")]
    return rows


_ENGINES = {
    "cpu": (("apache-tvm", "TVM"), ("apache-tvm-ffi", "TVM FFI")),
    "onnx": (("onnxruntime", "ONNX Runtime"), ("onnxruntime-training", "ONNX Runtime (training)")),
}


def _version(distribution: str) -> str:
    """The version of an installed distribution, or nothing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
