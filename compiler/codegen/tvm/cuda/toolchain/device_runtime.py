"""TVM's CUDA runtime, loaded with or without a driver: where it is loaded, TVM embeds machine code."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

from ......runtime.libraries import RUNTIME_CUDA, found
from ......runtime.processor import machine
from .....errors import TargetError
from .places import INSTALL, library, toolkits, wheels
from .stub import stub_driver


def load_device_runtime() -> None:
    """Load TVM's CUDA runtime, after TVM itself; over a stub where this machine has no driver.

    Raises:
        TargetError: It does not load, or CUDA's own runtime library does not.
        EngineError: It is not installed.
    """
    _load_cudart()
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        with tempfile.TemporaryDirectory(prefix="fluidc-") as folder:
            path = Path(folder, "libcuda.so.1")
            path.write_bytes(stub_driver(machine()))
            ctypes.CDLL(str(path))  # what needs the driver finds it by its name from now on
    path = found(RUNTIME_CUDA)
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        raise TargetError("TVM's CUDA runtime does not load", str(path), str(error)) from None


def _load_cudart() -> None:
    path = library("libcudart.so.13", (*wheels(), *toolkits()))
    try:
        ctypes.CDLL("libcudart.so.13" if path is None else str(path))
    except OSError as error:
        what = "libcudart.so.13, on which TVM's CUDA runtime is built, does not load"
        raise TargetError(what, hint=f"{INSTALL} ({error})") from None
