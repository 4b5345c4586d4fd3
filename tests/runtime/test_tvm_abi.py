"""TVM's C interface: what goes in and comes out of functions, who owns memory, and what is refused."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from fluidc.runtime import libraries, tvm_abi
from fluidc.runtime.errors import EngineError
from fluidc.runtime.libraries import FFI, RUNTIME, SharedLibrary, found
from fluidc.runtime.tvm_abi import Function, Module, Object, Tensor, TvmError, global_function, load_library

DTYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bool"),
)


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    load_library(RUNTIME)


def identity() -> Function:
    """A function whose call with tensors returns them: TVM's own constructor of arrays."""
    return global_function("ffi.Array")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0, 4), (2, 1, 3)])
def test_arrays_come_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(dtype)
    tensor = Tensor.over(array)
    assert tensor.shape == shape
    first, second = identity().arrays([tensor, tensor])
    for copy in (first, second):
        assert copy.dtype == array.dtype
        np.testing.assert_array_equal(copy, array, strict=True)
        assert copy.flags.writeable
        assert not np.shares_memory(copy, array)


def test_no_tensors() -> None:
    assert global_function("ffi.Array").arrays([]) == []


def test_numbers_and_truth() -> None:
    made = global_function("ffi.Array")(7, True, -(2**40))
    assert isinstance(made, Object)
    assert global_function("ffi.ArraySize")(made) == 3
    assert [global_function("ffi.ArrayGetItem")(made, place) for place in range(3)] == [7, 1, -(2**40)]


def test_an_array_lives_as_long_as_its_tensor() -> None:
    """Also where only TVM holds the tensor."""

    class Owned(np.ndarray):
        """An array that weak references see."""

    array = np.ones(4, np.float32).view(Owned)
    seen = weakref.ref(array)
    tensor = Tensor.over(array)
    held = global_function("ffi.Array")(tensor)
    del array, tensor
    gc.collect()
    assert seen() is not None
    del held
    gc.collect()
    assert seen() is None


def test_nothing_is_lost() -> None:
    """A thousand calls leave the tensor with one owner."""
    array = np.ones(4, np.float32)
    tensor = Tensor.over(array)
    function = global_function("ffi.Array")
    for _ in range(1000):
        function.arrays([tensor, tensor])
    owners = np.ndarray((1,), np.uint32, memoryview((tvm_abi.c_char * 4).from_address(tensor.address)))
    assert int(owners[0]) == 1


def test_what_is_no_tensor_is_refused() -> None:
    array = global_function("ffi.Array")
    with pytest.raises(TvmError, match="it returned a function, not a tensor"):
        array.arrays([global_function("ffi.ArraySize")])
    with pytest.raises(TvmError, match="not an array of tensors"):
        global_function("ffi.ArraySize").arrays([array(1, 2)])  # pyright: ignore[reportArgumentType]


def test_a_refusal_has_tvms_message() -> None:
    with pytest.raises(TvmError, match="argument"):
        global_function("ffi.ArraySize")(1, 2)


def test_what_numpy_does_not_export_is_refused() -> None:
    array = np.ones(3, np.float32)
    array.flags.writeable = False
    with pytest.raises(BufferError):
        Tensor.over(array)


def test_a_missing_function() -> None:
    with pytest.raises(EngineError, match=r"TVM's runtime has no function 'no\.such'"):
        global_function("no.such")


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "module.so").write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(TvmError, match=r"module\.so"):
        Module.load(tmp_path / "module.so")


def test_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm_abi, "_VERSION", (9, 3))
    tvm_abi._library.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(EngineError, match=r"libtvm_ffi\.so has the interface 0\.1, not 9\.3"):
        load_library(RUNTIME)
    monkeypatch.undo()
    load_library(RUNTIME)


def test_what_is_not_installed() -> None:
    with pytest.raises(EngineError, match="a wheel is not installed"):
        found(SharedLibrary("lib.so", "no_such_package", "a wheel"))
    with pytest.raises(EngineError, match=r"lib\.so of apache-tvm is not installed"):
        found(SharedLibrary("lib.so", "tvm", "apache-tvm"))


def test_a_bundle_takes_its_own_libraries_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libraries, "BUNDLED", tmp_path)
    with pytest.raises(EngineError, match=r"libtvm_ffi\.so is not in this bundle"):
        found(FFI)
    (tmp_path / FFI.name).touch()
    assert found(FFI) == tmp_path / FFI.name


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libraries, "BUNDLED", tmp_path)
    (tmp_path / "libodd.so").write_bytes(b"no library")
    with pytest.raises(EngineError, match=r"does not load: .*libodd"):
        load_library(SharedLibrary("libodd.so", "tvm", "apache-tvm"))


def test_a_failure_without_an_error_is_told_too() -> None:
    with pytest.raises(TvmError):
        Module.load(Path("/none.so"))
    assert "left no error behind" in str(tvm_abi._raised())  # that call's own is taken already
