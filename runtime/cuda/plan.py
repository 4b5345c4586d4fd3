"""A function with arguments of certain sizes: how it is called, the first time and from then on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..buffers import Array, Buffer
from ..errors import EngineError
from ..signals import PutOffInterrupt
from ..tvm_abi import DeviceTensor
from .device import Device
from .graph import Graph
from .machine import Held, Machine
from .staging import Feeding, Fetching, placed
from .values import DeviceValues

Key = tuple[object, ...]


class Fed:
    """An array that every call copies to the device.

    Attributes:
        array: It.
        secret: Whether the copy is wiped.
        key: What calls with other arrays must share to be alike.
    """

    __slots__ = ("array", "key", "secret")

    def __init__(self, array: Array, secret: bool) -> None:
        self.array = array
        self.secret = secret
        self.key: Key = (array.shape, array.dtype, secret)


class Stated:
    """A state variable, and its memory on the device."""

    __slots__ = ("buffer", "key", "values")

    def __init__(self, buffer: Buffer, values: DeviceValues) -> None:
        self.buffer = buffer
        self.values = values
        self.key: Key = (id(values),)


Handle = Fed | Stated


@dataclass(frozen=True)
class Means:
    """What the plans of an engine share.

    Attributes:
        device: Where they run.
        machine: Has the functions.
        fetching: Brings results.
        captured: Whether work is to be captured.
        uncapturable: Functions whose work was found not to be.
    """

    device: Device
    machine: Machine
    fetching: Fetching
    captured: bool
    uncapturable: set[str]


class Plan:
    """A function on state and on arrays of certain sizes.

    The first call runs it as it is, which loads its code and fills the pool of memory; the second writes its work down
    (`Graph`) and launches that; all others launch it again.  Each runs it once.

    Args:
        means: Of the engine.
        function: Its name.
        handles: Arguments of the first call; those of the others have the same keys.
        feeding: Memory for all that is fed.
    """

    def __init__(self, means: Means, function: str, handles: Sequence[Handle], feeding: Feeding) -> None:
        self._means, self._function, self._feeding = means, function, feeding
        self._stated = [handle for handle in handles if isinstance(handle, Stated)]
        fed = [(number, handle) for number, handle in enumerate(handles) if isinstance(handle, Fed)]
        places, self._size = placed([handle.array for _, handle in fed])
        self._views = tuple([side.view(place) for place in places] for side in feeding.sides)
        self._secrets = [place for (_, handle), place in zip(fed, places, strict=True) if handle.secret]
        parts = {
            number: feeding.tensor.part(place.first, place.shape, place.dtype)
            for (number, _), place in zip(fed, places, strict=True)
        }
        self._tensors: list[DeviceTensor] = [
            handle.values.tensor if isinstance(handle, Stated) else parts[number]
            for number, handle in enumerate(handles)
        ]
        self._graph: Graph | None = None
        self._reserved: Held = []
        self._ran = False

    def call(self, handles: Sequence[Handle]) -> list[Array]:
        """Run it once; returns its fetches as new arrays.

        Without any, it may return before the work has ended, and a failure of the device is then told by a later call.
        Raises EngineError.
        """
        arrived = [stated for stated in self._stated if stated.buffer.remote is not stated.values]
        for stated in arrived:
            stated.values.take(stated.buffer)
        if not self._size:
            return self._fetched(arrived)
        side = self._feeding.free()
        try:
            fed = [handle.array for handle in handles if isinstance(handle, Fed)]
            for view, array in zip(self._views[side], fed, strict=True):
                view[...] = array
            self._feeding.send(side, self._size)
            return self._fetched(arrived)
        finally:
            if self._secrets:
                self._feeding.wipe(side, self._secrets)

    def _fetched(self, arrived: Sequence[Stated]) -> list[Array]:
        results = self._begin(arrived)
        if not results:
            return []
        fetched = self._means.fetching.fetch(results)
        self._feeding.settled()
        return fetched

    def _begin(self, arrived: Sequence[Stated]) -> list[DeviceTensor]:
        """Begin the work of one call; its results are there when that has ended."""
        graph = self._graph
        if graph is None:
            # TVM calls back to Python on the way, where Ctrl-C would end a step in its middle.
            with PutOffInterrupt():
                if not self._ran:
                    return self._first(arrived)
                if not self._capture():
                    return self._means.machine.call(self._function, self._tensors)
            graph = self._graph
            assert graph is not None
        graph.launch()
        return graph.results

    def _first(self, arrived: Sequence[Stated]) -> list[DeviceTensor]:
        """The first call, which may find too little memory when it is half done: state is then what it was."""
        device = self._means.device
        restore = self._saved({id(stated) for stated in arrived})
        # A capture then finds as much in the pool, and need not ask the device for any.
        held = self._reserved if self._may_capture else None
        try:
            results = self._means.machine.call(self._function, self._tensors, held)
        except BaseException:
            self._reserved.clear()
            with suppress(EngineError):
                device.wait()
                for back in restore:
                    back()
            raise
        self._ran = True
        return results

    def _saved(self, arrived: set[int]) -> list[Callable[[], None]]:
        """What brings state back; nothing where the device has no memory for a copy of it."""
        back: list[Callable[[], None]] = []
        stays = [stated for stated in self._stated if id(stated) not in arrived]
        free, _ = self._means.device.runtime.free_memory()
        if 2 * sum(stated.values.size for stated in stays) > free:
            return back
        with suppress(EngineError):
            back += [stated.buffer.save() for stated in stays]
        # What has just been copied to the device is still where it came from.
        return back + [stated.buffer.leave_remote for stated in self._stated if id(stated) in arrived]

    @property
    def _may_capture(self) -> bool:
        return self._means.captured and self._function not in self._means.uncapturable

    def _capture(self) -> bool:
        """Write the work down; whether that could be done.  Nothing is run."""
        means, function = self._means, self._function
        self._reserved.clear()
        if not self._may_capture:
            return False
        try:
            self._graph = Graph(means.device, lambda held: means.machine.call(function, self._tensors, held))
        except EngineError as error:
            means.uncapturable.add(function)
            warnings.warn(
                f"{function} is launched kernel by kernel, since it cannot be captured as a CUDA graph: {error.what}",
                UserWarning,
                stacklevel=6,
            )
            return False
        return True
