"""Which compiler of CUDA C this machine has.

In this order: NVRTC of the wheels, NVRTC of a toolkit, nvcc.  NVRTC comes first since it starts no processes and needs
no compiler of the host; the wheels come first since their versions are those that this package was tested with.
``FLUIDC_CUDA_COMPILER=nvrtc`` or ``nvcc`` leaves no choice.
"""

from __future__ import annotations

import os
import shutil
from functools import cache

from .....errors import TargetError
from . import nvcc, nvrtc
from .compiler import Compiler
from .places import INSTALL, headers, library, toolkits, wheels

VARIABLE = "FLUIDC_CUDA_COMPILER"


def find_compiler() -> Compiler:
    """The compiler to use; raises TargetError when there is none, or what was asked for is not there."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "nvrtc", "nvcc"):
        raise TargetError(f"{VARIABLE}={wanted} names no compiler of CUDA C", hint="nvrtc or nvcc, or leave it unset")
    found = None if wanted == "nvcc" else _nvrtc()
    if found is None and wanted != "nvrtc":
        found = _nvcc()
    if found is not None:
        return found
    looked = {"nvrtc": "libnvrtc.so.13 or .12", "nvcc": "nvcc", "": "libnvrtc.so.13 or .12, or nvcc"}[wanted]
    places = ", ".join(map(str, (*wheels(), *toolkits())))
    raise TargetError(
        f"no compiler of CUDA C found: {looked}, in wheels of this environment, $CUDA_HOME, $CUDA_PATH, on PATH, or in "
        "/usr/local/cuda",
        where=f"looked into {places}" if places else None,
        hint=f"{INSTALL} (no GPU and no toolkit needed), or install the CUDA toolkit",
    )


def _nvrtc() -> Compiler | None:
    for folder in (*wheels(), *toolkits()):
        path = library("libnvrtc.so.1[23]", [folder])
        if path is not None:
            joiner = library("libnvfatbin.so.*", [folder, *wheels(), *toolkits()])
            return _loaded_nvrtc(path.resolve(), headers(folder), joiner)
    return None


def _nvcc() -> Compiler | None:
    paths = [str(folder / "bin" / "nvcc") for folder in toolkits()]
    found = next(filter(None, map(shutil.which, [*paths, "nvcc"])), None)
    return None if found is None else _loaded_nvcc(found)


_loaded_nvrtc = cache(nvrtc.load)
_loaded_nvcc = cache(nvcc.load)
