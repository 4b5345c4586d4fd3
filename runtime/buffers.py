"""The memory that state and feeds live in: aligned arrays, and buffers that an engine may give a second side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

ALIGNMENT = 64


class Buffer:
    """Memory of one state variable: its owner's array, and a second one where an engine needs it.

    An engine that must not overwrite what it still reads writes `spare` and then has the buffer flipped (`flip`): its
    newest values are then *away* from the owner's array.  `array` brings them home first, so that whoever looks there
    sees the newest values and may write new ones.  That holds until the next call of a function that writes the
    variable: then ask again, for an array kept from before may hold old values, and what is written to it may be lost.

    Args:
        array: The owner's, for good: a buffer never moves.

    Attributes:
        home: The owner's array as it is: its type, shape and address hold, its values may be old.
        sides: The array with the newest values, then the other one if there is one.  Engines may look at them.
    """

    __slots__ = ("home", "sides")

    def __init__(self, array: Array) -> None:
        self.home = array
        self.sides = [array]

    @property
    def array(self) -> Array:
        """The owner's array, with the newest values."""
        if self.is_away:
            self.bring_home()
        return self.home

    @property
    def is_away(self) -> bool:
        """Whether the newest values are not in the owner's array."""
        return self.sides[0] is not self.home

    def bring_home(self) -> None:
        """Copy the newest values into the owner's array, if they are away."""
        if self.is_away:
            np.copyto(self.home, self.sides[0])
            self.sides.reverse()

    def put(self, values: object) -> None:
        """Make ``values`` the newest; they are broadcast and converted as numpy assigns them."""
        self.home[...] = values
        if self.is_away:
            self.sides.reverse()

    @property
    def spare(self) -> Array:
        """The array that does not hold the newest values; made when it is first asked for."""
        if len(self.sides) == 1:
            self.sides.append(aligned(self.home.shape, self.home.dtype))
        return self.sides[1]


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
