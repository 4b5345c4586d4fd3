"""Products by tiles: a block's operands lie in shared memory, a thread's sums in registers.

While the terms of a step are multiplied, those of the next are on their way: they are read into registers before the
multiplications and go to the other half of the shared memory after them, so that one barrier a step is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...expr import Node
from ...kernels.product import ceil_div
from ...kit import Value, const, integer
from ...tvm_api import tirx
from ..device import WARP, DeviceBlock
from ..space import Grid
from .operands import VECTOR_BYTES, Operand
from .product import Product, Sink
from .tiles import PADDING, Tile

GROUP = 4
"""Neighbouring rows or columns that a thread takes; the next of its groups lies a warp's width further on."""


def emit_tiled(grid: Grid, product: Product, tile: Tile, splits: int, sink: Sink) -> None:
    """Compute all elements, each in ``splits`` parts, and hand them to ``sink``."""
    block = grid.block
    rows, columns = product.count(product.rows), product.count(product.columns)
    down, across = ceil_div(rows, tile.rows), ceil_div(columns, tile.columns)
    batch = product.count(product.batch)
    blocks = block.simplify(integer(splits) * batch * down * across)
    with grid.teams(blocks, tile.threads) as (number, team):
        number, place = block.divided(number, block.simplify(across * down))
        line, beside = block.divided(place, across)
        row, column = line * integer(tile.rows), beside * integer(tile.columns)
        split, element = block.divided(number, batch) if splits > 1 else (integer(0), number)
        work = _Block(block, product, tile, team.thread, product.at((product.batch, element)))
        work.multiply(row, column, split, splits)
        work.finish(row, rows, column, columns, split, sink)


