"""Sequences of different lengths: pooling them, and what is made of their lengths."""

from __future__ import annotations

from typing import cast

from ...compiler.ir.types import Dim, RaggedType
from ...compiler.ops import ragged
from .context import OpLowering, Rules, dtype_of


def _sequence_pool(o: OpLowering) -> None:
    how = cast("ragged.Pooling", str(o.attr("pooltype")).lower())
    x = o.any("X")
    found = o.b(ragged.Pool(x, how, o.attr("pad_value", 0.0)))
    outer = o.function.sizes.groups(x)
    o.set(found if outer is None else o.b(ragged.FromLengths(found, outer)))


def _sequence_softmax(o: OpLowering) -> None:
    o.set(o.b(ragged.Softmax(o.any("X"))))


def _sequence_mask(o: OpLowering) -> None:
    lengths, places = o.any("X"), int(o.attr("maxlen", -1))
    if isinstance(lengths.type, RaggedType):
        lengths = o.b(ragged.Data(lengths))
    width: Dim = places if places > 0 else o.function.longest(lengths)
    at = o.b.iota((width,), 0, lengths.tensor.dtype)
    inside = o.b.less(at, o.b.reshape(lengths, (*lengths.tensor.shape, 1)))
    o.set(o.b.cast(inside, dtype_of(o.attr("out_dtype"))), "Y")


RULES: Rules = {
    "sequence_mask": _sequence_mask,
    "sequence_pool": _sequence_pool,
    "sequence_softmax": _sequence_softmax,
}
