"""Where the wheels of NVIDIA and CUDA toolkits lie on this machine."""

from __future__ import annotations

import importlib.machinery
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

WHEELS = ("nvidia-cuda-nvrtc", "nvidia-nvfatbin", "nvidia-cuda-runtime", "nvidia-cuda-cccl")
INSTALL = "pip install " + " ".join(f"'{wheel}==13.0.*'" for wheel in WHEELS)
"""Brings the wheels, of the releases that the extra ``cuda`` names."""


def wheels() -> tuple[Path, ...]:
    """The folders of CUDA's wheels in this environment (``nvidia/cu13``), newest first."""
    spec = importlib.machinery.PathFinder.find_spec("nvidia")  # executes nothing
    roots = (spec and spec.submodule_search_locations) or ()
    return tuple(path for root in roots for path in sorted(Path(root).glob("cu[0-9]*"), reverse=True))


def toolkits() -> tuple[Path, ...]:
    """The folders of CUDA toolkits: ``$CUDA_HOME``, ``$CUDA_PATH``, that of nvcc on PATH, and /usr/local/cuda."""
    stated = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        stated.append(str(Path(nvcc).resolve().parents[1]))
    found = [Path(folder) for folder in (*stated, "/usr/local/cuda") if folder]
    return tuple(dict.fromkeys(folder for folder in found if (folder / "include").is_dir()))


def library(pattern: str, folders: Iterable[Path]) -> Path | None:
    """The library whose name matches in ``lib64`` or ``lib`` of the first folder that has one; the highest there."""
    for folder in folders:
        for part in ("lib64", "lib"):
            found = sorted((folder / part).glob(pattern))
            if found:
                return found[-1]
    return None


def headers(folder: Path) -> tuple[Path, ...]:
    """Where the headers of a wheel folder or a toolkit are."""
    include = folder / "include"
    return tuple(path for path in (include, include / "cccl") if path.is_dir())
