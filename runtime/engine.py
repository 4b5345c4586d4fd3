"""What executes the functions of an artifact: the one interface between the runtime and its back ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Handle: TypeAlias = Any

ALIGNMENT = 64


class Engine(Protocol):
    """A loaded module.

    A function takes its inputs in the order of the manifest's ``FunctionSpec.inputs``: the state it reads or
    writes, in declaration order, then its parameters.  State arrays are updated in place; the outputs of kind
    ``fetch`` are returned as new arrays, in the order of ``FunctionSpec.outputs``.
    """

    def tensor(self, array: Array) -> Handle:
        """Wrap a 64-byte-aligned, C-contiguous array without copying; the handle keeps it alive."""
        ...

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """Run one function to its end; returns its fetches."""
        ...


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