@dataclass(frozen=True)
class _Side:
    """One operand's part of a step: ``lines`` by ``depth`` elements, which all threads bring to shared memory.

    Attributes:
        operand: What is read.
        lines: Lines of the tile.
        depth: Terms of a step.
        threads: How many threads share the work.
    """

    operand: Operand
    lines: int
    depth: int
    threads: int

    @property
    def stride(self) -> int:
        """From one term to the next in shared memory."""
        return self.lines + PADDING

    @property
    def turns(self) -> int:
        """Loads of a thread."""
        return -(-self.lines * self.depth // (self.threads * self.operand.lanes))

    @property
    def held(self) -> int:
        """Elements that a thread reads in a step."""
        return self.turns * self.operand.lanes

    def places(self, block: DeviceBlock, thread: Value, turn: int) -> tuple[Value, Value, Value | None]:
        """Line and term of the first element that a thread reads in a turn, and whether there is one (None: always)."""
        lanes = self.operand.lanes
        wide, narrow = (self.depth, self.lines) if self.operand.along_terms else (self.lines, self.depth)
        number = block.simplify(thread + integer(turn * self.threads))
        slow = block.simplify(tirx.floordiv(number, integer(wide // lanes)))
        fast = block.simplify(tirx.floormod(number, integer(wide // lanes)) * integer(lanes))
        there = slow < integer(narrow) if (turn + 1) * self.threads * lanes > self.lines * self.depth else None
        return (slow, fast, there) if self.operand.along_terms else (fast, slow, there)


class _Block:
    """What one thread block does."""

    def __init__(
        self, block: DeviceBlock, product: Product, tile: Tile, thread: Value, at: Mapping[Node, Value]
    ) -> None:
        self.block = block
        self.product = product
        self.tile = tile
        self.thread = thread
        self.at = dict(at)
        self.sides = tuple(
            _Side(operand, lines, tile.depth, tile.threads)
            for operand, lines in ((product.left, tile.rows), (product.right, tile.columns))
        )
        dtype = product.dtype
        self.shared = [block.shared(dtype, 2 * side.stride * side.depth, "tile") for side in self.sides]
        self.held = [block.scratch(dtype, side.held, "next") for side in self.sides]
        self.sums = block.scratch(dtype, tile.down * tile.across, "sums")
        self.counts = [product.count(product.rows), product.count(product.columns)]
        self.terms = product.count(product.terms)

    def multiply(self, row: Value, column: Value, split: Value, splits: int) -> None:
        """The sums of the terms of a part of the terms."""
        block, tile = self.block, self.tile
        steps = ceil_div(self.terms, tile.depth)
        share = block.simplify(ceil_div(steps, splits))
        first, count = block.simplify(split * share), share
        if not _whole(block, steps, share, splits):
            count = block.simplify(tirx.max(tirx.min(share, steps - first), integer(0)))
        with block.unrolled(tile.down * tile.across) as place:
            block.write(self.sums, place, const(0, self.product.dtype))
        origins = (row, column)
        self._fetch(origins, first)
        self._spread(integer(0))
        block.sync()
        with block.loop(count, "step") as step:
            half = block.simplify(tirx.floormod(step, integer(2)))
            follows = block.simplify(step + integer(1) < count)
            with block.when(follows):
                self._fetch(origins, block.simplify(first + step + integer(1)))
            self._step(half)
            with block.when(follows):
                self._spread(block.simplify(integer(1) - half))
            block.sync()

    def _fetch(self, origins: tuple[Value, Value], step: Value) -> None:
        """Read the operands of a step into registers."""
        block = self.block
        for side, held, origin, count in zip(self.sides, self.held, origins, self.counts, strict=True):
            for turn in range(side.turns):
                line, term, there = side.places(block, self.thread, turn)
                line = block.simplify(origin + line)
                term = block.simplify(step * integer(side.depth) + term)
                inside = tirx.And(line < count, term < self.terms)
                operand, lanes = side.operand, side.operand.lanes
                at = {**self.at, **self.product.at((operand.lines, line), (operand.terms, term))}
                condition = inside if there is None else tirx.And(there, inside)
                operand.read(block, self.product.buffers, at, condition, held, turn * lanes, lanes)

    def _spread(self, half: Value) -> None:
        """What was read goes to a half of the shared memory, term by term."""
        block = self.block
        for side, held, shared in zip(self.sides, self.held, self.shared, strict=True):
            start = half * integer(side.stride * side.depth)
            lanes = side.operand.lanes
            for turn in range(side.turns):
                line, term, there = side.places(block, self.thread, turn)
                at = block.simplify(start + term * integer(side.stride) + line)
                with block.when(tirx.const(True, "bool") if there is None else there):
                    if lanes > 1 and not side.operand.along_terms:
                        block.write(shared, at, block.read(held, integer(turn * lanes), lanes))
                        continue
                    for lane in range(lanes):
                        value = block.read(held, integer(turn * lanes + lane))
                        block.write(shared, block.simplify(at + integer(lane * side.stride)), value)

    def _step(self, half: Value) -> None:
        """Multiply the terms of a step, whose operands lie in a half of the shared memory."""
        block, tile, dtype = self.block, self.tile, self.product.dtype
        sizes = tile.down, tile.across
        lines = [block.scratch(dtype, size, "line") for size in sizes]
        with block.unrolled(tile.depth) as term:
            for side, shared, line, size, own in zip(
                self.sides, self.shared, lines, sizes, (self._row, self._column), strict=True
            ):
                start = half * integer(side.stride * side.depth) + term * integer(side.stride)
                width = min(GROUP, size)
                lanes = min(width, VECTOR_BYTES // dtype.itemsize) if dtype.itemsize >= 4 else 1
                for place in range(0, size, lanes):
                    at = block.simplify(start + own(integer(place)))
                    block.write(line, integer(place), block.read(shared, at, lanes))
            with block.unrolled(tile.down) as i, block.unrolled(tile.across) as j:
                place = i * integer(tile.across) + j
                product = block.read(lines[0], i) * block.read(lines[1], j)
                block.write(self.sums, place, block.read(self.sums, place) + product)

    def _row(self, place: Value) -> Value:
        """Where row ``place`` of a thread lies in the tile."""
        return self._line(place, self.tile.down, WARP // self._wide, self._lane_row, self._warp_row)

    def _column(self, place: Value) -> Value:
        """Where column ``place`` of a thread lies in the tile."""
        return self._line(place, self.tile.across, self._wide, self._lane_column, self._warp_column)

    def _line(self, place: Value, count: int, lanes: int, lane: Value, warp: Value) -> Value:
        group = min(GROUP, count)
        inner = tirx.floormod(place, integer(group)) + lane * integer(group)
        outer = tirx.floordiv(place, integer(group)) * integer(lanes * group)
        return self.block.simplify(warp * integer(lanes * count) + outer + inner)

    @property
    def _wide(self) -> int:
        """Threads of a warp that lie beside each other; as many groups of them lie below each other as fill it."""
        return 8

    @property
    def _lane_row(self) -> Value:
        return tirx.floordiv(tirx.floormod(self.thread, integer(WARP)), integer(self._wide))

    @property
    def _lane_column(self) -> Value:
        return tirx.floormod(self.thread, integer(self._wide))

    @property
    def _warps_wide(self) -> int:
        return self.tile.columns // (self.tile.across * self._wide)

    @property
    def _warp_row(self) -> Value:
        return tirx.floordiv(tirx.floordiv(self.thread, integer(WARP)), integer(self._warps_wide))

    @property
    def _warp_column(self) -> Value:
        return tirx.floormod(tirx.floordiv(self.thread, integer(WARP)), integer(self._warps_wide))

    def finish(self, row: Value, rows: Value, column: Value, columns: Value, split: Value, sink: Sink) -> None:
        """Hand the sums of the thread on."""
        block, tile, product = self.block, self.tile, self.product
        with block.unrolled(tile.down) as i:
            line = block.simplify(row + self._row(i))
            with block.when(line < rows), block.unrolled(tile.across) as j:
                beside = block.simplify(column + self._column(j))
                with block.when(beside < columns):
                    at = {**self.at, **product.at((product.rows, line), (product.columns, beside))}
                    sink(split, at, block.read(self.sums, i * integer(tile.across) + j))


def _whole(block: DeviceBlock, steps: Value, share: Value, splits: int) -> bool:
    """Whether every part has as many steps."""
    rest = block.simplify(steps - share * integer(splits))
    return isinstance(rest, tirx.IntImm) and int(rest.value) == 0
