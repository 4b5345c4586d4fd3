"""The right operand of a product, packed into panels: ``panel[k, column]``, the columns of one register tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from ..expr import Index, Node
from ..kit import Value, const, convert, integer, sweep
from ..lower import Lowering
from ..tvm_api import tirx
from .compute import extent_of
from .product import Pass, Place, Product, unravel
from .turn import contiguous, turned


@dataclass(frozen=True)
class Panels:
    """The panels that a task packs: ``count`` of them from number ``first`` on, ``most`` being the most of any task.

    With ``turned``, terms lie side by side in memory, not columns.
    """

    product: Product
    first: Value
    count: Value
    most: Value
    turned: bool

    def pack(self, terms: Pass, target: Place) -> None:
        """Fill the task's panels of one pass, one behind the other, with zeros beyond the last column."""
        product, block = self.product, self.product.block
        with block.loop(self.count, "panel") as panel:
            outer, start = columns_of(product, self.first + panel)
            place = Place(target.buffer, block.simplify(target.offset + panel * product.panel_size))
            at = {**product.bound, **terms.outer, **outer, product.contract.columns[-1]: start}
            emit = self._pack_turned if self.turned else self._pack
            by_width(product, start, lambda count: emit(at, terms, _value(count), place))

    def _pack(self, bound: Mapping[Node, Value], terms: Pass, count: Value, target: Place) -> None:
        """A panel of ``count`` columns; ``bound`` has the first of them."""
        product, block, tile = self.product, self.product.block, self.product.tiling
        column = product.contract.columns[-1]
        with ExitStack() as loops:
            cut = loops.enter_context(block.loop(terms.length, "k"))
            values: dict[Node, Value] = {product.passes.cut: terms.first + cut}
            position = cut
            for index in product.passes.within:
                extent = extent_of(index)
                values[index] = loops.enter_context(block.loop(extent, "k"))
                position = position * block.size(extent) + values[index]
            line = block.simplify(target.offset + position * integer(tile.columns))

            def emit(offset: Value, width: int) -> None:
                indices = {**bound, **values, column: bound[column] + offset}
                block.write(target.buffer, line + offset, self._element(indices, column, width))

            sweep(block, count, tile.lanes, emit, "c")
            with block.loop(integer(tile.columns) - count, "c") as c:
                block.write(target.buffer, line + count + c, const(0, product.dtype))

    def _pack_turned(self, bound: Mapping[Node, Value], terms: Pass, count: Value, target: Place) -> None:
        """As ``_pack``: squares of lanes x lanes elements are read along the terms and turned."""
        product, block, tile = self.product, self.product.block, self.product.tiling
        column, cut = product.contract.columns[-1], product.passes.cut
        lanes, columns, length = tile.lanes, integer(tile.columns), terms.length

        def read(offset: Value, k: Value, width: int) -> Value:
            return self._element({**bound, column: bound[column] + offset, cut: terms.first + k}, cut, width)

        squares = block.simplify(tirx.floordiv(length, integer(lanes)))
        strips = block.simplify(tirx.floordiv(count, integer(lanes)))
        with block.loop(strips, "strip") as strip:
            start = block.simplify(strip * integer(lanes))
            with block.loop(squares, "square") as square:
                k = block.simplify(square * integer(lanes))
                lines = [read(start + integer(i), k, lanes) for i in range(lanes)]
                for i, line in enumerate(turned(block, lines, product.dtype)):
                    block.write(target.buffer, target.offset + (k + integer(i)) * columns + start, line)
            rest = block.simplify(squares * integer(lanes))
            with block.loop(length - rest, "k") as k, block.loop(lanes, "c") as c:
                place = target.offset + (rest + k) * columns + start + c
                block.write(target.buffer, place, read(start + c, rest + k, 1))
        left = block.simplify(strips * integer(lanes))
        with block.loop(count - left, "c") as c:
            place = target.offset + left + c

            def emit(k: Value, width: int) -> None:
                block.write(target.buffer, place + k * columns, read(left + c, k, width), stride=tile.columns)

            sweep(block, length, lanes, emit, "k")
        with block.loop(columns - count, "c") as c, block.loop(length, "k") as k:
            block.write(target.buffer, target.offset + k * columns + count + c, const(0, product.dtype))

    def _element(self, indices: Mapping[Node, Value], lane: Index, width: int) -> Value:
        product, right = self.product, self.product.contract.right
        lowering = Lowering(product.block, product.buffers, indices, lane, width)
        lowering.expect(right)
        value = lowering.vector(right)
        return convert(product.dtype, value) if right.dtype is not product.dtype else value


def terms_lie_in_line(product: Product) -> bool:
    """Whether the right operand lies along the terms rather than along the columns."""
    block, contract, bound = product.block, product.contract, product.bound
    along_columns = contiguous(block, contract.right, contract.columns[-1], bound)
    along_terms = contiguous(block, contract.right, contract.inner[-1], bound)
    return not product.passes.within and along_terms > along_columns


def columns_of(product: Product, panel: Value) -> tuple[dict[Node, Value], Value]:
    """Values of the outer column indices in panel number ``panel``, and its first innermost column."""
    block, per_line = product.block, product.panels_per_line
    line = tirx.floordiv(panel, per_line)
    start = tirx.floormod(panel, per_line) * integer(product.tiling.columns)
    return unravel(block, product.contract.columns[:-1], line), block.simplify(start)


def by_width(product: Product, start: Value, emit: Callable[[int | Value], None]) -> None:
    """``emit(columns)`` for the panel that begins at column ``start``: a fixed number where the size is fixed."""
    block, columns, width = product.block, product.tiling.columns, product.width
    if not isinstance(width, int):
        emit(block.simplify(tirx.min(integer(columns), block.size(width) - start)))
        return
    rest = width % columns
    if not rest or width < columns:
        emit(rest or columns)
        return
    whole = start < integer(width - rest)
    with block.when(whole):
        emit(columns)
    with block.otherwise(whole):
        emit(rest)


def _value(count: int | Value) -> Value:
    return integer(count) if isinstance(count, int) else count
