"""Sums of products, and what is fused behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .....ir.types import DType, numel
from ...expr import Index, Load, Node, Slot, binary, const, select, substitute
from ...graph import Contract, Padded, TensorDef
from ...kernels.compute import Definition, extent_of, free_indices, store_all
from ...kernels.product import unravel
from ...kit import Buffer, Value, convert
from ...kit import const as constant
from ...lower import Lowering
from ..space import Space


def emit_contract(
    space: Space,
    buffers: Mapping[TensorDef, Buffer],
    contract: Contract,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
) -> None:
    """Store ``definitions`` of every element of a product; they read it as ``result``."""
    block = space.block
    free = free_indices((*contract.batch, *contract.rows, *contract.columns), bound)
    left, right = left_operand(contract), contract.right
    with space.each(block.size(numel(extent_of(index) for index in free))) as number:
        at = {**bound, **unravel(block, free, number)}
        total = block.register(contract.dtype, 1, "total")
        block.put(total, constant(0, contract.dtype))
        with block.loop(block.size(numel(extent_of(index) for index in contract.inner)), "term") as term:
            lowering = Lowering(block, buffers, {**at, **unravel(block, contract.inner, term)})
            lowering.expect(left, right)
            x, y = (convert(contract.dtype, lowering.scalar_or_vector(node)) for node in (left, right))
            block.put(total, block.get(total) + x * y)
        lowering = Lowering(block, buffers, at, slots={result: block.get(total)})
        if contract.valid is None:
            store_all(lowering, definitions)
        else:
            with block.when(lowering.scalar_or_vector(contract.valid)):
                store_all(lowering, definitions)


def left_operand(contract: Contract) -> Node:
    """The left operand as an expression; that of images with a frame is 0 there."""
    padded = contract.padded
    if padded is None:
        return contract.left
    assert isinstance(contract.left, Load)
    return _framed(padded, contract.left.children)


def _framed(padded: Padded, where: Sequence[Node]) -> Node:
    """An element of padded images: that of the image behind it, or 0 in the frame."""
    values: dict[Node, Node] = {}
    inside: list[Node] = []
    for index, before, size, place in zip(padded.indices, padded.before, padded.shape, where, strict=True):
        assert isinstance(index, Index)
        own = values[index] = binary("-", place, const(before, DType.I64))
        if index.extent != size:
            inside += [own >= 0, own < index.extent]
    value = substitute(padded.body, values)
    for condition in inside:
        value = select(condition, value, const(0, value.dtype))
    return value
