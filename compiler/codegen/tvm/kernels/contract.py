"""Sums of products: one register-tiled kernel for matrix products of every orientation, batched, of fixed or symbolic
size, and for convolutions and their gradients.

The right operand is packed into panels of a few vectors' width (``panels.py``); a tile of rows by one panel lives in
registers while the inner indices run, and reads the left operand where it lies, or from scratch memory.  A finished
tile goes through a small buffer, so that whatever is fused behind the product (bias, activation, parameter update) is
written once, as an ordinary loop.  Every task of a thread packs what it needs itself: a product takes one launch.

The blocking follows Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (TOMS 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ....ir.types import Dim, DType, numel
from ..expr import Index, Load, Node, Slot, as_node
from ..graph import Contract, StreamTile, TensorDef
from ..kit import TVM_NAMES, Block, Buffer, Value, broadcast, const, convert, integer, sweep
from ..lower import Lowering
from ..tvm_api import sym, tirx, tvm
from .chacha import emit_stream_tile
from .compute import Definition, emit_compute, extent_guess, extent_of, store_all
from .panels import Panels, unravel
from .tiling import PARTIAL_BYTES, Grid, choose_grid, choose_passes, choose_tiling
from .turn import contiguous

ROWS_PER_BLOCK = 96
"""Rows of the left operand that stay in the second-level cache while all panels pass by."""
NOISE_PER_BLOCK = 1 << 14
"""Normals that are made before the rows that take them: they wait in the second-level cache."""
SERIAL_FLOPS = 3e6
"""Operations below which a product stays on one thread: waking another takes as long."""
UNROLL = 4


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
        _Product(block, buffers, contract, result, definitions, inner, threads and not over_batch, noise).emit()


@dataclass(frozen=True)
class _Left:
    """Where the left operand lies: ``base + sum over all indices of index * step``.

    ``row_step`` is the distance of neighbouring rows; None where it varies, and ``table`` holds the offset of each.
    """

    buffer: Buffer
    base: Value
    steps: Mapping[Node, Value]
    row_step: Value | None
    table: Buffer | None = None


class _Product:
    """One product (one element of the batch)."""

    def __init__(
        self,
        block: Block,
        buffers: Mapping[TensorDef, Buffer],
        contract: Contract,
        result: Slot,
        definitions: Sequence[Definition],
        bound: Mapping[Node, Value],
        threads: bool,
        noise: StreamTile | None,
    ) -> None:
        self.block = block
        self.buffers = dict(buffers)
        self.noise = noise
        self.contract = contract
        self.result = result
        self.definitions = definitions
        self.bound = dict(bound)
        half = contract.dtype in (DType.F16, DType.BF16)
        self.dtype = DType.F32 if half else contract.dtype
        lanes = max(1, block.host.vector_bytes // self.dtype.itemsize)
        # The indices of one block of images, and whether blocks are numbered by the rows or by the terms.
        number = contract.block
        self.by_rows = number is not None and number in contract.rows
        self.by_terms = number is not None and number in contract.inner
        self.rows = contract.rows[1:] if self.by_rows else contract.rows
        self.terms = contract.inner[1:] if self.by_terms else contract.inner
        self.blocks: Dim = 1 if number is None else extent_of(number)
        self.m = numel(extent_of(index) for index in self.rows)
        self.n = extent_of(contract.columns[-1])
        registers = 32 if block.host.vector_bytes >= 64 else 16
        line = extent_of(self.rows[-1]) if len(self.rows) > 1 else 0
        self.tiling = choose_tiling(self.m, self.n, lanes, registers, line if isinstance(line, int) else 0)
        self.computed = contract.padded is None and self._steps() is None
        self.passes = choose_passes(self.terms, whole=False)
        self.panels = Panels(block, contract, self.tiling, self.passes, self.dtype, self.bound)
        self.grid = self._grid(threads)

    # Sizes --------------------------------------------------------------------------------------------
    def _grid(self, threads: bool) -> Grid:
        block, contract, tile = self.block, self.contract, self.tiling
        lines = extent_guess(numel(extent_of(index) for index in contract.columns[:-1]))
        panels = lines * -(-extent_guess(self.n) // tile.columns)
        height, depth = extent_guess(self.m), extent_guess(numel(map(extent_of, contract.inner)))
        sums = height * panels * tile.columns * self.dtype.itemsize
        units: Dim = self.blocks
        unit = height
        if not self.by_rows:
            units = -(-self.m // tile.rows) if isinstance(self.m, int) else self.m
            unit = tile.rows
        padded = contract.padded
        staged = 0.0
        if padded is not None:
            staged = float(extent_guess(numel(padded.shape))) * extent_guess(self.blocks)
        elif self.computed:
            staged = float(height) * depth
        return choose_grid(
            block.host.threads if threads else 1,
            units,
            unit,
            panels,
            tile.columns,
            numel(map(extent_of, contract.inner)),
            staged,
            noisy=self.noise is not None,
            whole=self.by_terms,
            apart=sums <= PARTIAL_BYTES,
        )

    def emit(self) -> None:
        """The loops over tasks."""
        block, tile, grid = self.block, self.tiling, self.grid
        self.row_tiles = block.simplify(_ceil(block.size(self.m), tile.rows))
        lines = numel(extent_of(index) for index in self.contract.columns[:-1])
        self.per_line = block.simplify(_ceil(block.size(self.n), tile.columns))
        panels = block.simplify(self.per_line * block.size(lines))
        depth = block.simplify(block.size(self.passes.depth))
        self.panel_size = block.simplify(depth * integer(tile.columns))
        share = block.simplify(_ceil(panels, grid.panels))
        self.sums: Buffer | None = None
        self.sum_size = block.simplify(self.row_tiles * panels * integer(tile.size))
        if grid.terms > 1:
            self.sums = block.workspace(self.dtype, self.sum_size * integer(grid.terms), "sums")
        with block.loop(grid.tasks, "task", parallel=grid.tasks > 1) as task:
            across = block.simplify(tirx.floormod(task, integer(grid.panels)))
            along = block.simplify(tirx.floordiv(task, integer(grid.panels)))
            first = block.simplify(across * share)
            count = share if grid.panels == 1 else block.simplify(tirx.max(tirx.min(share, panels - first), integer(0)))
            self.first_panel, self.panel_count, self.panel_share = first, count, share
            if self.by_terms:
                self._sum_blocks(along, panels)
            elif self.by_rows:
                self._rows_of_blocks(along)
            else:
                self._rows_of_matrix(along)
        if self.sums is not None:
            self._finish_sums(panels)

    def _range(self, number: Value, parts: int, total: Value) -> tuple[Value, Value]:
        """First and count of part ``number`` of ``parts`` about equal parts of ``total``."""
        if parts == 1:
            return integer(0), total
        block = self.block
        share = block.simplify(_ceil(total, parts))
        first = block.simplify(number * share)
        if isinstance(total, tirx.IntImm) and int(total.value) % parts == 0:
            return first, share
        return first, block.simplify(tirx.max(tirx.min(share, total - first), integer(0)))

    # Tasks --------------------------------------------------------------------------------------------
    def _rows_of_matrix(self, along: Value) -> None:
        """Rows that are not images: pass by pass, block of rows by block."""
        block, tile = self.block, self.tiling
        first_tile, tiles = self._range(along, self.grid.rows, self.row_tiles)
        panels = self._scratch(self.panel_share * self.panel_size, "panels")
        partial = None
        if self.passes.count != 1:
            share = _ceil(self.row_tiles, self.grid.rows)
            partial = self._scratch(share * self.panel_share * integer(tile.size), "partial")
        self._stage_buffer()
        self._stage()
        line = None if self.computed else self._left()
        per_block = max(1, ROWS_PER_BLOCK // tile.rows)
        if self.noise is not None:
            assert isinstance(self.n, int)
            per_block = max(1, min(per_block, NOISE_PER_BLOCK // (self.n * tile.rows)))
        with self._each_pass() as (values, first, length, begin, end):
            self._pack(panels, {**self.bound, **values}, first, length, integer(0))
            with block.loop(block.simplify(_ceil(tiles, per_block)), "rows") as number:
                start = block.simplify(number * integer(per_block))
                some = block.simplify(tirx.min(integer(per_block), tiles - start))
                here = line
                if here is None:
                    here = self._compute_rows(first_tile + start, per_block, values, first, length)
                if self.noise is not None:
                    self._make_noise(self.noise, first_tile + start, per_block, end)
                with block.loop(self.panel_count, "panel") as panel, block.loop(some, "strip") as strip:
                    tile_row = block.simplify(first_tile + start + strip)
                    corner = ((start + strip) * self.panel_share + panel) * integer(tile.size)
                    made = self._tile(here, tile_row, values, first, length, panels, panel * self.panel_size, partial,
                                      corner, begin, end)  # fmt: skip
                    with block.when(end):
                        self._store_tile(made, tile_row, self.first_panel + panel)

    def _rows_of_blocks(self, along: Value) -> None:
        """Rows that are pixels of images, block of images by block; the right operand is packed once for all."""
        block, tile, contract, passes = self.block, self.tiling, self.contract, self.passes
        assert contract.block is not None
        assert passes.count is not None
        first_block, blocks = self._range(along, self.grid.rows, block.size(self.blocks))
        pass_size = block.simplify(self.panel_share * self.panel_size)
        panels = block.workspace(self.dtype, pass_size * integer(passes.count), "panels")
        number = block.scratch(DType.I64, 1, "pass")
        if passes.count > 1:
            block.write(number, integer(0), integer(0))
        with self._each_pass() as (values, first, length, _, _):
            place = block.read(number, integer(0)) if passes.count > 1 else integer(0)
            self._pack(panels, {**self.bound, **values}, first, length, place * pass_size)
            if passes.count > 1:
                block.write(number, integer(0), place + integer(1))
        partial = None
        if passes.count > 1:
            partial = self._scratch(self.row_tiles * self.panel_share * integer(tile.size), "partial")
        self._stage_buffer()
        line = self._left()
        with block.loop(blocks, "images") as image:
            self.bound[contract.block] = block.simplify(first_block + image)
            self._stage()
            if passes.count > 1:
                block.write(number, integer(0), integer(0))
            with self._each_pass() as (values, first, length, begin, end):
                place = block.read(number, integer(0)) if passes.count > 1 else integer(0)
                place = block.let(place * pass_size, DType.I64) if passes.count > 1 else integer(0)
                with block.loop(self.panel_count, "panel") as panel, block.loop(self.row_tiles, "strip") as tile_row:
                    corner = (tile_row * self.panel_share + panel) * integer(tile.size)
                    base = place + panel * self.panel_size
                    made = self._tile(line, tile_row, values, first, length, panels, base, partial, corner, begin, end)
                    with block.when(end):
                        self._store_tile(made, tile_row, self.first_panel + panel)
                if passes.count > 1:
                    block.write(number, integer(0), block.read(number, integer(0)) + integer(1))

    def _sum_blocks(self, along: Value, all_panels: Value) -> None:
        """Terms that are pixels of images, block of images by block, into sums that stay in the cache."""
        block, tile, contract = self.block, self.tiling, self.contract
        assert contract.block is not None
        first_block, blocks = self._range(along, self.grid.terms, block.size(self.blocks))
        panels = self._scratch(self.panel_share * self.panel_size, "panels")
        sums, origin = self.sums, block.simplify(along * self.sum_size)
        if sums is None:
            sums, origin = block.workspace(self.dtype, self.sum_size, "sums"), integer(0)

        def corner(tile_row: Value, panel: Value) -> Value:
            return origin + (tile_row * all_panels + self.first_panel + panel) * integer(tile.size)

        with (
            block.loop(self.row_tiles, "strip") as tile_row,
            block.loop(self.panel_count, "panel") as panel,
            block.loop(tile.rows * tile.vectors, "v") as v,
        ):
            block.write(sums, corner(tile_row, panel) + v * integer(tile.lanes), const(0, self.dtype, tile.lanes))
        self._stage_buffer()
        line = self._left()
        with block.loop(blocks, "images") as image:
            self.bound[contract.block] = block.simplify(first_block + image)
            self._stage()
            with self._each_pass() as (values, first, length, _, _):
                self._pack(panels, {**self.bound, **values}, first, length, integer(0))
                with block.loop(self.panel_count, "panel") as panel, block.loop(self.row_tiles, "strip") as tile_row:
                    never = tirx.const(False, "bool")
                    self._tile(line, tile_row, values, first, length, panels, panel * self.panel_size, sums,
                               corner(tile_row, panel), never, never)  # fmt: skip
        if self.grid.terms == 1:
            with block.loop(self.panel_count, "panel") as panel, block.loop(self.row_tiles, "strip") as tile_row:
                self._store_sums(sums, [corner(tile_row, panel)], tile_row, self.first_panel + panel)

    def _finish_sums(self, panels: Value) -> None:
        """Add the sums of all tasks and store what is made of them."""
        block, tile = self.block, self.tiling
        assert self.sums is not None
        with block.loop(self.row_tiles, "strip", parallel=True) as tile_row, block.loop(panels, "panel") as panel:
            corner = (tile_row * panels + panel) * integer(tile.size)
            corners = [corner + self.sum_size * integer(task) for task in range(self.grid.terms)]
            self._store_sums(self.sums, corners, tile_row, panel)

    def _store_sums(self, sums: Buffer, corners: Sequence[Value], tile_row: Value, panel: Value) -> None:
        block, tile = self.block, self.tiling
        made = block.scratch(self.dtype, tile.size, "tile")
        with block.loop(tile.rows * tile.vectors, "v") as v:
            place = v * integer(tile.lanes)
            total = block.read(sums, corners[0] + place, tile.lanes)
            for corner in corners[1:]:
                total = total + block.read(sums, corner + place, tile.lanes)
            block.write(made, place, total)
        self._store_tile(made, tile_row, panel)

    @contextmanager
    def _each_pass(self) -> Generator[tuple[dict[Node, Value], Value, Value, Value, Value]]:
        """Loops over the passes: values of the outer indices, first and number of the cut one, whether this is the
        first pass, whether it is the last."""
        block, passes = self.block, self.passes
        total, size = block.size(extent_of(passes.cut)), block.size(passes.size)
        # An empty sum takes one pass, too: it is zero, and is stored.
        cuts: Value = (
            tirx.max(_ceil(total, int(size.value)), integer(1)) if passes.cuts is None else integer(passes.cuts)
        )
        begin, end = tirx.const(True, "bool"), tirx.const(True, "bool")
        with ExitStack() as loops:
            values: dict[Node, Value] = {}
            for index in passes.outer:
                value = loops.enter_context(block.loop(extent_of(index), "pass"))
                values[index] = value
                begin = tirx.And(begin, tirx.EQ(value, integer(0)))
                end = tirx.And(end, tirx.EQ(value, block.size(extent_of(index)) - integer(1)))
            number = loops.enter_context(block.loop(cuts, "pass"))
            begin = block.simplify(tirx.And(begin, tirx.EQ(number, integer(0))))
            end = block.simplify(tirx.And(end, tirx.EQ(number, cuts - integer(1))))
            first = block.simplify(number * size)
            length = size if passes.even or passes.cuts == 1 else block.simplify(tirx.min(size, total - first))
            if passes.cuts == 1:
                length = total
            yield values, first, length, begin, end

    def _scratch(self, size: Value, name: str) -> Buffer:
        return self.block.memory(self.dtype, size, name)

    # The right operand --------------------------------------------------------------------------------
    def _pack(self, target: Buffer, bound: Mapping[Node, Value], first: Value, length: Value, origin: Value) -> None:
        """The task's panels of one pass."""
        block = self.block
        with block.loop(self.panel_count, "panel") as panel:
            outer, start = self._columns_of(self.first_panel + panel)
            base = block.simplify(origin + panel * self.panel_size)
            indices = {**bound, **outer, self.contract.columns[-1]: start}
            self._by_width(start, lambda count: self.panels.pack(
                self.buffers, indices, first, length, integer(count) if isinstance(count, int) else count, target, base
            ))  # fmt: skip

    def _columns_of(self, panel: Value) -> tuple[dict[Node, Value], Value]:
        """Indices of the outer columns of a panel, and its first innermost column."""
        block = self.block
        line = tirx.floordiv(panel, self.per_line)
        start = tirx.floormod(panel, self.per_line) * integer(self.tiling.columns)
        return unravel(block, self.contract.columns[:-1], line), block.simplify(start)

    def _by_width(self, start: Value, emit: Callable[[int | Value], None]) -> None:
        """``emit(columns)`` for the panel that begins at column ``start``: a fixed number where the size is fixed."""
        block, columns = self.block, self.tiling.columns
        if not isinstance(self.n, int):
            emit(block.simplify(tirx.min(integer(columns), block.size(self.n) - start)))
            return
        rest = self.n % columns
        if not rest or self.n < columns:
            emit(rest or columns)
            return
        whole = start < integer(self.n - rest)
        with block.when(whole):
            emit(columns)
        with block.otherwise(whole):
            emit(rest)

    # The left operand ---------------------------------------------------------------------------------
    def _steps(self) -> tuple[Value, dict[Node, Value]] | None:
        """Offset of the left operand where all indices are 0, and its step per index; None where it is an expression
        or lies unevenly."""
        block, contract = self.block, self.contract
        left = contract.left
        if not isinstance(left, Load):
            return None
        own = (*contract.rows, *contract.inner)
        variables: dict[Node, Value] = {}
        for index in own:
            variables[index] = tirx.Var(block.names.fresh("at"), "int64")
            block.analyzer.bind(variables[index], tvm.ir.Range(integer(0), block.size(extent_of(index))))
        flat, _ = Lowering(block, self.buffers, {**self.bound, **variables}).offset(left.tensor, left.children)
        linear = sym.detect_linear_equation(flat, list(variables.values())) if flat is not None else ()
        if not linear:
            return None
        *steps, base = (block.simplify(part) for part in linear)
        return base, dict(zip(own, steps, strict=True))

    def _left(self) -> _Left:
        """How a task reads the left operand; offsets of rows at varying distances are tabulated here."""
        block, tile, left = self.block, self.tiling, self.contract.left
        found = self._steps()
        assert found is not None
        assert isinstance(left, Load)
        base, steps = found
        buffer = self.buffers[left.tensor]
        if self._in_line(self.rows, steps) == len(self.rows):
            return _Left(buffer, base, steps, steps[self.rows[-1]])
        count = block.simplify(self.row_tiles * integer(tile.rows))
        table = block.memory(DType.I64, count, "offsets")
        with block.loop(count, "row") as row:
            at = unravel(block, self.rows, block.simplify(tirx.min(row, block.size(self.m) - integer(1))))
            offset = base
            for index, value in at.items():
                offset = offset + value * steps[index]
            block.write(table, row, block.simplify(offset))
        return _Left(buffer, integer(0), steps, None, table)

    def _in_line(self, indices: Sequence[Index], steps: Mapping[Node, Value]) -> int:
        """How many of the last ``indices`` run over the left operand as one number would."""
        block, count = self.block, 1
        while count < len(indices):
            inner, outer = indices[-count], indices[-count - 1]
            whole = steps[inner] * block.size(extent_of(inner))
            if not block.analyzer.can_prove_equal(steps[outer], whole):
                break
            count += 1
        return count

    def _row_offsets(self, left: _Left, tile_row: Value, start: Value) -> list[tuple[Value, Value]]:
        """Per row of a tile, (offset in a register, what to add to it), ``start`` included; rows past the end repeat
        the last one and are not stored."""
        block, tile = self.block, self.tiling
        first = tile_row * integer(tile.rows)
        whole = isinstance(self.m, int) and self.m % tile.rows == 0
        row_step = left.row_step
        if row_step is None and len(self.rows) > 1:
            line = extent_of(self.rows[-1])
            if isinstance(line, int) and line % tile.rows == 0:
                assert left.table is not None
                base = block.let(block.simplify(block.read(left.table, first) + start), DType.I64, "row")
                return [(base, integer(i) * left.steps[self.rows[-1]]) for i in range(tile.rows)]
        offsets: list[tuple[Value, Value]] = []
        for i in range(tile.rows):
            row = block.simplify(first + integer(i))
            if left.table is not None:
                offset = block.read(left.table, row) + start
            else:
                assert row_step is not None
                if not whole:
                    row = block.simplify(tirx.min(row, block.size(self.m) - integer(1)))
                offset = left.base + row * row_step + start
            offsets.append((block.let(block.simplify(offset), DType.I64, "row"), integer(0)))
        return offsets

    def _compute_rows(
        self, first_tile: Value, per_block: int, values: Mapping[Node, Value], first: Value, length: Value
    ) -> _Left:
        """A block of rows of a left operand that is an expression, or lies unevenly: ``[k][row]``."""
        block, contract, passes, height = self.block, self.contract, self.passes, per_block * self.tiling.rows
        rows = self._scratch(block.size(passes.depth) * integer(height), "rows")
        first_row = block.simplify(first_tile * integer(self.tiling.rows))
        count = block.simplify(tirx.min(integer(height), block.size(self.m) - first_row))
        lane = contract.rows[-1] if len(contract.rows) == 1 else None
        along = contract.inner[-1]
        if lane is not None and not passes.within and (
            contiguous(block, contract.left, along, self.bound) > contiguous(block, contract.left, lane, self.bound)
        ):  # fmt: skip
            with block.loop(count, "row") as row:

                def across(offset: Value, width: int) -> None:
                    indices = {**values, lane: first_row + row, along: first + offset}
                    value = self._left_value(indices, along, width)
                    block.write(rows, offset * integer(height) + row, value, stride=height)

                sweep(block, length, self.tiling.lanes, across, "k")
        else:
            with ExitStack() as loops:
                cut = loops.enter_context(block.loop(length, "k"))
                inner: dict[Node, Value] = {**values, passes.cut: first + cut}
                place = cut
                for index in passes.within:
                    inner[index] = loops.enter_context(block.loop(extent_of(index), "k"))
                    place = place * block.size(extent_of(index)) + inner[index]

                def emit(offset: Value, width: int) -> None:
                    at = unravel(block, contract.rows, first_row + offset) if lane is None else {}
                    indices = {**inner, **at} if lane is None else {**inner, lane: first_row + offset}
                    block.write(rows, place * integer(height) + offset, self._left_value(indices, lane, width))

                sweep(block, count, self.tiling.lanes if lane is not None else 1, emit, "row")
        steps: dict[Node, Value] = {}
        step = integer(height)
        for index in reversed((passes.cut, *passes.within)):
            steps[index] = step
            step = step * block.size(extent_of(index))
        # Offsets count from the first row and the first term of the block.
        return _Left(rows, integer(0) - first_row, steps, integer(1))

    def _left_value(self, indices: Mapping[Node, Value], lane: Index | None, width: int) -> Value:
        lowering = Lowering(self.block, self.buffers, {**self.bound, **indices}, lane, width)
        lowering.expect(self.contract.left)
        value = lowering.vector(self.contract.left)
        return convert(self.dtype, value) if self.contract.left.dtype is not self.dtype else value

    def _stage_buffer(self) -> None:
        """Scratch memory for a block of padded images, zero in the frame."""
        padded, block = self.contract.padded, self.block
        if padded is None:
            return
        size = numel(padded.shape)
        target = self._scratch(block.size(size), "images")
        self.buffers[padded] = target
        lanes = self.tiling.lanes
        sweep(block, size, lanes, lambda offset, width: block.write(target, offset, const(0, self.dtype, width)), "z")

    def _stage(self) -> None:
        """Bring the present block of images into scratch memory."""
        padded = self.contract.padded
        if padded is not None:
            where = tuple(
                as_node(index, DType.I64) + shift if shift else index
                for index, shift in zip(padded.indices, padded.before, strict=True)
            )
            definition = Definition(padded, where, padded.body)
            emit_compute(self.block, self.buffers, padded.indices, [definition], self.bound, threads=False)

    # Noise --------------------------------------------------------------------------------------------
    def _make_noise(self, noise: StreamTile, first_tile: Value, per_block: int, last: Value) -> None:
        """The normals of a block of rows, which are stored with the last pass."""
        assert isinstance(self.n, int)
        block, rows = self.block, per_block * self.tiling.rows
        start = block.simplify(first_tile * integer(self.tiling.rows))
        count = block.simplify(tirx.min(integer(rows), block.size(self.m) - start))
        columns = integer(self.n)
        made, number = emit_stream_tile(
            block, self.buffers, noise, start * columns, count * columns, rows * self.n, last
        )
        self.buffers[noise.made] = made
        self.bound[noise.first] = number

    # The tile -----------------------------------------------------------------------------------------
    def _tile(
        self,
        left: _Left,
        tile_row: Value,
        values: Mapping[Node, Value],
        first: Value,
        length: Value,
        panels: Buffer,
        base: Value,
        partial: Buffer | None,
        corner: Value,
        begin: Value,
        end: Value,
    ) -> Buffer:
        """Sums of one pass of a tile: added to ``partial[corner]`` or, at the ``end``, in the buffer returned."""
        block, tile, dtype = self.block, self.tiling, self.dtype
        places = [integer(i * tile.lanes) for i in range(tile.rows * tile.vectors)]
        sums = [block.register(dtype, tile.lanes, "acc") for _ in places]

        def clear() -> None:
            for register in sums:
                block.put(register, const(0, dtype, tile.lanes))

        if partial is None:
            clear()
        else:
            with block.when(begin):
                clear()
            with block.otherwise(begin):
                for register, place in zip(sums, places, strict=True):
                    block.put(register, block.read(partial, corner + place, tile.lanes))
        self._multiply(left, tile_row, values, first, length, panels, base, sums)
        made = block.scratch(dtype, tile.size, "tile")
        if partial is None:
            for register, place in zip(sums, places, strict=True):
                block.write(made, place, block.get(register))
            return made
        with block.when(end):
            for register, place in zip(sums, places, strict=True):
                block.write(made, place, block.get(register))
        with block.otherwise(end):
            for register, place in zip(sums, places, strict=True):
                block.write(partial, corner + place, block.get(register))
        return made

    def _multiply(
        self,
        left: _Left,
        tile_row: Value,
        values: Mapping[Node, Value],
        first: Value,
        length: Value,
        panels: Buffer,
        base: Value,
        sums: Sequence[Buffer],
    ) -> None:
        """The terms of one pass: unrolled along the innermost indices that lie in line."""
        block, tile, passes = self.block, self.tiling, self.passes
        start = integer(0)
        number = self.contract.block
        if number is not None and number in left.steps:
            start = start + self.bound[number] * left.steps[number]
        if not self.computed:
            start = start + first * left.steps[passes.cut]
            for index in passes.outer:
                start = start + values[index] * left.steps[index]
        rows = self._row_offsets(left, tile_row, block.simplify(start))
        indices = (passes.cut, *passes.within)
        extents = [length, *(block.size(extent_of(index)) for index in passes.within)]
        count = self._in_line(indices, left.steps)
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
                line = base + (position + k) * integer(tile.columns)
                columns = [
                    block.read(panels, block.simplify(line + integer(j * tile.lanes)), tile.lanes)
                    for j in range(tile.vectors)
                ]
                for i, (place, shift) in enumerate(rows):
                    value = block.read(left.buffer, block.simplify(place + (shift + offset + k * step)))
                    if str(value.ty.dtype) != TVM_NAMES[dtype]:
                        value = convert(dtype, value)
                    for j, column in enumerate(columns):
                        register = sums[i * tile.vectors + j]
                        block.put(register, block.get(register) + broadcast(value, tile.lanes) * column)

            dtype = self.dtype
            unroll = UNROLL
            if isinstance(run, tirx.IntImm):
                unroll = next(u for u in (UNROLL, 3, 2, 1) if int(run.value) % u == 0)
            with block.loop(tirx.floordiv(run, integer(unroll)), "k") as k:
                for u in range(unroll):
                    term(block.simplify(k * integer(unroll) + integer(u)))
            with block.loop(tirx.floormod(run, integer(unroll)), "k") as k:
                term(block.simplify(tirx.floordiv(run, integer(unroll)) * integer(unroll) + k))

    def _store_tile(self, made: Buffer, tile_row: Value, panel: Value) -> None:
        """What is fused behind the product, element by element of a finished tile."""
        block, tile, contract = self.block, self.tiling, self.contract
        outer, start = self._columns_of(panel)
        m = block.size(self.m)
        whole = isinstance(self.m, int) and self.m % tile.rows == 0
        rows = integer(tile.rows) if whole else tirx.min(integer(tile.rows), m - tile_row * integer(tile.rows))
        lanes = min(tile.lanes, block.host.lanes)
        column = contract.columns[-1]
        with block.loop(block.simplify(rows), "row") as row:
            number = block.simplify(tile_row * integer(tile.rows) + row)
            at = {**self.bound, **outer, **unravel(block, self.rows, number)}

            def emit(offset: Value, width: int) -> None:
                value = block.read(made, row * integer(tile.columns) + offset, width)
                if self.dtype is not contract.dtype:
                    value = convert(contract.dtype, value)
                indices = {**at, column: start + offset}
                lowering = Lowering(block, self.buffers, indices, column, width, {self.result: value})
                store_all(lowering, self.definitions)

            def store(count: int | Value) -> None:
                sweep(block, count, lanes, emit, "c")

            if contract.valid is None:
                self._by_width(start, store)
            else:
                valid = Lowering(block, self.buffers, at).scalar_or_vector(contract.valid)
                with block.when(valid):
                    self._by_width(start, store)


def _ceil(value: Value, step: int) -> Value:
    return tirx.floordiv(value + integer(step - 1), integer(step))
