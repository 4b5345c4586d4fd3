"""Matrix products: one register-tiled kernel for every orientation, batched, of fixed or symbolic size.

The right operand is packed into panels of a few vectors' width; a tile of ``mr`` rows by one panel lives in
registers while the inner index runs.  A finished tile goes through a small buffer, so that whatever is fused
behind the product (bias, activation, parameter update) is written once, as an ordinary loop.

The blocking follows Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (TOMS 2008).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ....ir.types import Dim, DType, numel
from ..expr import Index, Load, Node, Slot
from ..graph import Contract, StreamTile, TensorDef
from ..kit import TVM_NAMES, Block, Buffer, Value, broadcast, const, convert, integer, sweep
from ..lower import Lowering
from ..tvm_api import sym, tirx, tvm
from .chacha import emit_stream_tile
from .compute import Definition, extent_guess, extent_of, store_all
from .reduce import contiguous

INNER_BLOCK = 512
"""Longest inner extent of one pass: a panel of 16 float32 columns then takes 32 KB, the size of an L1 cache."""

ROWS_PER_TASK = 96
NOISE_PER_TASK = 1 << 15
"""Normals that a task makes before it multiplies: they wait in the second-level cache."""
SERIAL_FLOPS = 2e6


@dataclass(frozen=True)
class Tiling:
    """``rows`` by ``vectors * lanes`` accumulators; the inner index in ``parts`` passes of at most ``depth``."""

    rows: int
    vectors: int
    lanes: int
    depth: Dim
    parts: Dim
    unroll: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


def choose_tiling(rows: Dim, columns: Dim, inner: Dim, lanes: int, registers: int) -> Tiling:
    """6 x 2 vectors fill 16 vector registers (12 accumulators, 2 columns, 1 row); 32 registers take 12 x 2."""
    most = 12 if registers >= 32 else 6
    vectors = 1 if isinstance(columns, int) and columns <= lanes else 2
    if isinstance(rows, int):
        # The half row stands for the fixed cost of a tile; on a tie the taller tile wins.
        height = min(range(1, most + 1), key=lambda m: (-(-rows // m) * (max(m, 4) + 0.5), -m))
    else:
        height = most
    if not isinstance(inner, int):
        return Tiling(height, vectors, lanes, INNER_BLOCK, inner, 1)
    parts = 1 if inner <= INNER_BLOCK else -(-inner // (INNER_BLOCK * 3 // 4))
    depth = -(-inner // parts)
    even = parts * depth == inner
    unroll = next(u for u in (4, 2, 1) if depth % u == 0) if even else 1
    return Tiling(height, vectors, lanes, depth, parts, unroll)


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
    for index in (*contract.batch, contract.row, *contract.columns, *contract.inner):
        flops *= extent_guess(extent_of(index))
    threads = threads and flops >= SERIAL_FLOPS
    with ExitStack() as loops:
        inner: dict[Node, Value] = dict(bound)
        over_batch = threads and _tasks(contract.batch) >= 2 * block.host.threads
        batch_threads = over_batch
        for index in contract.batch:
            extent = extent_of(index)
            inner[index] = loops.enter_context(block.loop(extent, "b", parallel=batch_threads and extent != 1))
            batch_threads = batch_threads and extent == 1
        kernel = _Product(block, buffers, contract, result, definitions, inner, threads and not over_batch, noise)
        kernel.emit()


def _tasks(batch: Sequence[Index]) -> int:
    total = 1
    for index in batch:
        total *= extent_guess(extent_of(index))
    return total


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
        self.buffers = buffers
        self.noise = noise
        self.contract = contract
        self.result = result
        self.definitions = definitions
        self.bound = bound
        self.threads = threads
        half = contract.dtype in (DType.F16, DType.BF16)
        self.dtype = DType.F32 if half else contract.dtype
        lanes = max(1, block.host.vector_bytes // self.dtype.itemsize)
        self.m = extent_of(contract.row)
        self.n = extent_of(contract.columns[-1])
        self.k = numel(extent_of(i) for i in contract.inner)
        registers = 32 if block.host.vector_bytes >= 64 else 16
        self.tiling = choose_tiling(self.m, self.n, self.k, lanes, registers)
        runs = contiguous(block, contract.right, contract.inner[-1], bound)
        if len(contract.inner) > 1 and runs > contiguous(block, contract.right, contract.columns[-1], bound):
            # Packed along the inner index, run by run: not to be cut.
            self.tiling = replace(self.tiling, depth=self.k, parts=1, unroll=1)
        self.computed_rows = not isinstance(contract.left, Load)
        self.packed_rows = not self.computed_rows and self._left_offsets(integer(0)) is None

    # Sizes --------------------------------------------------------------------------------------------
    def emit(self) -> None:
        block, tile = self.block, self.tiling
        m, n, k = block.size(self.m), block.size(self.n), block.size(self.k)
        depth = block.size(tile.depth)
        # An empty inner extent takes one pass, too: the product is zero, and is stored.
        parts: Value = tirx.max(tirx.floordiv(k + depth - integer(1), depth), integer(1))
        if isinstance(tile.parts, int):
            parts = integer(tile.parts)
        self.row_tiles = block.simplify(_ceil(m, tile.rows))
        self.lines = numel(extent_of(i) for i in self.contract.columns[:-1])
        self.panels_per_line = block.simplify(_ceil(n, tile.columns))
        panels = block.simplify(self.panels_per_line * block.size(self.lines))
        self.panel_size = block.simplify(depth * integer(tile.columns))
        self.panels = block.workspace(self.dtype, panels * self.panel_size, "panels")
        self.partial: Buffer | None = None
        if tile.parts != 1:
            self.partial = block.workspace(
                self.dtype, self.row_tiles * panels * integer(tile.rows * tile.columns), "partial"
            )
        with block.loop(parts, "part") as part:
            first = block.simplify(part * depth)
            length = block.simplify(tirx.min(depth, k - first)) if tile.parts != 1 else k
            if isinstance(tile.parts, int) and isinstance(tile.depth, int) and tile.parts * tile.depth == self.k:
                length = depth
            with block.loop(panels, "panel", parallel=self.threads) as panel:
                self._pack(panel, first, length)
            strips = self._pack_rows(first, length) if self.packed_rows else None
            per_task = max(1, ROWS_PER_TASK // tile.rows)
            if isinstance(self.m, int) and self.threads:
                per_task = max(1, min(per_task, -(-self.m // tile.rows) // (2 * block.host.threads)))
            if self.noise is not None:
                per_task = self._rows_with_noise(per_task)
            tasks = block.simplify(_ceil(self.row_tiles, per_task))
            last = block.simplify(tirx.EQ(part, parts - integer(1)))
            with block.loop(tasks, "task", parallel=self.threads) as task:
                first_tile = block.simplify(task * integer(per_task))
                if self.computed_rows:
                    self._compute_rows(first_tile, per_task, first, length)
                if self.noise is not None:
                    self._make_noise(self.noise, first_tile, per_task, last)
                with (
                    block.loop(panels, "panel") as panel,
                    block.loop(tirx.min(integer(per_task), self.row_tiles - first_tile), "strip") as strip,
                ):
                    tile_row = block.simplify(first_tile + strip)
                    self._tile(tile_row, panel, part, first, length, last, panels, strips)

    # Noise --------------------------------------------------------------------------------------------
    def _rows_with_noise(self, per_task: int) -> int:
        """How many strips of rows a task takes, so that their normals stay in the second-level cache."""
        assert isinstance(self.n, int)
        return max(1, min(per_task, NOISE_PER_TASK // (self.n * self.tiling.rows)))

    def _make_noise(self, noise: StreamTile, first_tile: Value, per_task: int, last: Value) -> None:
        """The normals of a task's rows, which are stored with the last part."""
        assert isinstance(self.n, int)
        block, rows = self.block, per_task * self.tiling.rows
        start = block.simplify(first_tile * integer(self.tiling.rows))
        count = block.simplify(tirx.min(integer(rows), block.size(self.m) - start))
        columns = integer(self.n)
        made, number = emit_stream_tile(
            block, self.buffers, noise, start * columns, count * columns, rows * self.n, last
        )
        self.buffers = {**self.buffers, noise.made: made}
        self.bound = {**self.bound, noise.first: number}

    # Packing ------------------------------------------------------------------------------------------
    def _column_of(self, panel: Value) -> tuple[dict[Node, Value], Value]:
        """Indices of the outer columns of a panel, and its first innermost column."""
        block = self.block
        line = tirx.floordiv(panel, self.panels_per_line)
        start = tirx.floormod(panel, self.panels_per_line) * integer(self.tiling.columns)
        return self._unravel(self.contract.columns[:-1], line), block.simplify(start)

    def _unravel(self, indices: Sequence[Index], flat: Value) -> dict[Node, Value]:
        found: dict[Node, Value] = {}
        for index in reversed(indices):
            extent = self.block.size(extent_of(index))
            leading = index is indices[0]
            found[index] = self.block.simplify(flat if leading else tirx.floormod(flat, extent))
            flat = tirx.floordiv(flat, extent)
        return found

    def _pack(self, panel: Value, first: Value, length: Value) -> None:
        """Fill ``panel[k, column]`` from the right operand, zero beyond the last column."""
        block, contract, tile = self.block, self.contract, self.tiling
        outer, start = self._column_of(panel)
        base = block.simplify(panel * self.panel_size)
        column, inner = contract.columns[-1], contract.inner[-1]
        along_columns = contiguous(block, contract.right, column, self.bound)
        along_inner = contiguous(block, contract.right, inner, self.bound)
        count = block.simplify(tirx.min(integer(tile.columns), block.size(self.n) - start))
        whole = isinstance(self.n, int) and self.n % tile.columns == 0
        if whole:
            count = integer(tile.columns)
        if along_inner > along_columns and self._one_pass():
            with block.loop(count, "c") as c:
                self._pack_along_inner(outer, start + c, base + c, first, length)
            with block.loop(integer(tile.columns) - count, "c") as c, block.loop(length, "k") as k:
                block.write(self.panels, base + k * integer(tile.columns) + count + c, const(0, self.dtype))
            return
        with block.loop(length, "k") as k:
            inner_values = self._unravel(contract.inner, first + k)
            line = block.simplify(base + k * integer(tile.columns))

            def emit(offset: Value, width: int) -> None:
                indices = {**self.bound, **outer, **inner_values, column: start + offset}
                block.write(self.panels, line + offset, self._right(indices, column, width))

            sweep(block, count, tile.lanes, emit, "c")
            with block.loop(integer(tile.columns) - count, "c") as c:
                block.write(self.panels, line + count + c, const(0, self.dtype))

    def _one_pass(self) -> bool:
        """Whether a pass covers whole runs of the innermost index."""
        return len(self.contract.inner) == 1 or self.tiling.parts == 1

    def _pack_along_inner(
        self, outer: Mapping[Node, Value], column: Value, base: Value, first: Value, length: Value
    ) -> None:
        """One column of a panel, lanes along the inner index."""
        block, columns = self.block, self.tiling.columns
        *slow, inner = self.contract.inner
        with ExitStack() as loops:
            values: dict[Node, Value] = {}
            line: Value = integer(0)
            for index in slow:
                values[index] = loops.enter_context(block.loop(extent_of(index), "k"))
                line = line * block.size(extent_of(index)) + values[index]
            run = length if not slow else block.size(extent_of(inner))
            start = block.simplify(base + line * run * integer(columns))

            def emit(offset: Value, width: int) -> None:
                indices = {**self.bound, **outer, **values, self.contract.columns[-1]: column, inner: first + offset}
                value = self._right(indices, inner, width)
                block.write(self.panels, start + offset * integer(columns), value, stride=columns)

            sweep(block, run, self.tiling.lanes, emit, "k")

    def _right(self, indices: Mapping[Node, Value], lane: Index, width: int) -> Value:
        lowering = Lowering(self.block, self.buffers, indices, lane, width)
        lowering.expect(self.contract.right)
        return self._widen(lowering.vector(self.contract.right))

    def _widen(self, value: Value) -> Value:
        return value if str(value.ty.dtype).split("x")[0] == TVM_NAMES[self.dtype] else convert(self.dtype, value)

    def _pack_rows(self, first: Value, length: Value) -> Buffer:
        """The left operand in strips ``[tile][k][row]``, for operands that are not a plain matrix in memory."""
        block, tile = self.block, self.tiling
        strip_size = block.simplify(block.size(tile.depth) * integer(tile.rows))
        strips = block.workspace(self.dtype, self.row_tiles * strip_size, "strips")
        with (
            block.loop(self.row_tiles, "tile", parallel=self.threads) as tile_row,
            block.loop(length, "k") as k,
            block.loop(tile.rows, "row") as row,
        ):
            inner = self._unravel(self.contract.inner, first + k)
            indices = {**self.bound, **inner, self.contract.row: self._row(tile_row, row)}
            value = self._widen(Lowering(block, self.buffers, indices).vector(self.contract.left))
            block.write(strips, tile_row * strip_size + k * integer(tile.rows) + row, value)
        return strips

    def _compute_rows(self, first_tile: Value, per_task: int, first: Value, length: Value) -> None:
        """A task's rows of a left operand that is an expression: ``[k][row]``."""
        block, height = self.block, per_task * self.tiling.rows
        self.rows = block.workspace(self.dtype, block.size(self.tiling.depth) * integer(height), "rows")
        self.first_row = block.simplify(first_tile * integer(self.tiling.rows))
        self.row_step = integer(height)
        count = block.simplify(tirx.min(self.row_step, block.size(self.m) - self.first_row))
        with block.loop(length, "k") as k:
            inner = self._unravel(self.contract.inner, first + k)

            def emit(offset: Value, width: int) -> None:
                indices = {**self.bound, **inner, self.contract.row: self.first_row + offset}
                lowering = Lowering(block, self.buffers, indices, self.contract.row, width)
                lowering.expect(self.contract.left)
                value = self._widen(lowering.vector(self.contract.left))
                block.write(self.rows, k * self.row_step + offset, value)

            sweep(block, count, self.tiling.lanes, emit, "row")

    # The tile -----------------------------------------------------------------------------------------
    def _row(self, tile_row: Value, row: Value) -> Value:
        """Row number within the product; rows past the end repeat the last one and are not stored."""
        index = tile_row * integer(self.tiling.rows) + row
        if isinstance(self.m, int) and self.m % self.tiling.rows == 0:
            return self.block.simplify(index)
        return self.block.simplify(tirx.min(index, self.block.size(self.m) - integer(1)))

    def _left_offsets(self, row: Value) -> tuple[Value, Value] | None:
        """Flat offset of ``left`` at a row and k = 0, and its step per k; None where that is not a line."""
        contract = self.contract
        k = tirx.Var("k", "int64")
        indices = {**self.bound, **self._unravel(contract.inner, k), contract.row: row}
        if len(contract.inner) > 1:
            self.block.analyzer.bind(k, _span(self.block.size(self.k)))
            indices = {**self.bound, **self._unravel(contract.inner, k), contract.row: row}
        read = contract.left
        assert isinstance(read, Load)
        flat, _ = Lowering(self.block, self.buffers, indices).offset(read.tensor, read.children)
        if flat is None:
            return None
        linear = sym.detect_linear_equation(flat, [k])
        if not linear:
            return None
        return self.block.simplify(linear[1]), self.block.simplify(linear[0])

    def _tile(
        self,
        tile_row: Value,
        panel: Value,
        part: Value,
        first: Value,
        length: Value,
        last: Value,
        panels: Value,
        strips: Buffer | None,
    ) -> None:
        block, tile, dtype = self.block, self.tiling, self.dtype
        tile_buffer = block.scratch(dtype, tile.rows * tile.columns, "tile")
        corner: Value = integer(0)
        if self.partial is not None:
            corner = block.simplify((tile_row * panels + panel) * integer(tile.rows * tile.columns))
        accumulators = [
            [block.register(dtype, tile.lanes, "acc") for _ in range(tile.vectors)] for _ in range(tile.rows)
        ]
        for line in accumulators:
            for accumulator in line:
                block.put(accumulator, const(0, dtype, tile.lanes))
        rows = [self._row_source(tile_row, integer(i), i, first, strips) for i in range(tile.rows)]
        base = block.simplify(panel * self.panel_size)

        def step(k: Value) -> None:
            columns = [
                block.read(self.panels, base + k * integer(tile.columns) + integer(j * tile.lanes), tile.lanes)
                for j in range(tile.vectors)
            ]
            for i, line in enumerate(accumulators):
                buffer, start, stride = rows[i]
                scalar = self._widen(block.read(buffer, start + k * stride))
                for j, accumulator in enumerate(line):
                    block.put(accumulator, block.get(accumulator) + broadcast(scalar, tile.lanes) * columns[j])

        with block.loop(tirx.floordiv(length, integer(tile.unroll)), "k") as k:
            for u in range(tile.unroll):
                step(k * integer(tile.unroll) + integer(u))
        for i, line in enumerate(accumulators):
            for j, accumulator in enumerate(line):
                place = integer(i * tile.columns + j * tile.lanes)
                block.write(tile_buffer, place, block.get(accumulator))
        if self.partial is not None:
            self._add_partial(tile_buffer, corner, part, last)
        with block.when(last):
            self._store_tile(tile_buffer, tile_row, panel)

    def _row_source(
        self, tile_row: Value, row: Value, number: int, first: Value, strips: Buffer | None
    ) -> tuple[Buffer, Value, Value]:
        """Where row ``number`` of the left operand lies: (buffer, offset of the first k, step)."""
        block, tile = self.block, self.tiling
        if strips is not None:
            strip_size = block.simplify(block.size(tile.depth) * integer(tile.rows))
            return strips, block.simplify(tile_row * strip_size + integer(number)), integer(tile.rows)
        if self.computed_rows:
            return self.rows, block.simplify(self._row(tile_row, row) - self.first_row), self.row_step
        line = self._left_offsets(self._row(tile_row, row))
        left = self.contract.left
        assert line is not None
        assert isinstance(left, Load)
        start, stride = line
        offset = block.let(block.simplify(start + first * stride), DType.I64, "row")
        return self.buffers[left.tensor], offset, stride

    def _add_partial(self, tile_buffer: Buffer, corner: Value, part: Value, last: Value) -> None:
        """Add what earlier passes left, and leave the sum for the next one."""
        block, tile = self.block, self.tiling
        assert self.partial is not None
        partial = self.partial
        later = part > integer(0)
        with block.when(later), block.loop(tile.rows * tile.vectors, "v") as v:
            place = v * integer(tile.lanes)
            total = block.read(tile_buffer, place, tile.lanes) + block.read(partial, corner + place, tile.lanes)
            block.write(tile_buffer, place, total)
        with block.when(tirx.Not(last)), block.loop(tile.rows * tile.vectors, "v") as v:
            place = v * integer(tile.lanes)
            block.write(partial, corner + place, block.read(tile_buffer, place, tile.lanes))

    def _store_tile(self, tile_buffer: Buffer, tile_row: Value, panel: Value) -> None:
        """What is fused behind the product, element by element of a finished tile."""
        block, tile, contract = self.block, self.tiling, self.contract
        outer, start = self._column_of(panel)
        m, n = block.size(self.m), block.size(self.n)
        whole_rows = isinstance(self.m, int) and self.m % tile.rows == 0
        whole_columns = isinstance(self.n, int) and self.n % tile.columns == 0
        rows = integer(tile.rows) if whole_rows else tirx.min(integer(tile.rows), m - tile_row * integer(tile.rows))
        count = integer(tile.columns) if whole_columns else tirx.min(integer(tile.columns), n - start)
        lanes = min(tile.lanes, block.host.lanes)
        column = contract.columns[-1]
        with block.loop(rows, "row") as row:
            number = block.simplify(tile_row * integer(tile.rows) + row)

            def emit(offset: Value, width: int) -> None:
                value = block.read(tile_buffer, row * integer(tile.columns) + offset, width)
                if self.dtype is not contract.dtype:
                    value = convert(contract.dtype, value)
                indices = {**self.bound, **outer, contract.row: number, column: start + offset}
                lowering = Lowering(block, self.buffers, indices, column, width, {self.result: value})
                store_all(lowering, self.definitions)

            sweep(block, block.simplify(count), lanes, emit, "c")


def _ceil(value: Value, step: int) -> Value:
    return tirx.floordiv(value + integer(step - 1), integer(step))


def _span(count: Value) -> Value:
    return tvm.ir.Range(integer(0), count)
