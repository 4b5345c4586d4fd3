"""TVM's functions, modules and tensors, called through the C interface of ``libtvm_ffi.so``.

The names and layouts are those of ``tvm/ffi/c_api.h`` and ``dlpack.h``.  The package ``tvm_ffi`` does the same by
extension modules for one version of Python each; this does it on every version, and is loaded in a tenth of the time:
docs/adr/0033-bundles.md.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from ctypes import c_char, c_char_p, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .buffers import Array
from .errors import EngineError
from .libraries import FFI, SharedLibrary, found

# Kinds of values: enum TVMFFITypeIndex.
_NONE, _INT, _BOOL, _DTYPE, _DEVICE, _STRING = 0, 1, 2, 5, 6, 8
_FIRST_OBJECT, _FUNCTION, _TENSOR, _ARRAY, _MODULE = 64, 68, 70, 71, 73
_KINDS = {_FUNCTION: "function", _TENSOR: "tensor", _ARRAY: "array", _MODULE: "module"}
_HEADER = 24  # bytes of struct TVMFFIObject, which every object begins with
_VERSION = (0, 1)

# struct TVMFFIAny: kind, padding, and an integer or address.
_PACKED = struct.Struct("=iIq").pack

# DLPack's type codes and bits.
_DTYPES = {
    (0, 8): "int8", (0, 16): "int16", (0, 32): "int32", (0, 64): "int64",
    (1, 8): "uint8", (1, 16): "uint16", (1, 32): "uint32", (1, 64): "uint64",
    (2, 16): "float16", (2, 32): "float32", (2, 64): "float64", (6, 8): "bool",
}  # fmt: skip
_NUMPY = {key: np.dtype(name) for key, name in _DTYPES.items()}
_CODES = {dtype: key for key, dtype in _NUMPY.items()}


class _Any(ctypes.Structure):
    """``struct TVMFFIAny``."""

    _fields_ = (("kind", c_int32), ("padding", c_uint32), ("value", c_int64))


class _Bytes(ctypes.Structure):
    """``struct TVMFFIByteArray``."""

    _fields_ = (("data", c_void_p), ("size", c_size_t))


class _Error(ctypes.Structure):
    """``struct TVMFFIErrorCell``, as far as it is read."""

    _fields_ = (("kind", _Bytes), ("message", _Bytes))


class _Sequence(ctypes.Structure):
    """``struct TVMFFISeqCell``, as far as it is read."""

    _fields_ = (("data", c_uint64), ("size", c_int64))


class _Tensor(ctypes.Structure):
    """``struct DLTensor``."""

    _fields_ = (
        ("data", c_uint64), ("device_type", c_int32), ("device", c_int32), ("axes", c_int32),
        ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16),
        ("shape", c_uint64), ("strides", c_uint64), ("offset", c_uint64),
    )  # fmt: skip


class _Version(ctypes.Structure):
    """``struct TVMFFIVersion``."""

    _fields_ = (("major", c_uint32), ("minor", c_uint32), ("patch", c_uint32))


class TvmError(Exception):
    """What a function of TVM's, or of a module, refused; ``str`` is its message."""


class _Library:
    """The functions of ``libtvm_ffi.so`` that are called here.  Raises EngineError where there is none that fits."""

    def __init__(self) -> None:
        path = found(FFI)
        library = _loaded(path)
        version = _Version()
        library.TVMFFIGetVersion(ctypes.byref(version))
        if (version.major, version.minor) != _VERSION:
            raise EngineError(
                f"{FFI.name} has the interface {version.major}.{version.minor}, not {_VERSION[0]}.{_VERSION[1]}",
                str(path),
                "pip install 'apache-tvm>=0.27,<0.28'",
            )
        self.call = _typed(library.TVMFFIFunctionCall, c_void_p, c_char_p, c_int32, c_void_p)
        self.global_function = _typed(library.TVMFFIFunctionGetGlobal, c_void_p, c_void_p)
        self.take_error = _typed(library.TVMFFIErrorMoveFromRaised, c_void_p, result=None)
        self.hold = _typed(library.TVMFFIObjectIncRef, c_void_p)
        self.release = _typed(library.TVMFFIObjectDecRef, c_void_p)
        self.tensor = _typed(library.TVMFFITensorFromDLPack, c_void_p, c_int32, c_int32, c_void_p)
        self.view = _typed(library.TVMFFITensorCreateUnsafeView, c_void_p, c_void_p, c_void_p)
        self.make_function = _typed(library.TVMFFIFunctionCreate, c_void_p, c_void_p, c_void_p, c_void_p)
        self.set_global = _typed(library.TVMFFIFunctionSetGlobal, c_void_p, c_void_p, ctypes.c_int)
        self.set_stream = _typed(library.TVMFFIEnvSetStream, c_int32, c_int32, c_void_p, c_void_p)
        self.raise_error = _typed(library.TVMFFIErrorSetRaisedFromCStr, c_char_p, c_char_p, result=None)


