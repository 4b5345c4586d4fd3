"""Sizes beside the batch that a program leaves open, such as the length that sequences are padded to.

The first sizes of a program get code of their own. After that the sizes that change become symbols, one for those
that have been equal in every batch, so that one build serves all. Sizes that have never changed stay numbers, for which
code is faster, and so does a 1, which may stand beside any other size. A program that cannot be compiled so keeps code
of its own for every size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

from ..compiler.ir.types import Sym
from .framework import Program

EXACT_SIZES = 2
"""Sizes that get code of their own; after that one build serves all sizes."""

Place: TypeAlias = tuple[str, int]
"""A feed and an axis of it."""

_Pattern: TypeAlias = tuple[int, ...]
"""For every size the first one that has always equalled it, or -1 where it has never changed."""


@dataclass(frozen=True)
class Choice:
    """What to compile for the sizes at hand.

    Attributes:
        rows: The size of the batch; 0 for any.
        symbols: Of the sizes that are open beside the batch.
        pattern: What `Sizes.refuse` is told if that cannot be compiled; None where nothing but the batch is open.
    """

    rows: int
    symbols: Mapping[Place, Sym] = field(default_factory=dict[Place, Sym])
    pattern: _Pattern | None = None


class Sizes:
    """The sizes that one program has been fed."""

    def __init__(self, program: Program) -> None:
        self._private = program.global_block().private_backward() is not None
        self._places = () if self._private else tuple(_open_places(program))
        self._alone = frozenset(
            name for name, var in program.global_block().vars.items() if list(var.shape).count(-1) == 1
        )
        self._rows: list[int] = []
        self._exact: list[tuple[int, ...]] = []
        self._seen: list[tuple[int, ...]] = []
        self._before: list[tuple[int, ...]] = []
        self._refused: set[_Pattern] = set()

    def choose(self, rows: int, arrays: Mapping[str, NDArray[Any]]) -> Choice:
        """What to compile for arrays with ``rows`` rows, 0 where they have several numbers of rows or none."""
        if not self._places:
            return Choice(self._exact_rows(rows))
        sizes = (rows, *(_size(arrays.get(name), axis) for name, axis in self._places))
        if sizes not in self._exact and len(self._exact) < EXACT_SIZES:
            self._exact.append(sizes)
        if sizes in self._exact:
            return Choice(self._exact_rows(rows))
        self._before = self._seen
        seen = [*(self._seen or self._exact), sizes]
        pattern = _pattern(seen)
        # What has the size 1 is repeated beside other sizes, and a symbol is not: it stays a number.
        ones = {place for place, first in enumerate(pattern) if place and first >= 0 and sizes[place] == 1}
        if not ones and (not self._seen or pattern != _pattern(self._seen)):  # else these sizes tell nothing new
            self._seen = seen
        pattern = tuple(-1 if place in ones else first for place, first in enumerate(pattern))
        if pattern in self._refused or all(first < 0 for first in pattern[1:]):
            self._seen = self._before
            return Choice(self._exact_rows(rows))
        return Choice(rows if pattern[0] < 0 else 0, self._symbols(pattern), pattern)

    def refuse(self, choice: Choice, rows: int) -> Choice:
        """What to compile where ``choice`` cannot be; it is not made again."""
        assert choice.pattern is not None
        self._refused.add(choice.pattern)
        self._seen = self._before
        return Choice(self._exact_rows(rows))

    def _exact_rows(self, rows: int) -> int:
        if not rows or self._private:  # a private step has the rows of its lot
            return 0
        if rows not in self._rows and len(self._rows) < EXACT_SIZES:
            self._rows.append(rows)
        return rows if rows in self._rows else 0

    def _symbols(self, pattern: _Pattern) -> dict[Place, Sym]:
        symbols: dict[Place, Sym] = {}
        names: dict[int, str] = {}
        for (name, axis), first in zip(self._places, pattern[1:], strict=True):
            if first == 0 and name in self._alone:
                symbols[name, axis] = Sym("N")  # such as time-major data: the only open size of it is the batch
            elif first >= 0:
                word = f"L_{re.sub(r'[^A-Za-z0-9_]', '_', name)}"
                names.setdefault(first, word if word not in names.values() else f"{word}_{axis}_{len(names)}")
                symbols[name, axis] = Sym(names[first])
        return symbols


def _open_places(program: Program) -> Iterator[Place]:
    for name, var in program.global_block().vars.items():
        if var.is_data:
            yield from ((name, axis) for axis, extent in enumerate(var.shape) if axis and extent < 0)


def _size(array: NDArray[Any] | None, axis: int) -> int:
    return array.shape[axis] if array is not None and axis < array.ndim else -1


def _pattern(seen: Sequence[tuple[int, ...]]) -> _Pattern:
    columns = list(zip(*seen, strict=True))
    return tuple(-1 if len(set(column)) == 1 else columns.index(column) for column in columns)
