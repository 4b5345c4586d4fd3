"""Sequences of different lengths: pooled, filtered, repeated, joined, cut, padded."""

from __future__ import annotations

import math
from typing import cast

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, RaggedType, dim_mul, numel
from ...compiler.ops import elementwise, ragged, ragged_move, ragged_pad
from ...runtime.extents import Combined, Fixed, Listed, Rule, Vector
from .context import OpLowering, Rules
from .numbers import elements


def rows_of(o: OpLowering, slot: str = "X") -> Value:
    """The sequences in a slot; raises LoweringError for dense data."""
    found = o.any(slot)
    if not isinstance(found.type, RaggedType):
        name = o.op.input(slot)[0]
        raise o.error(f"{name} has no sequences, it is {found.type}", f"declare {name} with lod_level=1, or feed it so")
    return found


def tokens_of(o: OpLowering, slot: str = "X") -> Value:
    """The rows in a slot, of sequences or not."""
    found = o.any(slot)
    return o.b(ragged.Data(found)) if isinstance(found.type, RaggedType) else found


def lengths_of(o: OpLowering, rows: Value) -> Value:
    """How many rows each sequence has, i64[N]."""
    return o.b(ragged.Lengths(rows))


def starts_of(o: OpLowering, lengths: Value) -> Value:
    """Where each of the sequences of these lengths begins, i64[N]."""
    return o.b.cumsum(lengths, 0, exclusive=True)


def divided(o: OpLowering, lengths: Value) -> Value:
    """Sequences of these lengths, of zeros: what `ragged.take` and the like take the form of."""
    return o.b(ragged.FromLengths(o.b.fill((o.function.sizes.total(lengths),), DType.I64, 0), lengths))


def _integers(o: OpLowering, slot: str) -> Value:
    """One integer per sequence, i64[N]."""
    value = o.x(slot)
    return o.b.cast(o.b.reshape(value, (numel(value.tensor.shape),)), DType.I64)


def _regroup(o: OpLowering, lengths: Value, like: Value) -> None:
    """Sequences of these lengths are grouped as those of ``like``."""
    outer = o.function.sizes.groups(like)
    if outer is not None:
        o.function.sizes.outer[lengths] = outer


def _sequence_pool(o: OpLowering) -> None:
    how = cast("ragged.Pooling", str(o.attr("pooltype")).lower())
    x = rows_of(o)
    found = o.b(ragged.Pool(x, how, o.attr("pad_value", 0.0)))
    outer = o.function.sizes.groups(x)
    o.set(found if outer is None else o.b(ragged.FromLengths(found, outer)))


def _sequence_softmax(o: OpLowering) -> None:
    o.set(o.b(ragged.Softmax(rows_of(o))))


def _sequence_reverse(o: OpLowering) -> None:
    o.set(o.b(ragged_move.Reverse(rows_of(o))), "Y")


def _sequence_conv(o: OpLowering) -> None:
    if o.attr("paddingTrainable", False) or o.attr("contextStride", 1) != 1:
        raise o.error("a trained padding, or a stride", "pad with zeros, and take every row: what fluid.layers records")
    x, size = rows_of(o), int(o.attr("contextLength"))
    around = o.b(ragged_move.Context(x, int(o.attr("contextStart", 0)), size))
    tokens, _, width = around.tensor.shape
    flat = o.b.reshape(around, (tokens, dim_mul(size, width)))
    o.set(o.b(ragged.Like(o.b.matmul(flat, o.x("Filter")), x)))


def _row_conv(o: OpLowering) -> None:
    x, weight = o.any("X"), o.x("Filter")
    size, width = weight.tensor.shape
    assert isinstance(size, int)
    if isinstance(x.type, RaggedType):
        around = o.b(ragged_move.Context(x, 0, size))
        weighted = o.b.mul(around, o.b.reshape(weight, (1, size, width)))
        o.set(o.b(ragged.Like(o.b.reduce_sum(weighted, (1,)), x)))
        return
    rows, steps, _ = x.tensor.shape
    total: Value | None = None
    for k in range(size):
        # Rows that are not there count as zeros.
        if isinstance(steps, int):
            seen = min(k, steps)
            ahead = o.b.pad(o.b.slice(x, 1, seen, steps), (0, 0, 0), (0, seen, 0))
        else:
            raise o.error(f"{x.type} has an open number of steps", "give the data its full shape, or feed sequences")
        part = o.b.mul(ahead, o.b.reshape(o.b.slice(weight, 0, k, k + 1), (1, 1, width)))
        total = part if total is None else o.b.add(total, part)
    assert total is not None
    o.set(o.b.reshape(total, (rows, steps, width)))


