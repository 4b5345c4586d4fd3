"""A CUDA device that this machine's processor emulates: TVM's real runtime, with these `libcuda` and `libcudart`.

A process must load it before TVM's CUDA runtime: see `Device.load`.  Kernels are the CUDA C text that TVM generates,
compiled by g++ against ``tests/cuda_device/kernel.h``.  Every access of memory is checked: bounds, freed buffers, reads
of what nothing has written, and races between threads and blocks.  See docs/cuda.md.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SOURCES = Path(__file__).parents[1] / "cuda_device"
ENGINE = ("memory.cpp", "launch.cpp", "driver.cpp", "queues.cpp", "functions.cpp")
STALE = 86400.0  # seconds that compiled kernels are kept
COUNTERS = (
    "launches", "blocks", "threads", "graph_launches", "graphs", "allocations", "frees", "live_bytes", "peak_bytes",
    "host_to_device", "device_to_host", "device_to_device", "copied_bytes", "memsets", "syncs", "host_allocations",
)  # fmt: skip
ORDERS = ("forward", "reverse", "random")
PREAMBLE = re.compile(r"\A.*#define ushort unsigned short\n(?:#endif\n)?", re.S)
INCLUDE = re.compile(r"^#include <.*>$", re.M)
NARROW = re.compile(r"\b(?:half|nv_bfloat16)\b")
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(([^)]*)\) )?(\w+)\([^;{]*\) ?\{')
SHARED = re.compile(r"__shared__ ((?:alignas\(\d+\) )?[\w ]+?) (\w+)((?:\[[^\]]+\])*);")
VECTOR = re.compile(r"\*\((?:const )?(\w+[248]) ?\*\)\(")
DYNAMIC = re.compile(r"extern __shared__ (?:alignas\(\d+\) )?([\w ]+?) (\w+)\[\];")


def available() -> str | None:
    """Why this machine cannot emulate the device; None if it can."""
    if os.uname().machine != "x86_64" or os.uname().sysname != "Linux":
        return "the emulated device is for Linux on x86-64"
    return None if shutil.which("g++") else "the emulated device needs g++"


class KernelError(Exception):
    """A text that g++ does not take."""


class DeviceError(Exception):
    """A call of the emulated driver or runtime that failed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status, self.message = status, message

    def __str__(self) -> str:
        return f"{self.message} ({self.status})"


# Building ---------------------------------------------------------------------------------------------
@cache
def _folder() -> Path:
    """What was built on this machine, by this user."""
    folder = Path(tempfile.gettempdir()) / f"fluidc-cuda-device-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else")
    for path in folder.glob("*.kernels"):
        with suppress(OSError):  # another process may have removed it
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
    return folder


@cache
def _compiler() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


@cache
def _processor() -> tuple[str, ...]:
    """Fused multiply-add, as on the device, where this processor has it."""
    flags = Path("/proc/cpuinfo").read_text()
    return ("-march=x86-64-v3", "-ffp-contract=fast") if " avx2 " in flags and " fma " in flags else ()


def _run(command: Sequence[str | Path], what: str) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise KernelError(f"{what}:\n{done.stderr[:4000]}")


