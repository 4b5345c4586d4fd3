"""Sums of products, and what is fused behind them.

By tiles in shared memory (``tiled.py``) where there is enough to do; else a thread or a warp takes an element.  Few
elements of many terms are made in parts, which a launch of its own adds in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...expr import Node, Slot, load
from ...graph import Contract, TensorDef
from ...kernels.compute import Definition, extent_of
from ...kernels.product import ceil_div
from ...kit import Buffer, Value, const, integer
from ...tvm_api import tirx
from ..device import THREADS, WARP
from ..space import Grid, Space
from .gemm import Gemm, as_gemm, call_gemm
from .operands import Probe
from .product import Product, Sink, make_product, sizes_of
from .tiled import emit_tiled
from .tiles import MANY_PARTS, PARTS_TOGETHER, Cut, choose_cut


def emit_contract(
    space: Space,
    buffers: Mapping[TensorDef, Buffer],
    contract: Contract,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
) -> None:
    """Store ``definitions`` of every element of a product; they read it as ``result``."""
    product = make_product(space.block, buffers, contract, result, definitions, bound)
    if not isinstance(space, Grid):
        _direct(space, product, 1, _storing(product))
        return
    tf32 = space.block.device.tf32
    # What happens on a condition that only the device knows is no affair of the host's.
    gemm = None if space.when else as_gemm(product, tf32=tf32)
    if gemm is None:
        _launch(space, product, choose_cut(sizes_of(product)))
    else:
        _by_library(space, product, gemm, tf32=tf32)


def _by_library(grid: Grid, product: Product, gemm: Gemm, *, tf32: bool) -> None:
    """Ask the library, and compute the product here where it declines."""
    block = grid.block
    made = _plainly_stored(product)
    into = product.buffers[made] if made is not None else _all_sums(product)
    done = tirx.NE(call_gemm(product, gemm, into, tf32=tf32), tirx.IntImm("int32", 0))
    with block.when(done):
        if made is None:
            with grid.each(product.count(product.free)) as number:
                product.store(product.at((product.free, number)), block.read(into, number))
    with block.otherwise(done):
        _launch(grid, product, choose_cut(sizes_of(product)), passed=False)


def _all_sums(product: Product) -> Buffer:
    shape = tuple(extent_of(index) for index in product.free)
    return product.block.room(product.contract.dtype, shape, "product", passed=True)[1]


def _plainly_stored(product: Product) -> TensorDef | None:
    """The tensor that holds the sums in order, if they are all that is stored."""
    contract, definitions = product.contract, product.definitions
    if contract.valid is not None or len(definitions) != 1 or definitions[0].value is not product.result:
        return None
    (only,) = definitions
    probe = Probe(product.block, product.buffers, product.bound, contract)
    return only.tensor if probe.in_order(load(only.tensor, only.where), product.free) else None


def _launch(grid: Grid, product: Product, cut: Cut, *, passed: bool = True) -> None:
    """Compute the product by own kernels; ``passed``: partial sums count as traffic."""
    if cut.splits == 1:
        _sum(grid, product, cut, _storing(product))
        return
    block = grid.block
    shape = (cut.splits, *(extent_of(index) for index in product.free))
    _, partial = block.room(product.dtype, shape, "partial", passed=passed)
    count = product.count(product.free)

    def keep(split: Value, at: Mapping[Node, Value], total: Value) -> None:
        number = split
        for index in product.free:
            number = number * block.size(extent_of(index)) + at[index]
        block.write(partial, block.simplify(number), total)

    _sum(grid, product, cut, keep)
    if cut.splits < MANY_PARTS:
        with grid.each(count) as number:
            total = _added(product, partial, number, integer(0), cut.splits)
            product.store(product.at((product.free, number)), block.get(total))
        return
    # A warp adds some of the parts of as many neighbouring elements as it has threads, the first warp what they found.
    warps = PARTS_TOGETHER
    assert cut.splits % warps == 0
    with grid.teams(ceil_div(count, WARP), warps * WARP) as (group, team):
        warp, lane = block.divided(team.thread, integer(WARP))
        number = block.simplify(group * integer(WARP) + lane)
        shared = block.shared(product.dtype, warps * WARP, "parts")
        with block.when(number < count):
            total = _added(product, partial, number, warp, cut.splits // warps)
            block.write(shared, team.thread, block.get(total))
        block.sync()
        with block.when(tirx.And(team.thread < integer(WARP), number < count)):
            total = block.register(product.dtype, 1, "total")
            block.put(total, block.read(shared, lane))
            for other in range(1, warps):
                block.put(total, block.get(total) + block.read(shared, block.simplify(lane + integer(other * WARP))))
            product.store(product.at((product.free, number)), block.get(total))


def _added(product: Product, partial: Buffer, number: Value, group: Value, parts: int) -> Buffer:
    """A register with the sum of group ``group`` of the parts of element ``number``, in order."""
    block = product.block
    count = product.count(product.free)
    total = block.register(product.dtype, 1, "total")
    block.put(total, const(0, product.dtype))
    with block.loop(integer(parts), "part") as part:
        at = block.simplify((group * integer(parts) + part) * count + number)
        block.put(total, block.get(total) + block.read(partial, at))
    return total


def _sum(grid: Grid, product: Product, cut: Cut, sink: Sink) -> None:
    if cut.tile is not None:
        emit_tiled(grid, product, cut.tile, cut.splits, sink)
    elif cut.kind == "dot":
        _dot(grid, product, sink)
    else:
        _direct(grid, product, cut.splits, sink)


def _storing(product: Product) -> Sink:
    def store(split: Value, at: Mapping[Node, Value], total: Value) -> None:
        product.store(at, total)

    return store


def _direct(space: Space, product: Product, splits: int, sink: Sink) -> None:
    """A thread for every part of every element."""
    block = space.block
    count, terms = product.count(product.free), product.count(product.terms)
    share = block.simplify(ceil_div(terms, splits))
    with space.each(block.simplify(count * integer(splits))) as number:
        split, element = block.divided(number, count) if splits > 1 else (integer(0), number)
        at = product.at((product.free, element))
        first = block.simplify(split * share)
        some = block.simplify(tirx.min(share, terms - first))
        sink(split, at, block.get(_total(product, at, first, some, 1)))


def _dot(grid: Grid, product: Product, sink: Sink) -> None:
    """A warp for every element, which adds its threads' sums as a tree."""
    block, each = grid.block, THREADS // WARP
    count, terms = product.count(product.free), product.count(product.terms)
    with grid.teams(ceil_div(count, each), THREADS) as (number, team):
        element = block.simplify(number * integer(each) + tirx.floordiv(team.thread, integer(WARP)))
        lane = block.simplify(tirx.floormod(team.thread, integer(WARP)))
        at = product.at((product.free, element))
        # All threads take part in what follows; those beyond the last element have no terms.
        some = tirx.Select(element < count, ceil_div(terms - lane, WARP), integer(0))
        total = _total(product, at, lane, some, WARP)
        distance = WARP // 2
        while distance:
            other = block.exchange(block.get(total), product.dtype, distance)
            block.put(total, block.get(total) + other)
            distance //= 2
        with block.when(tirx.And(tirx.EQ(lane, integer(0)), element < count)):
            sink(integer(0), at, block.get(total))


def _total(product: Product, at: Mapping[Node, Value], first: Value, count: Value, step: int) -> Buffer:
    """A register with the sum of ``count`` terms from ``first`` on, ``step`` apart."""
    block = product.block
    total = block.register(product.dtype, 1, "total")
    block.put(total, const(0, product.dtype))
    with block.loop(count, "term") as turn:
        term = block.simplify(first + turn * integer(step))
        pair = block.scratch(product.dtype, 2, "pair")
        here = {**at, **product.at((product.terms, term))}
        for place, operand in enumerate((product.left, product.right)):
            operand.read(block, product.buffers, here, None, pair, place)
        block.put(total, block.get(total) + block.read(pair, integer(0)) * block.read(pair, integer(1)))
    return total
