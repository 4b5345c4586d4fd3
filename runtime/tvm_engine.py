"""Runs compiled shared libraries with TVM's runtime library alone: no compiler is loaded.

Neither ``tvm`` nor ``tvm_ffi`` is imported (`libraries`, `tvm_abi`).  A module given as bytes is written to a private
folder, loaded, and the folder removed at once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from .engine import ALIGNMENT, Array, Buffer, Handle
from .errors import EngineError
from .libraries import RUNTIME
from .threads import thread_count
from .tvm_abi import Function, Module, Tensor, TvmError, global_function, load_library

_CPU, _DEVICE, _POOLED = 1, 0, 2  # DLPack's device type and number, the runtime's pooled allocator


class TvmEngine:
    """A compiled module on the CPU (``runtime.engine.Engine``).

    Args:
        module: The shared library as bytes or as a path, or a module that was made in this process.
        threads: Threads of a step; None takes what `threads.thread_count` says.  Every engine has a number of its
            own, but the pool of a thread that calls engines is made at its first step, for the largest number
            that any engine then has: a later engine that wants more warns and runs on that.

    Attributes:
        threads: Threads of a step.

    Raises:
        EngineError: TVM's runtime is not installed, the library does not load here, or ``threads`` is no number of
            threads.
    """

    def __init__(self, module: bytes | Path | str | Module, threads: int | None = None) -> None:
        self.threads = thread_count(threads)
        _announce(self.threads)
        load_library(RUNTIME)
        self._module = load_module(module)
        self._machine = machine(self._module, _CPU, _DEVICE, _POOLED)
        self._functions: dict[str, Function] = {}
        self._use_workers = global_function("runtime.config_threadpool")

    @property
    def in_place(self) -> bool:
        """Compiled functions write state where they read it."""
        return True

    def tensor(self, array: Array, *, secret: bool = False) -> Handle:
        """Wrap an array without copying; the handle keeps it alive.

        Raises ValueError unless the array is C-contiguous and 64-byte aligned.
        """
        del secret  # nothing is copied
        if array.ctypes.data % ALIGNMENT or not array.flags.c_contiguous:
            raise ValueError("an engine takes C-contiguous arrays on 64-byte boundaries; see `engine.aligned`")
        return Tensor.over(array)

    def state(self, buffer: Buffer) -> Handle:
        """Wrap the owner's array as `tensor` does."""
        return self.tensor(buffer.array)

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """Run one function to its end; returns its fetches as new arrays.

        Raises EngineError when the module has no such function, or an argument does not fit.
        """
        found = self._functions.get(function)
        if found is None:
            found = self._functions[function] = function_of(self._machine, function)
        if _pool.used != self.threads:
            self._engage()
        try:
            return found.arrays(arguments)
        except TvmError as error:
            raise EngineError(
                f"the compiled function {function!r} refused its arguments: {last_line(error)}",
                f"function {function!r}",
                "pass arrays of the types and shapes that the artifact's manifest lists",
            ) from error

    def kernel(self, symbol: str) -> Callable[..., object]:
        """One kernel of the module by name, called with its buffers and sizes in the order of its own.

        It runs on the threads of the engine whose function was called, or kernel looked up, last.  Raises EngineError
        when the module has none of this name.
        """
        if _pool.used != self.threads:
            self._engage()
        found = self._module.function(symbol, imported=True)
        if found is None:
            raise EngineError(
                f"the module has no kernel {symbol!r}", "module.so", "compile the program again with this version"
            )
        return found

    def _engage(self) -> None:
        """Have the calling thread's pool, made now if it has none, use as many workers as this engine has threads."""
        if _most == 1:
            return  # loops run where they are
        if not _pool.size:
            _pool.size = _most
        elif self.threads > _pool.size:
            warnings.warn(
                f"{self.threads} threads are wanted, and an earlier step made the pool with {_pool.size}: "
                f"steps run on {_pool.size}; load the artifact that takes most threads first",
                UserWarning,
                stacklevel=4,
            )
        self._use_workers(_ANY_CORES, self.threads)
        _pool.used = self.threads


def last_line(error: Exception) -> str:
    """What an error of TVM's says, without where it was raised."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def function_of(machine: Module, name: str) -> Function:
    """A function of a virtual machine; raises EngineError when it has none of this name."""
    found = machine.function(name)
    if found is None:
        raise EngineError(
            f"the module has no function {name!r}",
            f"function {name!r}",
            "use one of the functions that the manifest lists",
        )
    return found


# Threads ----------------------------------------------------------------------------------------------
class _Pool(threading.local):
    """The worker pool of the thread that asks: how many it was made with (0: not made), and how many work."""

    size = 0
    used = 0


_POOL_SIZE = "TVM_NUM_THREADS"  # read by TVM when a pool is made, and at every loop: where it is 1, none is used
_ANY_CORES = 1  # TVM's mode of choosing workers; they are not bound to cores

_pool = _Pool()
_most = 1
"""Threads of the engine that has most; 1 for good in a child that was forked with a pool."""
_pool_is_lost = False


def _announce(threads: int) -> None:
    """Settings that TVM reads when it makes its first pool, and the size of the next."""
    global _most
    _watch_forks()
    # Pinning would also pin this process's own thread, and every pool made by other libraries after it.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    # A worker that has nothing to do yields its core so many times, about a millisecond, before it sleeps.  The
    # serial parts of a step are shorter, and what follows a step waits no longer: docs/adr/0018-threads.md.
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "2000")
    if _pool_is_lost:
        if threads > 1:
            warnings.warn(
                "this process was forked after a step, and the workers stayed behind: steps run on one thread; start "
                "it by the spawn method, or before the first step",
                UserWarning,
                stacklevel=4,
            )
        return
    _most = max(_most, threads)
    os.environ[_POOL_SIZE] = str(_most)


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_run_alone)


def _run_alone() -> None:
    """In a forked child: without the workers, a loop that gave them work would wait forever."""
    global _most, _pool_is_lost
    if _pool.size:
        _most, _pool_is_lost = 1, True
        os.environ[_POOL_SIZE] = "1"


def machine(module: Module, *devices: int) -> Module:
    """A virtual machine over the module's functions; raises EngineError for a library that holds none.

    Args:
        module: The library.
        devices: Kind, number and allocator of each device.
    """
    try:
        made = module.call("vm_load_executable")
        if isinstance(made, Module):
            made.call("vm_initialization", *devices)
            return made
        what = "it holds no functions"
    except TvmError as error:
        what = last_line(error)
    raise EngineError(
        f"the compiled module does not load: {what}", "module.so", "compile the program again on this machine"
    )


def load_module(module: bytes | Path | str | Module) -> Module:
    """A shared library, in memory or by its path, as a module; one that is a module is itself.  Raises EngineError."""
    if isinstance(module, bytes):
        return _load_bytes(module)
    return module if isinstance(module, Module) else _load(Path(module))


def _load_bytes(library: bytes) -> Module:
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


def _load(path: Path) -> Module:
    try:
        return Module.load(path)
    except TvmError as error:
        raise EngineError(
            f"the compiled module does not load: {last_line(error)}",
            str(path),
            "compile the program again on this machine",
        ) from error
