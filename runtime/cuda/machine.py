"""TVM's runtime on a device: a module's functions, tensors of device memory, and functions for a module's host code."""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..errors import EngineError
from ..tvm_engine import last_line, load_module, load_runtime, runtime_library
from .cudart import CudaError
from .device import Device, in_words

_HOST, _CUDA, _POOLED = 1, 2, 2  # DLPack's device types, the runtime's pooled allocator
_LIBRARY = "libtvm_runtime_cuda.so"
_ALLOCATE = "vm.builtin.alloc_storage"
_MEMORY = "out of memory"

Tensor: TypeAlias = Any
"""A tensor of TVM's, in device memory."""

_loading = threading.Lock()


@dataclass(frozen=True)
class Result:
    """A tensor that a function returned.

    Attributes:
        tensor: It, which keeps its memory.
        address: Where its values begin.
        shape, dtype: As numpy has them.
    """

    tensor: Tensor
    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes."""
        count = self.dtype.itemsize
        for dim in self.shape:
            count *= dim
        return count


class Machine:
    """A module's functions on one device.

    Args:
        module: The library, as bytes or as a path, or a module that was made in this process.
        device: Where it runs.

    Raises EngineError when it does not load.
    """

    def __init__(self, module: bytes | Path | str | Any, device: Device) -> None:
        self._device = device
        self._held: list[object] | None = None
        ffi = load_tvm()
        loaded = load_module(module)
        try:
            with _loading:
                self._machine = self._initialised(ffi, loaded)
        except RuntimeError as error:
            raise EngineError(
                f"the compiled module does not load: {last_line(error)}", device.name, "compile the program again"
            ) from error
        self._functions: dict[str, Callable[..., Any]] = {}
        device.resources.add(self)

    def call(self, function: str, tensors: Sequence[Tensor], held: list[object] | None = None) -> list[Result]:
        """Begin what a function does, in the device's stream; its results are there once all of that has ended.

        Args:
            function: Its name.
            tensors: Arguments.
            held: Takes the memory of intermediate values, which nobody else then gets as long as the list lives.

        Raises EngineError when there is no such function, an argument does not fit, or memory is used up.
        """
        found = self._functions.get(function)
        if found is None:
            found = self._functions[function] = self._lookup(function)
        self._held = held
        try:
            with _ffi().use_raw_stream(_device_of(self._device.ordinal), self._device.stream):
                returned = found(*tensors)
        except (RuntimeError, TypeError, ValueError) as error:
            raise _refusal(function, error, self._device) from error
        finally:
            self._held = None
        return [Result(each, each.data_ptr(), tuple(map(int, each.shape)), _numpy(each)) for each in returned]

    def _initialised(self, ffi: Any, module: Any) -> Any:
        """A virtual machine whose storage goes through `_allocate`: it looks its functions up here, once."""
        allocate: Callable[..., object] = ffi.get_global_func(_ALLOCATE)

        def allocate_held(*arguments: Any) -> object:
            made = allocate(*arguments)
            if self._held is not None:
                self._held.append(made)
            return made

        ffi.register_global_func(_ALLOCATE, allocate_held, override=True)
        try:
            machine = module["vm_load_executable"]()
            machine["vm_initialization"](_CUDA, self._device.ordinal, _POOLED, _HOST, 0, _POOLED)
        finally:
            ffi.register_global_func(_ALLOCATE, allocate, override=True)
        return machine

    def _lookup(self, function: str) -> Callable[..., Any]:
        try:
            return self._machine[function]
        except (AttributeError, KeyError, RuntimeError) as error:
            raise EngineError(
                f"the module has no function {function!r}",
                f"function {function!r}",
                "use one of the functions that the manifest lists",
            ) from error


def allocate(device: Device, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> Tensor:
    """Device memory for an array of this shape and type.  Raises EngineError, which names ``what``, when it is used up."""
    ffi = _ffi()
    try:
        return ffi.get_global_func("runtime.TVMTensorAllocWithScope")(
            ffi.Shape(shape), ffi.dtype(dtype.name), _device_of(device.ordinal), None
        )
    except RuntimeError as error:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        raise _exhausted(device, f"{in_words(size)} for {what}", error) from error


def part(whole: Tensor, first: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """The bytes of a tensor from ``first`` on, as a tensor of another shape and type; it keeps the whole."""
    ffi = _ffi()
    view = ffi.get_global_func("runtime.TVMTensorCreateView")(whole, ffi.Shape(shape), ffi.dtype(dtype.name), first)
    # Kernels take no offsets: the view's is added to its address.
    capsule = view.__dlpack__()
    described = _Described.from_address(_capsule_pointer(capsule, b"dltensor"))
    described.data += described.offset
    described.offset = 0
    return ffi.from_dlpack(_Exported(capsule, described.device))


def register(name: str, function: Callable[..., object]) -> None:
    """Let the host code of modules call ``function``, with addresses as ctypes or int."""
    load_tvm().register_global_func(name, function, override=True)


# Parts ------------------------------------------------------------------------------------------------
class _Described(ctypes.Structure):
    """``struct DLTensor``, as far as it is read."""

    _fields_ = (
        ("data", ctypes.c_uint64), ("kind", ctypes.c_int32), ("device", ctypes.c_int32), ("axes", ctypes.c_int32),
        ("dtype", ctypes.c_uint32), ("shape", ctypes.c_uint64), ("strides", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
    )  # fmt: skip


class _Exported:
    """Something that exports a capsule which it already has."""

    def __init__(self, capsule: object, device: int) -> None:
        self._capsule, self._device = capsule, device

    def __dlpack__(self, **_: object) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self._device


_capsule_pointer: Any = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.argtypes, _capsule_pointer.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p


@cache
def load_tvm() -> Any:
    """TVM's package of calls, with its runtime for CUDA loaded.  Raises EngineError."""
    load_runtime()
    path = runtime_library().with_name(_LIBRARY)
    try:
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise EngineError(
            f"TVM's runtime for CUDA does not load: {error}", str(path), "pip install 'apache-tvm>=0.27,<0.28'"
        ) from error
    return _ffi()


def _ffi() -> Any:
    return importlib.import_module("tvm_ffi")


@cache
def _device_of(ordinal: int) -> Any:
    return _ffi().device("cuda", ordinal)


def _numpy(tensor: Tensor) -> np.dtype[Any]:
    return np.dtype(str(tensor.dtype))


def _refusal(function: str, error: Exception, device: Device) -> EngineError:
    text = last_line(error)
    if _MEMORY in str(error):
        return _exhausted(device, f"more for the function {function!r}", error)
    if isinstance(error, RuntimeError) and "CUDA" in str(error):
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


def _exhausted(device: Device, what: str, error: Exception) -> EngineError:
    if _MEMORY not in str(error):
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
