"""One register tile of a product: its sums over the terms of a pass, and what is stored of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from ..expr import Node
from ..kit import TVM_NAMES, Buffer, Value, broadcast, const, convert, integer, sweep
from ..lower import Lowering
from ..tvm_api import tirx
from .compute import extent_of, store_all
from .left import Left, in_line, row_offsets
from .panels import by_width, columns_of
from .product import Pass, Place, Product, unravel

UNROLL = 4
"""Terms that are multiplied without a jump between them."""


def sum_tile(product: Product, left: Left, tile_row: Value, terms: Pass, panel: Place, partial: Place | None) -> Buffer:
    """Add up one pass of tile number ``tile_row`` by a packed panel.

    The sums begin at 0 or, after the first pass, at ``partial``.  They go back there or, with the last pass (always
    where ``partial`` is None), to the buffer that is returned, ``[row][column]``.
    """
    block, tile, dtype = product.block, product.tiling, product.dtype
    places = [integer(i * tile.lanes) for i in range(tile.rows * tile.vectors)]
    sums = [block.register(dtype, tile.lanes, "acc") for _ in places]

    def clear() -> None:
        for register in sums:
            block.put(register, const(0, dtype, tile.lanes))

    def put_down(target: Place) -> None:
        for register, place in zip(sums, places, strict=True):
            block.write(target.buffer, target.offset + place, block.get(register))

    if partial is None:
        clear()
    else:
        with block.when(terms.begins):
            clear()
        with block.otherwise(terms.begins):
            for register, place in zip(sums, places, strict=True):
                block.put(register, block.read(partial.buffer, partial.offset + place, tile.lanes))
    _multiply(product, left, tile_row, terms, panel, sums)
    made = block.scratch(dtype, tile.size, "tile")
    if partial is None:
        put_down(Place(made, integer(0)))
        return made
    with block.when(terms.ends):
        put_down(Place(made, integer(0)))
    with block.otherwise(terms.ends):
        put_down(partial)
    return made


def _multiply(product: Product, left: Left, tile_row: Value, terms: Pass, panel: Place, sums: Sequence[Buffer]) -> None:
    """The terms of one pass: unrolled along the innermost indices that lie in line."""
    block, tile, passes = product.block, product.tiling, product.passes
    rows = row_offsets(product, left, tile_row, left.start(product, terms))
    indices = (passes.cut, *passes.within)
    extents = [terms.length, *(block.size(extent_of(index)) for index in passes.within)]
    count = in_line(block, indices, left.steps)
    run, step = integer(1), left.steps[indices[-1]]
    for extent in extents[len(indices) - count :]:
        run = block.simplify(run * extent)
    with ExitStack() as loops:
        offset, position = integer(0), integer(0)
        for index, extent in zip(indices[:-count], extents, strict=False):
            value = loops.enter_context(block.loop(extent, "k"))
            offset = offset + value * left.steps[index]
            position = position * extent + value
        offset, position = block.simplify(offset), block.simplify(position * run)

        def term(k: Value) -> None:
            line = panel.offset + (position + k) * integer(tile.columns)
            columns = [
                block.read(panel.buffer, block.simplify(line + integer(j * tile.lanes)), tile.lanes)
                for j in range(tile.vectors)
            ]
            for i, (place, shift) in enumerate(rows):
                value = block.read(left.buffer, block.simplify(place + (shift + offset + k * step)))
                if str(value.ty.dtype) != TVM_NAMES[product.dtype]:
                    value = convert(product.dtype, value)
                for j, column in enumerate(columns):
                    register = sums[i * tile.vectors + j]
                    block.put(register, block.get(register) + broadcast(value, tile.lanes) * column)

        unroll = UNROLL
        if isinstance(run, tirx.IntImm):
            unroll = next(u for u in (UNROLL, 3, 2, 1) if int(run.value) % u == 0)
        with block.loop(tirx.floordiv(run, integer(unroll)), "k") as k:
            for u in range(unroll):
                term(block.simplify(k * integer(unroll) + integer(u)))
        with block.loop(tirx.floormod(run, integer(unroll)), "k") as k:
            term(block.simplify(tirx.floordiv(run, integer(unroll)) * integer(unroll) + k))


def store_tile(product: Product, made: Buffer, tile_row: Value, panel: Value) -> None:
    """What is fused behind the product, for every element of the finished tile ``made``, in panel number ``panel``."""
    block, tile, contract = product.block, product.tiling, product.contract
    outer, start = columns_of(product, panel)
    rows = integer(tile.rows)
    if not product.whole_tiles:
        rows = tirx.min(rows, block.size(product.height) - tile_row * integer(tile.rows))
    lanes = min(tile.lanes, block.host.lanes)
    column = contract.columns[-1]
    with block.loop(block.simplify(rows), "row") as row:
        number = block.simplify(tile_row * integer(tile.rows) + row)
        at: dict[Node, Value] = {**product.bound, **outer, **unravel(block, product.rows, number)}

        def emit(offset: Value, width: int) -> None:
            value = block.read(made, row * integer(tile.columns) + offset, width)
            if product.dtype is not contract.dtype:
                value = convert(contract.dtype, value)
            indices = {**at, column: start + offset}
            lowering = Lowering(block, product.buffers, indices, column, width, {product.result: value})
            store_all(lowering, product.definitions)

        def store(count: int | Value) -> None:
            sweep(block, count, lanes, emit, "c")

        if contract.valid is None:
            by_width(product, start, store)
        else:
            valid = Lowering(block, product.buffers, at).scalar_or_vector(contract.valid)
            with block.when(valid):
                by_width(product, start, store)
