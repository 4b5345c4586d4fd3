"""Rows of different lengths in ONNX, which has no such values: tokens, and the number of each token's row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ..ir.types import Dim, DType, RaggedType, Shape
from .emit import OnnxEmitter, OnnxRagged


@dataclass(frozen=True)
class Rows:
    """The rows of a ragged value.

    Attributes:
        o: Where nodes go.
        kind: The value's type.
        value: Names of its tokens and offsets.
    """

    o: OnnxEmitter
    kind: RaggedType
    value: OnnxRagged

    @property
    def tokens(self) -> Dim:
        """T, over all rows."""
        return self.kind.data.shape[0]

    @property
    def pooled(self) -> Shape:
        """The shape of one vector per row."""
        return (self.kind.count, *self.kind.data.shape[1:])

    @cached_property
    def starts(self) -> str:
        """i64[N]: the first token of every row; of an empty one, the next row's."""
        return self.o.node("Slice", self.value[1], self.o.ints(0), self.o.ints(-1))

    @cached_property
    def stops(self) -> str:
        """i64[N]: one after the last token of every row."""
        return self.o.node("Slice", self.value[1], self.o.ints(1), self.o.ints(_END))

    @cached_property
    def lengths(self) -> str:
        """i64[N]: the tokens of every row."""
        return self.o.node("Sub", self.stops, self.starts)

    @cached_property
    def filled(self) -> str:
        """bool[N]: the rows that have tokens."""
        return self.o.node("Less", self.starts, self.stops)

    @cached_property
    def count(self) -> str:
        """T, i64[]."""
        return self.o.extent(self.tokens)

    @cached_property
    def numbers(self) -> str:
        """i64[T]: the row of every token: as many as have ended before it, or there."""
        o = self.o
        ends = o.node("Slice", self.value[1], o.ints(1), o.ints(-1))
        after = o.node("Unsqueeze", o.node("Add", self.count, o.scalar(1, DType.I64)), o.ints(0))
        none = o.node("Expand", o.ints(0), after)
        one = o.node("Expand", o.ints(1), o.node("Shape", ends))
        ended = o.node("CumSum", o.node("ScatterElements", none, ends, one, axis=0, reduction="add"), self.axis)
        return o.node("Slice", ended, o.ints(0), o.ints(-1))

    @cached_property
    def axis(self) -> str:
        """The axis of tokens, and of rows."""
        return self.o.scalar(0, DType.I64)

    @cached_property
    def places(self) -> str:
        """i64[T]: 0, 1, …"""
        return self.o.node("Range", self.axis, self.count, self.o.scalar(1, DType.I64))

    def beside(self, x: str, count: Dim) -> str:
        """``x`` [count] with axes of extent 1 for those that a token has."""
        rank = self.kind.data.rank
        return self.o.reshape(x, (count, *(1,) * (rank - 1))) if rank > 1 else x

    def spread(self, x: str) -> str:
        """Row i of ``x`` [N, …] for every token of row i."""
        return self.o.node("Gather", x, self.numbers, axis=0)

    def joined(self, data: str, how: Literal["add", "max", "min"], start: str) -> str:
        """The tokens ``data`` of every row, added one by one to ``start`` [N, …], or the greatest or least of them."""
        index = self.o.expand(self.beside(self.numbers, self.tokens), self.kind.data.shape)
        return self.o.node("ScatterElements", start, index, data, axis=0, reduction=how)

    def total(self, data: str) -> str:
        """The sum of the tokens ``data`` of every row; 0 without tokens."""
        return self.joined(data, "add", self.o.full(self.pooled, 0, self.kind.dtype))

    def greatest(self, data: str) -> str:
        """The greatest of the tokens ``data`` of every row, NaN if one is; minus infinity without tokens."""
        o, dtype = self.o, self.kind.dtype
        # A comparison loses NaN, a sum does not.
        odd = o.node("Where", o.node("IsNaN", data), data, o.scalar(0, dtype))
        most = self.joined(data, "max", o.full(self.pooled, float("-inf"), dtype))
        return o.node("Add", most, self.total(odd))

    def taken(self, data: str) -> str:
        """i64[N, …]: the first place of the greatest of a row's tokens ``data``, NaN before all; T without tokens."""
        o = self.o
        top = o.node("Equal", data, self.spread(self.greatest(data)))
        hit = o.node("Or", top, o.node("IsNaN", data))
        candidates = o.node("Where", hit, self.beside(self.places, self.tokens), self.count)
        return self.joined(candidates, "min", o.expand(self.count, self.pooled))

    def padded(self, data: str, value: float) -> str:
        """Tokens ``data``, and one of ``value`` behind them, which stands at place T."""
        return self.o.node("Concat", data, self.o.full((1, *self.kind.data.shape[1:]), value, self.kind.dtype), axis=0)

    def ends(self, last: bool) -> str:
        """i64[N]: the place of the first, or last, token of every row; T without tokens."""
        o = self.o
        place = o.node("Sub", self.stops, o.scalar(1, DType.I64)) if last else self.starts
        return o.node("Where", self.filled, place, self.count)


_END = 2**63 - 1