def _sequence_enumerate(o: OpLowering) -> None:
    x, size = rows_of(o), int(o.attr("win_size"))
    found = o.b(ragged_move.Context(x, 0, size, float(o.attr("pad_value", 0))))
    o.set(o.b(ragged.Like(o.b.reshape(found, (found.tensor.shape[0], size)), x)))


def _sequence_concat(o: OpLowering) -> None:
    xs = o.ins("X")
    if any(not isinstance(x.type, RaggedType) for x in xs):
        raise o.error("an input has no sequences", "declare all of them with lod_level=1")
    each = [lengths_of(o, x) for x in xs]
    total = each[0]
    before: list[Value | None] = [None]
    for lengths in each[1:]:
        before.append(total)
        total = o.b.add(total, lengths)
    starts, size = starts_of(o, total), o.function.sizes.total(total)
    found: Value | None = None
    for x, offset in zip(xs, before):
        # What stands before this part of each sequence.
        at = starts if offset is None else o.b.add(starts, offset)
        part = o.b(ragged_move.Place(x, at, size, disjoint=True))
        found = part if found is None else o.b.add(found, part)
    assert found is not None
    _regroup(o, total, xs[0])
    o.set(o.b(ragged.FromLengths(found, total)))


def _vector(o: OpLowering, value: Value) -> Vector | None:
    """Integers as an expression over what is fed, or as the numbers they are; None of computed ones."""
    found = o.function.sizes.expression(value)
    if found is not None:
        return found
    numbers = elements(o, value) or []
    listed = tuple(n for n in numbers if isinstance(n, int) and n >= 0)
    return Listed(listed) if listed and len(listed) == len(numbers) else None


def _sequence_slice(o: OpLowering) -> None:
    x, offset, lengths = rows_of(o), _integers(o, "Offset"), _integers(o, "Length")
    whole = lengths_of(o, x)
    if not offset.tensor.shape == lengths.tensor.shape == whole.tensor.shape:
        raise o.error(
            f"offsets {offset.type} and lengths {lengths.type} for {whole.tensor.shape[0]} sequences",
            "feed one of each per sequence, [-1, 1]",
        )
    begin, part, total = (_vector(o, value) for value in (offset, lengths, whole))
    if part is not None:
        o.function.sizes.known[lengths] = part
    rows = divided(o, lengths)
    checked = False
    if begin is not None and part is not None and total is not None:
        checked = True
        stop = Combined("add", Combined("within", begin, total), part)
        o.function.sizes.extent(Rule("max", Combined("within", stop, total)), "L")
    elif not x.type.dtype.is_float:
        raise o.error(
            "the offsets of integers are values that the program computes: nobody would see rows of other sequences",
            "feed the offsets, or cut before the integers are looked up",
        )
    found = o.b(ragged_move.Take(o.b(ragged.Data(x)), o.b.add(starts_of(o, whole), offset), rows, disjoint=True))
    if not checked:
        # A row beyond its sequence's end is NaN: it must not pass for one of the next sequence.
        data = o.b(ragged.Data(found))
        count = data.tensor.shape[0]
        kept = o.b.logical_and(
            o.b.less_equal(o.b.add(offset, lengths), whole), o.b.less_equal(o.b.fill((), DType.I64, 0), offset)
        )
        here = o.b.reshape(o.b(ragged.Data(o.b(ragged.Expand(kept, rows)))), (count, *(1,) * (data.tensor.rank - 1)))
        found = o.b(ragged.Like(o.b.where(here, data, o.b.fill((), data.tensor.dtype, math.nan)), rows))
    _regroup(o, lengths, x)
    o.set(found)


def _sequence_expand(o: OpLowering) -> None:
    x, y, level = o.any("X"), rows_of(o, "Y"), int(o.attr("ref_level", -1))
    outer = o.function.sizes.groups(y)
    repeats = y
    if level == 0 and outer is not None:
        repeats = o.b(ragged.FromLengths(o.b.fill((y.ragged.count,), DType.I64, 0), outer))
    if not isinstance(x.type, RaggedType):
        o.set(o.b(ragged.Data(o.b(ragged.Expand(x, repeats)))))
        return
    lengths = lengths_of(o, x)
    sizes = o.function.sizes
    copied = o.b(ragged.Data(o.b(ragged.Expand(lengths, repeats))))
    long, often = sizes.expression(x), sizes.expression(repeats)
    if long is not None and often is not None:
        sizes.known[copied] = Combined("repeat", long, often)
    starts = o.b(ragged.Data(o.b(ragged.Expand(starts_of(o, lengths), repeats))))
    o.set(o.b(ragged_move.Take(o.b(ragged.Data(x)), starts, divided(o, copied))))


