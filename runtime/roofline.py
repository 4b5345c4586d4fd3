"""What the machine can do at most: arithmetic and memory traffic, measured with kernels of the artifact itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .engine import Array, Handle, aligned_zeros
from .fields import Json

FMA, TRIAD = "roofline_fma", "roofline_triad"
ACCUMULATORS = 12
"""Chains of multiply-adds that run at the same time: enough for two units of four cycles and more."""
CHUNK = 1 << 14
"""Elements of one task of the triad."""
LEAST_TRIAD, MOST_TRIAD = 32 << 20, 256 << 20
"""Bytes of one array of the triad, which should be larger than the caches."""

_TRIPS = 200_000
_SECONDS = 0.15
_READINGS = 1001
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class KernelEngine(Protocol):
    """An engine whose kernels can be called one by one."""

    def tensor(self, array: Array) -> Handle:
        """Wrap a 64-byte-aligned, C-contiguous array without copying."""
        ...

    def kernel(self, symbol: str) -> Callable[..., Any]:
        """A kernel by name. Raises EngineError when the module has none of this name."""
        ...


@dataclass(frozen=True)
class Roofline:
    """The machine as this artifact can use it.

    Attributes:
        flops: floating-point operations per second, at the vector width and on the threads of the artifact.
        bandwidth: bytes per second from and to memory, with arrays larger than the caches.
        threads: that both were measured on.
        lanes: elements (f32) of a vector.
    """

    flops: float
    bandwidth: float
    threads: int
    lanes: int

    @property
    def ridge(self) -> float:
        """Operations per byte from which arithmetic is the limit."""
        return self.flops / self.bandwidth

    def limit(self, intensity: float) -> float:
        """Most operations per second at an intensity in operations per byte."""
        return min(self.flops, intensity * self.bandwidth)

    def to_json(self) -> Json:
        """For files that tools read."""
        return {"flops": self.flops, "bandwidth": self.bandwidth, "threads": self.threads, "lanes": self.lanes}


def measure(engine: KernelEngine, threads: int, lanes: int) -> Roofline:
    """Measure for about a third of a second; the best of many short runs counts, since others may use the machine.

    Args:
        engine: has loaded the artifact's code.
        threads: of its steps.
        lanes: elements (f32) of its vectors.

    Raises EngineError when the code holds no kernels to measure with.
    """
    return Roofline(_peak(engine, threads, lanes), _bandwidth(engine), threads, lanes)


def call_seconds(engine: KernelEngine) -> float:
    """What a clock around a kernel that does nothing shows: part of every reading. Raises EngineError as `measure`."""
    fma = engine.kernel(FMA)
    x, out = engine.tensor(_filled(2, 0.5)), engine.tensor(_filled(16, 0.0))
    readings: list[float] = []
    for _ in range(_READINGS):
        start = time.perf_counter()
        fma(x, 0, 0, out)
        readings.append(time.perf_counter() - start)
    return sorted(readings)[_READINGS // 2]


def _peak(engine: KernelEngine, threads: int, lanes: int) -> float:
    fma = engine.kernel(FMA)
    x = engine.tensor(_filled(2, 0.5))
    out = engine.tensor(aligned_zeros((threads * lanes,), np.dtype(np.float32)))
    seconds = _best(lambda: fma(x, _TRIPS, threads, out))
    return 2.0 * ACCUMULATORS * lanes * _TRIPS * threads / seconds


def _bandwidth(engine: KernelEngine) -> float:
    triad = engine.kernel(TRIAD)
    chunks = min(MOST_TRIAD, max(LEAST_TRIAD, 2 * largest_cache())) // (4 * CHUNK)
    # Touched beforehand, so that no page is made while the clock runs.
    x, y, out = (engine.tensor(_filled(chunks * CHUNK, 1.0)) for _ in range(3))
    return 3.0 * 4 * chunks * CHUNK / _best(lambda: triad(x, y, chunks, out))


def _filled(count: int, value: float) -> Array:
    made = aligned_zeros((count,), np.dtype(np.float32))
    made[...] = value
    return made


def _best(call: Callable[[], object]) -> float:
    """Seconds of the fastest of the calls that fit in `_SECONDS`, at least three."""
    call()
    best, began, calls = float("inf"), time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - began < _SECONDS:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best


def largest_cache() -> int:
    """Bytes of the largest cache of this processor as the operating system tells them, or 0."""
    found = [0]
    for file in sorted(_CACHES.glob("index*/size")) if _CACHES.is_dir() else ():
        text = file.read_text().strip()
        if text[:-1].isdigit() and text[-1:] in "KM":
            found.append(int(text[:-1]) << (10 if text[-1] == "K" else 20))
    return max(found)
