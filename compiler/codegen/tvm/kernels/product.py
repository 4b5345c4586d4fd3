"""A product and how it is cut: what the generators of its parts share."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ....ir.types import Dim, DType, numel
from ..expr import Index, Node, Slot
from ..graph import Contract, TensorDef
from ..kit import Block, Buffer, Value, integer
from ..tvm_api import tirx
from .compute import Definition, extent_of
from .tiling import Passes, Tiling, choose_passes, choose_tiling


@dataclass(frozen=True)
class Place:
    """From element ``offset`` of a buffer on."""

    buffer: Buffer
    offset: Value

    def plus(self, elements: Value) -> Place:
        """So many elements further on."""
        return Place(self.buffer, self.offset + elements)


@dataclass(frozen=True)
class Pass:
    """The terms of one pass, where its loops stand.

    Attributes:
        outer: Values of the indices ``Passes.outer``.
        first: First value of ``Passes.cut``.
        length: How many values of it.
        begins: Whether this is the first pass.
        ends: Whether it is the last.
    """

    outer: Mapping[Node, Value]
    first: Value
    length: Value
    begins: Value
    ends: Value


@dataclass(frozen=True, eq=False)
class Product:
    """One product (one element of its batch).

    Attributes:
        block: Where statements go.
        contract: What is computed.
        result: An element of it, as ``definitions`` read it.
        definitions: What is stored of an element.
        buffers: Where tensors lie; scratch memory joins them when it is made.
        bound: Values of the indices of all loops around.
        dtype: The type that terms are multiplied and added in.
        rows: The indices of rows that tiles are cut from: all, or those within a block of images.
        tiling: The register tile.
        passes: How the terms are cut: all, or those within a block of images.
    """

    block: Block
    contract: Contract
    result: Slot
    definitions: Sequence[Definition]
    buffers: dict[TensorDef, Buffer]
    bound: dict[Node, Value]
    dtype: DType
    rows: tuple[Index, ...]
    tiling: Tiling
    passes: Passes

    @property
    def height(self) -> Dim:
        """Rows that tiles are cut from."""
        return numel(extent_of(index) for index in self.rows)

    @property
    def width(self) -> Dim:
        """Extent of the innermost column index, which panels are cut from."""
        return extent_of(self.contract.columns[-1])

    @property
    def blocks(self) -> Dim:
        """Blocks of images, 1 where there are none."""
        number = self.contract.block
        return 1 if number is None else extent_of(number)

    @property
    def blocks_of_rows(self) -> bool:
        """Whether the rows are pixels of images, block of images by block."""
        return self.contract.block is not None and self.contract.block in self.contract.rows

    @property
    def blocks_of_terms(self) -> bool:
        """Whether the terms are pixels of images, block of images by block."""
        return self.contract.block is not None and self.contract.block in self.contract.inner

    @property
    def whole_tiles(self) -> bool:
        """Whether the rows are known to fill their last tile."""
        return isinstance(self.height, int) and self.height % self.tiling.rows == 0

    @property
    def row_tiles(self) -> Value:
        """Tiles that the rows take."""
        return self.block.simplify(ceil_div(self.block.size(self.height), self.tiling.rows))

    @property
    def panels_per_line(self) -> Value:
        """Panels that the innermost columns take."""
        return self.block.simplify(ceil_div(self.block.size(self.width), self.tiling.columns))

    @property
    def panels(self) -> Value:
        """Panels that all columns take."""
        lines = numel(extent_of(index) for index in self.contract.columns[:-1])
        return self.block.simplify(self.panels_per_line * self.block.size(lines))

    @property
    def panel_size(self) -> Value:
        """Elements of a panel of one pass."""
        depth = self.block.simplify(self.block.size(self.passes.depth))
        return self.block.simplify(depth * integer(self.tiling.columns))

    def scratch(self, size: Value, name: str) -> Buffer:
        """Memory of a task, in elements of the sums."""
        return self.block.memory(self.dtype, size, name)

    @contextmanager
    def each_pass(self) -> Generator[Pass]:
        """Loops over the passes."""
        block, passes = self.block, self.passes
        total, size = block.size(extent_of(passes.cut)), block.size(passes.size)
        # An empty sum takes one pass, too: it is zero, and is stored.
        cuts: Value = integer(passes.cuts or 0)
        if passes.cuts is None:
            cuts = tirx.max(ceil_div(total, int(size.value)), integer(1))
        begins, ends = tirx.const(True, "bool"), tirx.const(True, "bool")
        with ExitStack() as loops:
            outer: dict[Node, Value] = {}
            for index in passes.outer:
                value = outer[index] = loops.enter_context(block.loop(extent_of(index), "pass"))
                begins = tirx.And(begins, tirx.EQ(value, integer(0)))
                ends = tirx.And(ends, tirx.EQ(value, block.size(extent_of(index)) - integer(1)))
            number = loops.enter_context(block.loop(cuts, "pass"))
            begins = block.simplify(tirx.And(begins, tirx.EQ(number, integer(0))))
            ends = block.simplify(tirx.And(ends, tirx.EQ(number, cuts - integer(1))))
            first, length = block.simplify(number * size), size
            if passes.cuts == 1:
                length = total
            elif not passes.even:
                length = block.simplify(tirx.min(size, total - first))
            yield Pass(outer, first, length, begins, ends)


def make_product(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    contract: Contract,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
) -> Product:
    """A product, cut into tiles and passes for the block's host."""
    dtype = DType.F32 if contract.dtype in (DType.F16, DType.BF16) else contract.dtype
    number = contract.block
    rows = contract.rows[1:] if number is not None and number in contract.rows else contract.rows
    terms = contract.inner[1:] if number is not None and number in contract.inner else contract.inner
    line = extent_of(rows[-1]) if len(rows) > 1 else 0
    vector_bytes = block.host.vector_bytes
    tiling = choose_tiling(
        numel(extent_of(index) for index in rows),
        extent_of(contract.columns[-1]),
        lanes=max(1, vector_bytes // dtype.itemsize),
        registers=32 if vector_bytes >= 64 else 16,
        line=line if isinstance(line, int) else 0,
    )
    return Product(
        block, contract, result, definitions, dict(buffers), dict(bound), dtype, rows, tiling, choose_passes(terms)
    )


def unravel(block: Block, indices: Sequence[Index], flat: Value) -> dict[Node, Value]:
    """Values of ``indices`` at number ``flat`` of their row-major product."""
    found: dict[Node, Value] = {}
    for index in reversed(indices):
        extent = block.size(extent_of(index))
        if isinstance(extent, tirx.IntImm) and int(extent.value) == 0:
            found[index] = integer(0)  # in a loop of no trips
            continue
        found[index] = block.simplify(flat if index is indices[0] else tirx.floormod(flat, extent))
        flat = tirx.floordiv(flat, extent)
    return found


def part_of(block: Block, number: Value, parts: int, total: Value) -> tuple[Value, Value]:
    """First and count of part ``number`` of ``parts`` about equal parts of ``total``; the last ones may be empty."""
    if parts == 1:
        return integer(0), total
    share = block.simplify(ceil_div(total, parts))
    first = block.simplify(number * share)
    if isinstance(total, tirx.IntImm) and int(total.value) % parts == 0:
        return first, share
    return first, block.simplify(tirx.max(tirx.min(share, total - first), integer(0)))


def ceil_div(value: Value, step: int) -> Value:
    """``value / step``, rounded up."""
    return tirx.floordiv(value + integer(step - 1), integer(step))
