"""NVIDIA's shared libraries, and where they are: loaded already, in pip's wheels, in a toolkit, or in the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from ..libraries import BUNDLED, package_folders

DRIVER = "libcuda.so.1"
RUNTIME = "libcudart.so.13"
CUBLAS = ("libcublasLt.so.13", "libcublas.so.13")
"""In the order in which they are loaded."""

_TOOLKITS = ("CUDA_PATH", "CUDA_HOME")


def load(name: str) -> ctypes.CDLL | None:
    """A library, with its symbols for those that are loaded after it; None where it is nowhere, or does not load."""
    for path in (None, *folders(), Path()):
        mode = ctypes.RTLD_GLOBAL | (os.RTLD_NOLOAD if path is None else 0)
        try:
            return ctypes.CDLL(name if path is None or path == Path() else str(path / name), mode=mode)
        except OSError:
            continue
    return None


def folders() -> Iterator[Path]:
    """Folders that may hold NVIDIA's libraries, beside those that the system searches."""
    yield BUNDLED
    for folder in package_folders("nvidia"):  # the wheels share a namespace
        yield from sorted(folder.glob("*/lib"))
    for root in (*(os.environ.get(variable, "") for variable in _TOOLKITS), "/usr/local/cuda"):
        if root:
            yield Path(root, "lib64")
            yield Path(root, "lib")