def _typed(function: Any, *arguments: Any, result: Any = ctypes.c_int) -> Any:
    function.argtypes, function.restype = arguments, result
    return function


def load_library(library: SharedLibrary) -> None:
    """Load a library that registers functions, once.  Raises EngineError."""
    _library()  # which the others are linked with, and which they do not find by themselves
    _loaded(found(library))


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise EngineError(
            f"TVM's runtime library does not load: {error}",
            str(path),
            "it needs 64-bit Linux with glibc 2.28 or newer and libstdc++.so.6",
        ) from error


@cache
def _library() -> _Library:
    return _Library()


_capsule_pointer = _typed(ctypes.pythonapi.PyCapsule_GetPointer, ctypes.py_object, c_char_p, result=c_void_p)
_rename_capsule = _typed(ctypes.pythonapi.PyCapsule_SetName, ctypes.py_object, c_char_p)


class Object:
    """A reference to an object of TVM's, held as long as this is.

    Attributes:
        address: of the object.
        packed: the reference as an argument of a call.
    """

    __slots__ = ("_release", "address", "packed")

    def __init__(self, kind: int, address: int) -> None:
        self._release = _library().release  # kept here: at the end of the process modules lose their names
        self.address = address
        self.packed = _PACKED(kind, 0, address)

    def __del__(self) -> None:
        self._release(self.address)


class Tensor(Object):
    """The memory of an array, which is kept alive.

    Attributes:
        shape: of the array.
    """

    __slots__ = ("shape",)

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        super().__init__(_TENSOR, address)
        self.shape = shape

    @classmethod
    def over(cls, array: Array) -> Tensor:
        """A tensor of an array's memory.

        Raises BufferError for an array that numpy does not export: one that may not be written, or of a foreign type.
        """
        capsule = array.__dlpack__()
        made = c_void_p()
        if _library().tensor(_capsule_pointer(capsule, b"dltensor"), 0, 0, ctypes.byref(made)):
            raise _raised()
        _rename_capsule(capsule, b"used_dltensor")  # the tensor now owns what it exports
        return cls(made.value or 0, array.shape)


