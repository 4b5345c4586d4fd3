"""Variables that are no tensors: arrays of them, and tables of sequences by length.

Where fluid sorts sequences by length, so that those that have ended can be cut off, here every row keeps its place and
rows without a token are computed but never used.  `Ranked` stands for values that a program sorted: inside of a loop
they are read in their own order, anywhere else they are sorted when somebody reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, RaggedType
from ...compiler.ops import indexing, ragged
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.elementwise import Fill
from ...compiler.ops.ragged_pad import Pad, Unpad
from ...compiler.ops.shape import Broadcast


@dataclass(frozen=True, eq=False)
class RankTable:
    """The sequences of ``rows``, the longest first.

    Attributes:
        rows: A ragged value with these sequences.
        lengths: Their lengths, i64[N].
        width: The extent of the longest.
    """

    rows: Value
    lengths: Value
    width: Dim

    @staticmethod
    def of(b: OpBuilder, rows: Value, width: Dim) -> RankTable:
        return RankTable(rows, b(ragged.Lengths(rows)), width)

    def order(self, b: OpBuilder) -> Value:
        """Which sequence stands at every place of the table, i64[N]; equal lengths keep their order."""
        _, order = b.emit(indexing.Argsort(b.neg(self.lengths), 0, False))
        return order

    def places(self, b: OpBuilder) -> Value:
        """The place of every sequence in the table, i64[N]."""
        _, places = b.emit(indexing.Argsort(self.order(b), 0, False))
        return places


@dataclass(frozen=True, eq=False)
class Ranked:
    """``value`` sorted by ``table``; ``width`` is the extent of its longest row, where it is ragged."""

    value: Value
    table: RankTable
    width: Dim = 0

    def sorted(self, b: OpBuilder) -> Value:
        order = self.table.order(b)
        if not isinstance(self.value.type, RaggedType):
            return b.gather(self.value, order, 0)
        lengths = b.gather(b(ragged.Lengths(self.value)), order, 0)
        rows = b(ragged.FromLengths(b(ragged.Data(self.value)), lengths))
        return b(Unpad(b.gather(b(Pad(self.value, self.width)), order, 0), rows))


@dataclass(frozen=True, eq=False)
class Rows:
    """Items of an array side by side: [n, …]."""

    value: Value

    @property
    def count(self) -> Dim:
        return self.value.tensor.shape[0]


Item = Value | Ranked
Part = Item | Rows | None
"""One item, several, or one that was never written."""


@dataclass(frozen=True, eq=False)
class TensorArray:
    """The items of an array, in order.

    With ``table`` item t holds token t of the table's sequences, of those without such a token anything.
    """

    parts: tuple[Part, ...] = ()
    table: RankTable | None = None

    def count(self) -> int | None:
        """The number of items; None where an extent decides it."""
        total = 0
        for part in self.parts:
            size = part.count if isinstance(part, Rows) else 1
            if not isinstance(size, int):
                return None
            total += size
        return total

    def item(self, b: OpBuilder, index: int) -> Item | None:
        """The item at an index; None if nothing was written there, or an extent stands before it."""
        at = 0
        for part in self.parts:
            if not isinstance(part, Rows):
                if at == index:
                    return part
                at += 1
                continue
            if isinstance(part.count, int) and index >= at + part.count:
                at += part.count
                continue
            if not isinstance(part.count, int) and index > at:
                return None
            shape = part.value.tensor.shape[1:]
            return b.reshape(b.slice(part.value, 0, index - at, index - at + 1), shape)
        return None

    def written(self, b: OpBuilder, index: int, item: Item) -> TensorArray | None:
        """With ``item`` at ``index``; None behind items that an extent counts."""
        parts = self._single(b)
        if parts is None:
            return None
        parts += [None] * (index - len(parts))
        parts[index : index + 1] = [item]
        return TensorArray(tuple(parts), self.table)

    def _single(self, b: OpBuilder) -> list[Part] | None:
        count = self.count()
        return None if count is None else [self.item(b, i) for i in range(count)]

    def between(self, b: OpBuilder, start: int, stop: int) -> tuple[Part, ...] | None:
        """The parts from item ``start`` up to ``stop``; None behind items that an extent counts."""
        count = self.count()
        if count is not None:
            return tuple(self.item(b, i) for i in range(start, min(stop, count)))
        parts = self.parts
        if start == 0 and not any(isinstance(part, Rows) for part in parts[:stop]):
            return parts[:stop]
        return None

    def stacked(self, b: OpBuilder) -> Value | None:
        """All items side by side [n, …]; None where they differ in shape, or one is missing."""
        found: list[Value] = []
        for part in self.parts:
            if isinstance(part, Rows):
                found.append(part.value)
            elif isinstance(part, Value) and not isinstance(part.type, RaggedType):
                found.append(b.reshape(part, (1, *part.tensor.shape)))
            else:
                return None
        first = found[0].tensor.with_shape(found[0].tensor.shape[1:]) if found else None
        if first is None or any(v.tensor.with_shape(v.tensor.shape[1:]) != first for v in found):
            return None
        if len(found) > 1 and any(not isinstance(v.tensor.shape[0], int) for v in found):
            return None
        return b.concat(found, 0)


@dataclass(frozen=True, eq=False)
class Split:
    """Those rows of ``value`` whose ``mask`` (bool[N]) is ``kept``; all others are computed, but never used."""

    value: Value
    mask: Value
    kept: bool


@dataclass
class Held:
    """What the names of a block stand for that are no tensors."""

    arrays: dict[str, TensorArray] = field(default_factory=dict)
    tables: dict[str, RankTable] = field(default_factory=dict)
    ranked: dict[str, Ranked] = field(default_factory=dict)
    split: dict[str, Split] = field(default_factory=dict)


def uniform(value: Value) -> bool:
    """Whether all elements are one constant."""
    op = value.op
    return isinstance(op, Fill) or (isinstance(op, Broadcast) and uniform(op.x))


def at_index(b: OpBuilder, rows: Value, index: Value) -> Value:
    """The item of ``rows`` [n, …] at an index that is computed, i64 of one element."""
    at = b.cast(b.reshape(index, (1,)), DType.I64)
    return b.reshape(b.gather(rows, at, 0), rows.tensor.shape[1:])
