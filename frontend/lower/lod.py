"""What is made of the lengths of sequences, other lengths for the same rows, and images as sequences."""

from __future__ import annotations

import math

import numpy as np

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, RaggedType, Sym, TensorType, dim_mul
from ...compiler.ops import elementwise, ragged, reduce, shape
from ...runtime.extents import Between, Fed, Listed
from .context import OpLowering, Rules, dtype_of
from .numbers import elements
from .vision import patches, spatial


def _sequence_mask(o: OpLowering) -> None:
    lengths = o.any("X")
    if isinstance(lengths.type, RaggedType):
        lengths = o.b(ragged.Data(lengths))
    width = _places(o, lengths)
    at = o.b.iota((width,), 0, lengths.tensor.dtype)
    inside = o.b.less(at, o.b.reshape(lengths, (*lengths.tensor.shape, 1)))
    o.set(o.b.cast(inside, dtype_of(o.attr("out_dtype"))), "Y")


def _places(o: OpLowering, lengths: Value) -> Dim:
    """The width of a mask: a number, a known extent, or the greatest of lengths."""
    if not o.has("MaxLenTensor"):
        stated = int(o.attr("maxlen", -1))
        return stated if stated > 0 else o.function.longest(lengths)
    most = o.x("MaxLenTensor")
    known = elements(o, most)
    if known is not None and len(known) == 1:
        (width,) = known
        return width if isinstance(width, Sym) else int(width)
    while isinstance(most.op, shape.Reshape | elementwise.Cast):
        most = most.op.x
    if isinstance(most.op, reduce.Max) and most.tensor.numel == 1:
        return o.function.longest(most.op.x)
    raise o.error("maxlen is computed when the program runs", "give a number, an extent of layers.shape, or None")


def _lod_reset(o: OpLowering) -> None:
    x = o.any("X")
    data = o.b(ragged.Data(x)) if isinstance(x.type, RaggedType) else x
    append = bool(o.attr("append", False)) and not o.has("Y")
    outer = o.b(ragged.Lengths(x)) if append and isinstance(x.type, RaggedType) else None
    lengths = _of_offsets(o)
    if o.has("Y"):
        y = o.any("Y")
        if isinstance(y.type, RaggedType):
            lengths, outer = o.b(ragged.Lengths(y)), o.function.sizes.groups(y)
    if outer is not None:
        o.function.sizes.outer[lengths] = outer
    if o.function.sizes.divides(lengths, data.tensor.shape[0]) is False:
        raise o.error(f"the offsets do not divide {data.tensor}", "end them at its number of rows")
    o.set(o.b(ragged.FromLengths(data, lengths)))


def _of_offsets(o: OpLowering) -> Value:
    """The lengths of sequences that begin at stated offsets, or at those of a dense Y."""
    if o.has("Y"):
        y = o.any("Y")
        if isinstance(y.type, RaggedType):
            return o.b(ragged.Lengths(y))
        (count,) = y.tensor.shape if y.tensor.rank == 1 else (None,)
        if not isinstance(count, int):
            raise o.error(f"y holds {y.type}", "give offsets of a number known when the program is built, i64[K + 1]")
        offsets = o.b.cast(y, DType.I64)
        lengths = o.b.sub(o.b.slice(offsets, 0, 1, count), o.b.slice(offsets, 0, 0, count - 1))
        fed = o.function.sizes.expression(y)
        if isinstance(fed, Fed):
            o.function.sizes.known[lengths] = Between(fed.name)
        return lengths
    stated = np.diff(np.asarray(o.attr("target_lod"), np.int64))
    if o.frame.local is not None and len(set(stated.tolist())) > 1:
        raise o.error("offsets inside a loop or branch cannot be compiled", "divide the rows before the block")
    lengths = o.function.constant(o.op.output("Out")[0] + "@lengths", stated)
    o.function.sizes.known[lengths] = Listed(tuple(stated.tolist()))
    return lengths


def _im2sequence(o: OpLowering) -> None:
    if o.has("Y"):
        raise o.error("images of sizes of their own", "crop them before, and leave input_image_size out")
    x = o.x()
    kernel, strides = o.attr("kernels"), o.attr("strides")
    top, left, bottom, right = o.attr("paddings", [0, 0, 0, 0])
    n, c, *_ = x.tensor.shape
    for size, before, after, k in zip(spatial(o, x), (top, left), (bottom, right), kernel):
        if size + before + after < k:
            raise o.error(f"a window of {k} on {size + before + after} rows or columns", "take a smaller filter_size")
    wide = o.b.pad(x, (0, 0, top, left), (0, 0, bottom, right))
    together, counts = patches(o, wide, kernel, strides, (1, 1))
    places = math.prod(counts)
    width = dim_mul(c, math.prod(kernel))
    rows = o.b.reshape(o.b.transpose(o.b.reshape(together, (n, width, places)), (0, 2, 1)), (dim_mul(n, places), width))
    o.set(o.b(ragged.FromLengths(rows, o.b.fill((n,), DType.I64, places))))


def _add_position_encoding(o: OpLowering) -> None:
    x, b = o.any("X"), o.b
    data = b(ragged.Data(x)) if isinstance(x.type, RaggedType) else x
    kind = data.tensor
    half = _half(o, kind)
    if isinstance(x.type, RaggedType):
        lengths = b(ragged.Lengths(x))
        starts = b(ragged.Data(b(ragged.Expand(b.cumsum(lengths, 0, exclusive=True), x))))
        place = b.sub(b.iota(kind.shape[:1], 0, DType.I64), starts)
    else:
        place = b.iota(kind.shape[1:2], 0, DType.I64)
    place = b.reshape(b.cast(place, kind.dtype), (*place.tensor.shape, 1))
    # Whatever is 10000^(k / (half - 1)): the wavelengths form a geometric series.
    step = math.log(10000.0) / (half - 1) if half > 1 else 0.0
    columns = b.cast(b.iota((1, half), 1, DType.I64), kind.dtype)
    first = 1.0 if half > 1 else 1.0 / 10000.0
    angle = b.mul(place, b.scale(b.exp(b.scale(columns, -step)), first))
    encoding = b.concat((b.sin(angle), b.cos(angle)), 1)
    if kind.rank == 3:
        encoding = b.reshape(encoding, (1, *encoding.tensor.shape))
    found = b.add(b.scale(data, o.attr("alpha", 1.0)), b.scale(encoding, o.attr("beta", 1.0)))
    o.set(b(ragged.Like(found, x)) if isinstance(x.type, RaggedType) else found)


def _half(o: OpLowering, kind: TensorType) -> int:
    width = kind.shape[-1]
    if isinstance(width, Sym) or width % 2 or not width:
        raise o.error(f"the rows are {kind}", "give rows of an even width")
    return width // 2


RULES: Rules = {
    "add_position_encoding": _add_position_encoding,
    "im2sequence": _im2sequence,
    "lod_reset": _lod_reset,
    "sequence_mask": _sequence_mask,
}