class DeviceTensor(Object):
    """A tensor in memory that numpy may not reach.

    Attributes:
        address: of the object.
        data: where its values begin; they lie without gaps.
        shape, dtype: as numpy has them.
    """

    __slots__ = ("_device", "data", "dtype", "shape")

    def __init__(self, address: int) -> None:
        super().__init__(_TENSOR, address)
        tensor = _Tensor.from_address(address + _HEADER)
        self.shape = _shape(tensor)
        self.dtype = _dtype(tensor)
        self.data = int(tensor.data + tensor.offset)
        self._device = (tensor.device_type, tensor.device)

    @classmethod
    def allocated(cls, device: tuple[int, int], shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceTensor:
        """Memory of a device (DLPack's kind, number), uninitialised.  Raises TvmError when it is used up."""
        allocate = _function("runtime.TVMTensorAllocWithScope")
        made = allocate(_function("ffi.Shape")(*shape), _Packed.dtype(dtype), _Packed.device(device), None)
        assert isinstance(made, DeviceTensor)
        return made

    def part(self, first: int, shape: Sequence[int], dtype: np.dtype[Any]) -> DeviceTensor:
        """The bytes from ``first`` on as a tensor of another shape and type, which keeps the whole."""
        (code, bits), dims = _CODES[dtype], (c_int64 * len(shape))(*shape)
        steps = [1] * len(shape)
        for axis in reversed(range(len(shape) - 1)):
            steps[axis] = steps[axis + 1] * shape[axis + 1]
        strides = (c_int64 * len(shape))(*steps)
        described = _Tensor(
            self.data + first, *self._device, len(shape), code, bits, 1,
            ctypes.addressof(dims), ctypes.addressof(strides), 0,
        )  # fmt: skip
        made = c_void_p()
        if _library().view(self.address, ctypes.byref(described), ctypes.byref(made)):
            raise _raised()
        return DeviceTensor(made.value or 0)


class _Packed:
    """An argument of a call that is no object."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes) -> None:
        self.packed = packed

    @classmethod
    def dtype(cls, dtype: np.dtype[Any]) -> _Packed:
        code, bits = _CODES[dtype]
        return cls(_PACKED(_DTYPE, 0, code | bits << 8 | 1 << 16))

    @classmethod
    def device(cls, device: tuple[int, int]) -> _Packed:
        kind, number = device
        return cls(_PACKED(_DEVICE, 0, kind | number << 32))


Value: TypeAlias = Object | _Packed | int | str | None


class Function(Object):
    """A function of TVM's or of a module."""

    __slots__ = ()

    def __init__(self, address: int) -> None:
        super().__init__(_FUNCTION, address)

    def __call__(self, *arguments: Value) -> Object | int | None:
        """Call it; raises TvmError where it refuses."""
        texts: list[Any] = []  # memory that is read until the call has ended
        return _value(self._returned([_packed(each, texts) for each in arguments]))

    def arrays(self, tensors: Sequence[Object]) -> list[Array]:
        """Call it with tensors, and copy the tensors of the array that it returns; raises TvmError as a call does."""
        returned = self._returned([each.packed for each in tensors])
        if returned.kind != _ARRAY:
            raise TvmError(f"it returned {_value(returned)!r}, not an array of tensors")
        try:
            cells = _Sequence.from_address(returned.value + _HEADER)
            return [_copied(each) for each in (_Any * cells.size).from_address(cells.data)] if cells.size else []
        finally:
            _library().release(returned.value)

    def tensors(self, tensors: Sequence[Object]) -> list[DeviceTensor]:
        """Call it with tensors; those of the array that it returns.  Raises TvmError as a call does."""
        returned = self._returned([each.packed for each in tensors])
        if returned.kind != _ARRAY:
            raise TvmError(f"it returned {_value(returned)!r}, not an array of tensors")
        library = _library()
        try:
            cells = _Sequence.from_address(returned.value + _HEADER)
            found: list[DeviceTensor] = []
            for each in (_Any * cells.size).from_address(cells.data) if cells.size else ():
                _check_tensor(each)
                library.hold(each.value)
                found.append(DeviceTensor(each.value))
            return found
        finally:
            library.release(returned.value)

    @classmethod
    def of(cls, function: Callable[..., int]) -> Function:
        """A function of Python's for modules to call, with integers and addresses; kept for good.

        What it raises is an error of the module's call.
        """

        def call(_: int, arguments: Any, count: int, result: Any) -> int:
            result[0].kind, result[0].value = _INT, function(*[arguments[place].value for place in range(count)])
            return 0

        return cls._made(call)

    @classmethod
    def watching(cls, function: Function, seen: Callable[[Object], None]) -> Function:
        """A function that does what another one does, and shows the object that it returns; kept for good."""
        library = _library()

        def call(_: int, arguments: Any, count: int, result: Any) -> int:
            failed: int = library.call(function.address, ctypes.cast(arguments, c_char_p), count, result)
            if not failed:
                library.hold(result[0].value)
                seen(Object(result[0].kind, result[0].value))
            return failed

        return cls._made(call)

    @classmethod
    def _made(cls, call: Callable[[int, Any, int, Any], int]) -> Function:
        library = _library()

        def guarded(handle: int, arguments: Any, count: int, result: Any) -> int:
            try:
                return call(handle, arguments, count, result)
            except Exception as error:
                library.raise_error(type(error).__name__.encode(), str(error).encode("utf-8", "replace"))
                return -1

        entry = _CALLBACK(guarded)
        _callbacks.append(entry)
        made = c_void_p()
        if library.make_function(None, ctypes.cast(entry, c_void_p), None, ctypes.byref(made)):
            raise _raised()
        return cls(made.value or 0)

    def _returned(self, packed: Sequence[bytes]) -> Any:
        result = _Any()
        if _library().call(self.address, b"".join(packed), len(packed), ctypes.byref(result)):
            raise _raised()
        return result


class Module(Object):
    """A loaded library of compiled functions, or another module of TVM's."""

    __slots__ = ()

    def __init__(self, address: int) -> None:
        super().__init__(_MODULE, address)

    @classmethod
    def load(cls, path: Path) -> Module:
        """Load a shared library that TVM built; raises TvmError where it is none."""
        return _a_module(_function("ffi.ModuleLoadFromFile")(str(path)))

    @classmethod
    def shared(cls, address: int) -> Module:
        """A module that another owner in this process holds as well, such as Python's package of TVM."""
        _library().hold(address)
        return cls(address)

    def function(self, name: str, *, imported: bool = False) -> Function | None:
        """A function by name, or None; ``imported`` looks into the modules that this one imports as well."""
        found = _function("ffi.ModuleGetFunction")(self, name, imported)
        return found if isinstance(found, Function) else None

    def call(self, name: str, *arguments: Value) -> Object | int | None:
        """Call a function that the module has; raises TvmError where it has none, or it refuses."""
        function = self.function(name)
        if function is None:
            raise TvmError(f"the module has no function {name!r}")
        return function(*arguments)


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p, ctypes.POINTER(_Any), c_int32, ctypes.POINTER(_Any))
_callbacks: list[Any] = []


