"""A whole step as one launch: what a function begins in the stream, written down once and repeated."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from ..tvm_abi import DeviceTensor
from .device import Device
from .machine import Held

Begin = Callable[[Held], list[DeviceTensor]]
"""Begins a function's work; the list takes the memory that it uses on the way."""


class Graph:
    """The work of a function on arguments that stay where they are, and results that stay where they are.

    Its memory is its own as long as it lives: the pool that gave it does not give it to others meanwhile, nor back.

    Args:
        device: Its stream is captured.
        begin: Called once; it begins nothing.

    Attributes:
        results: Where a launch leaves them.

    Raises what ``begin`` raises, or CudaError, for work that cannot be captured; none of it was then done.
    """

    def __init__(self, device: Device, begin: Begin) -> None:
        runtime, stream = device.runtime, device.stream
        self._device = device
        self._held: Held = []
        runtime.begin_capture(stream)
        try:
            self.results = begin(self._held)
        except BaseException:
            runtime.abandon_capture(stream)
            raise
        self._graph = runtime.instantiate(runtime.end_capture(stream))
        weakref.finalize(self, _destroy, device, self._graph)
        device.resources.add(self)

    def launch(self) -> None:
        """Begin the work."""
        self._device.runtime.launch(self._graph, self._device.stream)


def _destroy(device: Device, graph: int) -> None:
    if not device.is_lost:
        device.runtime.destroy(graph)
