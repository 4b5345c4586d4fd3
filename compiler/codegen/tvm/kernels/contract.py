"""Sums of products: one register-tiled kernel for matrix products of every orientation, batched, of fixed or symbolic
size, and for convolutions and their gradients.

The right operand is packed into panels of a few vectors' width (``panels.py``); a tile of rows by one panel lives in
registers while the inner indices run (``tile.py``), and reads the left operand where it lies, or from scratch memory
(``left.py``).  A finished tile goes through a small buffer, so that whatever is fused behind the product (bias,
activation, parameter update) is written once, as an ordinary loop.  Every task of a thread packs what it needs itself:
a product takes one launch.

The blocking follows Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (TOMS 2008).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ....ir.types import DType, numel
from ..expr import Node, Slot
from ..graph import Contract, StreamTile, TensorDef
from ..kit import Block, Buffer, Value, const, integer
from ..tvm_api import tirx
from .chacha import emit_stream_tile
from .compute import Definition, extent_guess, extent_of
from .left import computed_rows, is_computed, make_room, stage, stored_left
from .panels import Panels, terms_lie_in_line
from .product import Place, Product, ceil_div, make_product, part_of
from .tile import store_tile, sum_tile
from .tiling import PARTIAL_BYTES, Grid, choose_grid

ROWS_PER_BLOCK = 96
"""Rows of the left operand that stay in the second-level cache while all panels pass by."""

NOISE_PER_BLOCK = 1 << 14
"""Normals that are made before the rows that take them: they wait in the second-level cache."""

SERIAL_FLOPS = 3e6
"""Operations below which a product stays on one thread: waking another takes as long."""


def emit_contract(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    contract: Contract,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    threads: bool,
    noise: StreamTile | None = None,
) -> None:
    """Compute a product and store ``definitions``, which read an element of it as ``result``."""
    flops = 2.0
    for index in (*contract.batch, *contract.rows, *contract.columns, *contract.inner):
        flops *= extent_guess(extent_of(index))
    threads = threads and flops >= SERIAL_FLOPS
    batch = extent_guess(numel(extent_of(index) for index in contract.batch))
    wanted = block.host.threads
    over_batch = threads and batch > 1 and (batch % wanted == 0 or batch >= 4 * wanted)
    with ExitStack() as loops:
        inner: dict[Node, Value] = dict(bound)
        cut = over_batch
        for index in contract.batch:
            extent = extent_of(index)
            inner[index] = loops.enter_context(block.loop(extent, "b", parallel=cut and extent != 1))
            cut = cut and extent == 1
        product = make_product(block, buffers, contract, result, definitions, inner)
        computed = is_computed(product)
        grid = _choose_grid(product, block.host.threads if threads and not over_batch else 1, computed, noise)
        _Tasks(product, grid, computed, noise).emit()


def _choose_grid(product: Product, threads: int, computed: bool, noise: StreamTile | None) -> Grid:
    contract, tile, blocks = product.contract, product.tiling, product.blocks
    lines = extent_guess(numel(extent_of(index) for index in contract.columns[:-1]))
    panels = lines * -(-extent_guess(product.width) // tile.columns)
    height, depth = product.height, numel(map(extent_of, contract.inner))
    sums = extent_guess(height) * panels * tile.columns * product.dtype.itemsize
    units, unit = blocks, extent_guess(height)
    if not product.blocks_of_rows:
        units, unit = -(-height // tile.rows) if isinstance(height, int) else height, tile.rows
    padded = contract.padded
    staged = 0.0
    if padded is not None:
        staged = float(extent_guess(numel(padded.shape))) * extent_guess(blocks)
    elif computed:
        staged = float(extent_guess(height)) * extent_guess(depth)
    return choose_grid(
        threads,
        units,
        unit,
        panels,
        tile.columns,
        depth,
        staged,
        noisy=noise is not None,
        whole=product.blocks_of_terms,
        apart=sums <= PARTIAL_BYTES,
    )


@dataclass(frozen=True, eq=False)
class _Tasks:
    """The tasks of one product.  ``computed``: the left operand is computed, block of rows by block."""

    product: Product
    grid: Grid
    computed: bool
    noise: StreamTile | None

    def emit(self) -> None:
        """The loop over the tasks."""
        product, block, grid = self.product, self.product.block, self.grid
        panels = product.panels
        most = block.simplify(ceil_div(panels, grid.panels))
        turned = terms_lie_in_line(product)
        sums: Buffer | None = None
        if grid.terms > 1:
            sums = block.workspace(product.dtype, self._sums_size() * integer(grid.terms), "sums")
        with block.loop(grid.tasks, "task", parallel=grid.tasks > 1) as task:
            across = block.simplify(tirx.floormod(task, integer(grid.panels)))
            along = block.simplify(tirx.floordiv(task, integer(grid.panels)))
            first = block.simplify(across * most)
            count = most if grid.panels == 1 else block.simplify(tirx.max(tirx.min(most, panels - first), integer(0)))
            own = Panels(product, first, count, most, turned)
            if product.blocks_of_terms:
                self._sum_blocks(own, along, sums)
            elif product.blocks_of_rows:
                self._rows_of_blocks(own, along)
            else:
                self._rows_of_matrix(own, along)
        if sums is not None:
            self._add_sums(sums)

    def _sums_size(self) -> Value:
        product = self.product
        return product.block.simplify(product.row_tiles * product.panels * integer(product.tiling.size))

    def _rows_of_matrix(self, panels: Panels, along: Value) -> None:
        """Rows that are not images: pass by pass, block of rows by block."""
        product, block, tile = self.product, self.product.block, self.product.tiling
        first_tile, tiles = part_of(block, along, self.grid.rows, product.row_tiles)
        packed = Place(product.scratch(panels.most * product.panel_size, "panels"), integer(0))
        partial: Buffer | None = None
        if product.passes.count != 1:
            share = ceil_div(product.row_tiles, self.grid.rows)
            partial = product.scratch(share * panels.most * integer(tile.size), "partial")
        make_room(product)
        stage(product)
        stored = None if self.computed else stored_left(product)
        per_block = max(1, ROWS_PER_BLOCK // tile.rows)
        if self.noise is not None:
            assert isinstance(product.width, int)
            per_block = max(1, min(per_block, NOISE_PER_BLOCK // (product.width * tile.rows)))
        with product.each_pass() as terms:
            panels.pack(terms, packed)
            with block.loop(block.simplify(ceil_div(tiles, per_block)), "rows") as number:
                start = block.simplify(number * integer(per_block))
                some = block.simplify(tirx.min(integer(per_block), tiles - start))
                left = stored or computed_rows(product, first_tile + start, per_block, terms)
                if self.noise is not None:
                    self._make_noise(self.noise, first_tile + start, per_block, terms.ends)
                with block.loop(panels.count, "panel") as panel, block.loop(some, "strip") as strip:
                    tile_row = block.simplify(first_tile + start + strip)
                    corner = ((start + strip) * panels.most + panel) * integer(tile.size)
                    here = packed.plus(panel * product.panel_size)
                    kept = None if partial is None else Place(partial, corner)
                    made = sum_tile(product, left, tile_row, terms, here, kept)
                    with block.when(terms.ends):
                        store_tile(product, made, tile_row, panels.first + panel)

    def _make_noise(self, noise: StreamTile, first_tile: Value, tiles: int, last: Value) -> None:
        """The normals of the rows of ``tiles`` tiles, which are stored with the last pass."""
        product, block = self.product, self.product.block
        assert isinstance(product.width, int)
        rows, columns = tiles * product.tiling.rows, integer(product.width)
        start = block.simplify(first_tile * integer(product.tiling.rows))
        count = block.simplify(tirx.min(integer(rows), block.size(product.height) - start))
        made, number = emit_stream_tile(
            block, product.buffers, noise, start * columns, count * columns, rows * product.width, last
        )
        product.buffers[noise.made] = made
        product.bound[noise.first] = number

    def _rows_of_blocks(self, panels: Panels, along: Value) -> None:
        """Rows that are pixels of images, block of images by block; the right operand is packed once for all."""
        product, block, tile, passes = self.product, self.product.block, self.product.tiling, self.product.passes
        assert product.contract.block is not None
        assert passes.count is not None
        several = passes.count > 1
        first_block, blocks = part_of(block, along, self.grid.rows, block.size(product.blocks))
        pass_size = block.simplify(panels.most * product.panel_size)
        packed = block.workspace(product.dtype, pass_size * integer(passes.count), "panels")
        number = block.scratch(DType.I64, 1, "pass")

        def start() -> None:
            if several:
                block.write(number, integer(0), integer(0))

        def at() -> Value:
            return block.read(number, integer(0)) if several else integer(0)

        def step(place: Value) -> None:
            if several:
                block.write(number, integer(0), place + integer(1))

        start()
        with product.each_pass() as terms:
            place = at()
            panels.pack(terms, Place(packed, place * pass_size))
            step(place)
        partial: Buffer | None = None
        if several:
            partial = product.scratch(product.row_tiles * panels.most * integer(tile.size), "partial")
        make_room(product)
        left = stored_left(product)
        with block.loop(blocks, "images") as image:
            product.bound[product.contract.block] = block.simplify(first_block + image)
            stage(product)
            start()
            with product.each_pass() as terms:
                origin = block.let(at() * pass_size, DType.I64) if several else integer(0)
                with block.loop(panels.count, "panel") as panel, block.loop(product.row_tiles, "strip") as tile_row:
                    corner = (tile_row * panels.most + panel) * integer(tile.size)
                    here = Place(packed, origin + panel * product.panel_size)
                    kept = None if partial is None else Place(partial, corner)
                    made = sum_tile(product, left, tile_row, terms, here, kept)
                    with block.when(terms.ends):
                        store_tile(product, made, tile_row, panels.first + panel)
                step(at())

    def _sum_blocks(self, panels: Panels, along: Value, sums: Buffer | None) -> None:
        """Terms that are pixels of images, block of images by block, into sums that stay in the cache.

        ``sums`` has room for those of every task, where there are several along the terms: they are added up later.
        """
        product, block, tile = self.product, self.product.block, self.product.tiling
        assert product.contract.block is not None
        first_block, blocks = part_of(block, along, self.grid.terms, block.size(product.blocks))
        packed = Place(product.scratch(panels.most * product.panel_size, "panels"), integer(0))
        origin = block.simplify(along * self._sums_size())
        own = sums
        if own is None:
            own, origin = block.workspace(product.dtype, self._sums_size(), "sums"), integer(0)
        all_panels = product.panels

        def corner(tile_row: Value, panel: Value) -> Value:
            return origin + (tile_row * all_panels + panels.first + panel) * integer(tile.size)

        with (
            block.loop(product.row_tiles, "strip") as tile_row,
            block.loop(panels.count, "panel") as panel,
            block.loop(tile.rows * tile.vectors, "v") as v,
        ):
            zero = const(0, product.dtype, tile.lanes)
            block.write(own, corner(tile_row, panel) + v * integer(tile.lanes), zero)
        make_room(product)
        left = stored_left(product)
        never = tirx.const(False, "bool")
        with block.loop(blocks, "images") as image:
            product.bound[product.contract.block] = block.simplify(first_block + image)
            stage(product)
            with product.each_pass() as terms:
                panels.pack(terms, packed)
                added = replace(terms, begins=never, ends=never)
                with block.loop(panels.count, "panel") as panel, block.loop(product.row_tiles, "strip") as tile_row:
                    here = packed.plus(panel * product.panel_size)
                    sum_tile(product, left, tile_row, added, here, Place(own, corner(tile_row, panel)))
        if sums is None:
            with block.loop(panels.count, "panel") as panel, block.loop(product.row_tiles, "strip") as tile_row:
                self._store_sums(own, [corner(tile_row, panel)], tile_row, panels.first + panel)

    def _add_sums(self, sums: Buffer) -> None:
        """Add the sums of all tasks and store what is made of them."""
        product, block, size, panels = self.product, self.product.block, self._sums_size(), self.product.panels
        with block.loop(product.row_tiles, "strip", parallel=True) as tile_row, block.loop(panels, "panel") as panel:
            corner = (tile_row * panels + panel) * integer(product.tiling.size)
            corners = [corner + size * integer(task) for task in range(self.grid.terms)]
            self._store_sums(sums, corners, tile_row, panel)

    def _store_sums(self, sums: Buffer, corners: Sequence[Value], tile_row: Value, panel: Value) -> None:
        product, block, tile = self.product, self.product.block, self.product.tiling
        made = block.scratch(product.dtype, tile.size, "tile")
        with block.loop(tile.rows * tile.vectors, "v") as v:
            place = v * integer(tile.lanes)
            total = block.read(sums, corners[0] + place, tile.lanes)
            for corner in corners[1:]:
                total = total + block.read(sums, corner + place, tile.lanes)
            block.write(made, place, total)
        store_tile(product, made, tile_row, panel)