def libraries() -> Path:
    """The folder of libcuda.so.1 and libcudart.so.13, built at most once per machine and version of the sources."""
    texts = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    target = _folder() / hashlib.sha256(texts + _compiler().encode()).hexdigest()[:16]
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=_folder()) as name:
        made = Path(name) / "made"
        made.mkdir()
        common = ["g++", "-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        sources = [SOURCES / file for file in ENGINE]
        _run([*common, "-Wl,-soname,libcuda.so.1", "-o", made / "libcuda.so.1", *sources, "-ldl"], "libcuda")
        version = f"-Wl,-soname,libcudart.so.13,--version-script={SOURCES / 'runtime.map'}"
        libcudart = [version, "-o", made / "libcudart.so.13", SOURCES / "runtime.cpp", f"-L{made}", "-l:libcuda.so.1"]
        _run([*common, *libcudart], "libcudart")
        try:
            made.rename(target)
        except OSError:  # another process was faster
            if not target.exists():
                raise
    return target


def host_source(code: str) -> str:
    """CUDA C as C++ of this machine: shared memory is the engine's, and every kernel is exported."""
    code = INCLUDE.sub("", PREAMBLE.sub("", code))
    starts = [match.start() for match in KERNEL.finditer(code)] + [len(code)]
    parts = [code[: starts[0]]]
    for start, end in pairwise(starts):
        parts.append(_kernel(code[start:end]))
    return "".join(parts)


def _kernel(text: str) -> str:
    bounds, name = KERNEL.match(text).groups()  # type: ignore[union-attr]
    text = DYNAMIC.sub(r"\1* \2 = (\1*)device_dynamic_shared();", text)
    fields: list[str] = []

    def take(match: re.Match[str]) -> str:
        kind, variable, extents = match.groups()
        fields.append(f"{kind} {variable}{extents};")
        return f"auto& {variable} = ((struct {name}__shared*)device_static_shared())->{variable};"

    text = VECTOR.sub(r"*device_vector<\1>(", SHARED.sub(take, text))
    shared = f"struct {name}__shared {{ {' '.join(fields)} }}; " if fields else ""
    size = f"sizeof({name}__shared)" if fields else "0"
    # Lines are those of the text, for messages.
    return f"{shared}{text} DEVICE_EXPORT({name}, {size}, {bounds.split(',')[0] if bounds else 0})"


def compile_kernels(code: str, *, checked: bool = True) -> bytes:
    """CUDA C as an image that the emulated driver loads; raises KernelError.

    Args:
        code: As TVM generates it, or written by hand: ``extern "C" __global__ void`` kernels.
        checked: Check every access of memory: slower by half an order of magnitude.
    """
    checks = ("-fsanitize=thread",) if checked else ()
    options = ("-O1", "-std=c++20", "-fPIC", "-w",
               "-fno-exceptions", "-fno-rtti", "-fno-gnu-unique", "-fvisibility=hidden",
               *_processor(), *checks)  # fmt: skip
    body = host_source(code)
    half = '#include "half.h"\n' if NARROW.search(body) else ""
    source = f'#include "kernel.h"\n{half}#line 1 "kernel.cu"\n{body}'
    headers = b"".join((SOURCES / name).read_bytes() for name in ("kernel.h", "half.h"))
    key = hashlib.sha256("\0".join((source, _compiler(), *options)).encode() + headers)
    kept = _folder() / f"{key.hexdigest()}.kernels"
    with_image = kept.read_bytes() if kept.exists() else _compiled(source, options, kept)
    return b"EMULATED" + f"{len(with_image):016d}".encode() + with_image


def _compiled(source: str, options: Sequence[str], kept: Path) -> bytes:
    with tempfile.TemporaryDirectory(dir=_folder()) as name:
        folder = Path(name)
        (folder / "kernels.cpp").write_text(source)
        _run(["g++", *options, f"-I{SOURCES}", "-c", "-o", folder / "kernels.o", folder / "kernels.cpp"], "g++")
        _run(["ld", "-shared", "-o", folder / "kernels.so", folder / "kernels.o"], "ld")
        image = (folder / "kernels.so").read_bytes()
        (folder / "kernels.so").rename(kept)
        return image


# The device -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Launched:
    """A launch of a kernel."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    static_shared: int
    dynamic_shared: int
    device: int
    graph: bool

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.block[0] * self.block[1] * self.block[2]


class Device:
    """The emulated device of this process."""

    def __init__(self, driver: ctypes.CDLL, runtime: ctypes.CDLL) -> None:
        self.driver, self.runtime = driver, runtime
        self.checked = True
        driver.device_trace.restype = ctypes.c_char_p

    @classmethod
    def load(cls, **settings: int | str) -> Device:
        """Load the libraries, which TVM's CUDA runtime then takes for the real ones.

        Args:
            settings: See `configure`.
        """
        folder = libraries()
        driver = ctypes.CDLL(str(folder / "libcuda.so.1"), ctypes.RTLD_GLOBAL)
        runtime = ctypes.CDLL(str(folder / "libcudart.so.13"), ctypes.RTLD_GLOBAL)
        device = cls(driver, runtime)
        device.configure(**settings)
        return device

    def configure(self, **settings: int | str) -> None:
        """Set what the device is, and how it runs.

        ``devices``, ``major``, ``minor``, ``sms``, ``memory`` (bytes); ``order`` of threads and blocks (`ORDERS`) and
        ``seed`` of the random one; ``late``: 1 if work only runs when somebody waits for it, not when it is enqueued.
        """
        for key, value in settings.items():
            number = ORDERS.index(value) if isinstance(value, str) else value
            if self.driver.device_configure(key.encode(), ctypes.c_long(number)):
                raise ValueError(f"the emulated device has no setting {key}")

    def register(self) -> None:
        """Let TVM compile for this device; ``checked`` says whether kernels check their accesses."""
        import tvm_ffi

        importlib.import_module("tvm")  # registers a callback of its own

        def compile_kernel(code: str) -> bytes:
            return compile_kernels(code, checked=self.checked)

        tvm_ffi.register_global_func("tvm_callback_cuda_compile", compile_kernel, override=True)

    # Kernels without TVM -------------------------------------------------------------------------------
    def check(self, status: int) -> None:
        """Raise DeviceError unless a call of the driver or the runtime has worked."""
        if status:
            text = ctypes.c_char_p()
            self.driver.cuGetErrorString(status, ctypes.byref(text))
            raise DeviceError(status, (text.value or b"").decode())

    def kernel(self, image: bytes, name: str) -> ctypes.c_void_p:
        """A kernel of an image, for `launch`."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.driver.cuModuleLoadData(ctypes.byref(module), image))
        self.check(self.driver.cuModuleGetFunction(ctypes.byref(function), module, name.encode()))
        return function

    def put(self, array: np.ndarray) -> int:
        """The address of a new buffer that holds the array."""
        address = self.allocate(array.nbytes)
        source = np.ascontiguousarray(array)
        self.check(self.runtime.cudaMemcpy(ctypes.c_void_p(address), source.ctypes, ctypes.c_size_t(array.nbytes), 1))
        return address

    def allocate(self, size: int) -> int:
        """The address of a new buffer of ``size`` bytes, which nothing has written."""
        pointer = ctypes.c_void_p()
        self.check(self.runtime.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)))
        return pointer.value or 0

    def get(self, address: int, like: np.ndarray) -> np.ndarray:
        """What lies in a buffer."""
        found = np.empty_like(like)
        self.check(self.runtime.cudaMemcpy(found.ctypes, ctypes.c_void_p(address), ctypes.c_size_t(found.nbytes), 2))
        return found

    def launch(
        self, kernel: ctypes.c_void_p, grid: Sequence[int], block: Sequence[int], arguments: Sequence[Any],
        shared: int = 0, stream: int | None = None,
    ) -> None:  # fmt: skip
        """Launch a kernel.  ``arguments``: ctypes values, and addresses as int; ``shared``: dynamic bytes."""
        values = [ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.cast(ctypes.byref(v), ctypes.c_void_p) for v in values))
        sizes = (*grid, 1, 1)[:3] + (*block, 1, 1)[:3]
        self.check(self.driver.cuLaunchKernel(kernel, *sizes, shared, ctypes.c_void_p(stream), pointers, None))

    def substitute(self, image: bytes | None) -> None:
        """Let kernels of an image run instead of those of the same names; None: no longer."""
        self.check(self.driver.device_substitute(image))

    # What happened ------------------------------------------------------------------------------------
    def counters(self) -> dict[str, int]:
        """What happened since `reset`, by the names of `COUNTERS`."""
        numbers = (ctypes.c_long * len(COUNTERS))()
        self.driver.device_counters(numbers)
        return dict(zip(COUNTERS, numbers, strict=True))

    def trace(self) -> list[Launched]:
        """Every launch since `reset`, in order."""
        records: list[dict[str, Any]] = json.loads(f"[{self.driver.device_trace().decode()}]")
        sizes = [{key: tuple(record.pop(key)) for key in ("grid", "block")} for record in records]
        return [Launched(**size, **record) for size, record in zip(sizes, records, strict=True)]

    def reset(self) -> None:
        """Forget the trace and the counters; what is allocated stays counted."""
        self.driver.device_reset()
