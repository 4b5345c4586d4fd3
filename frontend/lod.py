"""Tensors as programs are fed and answer: an array, and for sequences where each of them ends."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..runtime.buffers import Buffer, aligned
from .errors import invalid, wrong_type
from .memory import Memory
from .places import Place

LENGTHS = "@lengths"
"""Suffix of the feed that holds the lengths of a LoD variable's sequences, i64, one for each."""

OUTER = "@outer"
"""Suffix of the feed that holds, of nested sequences, how many belong to each group, i64[N]."""


class LoDTensor:
    """A dense array whose rows may be divided into sequences.

    ``lod()`` gives offsets (``[[0, 2, 5]]``), ``recursive_sequence_lengths()`` lengths (``[[2, 3]]``); both are
    empty for dense data.
    """

    def __init__(self) -> None:
        self._buffer: Buffer | None = None
        self._memory: Memory | None = None
        self._lod: list[list[int]] = []
        self.version = 0

    @property
    def is_initialized(self) -> bool:
        return self._buffer is not None

    @property
    def buffer(self) -> Buffer:
        """The memory, which compiled steps share."""
        if self._buffer is None:
            raise invalid("the tensor holds no data", "run the startup program, or call set(array, place)")
        return self._buffer

    @property
    def memory(self) -> Memory | None:
        """Who shares the buffer with this tensor; None where it is the tensor's own."""
        return self._memory

    @property
    def array(self) -> NDArray[np.generic]:
        """The memory itself, 64-byte aligned; not a copy. Ask again after a step (`runtime.buffers.Buffer`)."""
        if self._memory is not None:
            self._memory.settle()
        return self.buffer.array

    def set(self, array: object, place: Place | None = None) -> None:
        """Take over the values of ``array``; the buffer is kept where shape and element type stay."""
        del place
        values = np.asarray(array)
        if values.dtype == object:
            raise wrong_type("set: the array holds Python objects", "give a numeric array of one shape")
        kept = self._buffer
        if self._memory is not None:
            home = self._memory.buffer.home
            if home.shape != values.shape or home.dtype != values.dtype:
                raise invalid(
                    f"set: a parameter of dygraph is {home.dtype.name}{list(home.shape)}, the array "
                    f"{values.dtype.name}{list(values.shape)}",
                    "give an array of its shape and element type",
                )
            self._memory.overwrite()
        if kept is None or kept.home.shape != values.shape or kept.home.dtype != values.dtype:
            kept = self._buffer = Buffer(aligned(values.shape, values.dtype))
        kept.put(values)
        self.version += 1

    def adopt(self, buffer: Buffer) -> None:
        """Use ``buffer`` itself from now on (a compiled step hands over its result)."""
        self._buffer, self._memory = buffer, None
        self.version += 1

    def share(self, memory: Memory) -> None:
        """Use somebody's memory from now on; he sees what is written there."""
        self._buffer, self._memory = memory.buffer, memory
        self.version += 1

    def shape(self) -> list[int]:
        return list(self.buffer.home.shape)

    def lod(self) -> list[list[int]]:
        return [list(level) for level in self._lod]

    def set_lod(self, lod: Sequence[Sequence[int]]) -> None:
        """Divide the rows by offsets, one list per level, the coarsest first."""
        levels = [[int(o) for o in level] for level in lod]
        for level in levels:
            if not level or level[0] != 0 or any(b < a for a, b in itertools.pairwise(level)):
                raise invalid(f"set_lod: offsets {level}", "offsets start at 0 and never fall")
        self._lod = levels

    def recursive_sequence_lengths(self) -> list[list[int]]:
        return [[b - a for a, b in itertools.pairwise(level)] for level in self._lod]

    def set_recursive_sequence_lengths(self, lengths: Sequence[Sequence[int]]) -> None:
        """Divide the rows by lengths, one list per level, the coarsest first."""
        self.set_lod([np.concatenate([[0], np.cumsum(level)]).tolist() for level in lengths])

    def has_valid_recursive_sequence_lengths(self) -> bool:
        """Whether every level's total is the number of items of the level below, and the last one's the rows."""
        if not self._lod:
            return True
        sizes = [len(level) - 1 for level in self._lod[1:]] + [len(self.array)]
        return all(level[-1] == size for level, size in zip(self._lod, sizes))

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.generic]:
        if copy is False:
            return self.array
        return np.array(self.array, dtype=dtype)

    def __len__(self) -> int:
        return len(self.buffer.home)

    def __repr__(self) -> str:
        values = self.array if self.is_initialized else None
        return f"LoDTensor(lod={self._lod}, {values!r})"


class LoDTensorArray(list[LoDTensor]):
    """A list of tensors."""


def create_lod_tensor(
    data: NDArray[np.generic] | Sequence[object] | LoDTensor,
    recursive_seq_lens: Sequence[Sequence[int]],
    place: Place,
) -> LoDTensor:
    """Rows with the lengths of their sequences.

    Args:
        data: An array whose axis 0 runs over all rows; or a list of sequences of integers, which becomes int64
            rows of one element; or another LoDTensor.
        recursive_seq_lens: Lengths, one list per level: ``[[2, 3]]`` for sequences of 2 and 3 rows.
        place: Accepted for fluid's sake.

    Raises:
        ProgramError: The lengths do not add up to the rows.
    """
    tensor = LoDTensor()
    if isinstance(data, LoDTensor):
        tensor.set(data.array, place)
    elif isinstance(data, np.ndarray):
        tensor.set(data, place)
    else:
        lengths = [len(row) for row in data]  # type: ignore[arg-type]
        if [int(n) for n in recursive_seq_lens[-1]] != lengths:
            raise invalid(
                f"create_lod_tensor: the sequences have lengths {lengths}, recursive_seq_lens says "
                f"{list(recursive_seq_lens[-1])}",
                "both must agree",
            )
        flat = [np.asarray(item) for row in data for item in row]  # type: ignore[attr-defined]
        rows = np.stack(flat) if flat else np.zeros((0,), np.int64)
        rows = rows.reshape(len(flat), -1) if flat else rows.reshape(0, 1)
        tensor.set(rows.astype(np.int64) if rows.dtype.kind in "iu" else rows, place)
    tensor.set_recursive_sequence_lengths(recursive_seq_lens)
    if not tensor.has_valid_recursive_sequence_lengths():
        raise invalid(
            f"create_lod_tensor: lengths {[list(level) for level in recursive_seq_lens]} for {len(tensor)} rows",
            "the lengths of the last level must add up to the number of rows",
        )
    return tensor


def create_random_int_lodtensor(
    recursive_seq_lens: Sequence[Sequence[int]], base_shape: Sequence[int], place: Place, low: int, high: int
) -> LoDTensor:
    """Random int64 rows of ``base_shape`` from ``low`` to ``high``, both included."""
    rows = sum(recursive_seq_lens[-1])
    data = np.random.randint(low, high + 1, [rows, *base_shape]).astype(np.int64)  # noqa: NPY002 - fluid's stream
    return create_lod_tensor(data, recursive_seq_lens, place)
