"""The memory that state and feeds live in: aligned arrays, and buffers that an engine may give a second side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

ALIGNMENT = 64


class Remote(Protocol):
    """Memory that numpy does not reach, such as a GPU's, and that can hold the values of a buffer."""

    def fetch(self, into: Array) -> None:
        """Copy its values to an array of the buffer's shape and type, once all that writes them has ended."""
        ...

    def save(self) -> Callable[[], None]:
        """Copy its values aside; what is returned puts them back."""
        ...


class Buffer:
    """Memory of one state variable: its owner's array, a second one where an engine needs it, and memory elsewhere.

    An engine that must not overwrite what it still reads writes `spare` and then has the buffer flipped (`flip`); one
    that works on a device keeps the values there (`remote`).  The newest values are then *away* from the owner's array.
    `array` brings them home first, so that whoever looks there sees the newest values and may write new ones.  That
    holds until the next call of a function that has the variable: then ask again, for an array kept from before may
    hold old values, and what is written to it may be lost.

    Copied, pickled, or in a forked process, a buffer has its values in an array of its own.

    Args:
        array: The owner's, for good: a buffer never moves.

    Attributes:
        home: The owner's array as it is: its type, shape and address hold, its values may be old.
        sides: The array with the newest values of those that numpy reaches, then the other one if there is one.
            Engines may look at them.
        remotes: Memory on devices, by device; what engines on one device share.
        remote: That of `remotes` with the newest values, or None where they are in `sides`.
    """

    __slots__ = ("__weakref__", "home", "remote", "remotes", "sides")

    def __init__(self, array: Array) -> None:
        self.home = array
        self.sides = [array]
        self.remotes: dict[Hashable, Remote] = {}
        self.remote: Remote | None = None

    def __reduce__(self) -> tuple[Callable[[Array], Buffer], tuple[Array]]:
        return _copied, (self.array,)

    @property
    def array(self) -> Array:
        """The owner's array, with the newest values."""
        if self.is_away:
            self.bring_home()
        return self.home

    @property
    def values(self) -> Array:
        """The newest values, to be read and not written, until the next step: a device keeps what it has of them."""
        self.copy_home()
        seen = self.home.view()
        seen.flags.writeable = False
        return seen

    @property
    def is_away(self) -> bool:
        """Whether the newest values are not in the owner's array."""
        return self.remote is not None or self.sides[0] is not self.home

    def bring_home(self) -> None:
        """Move the newest values to the owner's array, if they are away."""
        self.copy_home()
        self._is_home()

    def copy_home(self) -> None:
        """Copy the newest values to the owner's array; they stay where they are, and go on from there."""
        if self.remote is not None:
            self.remote.fetch(self.home)
        elif self.sides[0] is not self.home:
            np.copyto(self.home, self.sides[0])

    def put(self, values: object) -> None:
        """Make ``values`` the newest; they are broadcast and converted as numpy assigns them."""
        self.home[...] = values
        self._is_home()

    def leave_remote(self) -> None:
        """The newest values are those that numpy reaches, whatever a device has made of its own."""
        self.remote = None

    def save(self) -> Callable[[], None]:
        """Copy the newest values aside, where they are; what is returned makes them the newest again."""
        remote = self.remote
        if remote is None:
            return partial(self.put, self.sides[0].copy())
        restore = remote.save()

        def back() -> None:
            restore()
            self.remote = remote

        return back

    @property
    def spare(self) -> Array:
        """The array that does not hold the newest values; made when it is first asked for."""
        if len(self.sides) == 1:
            self.sides.append(aligned(self.home.shape, self.home.dtype))
        return self.sides[1]

    def _is_home(self) -> None:
        if self.sides[0] is not self.home:
            self.sides.reverse()
        self.remote = None


def _copied(array: Array) -> Buffer:
    return Buffer(aligned_copy(array))


def flip(buffers: Iterable[Buffer]) -> None:
    """The newest values of all these buffers are now in what was `Buffer.spare`.

    All of them flip or none: Python runs no signal handler inside, so Ctrl-C cannot fall between two.
    """
    deque(map(list[Array].reverse, [buffer.sides for buffer in buffers]), maxlen=0)


class Arrays(Mapping[str, Array]):
    """The arrays of buffers by name, each with its newest values when it is looked up (`Buffer.array`)."""

    def __init__(self, buffers: Mapping[str, Buffer]) -> None:
        self._buffers = buffers

    def __getitem__(self, name: str) -> Array:
        return self._buffers[name].array

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)


def aligned(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Uninitialised memory as the engines want it: C-contiguous and 64-byte aligned."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    # A slice of no elements would start at the front of ``raw``.
    return np.ndarray(tuple(shape), dtype, raw.data, start)


def aligned_zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Zeros in memory as the engines want it; pages that nobody writes take no memory (sums of lots, mostly)."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    return np.ndarray(tuple(shape), dtype, raw.data, -raw.ctypes.data % ALIGNMENT)


def aligned_copy(array: Array) -> Array:
    """``array`` in memory as the engines want it."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy
