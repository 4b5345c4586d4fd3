"""TVM's runtime on a device: a module's functions, and tensors of device memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import EngineError
from ..libraries import RUNTIME, RUNTIME_CUDA
from ..tvm_abi import (
    DeviceTensor,
    Function,
    Module,
    Object,
    TvmError,
    global_function,
    load_library,
    set_global_function,
    set_stream,
)
from ..tvm_engine import function_of, last_line, load_module, machine
from .cudart import CudaError
from .device import Device, in_words

_HOST, _CUDA, _POOLED = 1, 2, 2  # DLPack's device types, the runtime's pooled allocator
_ALLOCATE = "vm.builtin.alloc_storage"
_MEMORY = re.compile(r"out of memory|CUDA[^\n]*\(2\)")  # of TVM's own, and with CUDA's number

Held: TypeAlias = list[Object]
"""Memory that nobody else gets as long as the list lives."""


class _Holding(threading.local):
    """Where a thread's calls put the memory that they take, or None."""

    memory: Held | None = None


_holding = _Holding()
_watching = threading.RLock()


class Machine:
    """A module's functions on one device.

    Args:
        module: The library, as bytes or as a path, or a module that was made in this process.
        device: Where it runs.

    Raises EngineError when it does not load.
    """

    def __init__(self, module: bytes | Path | str | Module, device: Device) -> None:
        load_tvm()
        self._device = device
        self._functions: dict[str, Function] = {}
        with _storage_watched():
            self._machine = machine(load_module(module), _CUDA, device.ordinal, _POOLED, _HOST, 0, _POOLED)
        device.resources.add(self)

    def call(self, function: str, tensors: Sequence[DeviceTensor], held: Held | None = None) -> list[DeviceTensor]:
        """Begin what a function does, in the device's stream; its results are there once all of that has ended.

        Args:
            function: Its name.
            tensors: Arguments.
            held: Takes the memory of intermediate values.

        Raises EngineError when there is no such function, an argument does not fit, or memory is used up.
        """
        found = self._functions.get(function)
        place = _CUDA, self._device.ordinal
        before = set_stream(place, self._device.stream)
        _holding.memory = held
        try:
            if found is not None:
                return found.tensors(tensors)
            with _storage_watched():  # compiled code looks functions up when it first calls them
                found = function_of(self._machine, function)
                results = found.tensors(tensors)
            self._functions[function] = found
            return results
        except TvmError as error:
            raise _refusal(function, error, self._device) from error
        finally:
            _holding.memory = None
            set_stream(place, before)


@contextmanager
def _storage_watched() -> Generator[None]:
    """Modules that look up how to take memory meanwhile find what tells `_holding`; others are not slowed down."""
    with _watching:
        allocate, watched = _storage()
        set_global_function(_ALLOCATE, watched)
        try:
            yield
        finally:
            set_global_function(_ALLOCATE, allocate)


@cache
def _storage() -> tuple[Function, Function]:
    """TVM's function that takes memory from its pool, and the same with `_hold`."""
    allocate = global_function(_ALLOCATE)
    return allocate, Function.watching(allocate, _hold)


def _hold(storage: Object) -> None:
    if _holding.memory is not None:
        _holding.memory.append(storage)


def allocate(device: Device, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> DeviceTensor:
    """Device memory for an array; raises EngineError, which says for ``what``, when it is used up."""
    load_tvm()
    try:
        return DeviceTensor.allocated((_CUDA, device.ordinal), shape, dtype)
    except TvmError as error:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raise _exhausted(device, f"{in_words(size)} for {what}", error) from error


@cache
def load_tvm() -> None:
    """Load TVM's runtime for CUDA, after CUDA's own.  Raises EngineError."""
    load_library(RUNTIME)
    load_library(RUNTIME_CUDA)


def _refusal(function: str, error: TvmError, device: Device) -> EngineError:
    text = last_line(error)
    if _MEMORY.search(str(error)):
        return _exhausted(device, f"more for the function {function!r}", error)
    if "CUDA" in str(error):
        return EngineError(
            f"the device failed in the function {function!r}: {text}",
            device.name,
            "go on from the last checkpoint in a new process; report the program that shows it",
        )
    return EngineError(
        f"the compiled function {function!r} refused its arguments: {text}",
        f"function {function!r}",
        "pass arrays of the types and shapes that the artifact's manifest lists",
    )


def _exhausted(device: Device, what: str, error: TvmError) -> EngineError:
    if not _MEMORY.search(str(error)):
        return EngineError(f"the device gives no memory: {last_line(error)}", device.name, "see nvidia-smi")
    try:
        state = device.memory()
    except CudaError:
        state = "how much it has is not known"
    return EngineError(
        f"the device is out of memory: {what} wanted, and {state}",
        device.name,
        "take smaller batches, end other processes on the device (nvidia-smi), or choose another with --device",
    )
