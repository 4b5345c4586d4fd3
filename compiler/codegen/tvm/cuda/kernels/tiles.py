"""How a product is cut for a device: a tile per thread block, how its terms are split, or no tiles at all.

The choice is the least of estimated cycles.  The estimate knows what decides: how many blocks there are for the
multiprocessors, how busy a tile keeps one, what padding wastes, and how long a step waits for memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..device import SHARED_BYTES, WARP

MULTIPROCESSORS = 132
"""Of an H100 or H200; an A100 has 108."""

LANES = 128
"""Multiply-adds of float32 that a multiprocessor does in a cycle."""

PADDING = 4
"""Elements between the lines of a tile in shared memory: stores across lines meet different banks."""

STEP_LATENCY = 600
"""Cycles from asking for the operands of a step until they are in shared memory."""

TERM_LATENCY = 40
"""Cycles that a thread takes for a term that it reads by itself."""

START, JOIN = 1500, 4000
"""Cycles of a block beside its steps; of one more launch."""

JOIN_BYTES = 2048
"""Bytes of partial sums that are written and read in a cycle."""

MOST_SPLITS = 256

MANY_PARTS, PARTS_TOGETHER = 16, 8
"""Parts from which so many warps add those of an element, each as many of them."""

RESIDENT_WARPS = 48
"""Warps of plain code that a multiprocessor holds together."""


@dataclass(frozen=True)
class Tile:
    """What a thread block computes at a time, and each of its threads.

    Attributes:
        rows: Rows of a block.
        columns: Columns of a block.
        depth: Terms that are in shared memory together.
        down: Rows of a thread.
        across: Columns of a thread.
        resident: Blocks that a multiprocessor holds.
        share: Of a multiprocessor's multiply-adds, with so many blocks there.
    """

    rows: int
    columns: int
    depth: int
    down: int
    across: int
    resident: int
    share: float

    @property
    def threads(self) -> int:
        return (self.rows // self.down) * (self.columns // self.across)

    @property
    def shared_elements(self) -> int:
        """Elements in shared memory: the terms of two steps."""
        return 2 * self.depth * (self.rows + self.columns + 2 * PADDING)


TILES = (
    Tile(128, 128, 8, 8, 8, 2, 0.85),
    Tile(128, 64, 8, 8, 4, 3, 0.75),
    Tile(64, 128, 8, 4, 8, 3, 0.75),
    Tile(64, 64, 16, 4, 4, 4, 0.65),
    Tile(64, 64, 32, 4, 4, 3, 0.65),
    Tile(64, 32, 16, 4, 2, 5, 0.5),
    Tile(64, 32, 32, 4, 2, 5, 0.5),
    Tile(32, 64, 16, 2, 4, 5, 0.5),
    Tile(32, 64, 32, 2, 4, 5, 0.5),
    Tile(32, 32, 32, 2, 2, 6, 0.35),
    Tile(32, 32, 64, 2, 2, 4, 0.35),
    Tile(256, 8, 8, 8, 1, 4, 0.35),
    Tile(128, 16, 16, 4, 2, 5, 0.45),
    Tile(16, 128, 16, 2, 4, 5, 0.45),
    Tile(64, 16, 32, 2, 2, 6, 0.35),
    Tile(16, 64, 32, 2, 2, 6, 0.35),
    Tile(16, 16, 32, 1, 1, 8, 0.15),
)
"""Every tile has 256 threads, at least 8 across and 4 down.  The deeper ones wait less often, where few blocks wait."""

WIDEST_REGISTERS = 256
"""Bytes of sums that a thread holds in registers."""

Kind: TypeAlias = Literal["tiled", "direct", "dot"]


@dataclass(frozen=True)
class Cut:
    """How a product is computed.

    Attributes:
        kind: By tiles in shared memory; a thread per element (``direct``); a warp per element (``dot``).
        tile: The tile, if any.
        splits: Parts that the terms are cut into; their sums are added by a launch of its own.
    """

    kind: Kind
    tile: Tile | None = None
    splits: int = 1


@dataclass(frozen=True)
class Sizes:
    """What the choice depends on.

    Attributes:
        batch: Products.
        rows: Rows of each.
        columns: Columns of each.
        terms: Terms of an element.
        itemsize: Bytes of a sum.
        side_by_side: Whether neighbouring columns lie side by side in the right operand.
        along_terms: Whether neighbouring terms lie side by side in both operands.
    """

    batch: int
    rows: int
    columns: int
    terms: int
    itemsize: int
    side_by_side: bool = True
    along_terms: bool = False

    @property
    def elements(self) -> int:
        return self.batch * self.rows * self.columns


def choose_cut(sizes: Sizes) -> Cut:
    """The cut with the least estimated cycles; of equal ones the first that is tried."""
    return min(_cuts(sizes), key=lambda cut: cycles(sizes, cut))


def _cuts(sizes: Sizes) -> Iterator[Cut]:
    for tile in TILES:
        fits = tile.shared_elements * sizes.itemsize <= SHARED_BYTES
        if fits and tile.down * tile.across * sizes.itemsize <= WIDEST_REGISTERS:
            for splits in _splits(sizes, tile):
                yield Cut("tiled", tile, splits)
    splits = 1
    while splits <= MOST_SPLITS:
        yield Cut("direct", None, splits)
        splits *= 2
    if sizes.itemsize >= 4:  # what threads exchange
        yield Cut("dot")


def _splits(sizes: Sizes, tile: Tile) -> list[int]:
    """Parts with which the blocks fill every multiprocessor once, twice, ..., and 1."""
    blocks = max(_blocks(sizes, tile), 1)  # a product of no elements has none
    found = {1}
    if blocks < 2 * MULTIPROCESSORS:
        for each in range(1, tile.resident + 1):
            splits = min(each * MULTIPROCESSORS // blocks, MOST_SPLITS, sizes.terms // (2 * tile.depth))
            found.add(max(splits if splits < MANY_PARTS else splits // PARTS_TOGETHER * PARTS_TOGETHER, 1))
    return sorted(found)


def cycles(sizes: Sizes, cut: Cut) -> float:
    """Estimated cycles of a product."""
    terms = _ceil(sizes.terms, cut.splits)
    match cut.kind:
        case "tiled":
            assert cut.tile is not None
            total = _tiled(sizes, cut.tile, cut.splits)
        case "direct":
            warps = _ceil(sizes.elements * cut.splits, WARP * MULTIPROCESSORS)
            total = START + terms * max(TERM_LATENCY, warps * (4 if sizes.side_by_side else 16))
        case "dot":
            warps = _ceil(sizes.elements, MULTIPROCESSORS)
            rounds = _ceil(warps, RESIDENT_WARPS)
            each = max(rounds * TERM_LATENCY, warps * (4 if sizes.along_terms else 32))
            total = START + 5 * TERM_LATENCY * rounds + _ceil(terms, WARP) * each
    if cut.splits > 1:
        total += JOIN + sizes.elements * (2 * cut.splits + 1) * sizes.itemsize / JOIN_BYTES
    return total


def _tiled(sizes: Sizes, tile: Tile, splits: int) -> float:
    blocks = _blocks(sizes, tile) * splits
    steps = _ceil(_ceil(sizes.terms, splits), tile.depth)
    share = tile.share if sizes.itemsize <= 4 else tile.share / 2
    alone = tile.rows * tile.columns * tile.depth / (LANES * share)
    each = _ceil(blocks, MULTIPROCESSORS)
    together, rounds = min(each, tile.resident), _ceil(each, tile.resident)
    return rounds * (START + steps * max(STEP_LATENCY, together * alone))


def _blocks(sizes: Sizes, tile: Tile) -> int:
    return _ceil(sizes.rows, tile.rows) * _ceil(sizes.columns, tile.columns) * sizes.batch


def _ceil(value: int, step: int) -> int:
    return -(-value // step)