def _sequence_expand_as(o: OpLowering) -> None:
    o.set(o.b(ragged.Expand(tokens_of(o), rows_of(o, "Y"))))


def _sequence_pad(o: OpLowering) -> None:
    x, steps, value = rows_of(o), int(o.attr("padded_length", -1)), o.x("PadValue")
    width: Dim = steps
    if steps < 0:
        width = o.function.longest(x)
    else:
        o.function.sizes.at_most(x, steps)
    known = elements(o, value)
    number = known[0] if known is not None and len(set(known)) == 1 else None
    lengths = lengths_of(o, x)
    if isinstance(number, int | float):
        found = o.b(ragged_pad.Pad(x, width, float(number)))
    else:
        found = o.b(ragged_pad.Pad(x, width))
        shape = found.tensor.shape
        steps_at = o.b.iota((1, width), 1, DType.I64)
        live = o.b.less(steps_at, o.b.reshape(lengths, (shape[0], 1)))
        of_row = (1,) * len(shape[2:]) if value.tensor.shape == (1,) else shape[2:]
        filler = o.b.reshape(o.b.cast(value, found.type.dtype), (1, 1, *of_row))
        found = o.b.where(o.b.reshape(live, (*shape[:2], *(1,) * len(shape[2:]))), found, filler)
    o.set(found)
    o.set_all([lengths] if o.op.output("Length") else [], "Length")


def _sequence_unpad(o: OpLowering) -> None:
    x = o.x()
    lengths = _integers(o, "Length")
    o.set(o.b(ragged_pad.Unpad(x, divided(o, lengths))))


def _sequence_reshape(o: OpLowering) -> None:
    x, new = rows_of(o), int(o.attr("new_dim"))
    data = o.b(ragged.Data(x))
    tokens, width = data.tensor.shape
    assert isinstance(width, int)
    lengths, sizes = lengths_of(o, x), o.function.sizes
    if width % new == 0:
        lengths = o.b.mul(lengths, o.b.fill((), DType.I64, width // new))
        found = o.b.reshape(data, (dim_mul(tokens, width // new), new))
    else:
        of_x = sizes.expression(x)
        numbers = o.b.mul(lengths, o.b.fill((), DType.I64, width))
        lengths = o.b(elementwise.FloorDiv(numbers, o.b.fill((), DType.I64, new)))
        if of_x is not None:
            sizes.known[lengths] = Combined("div", Combined("mul", of_x, Fixed(width)), Fixed(new))
        count = sizes.total(lengths)
        # The same numbers, of which only the lengths tell that there are as many.
        flat = o.b.reshape(data, (dim_mul(tokens, width),))
        rows = o.b(ragged.FromLengths(o.b.fill((dim_mul(count, new),), DType.I64, 0), numbers))
        taken = o.b(ragged_move.Take(flat, starts_of(o, numbers), rows, disjoint=True))
        found = o.b.reshape(o.b(ragged.Data(taken)), (count, new))
    _regroup(o, lengths, x)
    o.set(o.b(ragged.FromLengths(found, lengths)))


def _sequence_scatter(o: OpLowering) -> None:
    x, ids, updates = o.x(), rows_of(o, "Ids"), tokens_of(o, "Updates")
    count, width = x.tensor.shape
    assert isinstance(width, int)
    row = o.b(ragged.Data(o.b(ragged.Expand(o.b.iota((count,), 0, DType.I64), ids))))
    index = o.b(ragged.Data(ids))
    tokens = index.tensor.shape[0]
    column = o.b.cast(o.b.reshape(index, (tokens,)), DType.I64)
    at = o.b.add(o.b.mul(row, o.b.fill((), DType.I64, width)), column)
    flat = o.b.reshape(x, (dim_mul(count, width),))
    o.set(o.b.reshape(o.b.scatter_add(flat, at, o.b.reshape(updates, (tokens,)), 0), x.tensor.shape))


RULES: Rules = {
    "row_conv": _row_conv,
    "sequence_concat": _sequence_concat,
    "sequence_conv": _sequence_conv,
    "sequence_enumerate": _sequence_enumerate,
    "sequence_expand": _sequence_expand,
    "sequence_expand_as": _sequence_expand_as,
    "sequence_pad": _sequence_pad,
    "sequence_pool": _sequence_pool,
    "sequence_reshape": _sequence_reshape,
    "sequence_reverse": _sequence_reverse,
    "sequence_scatter": _sequence_scatter,
    "sequence_slice": _sequence_slice,
    "sequence_softmax": _sequence_softmax,
    "sequence_unpad": _sequence_unpad,
}
