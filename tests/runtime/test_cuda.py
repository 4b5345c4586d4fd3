"""What the CUDA engine says without a device, and the parts of it that need none."""

from __future__ import annotations

import copy
import ctypes
import pickle
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
from manifests import small_artifact

from fluidc.runtime.buffers import Array, Buffer, aligned_copy, flip
from fluidc.runtime.cuda import cudart, libraries
from fluidc.runtime.cuda.architectures import Architecture, check_architecture
from fluidc.runtime.cuda.device import in_words
from fluidc.runtime.cuda.engine import CudaEngine
from fluidc.runtime.engines import engine_for
from fluidc.runtime.errors import EngineError
from fluidc.runtime.manifest import TargetSpec


# -- libraries and devices --------------------------------------------------------------------------------------------
class Library:
    """A ``libcudart`` on a machine where every question about devices has one answer."""

    def __init__(self, status: int, driver: int = 0) -> None:
        self.status, self.driver = status, driver

    def __getattr__(self, name: str) -> Any:
        return _Call(self, name)


class _Call:
    def __init__(self, library: Library, name: str) -> None:
        self._library, self._name = library, name

    def __call__(self, *arguments: Any) -> Any:
        if self._name in ("cudaGetErrorName", "cudaGetErrorString"):
            return b"told"
        if self._name == "cudaDriverGetVersion":
            ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_int))[0] = self._library.driver
            return 0
        return self._library.status


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[Library | None, bool], None]]:
    """``machine(library, driver)``: what is found when NVIDIA's libraries are looked for."""

    def set_up(library: Library | None, driver: bool) -> None:
        def load(name: str) -> Any:
            return library if name == libraries.RUNTIME else (object() if driver else None)

        monkeypatch.setattr(libraries, "load", load)
        cudart.runtime.cache_clear()
        cudart.device_count.cache_clear()

    yield set_up
    cudart.runtime.cache_clear()
    cudart.device_count.cache_clear()


@pytest.mark.parametrize(
    ("library", "driver"), [(None, False), (None, True), (Library(35), True), (Library(100), True), (object(), True)]
)
def test_no_devices_are_counted_where_something_is_missing(machine: Any, library: Any, driver: bool) -> None:
    machine(library, driver)
    assert cudart.device_count() == 0


def test_devices_are_counted(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(Library(0), True)
    monkeypatch.setattr(cudart.Runtime, "devices", lambda _: 2)
    assert cudart.device_count() == 2


@pytest.mark.parametrize(
    ("library", "driver", "text"),
    [
        (
            None,
            False,
            "this machine has no NVIDIA driver: libcuda.so.1 is not found\n  at target cuda\n"
            "  install the driver of an NVIDIA GPU; to run without one, compile with --target cpu",
        ),
        (
            None,
            True,
            "CUDA's runtime library libcudart.so.13 is not found\n  at Python environment\n"
            "  pip install 'nvidia-cuda-runtime>=13,<14', or set CUDA_PATH to the folder of a CUDA 13 toolkit",
        ),
        (
            Library(35, 12040),
            True,
            "the NVIDIA driver is too old: it knows CUDA up to 12.4, and 13.0 is needed\n  at target cuda\n"
            "  install driver 580 or newer",
        ),
        (
            Library(35),
            True,
            "this machine has no NVIDIA driver: libcuda.so.1 is not found\n  at target cuda\n"
            "  install the driver of an NVIDIA GPU; to run without one, compile with --target cpu",
        ),
        (
            Library(100),
            True,
            "this machine has no CUDA device\n  at target cuda\n"
            "  see what nvidia-smi lists, and whether CUDA_VISIBLE_DEVICES hides it; or compile with --target cpu",
        ),
        (
            Library(999),
            True,
            "CUDA refused to count the devices: told (told, 999)\n  at GPU\n"
            "  go on from the last checkpoint in a new process; nvidia-smi shows the state of the device",
        ),
    ],
    ids=["no driver", "no runtime", "old driver", "stand-in", "no device", "other"],
)
def test_what_is_missing_is_told(machine: Any, library: Library | None, driver: bool, text: str) -> None:
    machine(library, driver)
    with pytest.raises(EngineError) as caught:
        CudaEngine(b"")
    assert str(caught.value) == text


def test_libraries_are_found_in_a_toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    assert tmp_path / "lib64" in libraries.folders()
    assert libraries.load("libfluidc-none.so.1") is None


# -- architectures ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "runs", "refused"),
    [
        ("sm_80", [(8, 0), (8, 6), (8, 9)], [(7, 5), (9, 0)]),
        ("sm_86", [(8, 6), (8, 9)], [(8, 0), (9, 0)]),
        ("sm_90", [(9, 0)], [(8, 9), (10, 0)]),
        ("sm_90a", [(9, 0)], [(9, 1), (10, 0)]),
        ("sm_100", [(10, 0), (10, 3)], [(9, 0), (12, 0)]),
        ("sm_100f", [(10, 0), (10, 3)], [(12, 0)]),
        ("compute_80", [(8, 0), (9, 0), (12, 0)], [(7, 5)]),
        ("compute_90a", [(9, 0)], [(10, 0)]),
        ("gfx90a", [], [(9, 0)]),
    ],
)
def test_which_chips_run_which_code(name: str, runs: list[tuple[int, int]], refused: list[tuple[int, int]]) -> None:
    code = Architecture.parse(name)
    assert [c for c in runs if code is None or not code.runs_on(c)] == []
    assert [c for c in refused if code is not None and code.runs_on(c)] == []


