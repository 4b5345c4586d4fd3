"""What a step is given and what it returns, on their way: pinned host memory and one piece of device memory."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..buffers import Array
from ..tvm_abi import DeviceTensor
from .cudart import Runtime
from .device import Device
from .machine import allocate

ALIGNMENT = 256
"""Bytes; of every array's place."""

_LEAST = 64 << 10


@dataclass(frozen=True)
class Place:
    """Where an argument lies in the memory that is copied: bytes from ``first`` on."""

    first: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class Pinned:
    """Pinned host memory; ``values`` are its bytes."""

    def __init__(self, device: Device, size: int) -> None:
        runtime = device.runtime
        self.address = runtime.allocate_pinned(size)
        self.values: Array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))
        self.values[...] = 0
        weakref.finalize(self, _give_back, runtime, device, self.address)

    def view(self, place: Place) -> Array:
        """An array over a part of it."""
        return np.ndarray(place.shape, place.dtype, self.values.data, place.first)


def _give_back(runtime: Runtime, device: Device, address: int) -> None:
    if not device.is_lost:
        runtime.free_pinned(address)


class Feeding:
    """Memory through which arguments reach the device, in one copy per call.

    Host memory is taken in turn, so that the next call's arguments are written while the last ones may still be read.

    Attributes:
        capacity: Bytes.
        tensor: Device memory, at an address that stays.
    """

    def __init__(self, device: Device, size: int) -> None:
        self._device = device
        self.capacity = max(_LEAST, 1 << (size - 1).bit_length()) if size < 16 << 20 else _up(size, 1 << 20)
        self.tensor = allocate(device, (self.capacity,), np.dtype(np.uint8), "the arguments of a step")
        self.address = self.tensor.data
        self.sides = tuple(Pinned(device, self.capacity) for _ in range(2))
        self._copied = tuple(device.runtime.make_event() for _ in self.sides)
        self._read = [True, True]
        self._next = 0
        device.resources.add(self)

    def free(self) -> int:
        """The number of the side that can be written now."""
        side, self._next = self._next, 1 - self._next
        self._wait(side)
        return side

    def send(self, side: int, size: int) -> None:
        """Begin to copy the first bytes of a side to the device."""
        runtime, stream = self._device.runtime, self._device.stream
        self._read[side] = False
        runtime.to_device(self.address, self.sides[side].address, size, stream)
        runtime.record(self._copied[side], stream)

    def settled(self) -> None:
        """All that was begun has ended, as somebody knows who has waited for it."""
        self._read = [True, True]

    def wipe(self, side: int, places: Sequence[Place]) -> None:
        """Leave nothing of these arguments behind, on the host nor, once what was begun has ended, on the device."""
        runtime, stream = self._device.runtime, self._device.stream
        self._wait(side)
        for place in places:
            self.sides[side].values[place.first : place.first + place.size] = 0
            runtime.clear(self.address + place.first, place.size, stream)

    def _wait(self, side: int) -> None:
        """Until a side's last copy has ended."""
        if not self._read[side]:
            self._device.runtime.wait_event(self._copied[side])
            self._read[side] = True


class Fetching:
    """Memory through which results reach the host."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._memory: Pinned | None = None
        self._size = 0

    def fetch(self, results: Sequence[DeviceTensor]) -> list[Array]:
        """Copies of results as new arrays, once all that makes them has ended."""
        runtime, stream = self._device.runtime, self._device.stream
        places: list[Place] = []
        end = 0
        for result in results:
            places.append(Place(end, result.shape, result.dtype))
            end += _up(places[-1].size, ALIGNMENT)
        memory = self._room(end)
        for result, place in zip(results, places, strict=True):
            if place.size:
                runtime.to_host(memory.address + place.first, result.data, place.size, stream)
        runtime.wait(stream)
        return [memory.view(place).copy() if place.size else np.empty(place.shape, place.dtype) for place in places]

    def _room(self, size: int) -> Pinned:
        if self._memory is None or size > self._size:
            self._size = max(_LEAST, 1 << (size - 1).bit_length()) if size else _LEAST
            self._memory = Pinned(self._device, self._size)
        return self._memory


def placed(arrays: Sequence[Array]) -> tuple[list[Place], int]:
    """Places for arrays, one behind the other, and the bytes of all."""
    places: list[Place] = []
    end = 0
    for array in arrays:
        places.append(Place(end, array.shape, array.dtype))
        end += _up(array.nbytes, ALIGNMENT)
    return places, end


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
