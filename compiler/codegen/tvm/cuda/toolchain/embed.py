"""TVM told to embed machine code: without this it would embed the text, and compile it where it is loaded."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .....errors import TargetError
from ....cache import Cache
from ...tvm_api import tvm
from .compiler import Compiler, MachineCode, compile_code
from .device_runtime import load_device_runtime

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
    if not tvm.runtime.enabled("cuda"):
        load_device_runtime()
    if not tvm.runtime.enabled("cuda"):
        raise TargetError("this installation of TVM has no CUDA runtime", hint="pip install 'apache-tvm>=0.27,<0.28'")
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
