"""Elements computed one by one, each by a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .....ir.types import numel
from ...expr import Index, Node, load
from ...graph import TensorDef
from ...kernels.compute import Definition, extent_guess, extent_of, free_indices, in_memory_order, is_flat, store_all
from ...kernels.product import unravel
from ...kit import Buffer, Value, integer
from ...lower import Lowering
from ...tvm_api import tirx
from ..access import coalescing
from ..device import DeviceBlock
from ..space import Space

LEAST_WIDTH = 8
"""Extent from which neighbouring threads may differ in a loop variable."""


def emit_compute(
    space: Space,
    buffers: Mapping[TensorDef, Buffer],
    indices: tuple[Node, ...],
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
) -> None:
    """Store all ``definitions`` for every value of ``indices`` (those not in ``bound``).

    All values of an element are computed before any is stored, so a tensor may be updated in place.
    """
    block = space.block
    made = definitions[0].tensor
    free = free_indices(in_memory_order(indices, made), bound)
    count = block.size(numel(extent_of(index) for index in free))
    if isinstance(count, tirx.IntImm) and int(count.value) == 0:
        return
    flat = is_flat(indices, definitions)
    order = free if flat else _side_by_side(block, free, definitions, bound)
    with space.each(count) as number:
        if flat:
            zeros = [bound.get(index, integer(0)) for index in indices]
            lowering = Lowering(block, buffers, bound)
            lowering.identity = indices, block.simplify(block.flatten(zeros, made.shape, made.layout) + number)
        else:
            lowering = Lowering(block, buffers, {**bound, **unravel(block, order, number)})
        store_all(lowering, definitions)


def _side_by_side(
    block: DeviceBlock, free: tuple[Index, ...], definitions: Sequence[Definition], bound: Mapping[Node, Value]
) -> tuple[Index, ...]:
    """Loop variables, last the one that most reads and stores lie along: neighbouring threads differ in it."""
    values = [definition.value for definition in definitions]
    stores = [load(definition.tensor, definition.where) for definition in definitions]

    def score(along: Index) -> int:
        return coalescing(block, [*values, *stores], along, bound)

    wide = [along for along in free if extent_guess(extent_of(along)) >= LEAST_WIDTH]
    if len(free) < 2 or not wide:
        return free
    best = max(reversed(wide), key=score)
    if best is free[-1] or score(best) <= score(free[-1]) + 1:
        return free
    return (*(along for along in free if along is not best), best)
