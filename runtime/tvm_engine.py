"""Runs compiled shared libraries with TVM's runtime library alone: no compiler is loaded.

The library is found inside the installed ``apache-tvm`` wheel without importing ``tvm`` (whose import takes seconds
and 150 MB).  A module given as bytes is written to a private folder, loaded, and the folder removed at once.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .engine import ALIGNMENT, Array, Handle
from .errors import EngineError

_CPU, _DEVICE, _POOLED = 1, 0, 2  # DLPack's device type and number, the runtime's pooled allocator

_runtime: ctypes.CDLL | None = None


class TvmEngine:
    """A compiled module on the CPU (``runtime.engine.Engine``).

    Args:
        module: The shared library as bytes or as a path, or a module that the compiler made in this process.
        threads: Threads of a step; None takes what the environment says, else the cores this process may use.
            The pool is made once per process: the first engine decides.

    Raises:
        EngineError: TVM's runtime is not installed, or the library does not load here.
    """

    def __init__(self, module: bytes | Path | str | Any, threads: int | None = None) -> None:
        _configure_threads(threads)
        try:
            ffi: Any = importlib.import_module("tvm_ffi")
        except ImportError as error:
            raise _not_installed("apache-tvm-ffi") from error
        self._wrap: Callable[[Any], Handle] = ffi.from_dlpack
        if isinstance(module, bytes | str | Path):
            _load_runtime()
            loaded = _load_bytes(module) if isinstance(module, bytes) else _load(Path(module))
        else:
            loaded = module
        self._machine: Any = loaded["vm_load_executable"]()
        self._machine["vm_initialization"](_CPU, _DEVICE, _POOLED)
        self._functions: dict[str, Callable[..., Any]] = {}

    def tensor(self, array: Array) -> Handle:
        """Wrap an array without copying; the handle keeps it alive.

        Raises ValueError unless the array is C-contiguous and 64-byte aligned.
        """
        if array.ctypes.data % ALIGNMENT or not array.flags.c_contiguous:
            raise ValueError("an engine takes C-contiguous arrays on 64-byte boundaries; see `engine.aligned`")
        return self._wrap(array)

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """Run one function to its end; returns its fetches as new arrays.

        Raises EngineError when the module has no such function, or an argument does not fit.
        """
        found = self._functions.get(function)
        if found is None:
            found = self._functions[function] = self._lookup(function)
        try:
            results = found(*arguments)
        except (RuntimeError, TypeError, ValueError) as error:
            raise EngineError(
                f"the compiled function {function!r} refused its arguments: {_last_line(error)}",
                f"function {function!r}",
                "pass arrays of the types and shapes that the artifact's manifest lists",
            ) from error
        return [np.array(np.from_dlpack(result)) for result in results]

    def _lookup(self, function: str) -> Callable[..., Any]:
        try:
            found: Callable[..., Any] = self._machine[function]
        except (AttributeError, KeyError, RuntimeError) as error:
            raise EngineError(
                f"the module has no function {function!r}",
                f"function {function!r}",
                "use one of the functions that the manifest lists",
            ) from error
        return found


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _configure_threads(threads: int | None) -> None:
    """Settings that TVM reads once, when its thread pool is made."""
    # Pinning would also pin this process's own thread, and every pool made by other libraries after it.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    # A worker that spins for long starves the thread pools of numpy and others between two steps.
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "2000")
    if threads:
        os.environ["TVM_NUM_THREADS"] = str(threads)
    else:
        os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))


def _load_runtime() -> None:
    """Load ``libtvm_runtime.so`` once, for its symbols."""
    global _runtime
    if _runtime is None:
        path = runtime_library()
        try:
            _runtime = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise EngineError(
                f"TVM's runtime library does not load: {error}", str(path), "reinstall apache-tvm for this platform"
            ) from error


def runtime_library() -> Path:
    """Where the installed wheel keeps ``libtvm_runtime.so``; raises EngineError when it is not installed."""
    try:
        files = importlib.metadata.files("apache-tvm") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise _not_installed("apache-tvm") from error
    for file in files:
        if file.name == "libtvm_runtime.so":
            path = Path(str(file.locate()))
            if path.exists():
                return path
    raise _not_installed("libtvm_runtime.so of apache-tvm")


def _not_installed(what: str) -> EngineError:
    return EngineError(
        f"{what} is not installed, and cpu artifacts run on it",
        "Python environment",
        "pip install 'apache-tvm>=0.27,<0.28'",
    )


def _load_bytes(library: bytes) -> Any:
    """Write a library to a folder that only this user can enter, load it, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="fluidc-"))  # made with mode 0700
    try:
        path = folder / "module.so"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(library)
        return _load(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the mapping keeps the code


def _load(path: Path) -> Any:
    ffi: Any = importlib.import_module("tvm_ffi")
    try:
        return ffi.load_module(str(path))
    except (RuntimeError, OSError, ValueError) as error:
        raise EngineError(
            f"the compiled module does not load: {_last_line(error)}",
            str(path),
            "compile the program again on this machine",
        ) from error
