"""Values as host ops see them: an array, and at which of its rows sequences end."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import invalid
from ..lod import LoDTensor
from ..variable import Variable

Array: TypeAlias = NDArray[Any]
Level: TypeAlias = tuple[int, ...]
Lod: TypeAlias = tuple[Level, ...]
"""Offsets, one tuple per level, the coarsest first; () for dense data."""


@dataclass(frozen=True, eq=False)
class Value:
    """A dense array and how its rows are divided."""

    array: Array
    lod: Lod = ()

    @staticmethod
    def of(value: object, var: Variable) -> Value:
        """What was fed for a variable: numbers of the kind that it holds get its element type."""
        found = Value._fed(value, var.name)
        dtype = var.dtype.numpy if var.has_dtype else found.array.dtype
        if dtype == found.array.dtype or not np.can_cast(found.array.dtype, dtype, "same_kind"):
            return found
        return Value(found.array.astype(dtype), found.lod)

    @staticmethod
    def _fed(value: object, name: str) -> Value:
        if isinstance(value, LoDTensor):
            if not value.has_valid_recursive_sequence_lengths():
                raise invalid(
                    f"feed {name!r} has {len(value)} rows and the LoD {value.lod()}",
                    "the last offset of a level is the number of sequences of the next, and of the last level the rows",
                )
            return Value(value.array, lod_of(value.lod()))
        return Value(np.asarray(value))

    def tensor(self) -> LoDTensor:
        """A copy as scripts get it."""
        tensor = LoDTensor()
        tensor.set(self.array)
        if self.lod:
            tensor.set_lod(self.lod)
        return tensor

    @property
    def ends(self) -> Level:
        """Offsets of the finest level, in rows; without LoD all rows are one sequence."""
        return self.lod[-1] if self.lod else (0, len(self.array))

    def rows(self) -> list[Array]:
        """The rows of each sequence of the finest level."""
        return [self.array[a:b] for a, b in itertools.pairwise(self.ends)]


@dataclass(frozen=True)
class RankTable:
    """Sequences from the longest to the shortest.

    Attributes:
        items: (which sequence, its length), equal lengths in the order in which they came.
        coarse: The levels above the one that was ranked.
    """

    items: tuple[tuple[int, int], ...]
    coarse: Lod = ()


Held: TypeAlias = "Value | list[Value | None] | RankTable"
"""What a name stands for: a tensor, an array of tensors, or a table of ranks."""


def lod_of(levels: Iterable[Iterable[int]]) -> Lod:
    """Offsets as plain tuples."""
    return tuple(tuple(int(o) for o in level) for level in levels)


def offsets(lengths: Iterable[int]) -> Level:
    """Where sequences of these lengths begin and end.

    >>> offsets([2, 0, 3])
    (0, 2, 2, 5)
    """
    return (0, *itertools.accumulate(int(n) for n in lengths))


def lengths(level: Sequence[int]) -> list[int]:
    """Lengths between offsets.

    >>> lengths((0, 2, 2, 5))
    [2, 0, 3]
    """
    return [b - a for a, b in itertools.pairwise(level)]


def in_rows(lod: Lod, level: int) -> Level:
    """Offsets of a level counted in rows of the tensor, not in sequences of the level below it."""
    found = lod[level]
    for finer in lod[level + 1 :]:
        found = tuple(finer[o] for o in found)
    return found
