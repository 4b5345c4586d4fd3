"""The left operand of a product: read where it lies, or brought into scratch memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ....ir.types import DType, numel
from ..expr import Cast, Index, Load, Node, as_node
from ..kit import Block, Buffer, Value, const, convert, integer, sweep
from ..lower import Lowering
from ..tvm_api import sym, tirx, tvm
from .compute import Definition, emit_compute, extent_of
from .product import Pass, Product, unravel
from .turn import contiguous


@dataclass(frozen=True)
class Left:
    """Where a left operand lies: element ``base + sum over all indices of index * step`` of a buffer.

    Attributes:
        buffer: What it lies in.
        base: Offset of the element whose indices are all 0.
        steps: Elements from one value of an index to the next.
        row_step: Elements from one row to the next; None where that varies.
        table: The offset of each row, ``base`` included, where ``row_step`` is None.
        of_pass: Whether it holds the terms of one pass only: indices of terms then count from the pass's first.
    """

    buffer: Buffer
    base: Value
    steps: Mapping[Node, Value]
    row_step: Value | None
    table: Buffer | None = None
    of_pass: bool = False

    def start(self, product: Product, terms: Pass) -> Value:
        """Elements from ``base`` to the first term of a pass, in the present block of images."""
        start, number = integer(0), product.contract.block
        if number is not None and number in self.steps:
            start = start + product.bound[number] * self.steps[number]
        if not self.of_pass:
            start = start + terms.first * self.steps[product.passes.cut]
            for index in product.passes.outer:
                start = start + terms.outer[index] * self.steps[index]
        return product.block.simplify(start)


def is_computed(product: Product) -> bool:
    """Whether the left operand is computed before it is read: it is an expression, or lies unevenly."""
    return product.contract.padded is None and _steps(product) is None


def _read(product: Product) -> Load | None:
    """The elements that the left operand is, perhaps widened as they are read; None for any other expression."""
    left = product.contract.left
    if isinstance(left, Cast) and left.children[0].dtype.is_float and left.dtype.is_float:
        (left,) = left.children
    return left if isinstance(left, Load) else None


def _steps(product: Product) -> tuple[Value, dict[Node, Value]] | None:
    """``base`` and ``steps`` of `Left`, for all indices of rows and terms; None where there are no such numbers."""
    block, contract = product.block, product.contract
    left = _read(product)
    if left is None:
        return None
    own = (*contract.rows, *contract.inner)
    variables: dict[Node, Value] = {}
    for index in own:
        variables[index] = tirx.Var(block.names.fresh("at"), "int64")
        block.analyzer.bind(variables[index], tvm.ir.Range(integer(0), block.size(extent_of(index))))
    flat, _ = Lowering(block, product.buffers, {**product.bound, **variables}).offset(left.tensor, left.children)
    linear = sym.detect_linear_equation(flat, list(variables.values())) if flat is not None else ()
    if not linear:
        return None
    *steps, base = (block.simplify(part) for part in linear)
    return base, dict(zip(own, steps, strict=True))


def stored_left(product: Product) -> Left:
    """The left operand where it lies; offsets of rows at varying distances are tabulated here."""
    block, left, found = product.block, _read(product), _steps(product)
    assert left is not None
    assert found is not None
    base, steps = found
    buffer = product.buffers[left.tensor]
    if in_line(block, product.rows, steps) == len(product.rows):
        return Left(buffer, base, steps, steps[product.rows[-1]])
    count = block.simplify(product.row_tiles * integer(product.tiling.rows))
    table = block.memory(DType.I64, count, "offsets")
    with block.loop(count, "row") as row:
        last = block.size(product.height) - integer(1)
        offset = base
        for index, value in unravel(block, product.rows, block.simplify(tirx.min(row, last))).items():
            offset = offset + value * steps[index]
        block.write(table, row, block.simplify(offset))
    return Left(buffer, integer(0), steps, None, table)


def in_line(block: Block, indices: Sequence[Index], steps: Mapping[Node, Value]) -> int:
    """How many of the last ``indices`` run over the left operand as one number would."""
    count = 1
    while count < len(indices):
        inner, outer = indices[-count], indices[-count - 1]
        whole = steps[inner] * block.size(extent_of(inner))
        if not block.analyzer.can_prove_equal(steps[outer], whole):
            break
        count += 1
    return count


def row_offsets(product: Product, left: Left, tile_row: Value, start: Value) -> list[tuple[Value, Value]]:
    """Per row of a tile, (offset in a register, what to add to it), ``start`` included.

    Rows past the end repeat the last one; they are not stored.
    """
    block, tile = product.block, product.tiling
    first = tile_row * integer(tile.rows)
    if left.table is not None and len(product.rows) > 1:
        line = extent_of(product.rows[-1])
        if isinstance(line, int) and line % tile.rows == 0:
            base = block.let(block.simplify(block.read(left.table, first) + start), DType.I64, "row")
            return [(base, integer(i) * left.steps[product.rows[-1]]) for i in range(tile.rows)]
    offsets: list[tuple[Value, Value]] = []
    for i in range(tile.rows):
        row = block.simplify(first + integer(i))
        if left.table is not None:
            offset = block.read(left.table, row) + start
        else:
            assert left.row_step is not None
            if not product.whole_tiles:
                row = block.simplify(tirx.min(row, block.size(product.height) - integer(1)))
            offset = left.base + row * left.row_step + start
        offsets.append((block.let(block.simplify(offset), DType.I64, "row"), integer(0)))
    return offsets


# Computed rows ----------------------------------------------------------------------------------------
def computed_rows(product: Product, first_tile: Value, tiles: int, terms: Pass) -> Left:
    """The rows of at most ``tiles`` tiles, computed into scratch memory as ``[k][row]``."""
    block, contract, passes = product.block, product.contract, product.passes
    height = tiles * product.tiling.rows
    rows = product.scratch(block.size(passes.depth) * integer(height), "rows")
    first_row = block.simplify(first_tile * integer(product.tiling.rows))
    count = block.simplify(tirx.min(integer(height), block.size(product.height) - first_row))
    row_index = contract.rows[-1] if len(contract.rows) == 1 else None
    if row_index is not None and not passes.within and _along_terms(product, row_index):
        _compute_along_terms(product, row_index, rows, height, first_row, count, terms)
    else:
        _compute_along_rows(product, row_index, rows, height, first_row, count, terms)
    steps: dict[Node, Value] = {}
    step = integer(height)
    for index in reversed((passes.cut, *passes.within)):
        steps[index] = step
        step = step * block.size(extent_of(index))
    return Left(rows, integer(0) - first_row, steps, integer(1), of_pass=True)


def _along_terms(product: Product, row_index: Index) -> bool:
    """Whether what the rows are computed from lies along the terms."""
    block, left, term_index = product.block, product.contract.left, product.contract.inner[-1]
    along = contiguous(block, left, term_index, product.bound)
    return along > contiguous(block, left, row_index, product.bound)


def _compute_along_terms(
    product: Product, row_index: Index, rows: Buffer, height: int, first_row: Value, count: Value, terms: Pass
) -> None:
    block, term_index = product.block, product.contract.inner[-1]
    with block.loop(count, "row") as row:

        def emit(offset: Value, width: int) -> None:
            at = {**terms.outer, row_index: first_row + row, term_index: terms.first + offset}
            value = _value(product, at, term_index, width)
            block.write(rows, offset * integer(height) + row, value, stride=height)

        sweep(block, terms.length, product.tiling.lanes, emit, "k")


def _compute_along_rows(
    product: Product, row_index: Index | None, rows: Buffer, height: int, first_row: Value, count: Value, terms: Pass
) -> None:
    """``row_index``: the only index of rows; None where there are several, which no lanes run along."""
    block, passes = product.block, product.passes
    with ExitStack() as loops:
        cut = loops.enter_context(block.loop(terms.length, "k"))
        inner: dict[Node, Value] = {**terms.outer, passes.cut: terms.first + cut}
        place = cut
        for index in passes.within:
            inner[index] = loops.enter_context(block.loop(extent_of(index), "k"))
            place = place * block.size(extent_of(index)) + inner[index]

        def emit(offset: Value, width: int) -> None:
            row = first_row + offset
            at: dict[Node, Value] = {row_index: row} if row_index is not None else unravel(block, product.rows, row)
            value = _value(product, {**inner, **at}, row_index, width)
            block.write(rows, place * integer(height) + offset, value)

        sweep(block, count, product.tiling.lanes if row_index is not None else 1, emit, "row")


def _value(product: Product, indices: Mapping[Node, Value], lane: Index | None, width: int) -> Value:
    left = product.contract.left
    lowering = Lowering(product.block, product.buffers, {**product.bound, **indices}, lane, width)
    lowering.expect(left)
    value = lowering.vector(left)
    return convert(product.dtype, value) if left.dtype is not product.dtype else value


# Padded images ----------------------------------------------------------------------------------------
def make_room(product: Product) -> None:
    """Scratch memory for a block of padded images, if the left operand takes such: zeros, which stay in the frame."""
    padded, block = product.contract.padded, product.block
    if padded is None:
        return
    size = numel(padded.shape)
    images = product.buffers[padded] = product.scratch(block.size(size), "images")

    def clear(offset: Value, width: int) -> None:
        block.write(images, offset, const(0, product.dtype, width))

    sweep(block, size, product.tiling.lanes, clear, "z")


def stage(product: Product) -> None:
    """Bring the present block of images into the scratch memory."""
    padded = product.contract.padded
    if padded is None:
        return
    where = tuple(
        as_node(index, DType.I64) + before if before else index
        for index, before in zip(padded.indices, padded.before, strict=True)
    )
    definition = Definition(padded, where, padded.body)
    emit_compute(product.block, product.buffers, padded.indices, [definition], product.bound, threads=False)