def test_one_of_several_architectures_is_enough() -> None:
    target = TargetSpec("cuda", "", "", (), 0, ("sm_80", "sm_90"))
    check_architecture(target, (9, 0), "CUDA device 0")
    with pytest.raises(EngineError, match="no code for this chip, sm_75: it has sm_80, sm_90"):
        check_architecture(target, (7, 5), "CUDA device 0")
    with pytest.raises(EngineError, match="it has no architecture"):
        check_architecture(TargetSpec("cuda", "", "", ()), (9, 0), "CUDA device 0")


def test_a_device_is_for_artifacts_that_run_on_one() -> None:
    with pytest.raises(EngineError) as caught:
        engine_for(small_artifact(), device=1)
    assert str(caught.value) == (
        "device 1 is named, and the artifact runs on none: it was compiled for cpu\n  at --device\n"
        "  leave it out, or compile with --target cuda"
    )


def test_sizes_in_words() -> None:
    assert [in_words(n) for n in (5, 2048, 3 << 20, 5 << 29)] == ["5 bytes", "2.0 KiB", "3.0 MiB", "2.5 GiB"]


# -- buffers ----------------------------------------------------------------------------------------------------------
class Elsewhere:
    """Memory that only its own methods reach."""

    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.fetched = 0

    def fetch(self, into: Array) -> None:
        into[...] = self.values
        self.fetched += 1

    def save(self) -> Callable[[], None]:
        kept = list(self.values)

        def back() -> None:
            self.values = kept

        return back


def away(values: list[float]) -> tuple[Buffer, Elsewhere]:
    buffer, memory = Buffer(aligned_copy(np.zeros(len(values), np.float32))), Elsewhere(values)
    buffer.remotes[0] = buffer.remote = memory
    return buffer, memory


def test_values_elsewhere_come_home_when_they_are_looked_at() -> None:
    buffer, memory = away([1.0, 2.0])
    assert buffer.is_away
    np.testing.assert_array_equal(buffer.array, [1, 2])
    assert not buffer.is_away
    assert buffer.remote is None, "the owner may now write: the device's are not the newest any more"
    np.testing.assert_array_equal(buffer.array, [1, 2])
    assert memory.fetched == 1


def test_values_elsewhere_are_read_and_stay() -> None:
    buffer, memory = away([1.0, 2.0])
    seen = buffer.values
    np.testing.assert_array_equal(seen, [1, 2])
    assert not seen.flags.writeable
    memory.values = [3.0, 4.0]
    np.testing.assert_array_equal(buffer.values, [3, 4])
    assert buffer.remote is memory


def test_what_is_put_replaces_values_elsewhere() -> None:
    buffer, memory = away([1.0, 2.0])
    buffer.put([5, 6])
    np.testing.assert_array_equal(buffer.array, [5, 6])
    assert memory.fetched == 0


def test_values_elsewhere_and_on_the_other_side() -> None:
    """An engine with two sides after one with memory of its own."""
    buffer, memory = away([1.0, 2.0])
    buffer.bring_home()
    buffer.spare[...] = [3, 4]
    flip([buffer])
    assert buffer.is_away
    buffer.remote = memory
    np.testing.assert_array_equal(buffer.array, [1, 2])
    assert buffer.sides[0] is buffer.home


def test_values_are_saved_where_they_are() -> None:
    buffer, memory = away([1.0, 2.0])
    back = buffer.save()
    memory.values = [7.0, 8.0]
    np.testing.assert_array_equal(buffer.array, [7, 8])
    back()
    np.testing.assert_array_equal(buffer.array, [1, 2])
    back = buffer.save()
    buffer.array[...] = 0
    back()
    np.testing.assert_array_equal(buffer.array, [1, 2])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_copies_have_an_array_of_their_own(copied: Callable[[Buffer], Buffer]) -> None:
    buffer, _ = away([1.0, 2.0])
    other = copied(buffer)
    np.testing.assert_array_equal(other.array, [1, 2])
    assert not np.shares_memory(other.home, buffer.home)
    assert other.home.ctypes.data % 64 == 0
    assert not other.remotes
