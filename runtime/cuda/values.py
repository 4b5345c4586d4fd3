"""The values of a state variable in device memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..buffers import Array, Buffer
from ..tvm_abi import DeviceTensor
from .device import Device
from .machine import allocate


class DeviceValues:
    """Memory for a buffer's values on a device, for as long as the buffer lives (``buffers.Remote``).

    Attributes:
        tensor: The memory.
        address: Where it begins.
        size: Bytes.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        self._device = device
        self.tensor = allocate(device, shape, dtype, f"state {dtype}{list(shape)}")
        self.address = self.tensor.data
        self.size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        device.resources.add(self)

    def take(self, buffer: Buffer) -> None:
        """Have the buffer's newest values, which are elsewhere."""
        if buffer.remote is not None:
            buffer.bring_home()  # from another device
        source = buffer.sides[0]
        if self.size:
            # Not pinned: it is read before this returns.
            self._device.runtime.to_device(self.address, source.ctypes.data, self.size, self._device.stream)
        buffer.remote = self

    def fetch(self, into: Array) -> None:
        """Copy the values to an array.  Raises EngineError where the device cannot be asked any more."""
        with self._device.used():
            if self.size:
                self._device.runtime.to_host(into.ctypes.data, self.address, self.size, self._device.stream)
            self._device.wait()

    def save(self) -> Callable[[], None]:
        """Copy the values aside, on the device; what is returned puts them back."""
        with self._device.used():
            kept = allocate(self._device, (max(self.size, 1),), np.dtype(np.uint8), "a copy of state")
            self._copy(kept.data, self.address)
        return partial(self._restore, kept)

    def _restore(self, kept: DeviceTensor) -> None:
        with self._device.used():
            self._copy(self.address, kept.data)

    def _copy(self, to: int, source: int) -> None:
        if self.size:
            self._device.runtime.on_device(to, source, self.size, self._device.stream)


def values_on(device: Device, buffer: Buffer) -> DeviceValues:
    """The memory of ``buffer`` on a device, made when it is first asked for; every engine there uses it."""
    found = buffer.remotes.get(device.ordinal)
    if isinstance(found, DeviceValues):
        return found
    with device.used():
        made = DeviceValues(device, buffer.home.shape, buffer.home.dtype)
    buffer.remotes[device.ordinal] = made
    device.buffers.add(buffer)
    return made
