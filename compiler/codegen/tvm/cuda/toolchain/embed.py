"""TVM told to embed machine code: without this it would embed the text, and compile it where it is loaded."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ......runtime.libraries import RUNTIME_CUDA, found
from ......runtime.processor import machine
from .....errors import TargetError
from ....cache import Cache
from ...tvm_api import tvm
from .compiler import Compiler, MachineCode, compile_code
from .places import INSTALL, library, toolkits, wheels
from .stub import stub_driver

_CALLBACK = "tvm_callback_cuda_compile"


@dataclass
class Embedded:
    """What was compiled while `embedding` lasted, module by module."""

    code: list[MachineCode] = field(default_factory=list[MachineCode])


@contextmanager
def embedding(compiler: Compiler, architectures: Sequence[str], cache: Cache) -> Generator[Embedded]:
    """While it lasts, what TVM builds for CUDA gets machine code of this compiler.

    Args:
        compiler: To compile with.
        architectures: Names: ``sm_90``, and ``compute_90`` for PTX.
        cache: See `compile_code`.

    Raises:
        TargetError: A kernel does not compile, an architecture is not known, or TVM's CUDA runtime does not load.
    """
    load_device_runtime()
    embedded, failed = Embedded(), list[TargetError]()

    def compile_cuda(code: str, *_: object) -> bytes:
        try:
            made = compile_code(compiler, code, architectures, cache)
        except TargetError as error:
            failed.append(error)
            raise
        embedded.code.append(made)
        return made.image

    ffi: Any = import_module("tvm_ffi")
    previous = ffi.get_global_func(_CALLBACK, allow_missing=True)
    ffi.register_global_func(_CALLBACK, compile_cuda, override=True)
    try:
        yield embedded
    except Exception:
        if failed:  # TVM has wrapped it
            raise failed[0] from None
        raise
    finally:
        if previous is not None:
            ffi.register_global_func(_CALLBACK, previous, override=True)


def load_device_runtime() -> None:
    """Load TVM's CUDA runtime, which knows how to embed machine code; without a driver, over a stub of one.

    Raises:
        TargetError: It is not there, or CUDA's own runtime library is not.
    """
    if tvm.runtime.enabled("cuda"):
        return
    _load_cudart()
    with suppress(OSError):  # no driver, then: a stub
        ctypes.CDLL("libcuda.so.1")
        _load_tvm()
        return
    with tempfile.TemporaryDirectory(prefix="fluidc-") as folder:
        path = Path(folder, "libcuda.so.1")
        path.write_bytes(stub_driver(machine()))
        ctypes.CDLL(str(path))  # found by its name from then on
        _load_tvm()


def _load_cudart() -> None:
    path = library("libcudart.so.13", (*wheels(), *toolkits()))
    try:
        ctypes.CDLL("libcudart.so.13" if path is None else str(path))
    except OSError as error:
        raise TargetError(
            "libcudart.so.13, on which TVM's CUDA runtime is built, does not load", str(error), INSTALL
        ) from None


def _load_tvm() -> None:
    path = found(RUNTIME_CUDA)
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        raise TargetError("TVM's CUDA runtime does not load", str(path), str(error)) from None
    if not tvm.runtime.enabled("cuda"):
        raise TargetError(
            "this installation of TVM has no CUDA runtime", str(path), "pip install 'apache-tvm>=0.27,<0.28'"
        )