def set_global_function(name: str, function: Function) -> None:
    """Register a function, in the place of another one of its name; whoever has that one keeps it."""
    text = _c_string(name)
    if _library().set_global(ctypes.byref(_Bytes(ctypes.addressof(text), len(text) - 1)), function.address, 1):
        raise _raised()
    _function.cache_clear()


def set_stream(device: tuple[int, int], stream: int) -> int:
    """Let this thread's calls work in a stream of a device (DLPack's kind, number); the one that was set before."""
    before = c_void_p()
    if _library().set_stream(*device, stream, ctypes.byref(before)):
        raise _raised()
    return before.value or 0


def global_function(name: str) -> Function:
    """A function that a loaded library registered; raises EngineError when none did."""
    return _function(name)


@cache
def _function(name: str) -> Function:
    text = _c_string(name)
    made = c_void_p()
    library = _library()
    refused = library.global_function(ctypes.byref(_Bytes(ctypes.addressof(text), len(text) - 1)), ctypes.byref(made))
    if refused or not made.value:
        raise EngineError(
            f"TVM's runtime has no function {name!r}", str(found(FFI)), "pip install 'apache-tvm>=0.27,<0.28'"
        )
    return Function(made.value)


def _packed(value: Value, texts: list[Any]) -> bytes:
    """An argument of a call; what a text is copied to joins ``texts``."""
    if isinstance(value, Object | _Packed):
        return value.packed
    if value is None:
        return _PACKED(_NONE, 0, 0)
    if isinstance(value, str):
        texts.append(_c_string(value))
        return _PACKED(_STRING, 0, ctypes.addressof(texts[-1]))
    return _PACKED(_BOOL if isinstance(value, bool) else _INT, 0, value)


def _a_module(value: Object | int | None) -> Module:
    if not isinstance(value, Module):
        raise TvmError(f"it returned {type(value).__name__}, not a module")
    return value


def _value(returned: _Any) -> Object | int | None:
    """What a function returned, as Python has it; raises TvmError for what no function here returns."""
    kind, value = returned.kind, returned.value
    if kind >= _FIRST_OBJECT:
        if kind == _FUNCTION:
            return Function(value)
        if kind == _TENSOR:
            return DeviceTensor(value)
        return Module(value) if kind == _MODULE else Object(kind, value)
    if kind == _NONE:
        return None
    if kind in (_INT, _BOOL):
        return int(value)
    raise TvmError(f"it returned a value of kind {kind}, which is not known here")


def _copied(value: _Any) -> Array:
    """A tensor's values as a new array."""
    _check_tensor(value)
    tensor = _Tensor.from_address(value.value + _HEADER)
    dtype, shape = _dtype(tensor), _shape(tensor)
    size = dtype.itemsize
    for dim in shape:
        size *= dim
    if not size:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, memoryview((c_char * size).from_address(tensor.data + tensor.offset))).copy()


def _check_tensor(value: _Any) -> None:
    if value.kind != _TENSOR:
        raise TvmError(f"it returned a {_KINDS.get(value.kind, f'value of kind {value.kind}')}, not a tensor")


def _shape(tensor: _Tensor) -> tuple[int, ...]:
    return tuple((c_int64 * tensor.axes).from_address(tensor.shape)) if tensor.axes else ()


def _dtype(tensor: _Tensor) -> np.dtype[Any]:
    dtype = _NUMPY.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None:
        raise TvmError(
            f"it returned elements of code {tensor.code} and {tensor.bits} bits, which numpy has no type for"
        )
    return dtype


def _raised() -> TvmError:
    """The error that this thread's last call left behind."""
    made = c_void_p()
    _library().take_error(ctypes.byref(made))
    if not made.value:  # the error is another one's, such as an interrupt that Python keeps
        return TvmError("it failed, and left no error behind")
    held = Object(_NONE, made.value)
    cell = _Error.from_address(held.address + _HEADER)
    return TvmError(ctypes.string_at(cell.message.data, cell.message.size).decode("utf-8", "replace"))


def _c_string(text: str) -> Any:
    return ctypes.create_string_buffer(text.encode("utf-8"))
