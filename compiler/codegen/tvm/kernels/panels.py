"""The right operand of a product, packed into panels: ``panel[k, column]``, the columns of one register tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from ....ir.types import DType
from ..expr import Index, Node
from ..graph import Contract, TensorDef
from ..kit import Block, Buffer, Value, const, convert, integer, sweep
from ..lower import Lowering
from ..tvm_api import tirx
from .compute import extent_of
from .tiling import Passes, Tiling
from .turn import contiguous, turned


class Panels:
    """Packs one panel of one pass at a time."""

    def __init__(
        self,
        block: Block,
        contract: Contract,
        tiling: Tiling,
        passes: Passes,
        dtype: DType,
        bound: Mapping[Node, Value],
    ) -> None:
        self.block = block
        self.contract = contract
        self.tiling = tiling
        self.passes = passes
        self.dtype = dtype
        along_columns = contiguous(block, contract.right, contract.columns[-1], bound)
        along_inner = contiguous(block, contract.right, contract.inner[-1], bound)
        self.turned = not passes.within and along_inner > along_columns

    def pack(
        self,
        buffers: Mapping[TensorDef, Buffer],
        bound: Mapping[Node, Value],
        first: Value,
        length: Value,
        count: Value,
        target: Buffer,
        base: Value,
    ) -> None:
        """Fill the panel at ``target[base]``, zero beyond its last column.

        Args:
            buffers: Where stored tensors lie.
            bound: Every index but those of the pass; the last column's is the first of the panel.
            first: First value of the cut index.
            length: How many of them.
            count: Columns that there are.
            target: Where the panels lie.
            base: Offset of this one.
        """
        if self.turned:
            self._pack_turned(buffers, bound, first, length, count, target, base)
            return
        block, tile, passes = self.block, self.tiling, self.passes
        column = self.contract.columns[-1]
        with ExitStack() as loops:
            cut = loops.enter_context(block.loop(length, "k"))
            values: dict[Node, Value] = {passes.cut: first + cut}
            position = cut
            for index in passes.within:
                extent = extent_of(index)
                values[index] = loops.enter_context(block.loop(extent, "k"))
                position = position * block.size(extent) + values[index]
            line = block.simplify(base + position * integer(tile.columns))

            def emit(offset: Value, width: int) -> None:
                indices = {**bound, **values, column: bound[column] + offset}
                block.write(target, line + offset, self._value(buffers, indices, column, width))

            sweep(block, count, tile.lanes, emit, "c")
            with block.loop(integer(tile.columns) - count, "c") as c:
                block.write(target, line + count + c, const(0, self.dtype))

    def _pack_turned(
        self,
        buffers: Mapping[TensorDef, Buffer],
        bound: Mapping[Node, Value],
        first: Value,
        length: Value,
        count: Value,
        target: Buffer,
        base: Value,
    ) -> None:
        """Terms lie side by side in memory: squares of lanes x lanes elements are read along them and turned."""
        block, tile, cut = self.block, self.tiling, self.passes.cut
        column, lanes, columns = self.contract.columns[-1], tile.lanes, integer(tile.columns)

        def read(offset: Value, k: Value, width: int) -> Value:
            indices = {**bound, column: bound[column] + offset, cut: first + k}
            return self._value(buffers, indices, cut, width)

        squares = block.simplify(tirx.floordiv(length, integer(lanes)))
        strips = block.simplify(tirx.floordiv(count, integer(lanes)))
        with block.loop(strips, "strip") as strip:
            start = block.simplify(strip * integer(lanes))
            with block.loop(squares, "square") as square:
                k = block.simplify(square * integer(lanes))
                lines = [read(start + integer(i), k, lanes) for i in range(lanes)]
                for i, line in enumerate(turned(block, lines, self.dtype)):
                    block.write(target, base + (k + integer(i)) * columns + start, line)
            rest = block.simplify(squares * integer(lanes))
            with block.loop(length - rest, "k") as k, block.loop(lanes, "c") as c:
                place = base + (rest + k) * columns + start + c
                block.write(target, place, read(start + c, rest + k, 1))
        left = block.simplify(strips * integer(lanes))
        with block.loop(count - left, "c") as c:
            place = base + left + c

            def emit(k: Value, width: int) -> None:
                block.write(target, place + k * columns, read(left + c, k, width), stride=tile.columns)

            sweep(block, length, lanes, emit, "k")
        with block.loop(columns - count, "c") as c, block.loop(length, "k") as k:
            block.write(target, base + k * columns + count + c, const(0, self.dtype))

    def _value(
        self, buffers: Mapping[TensorDef, Buffer], indices: Mapping[Node, Value], lane: Index, width: int
    ) -> Value:
        lowering = Lowering(self.block, buffers, indices, lane, width)
        lowering.expect(self.contract.right)
        value = lowering.vector(self.contract.right)
        return convert(self.dtype, value) if self.contract.right.dtype is not self.dtype else value


def unravel(block: Block, indices: Sequence[Index], flat: Value) -> dict[Node, Value]:
    """Values of ``indices`` at number ``flat`` of their row-major product."""
    found: dict[Node, Value] = {}
    for index in reversed(indices):
        extent = block.size(extent_of(index))
        found[index] = block.simplify(flat if index is indices[0] else tirx.floormod(flat, extent))
        flat = tirx.floordiv(flat, extent)
    return found
