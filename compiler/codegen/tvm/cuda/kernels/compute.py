"""Elements computed one by one, each by a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .....ir.types import numel
from ...expr import Node
from ...graph import TensorDef
from ...kernels.compute import Definition, extent_of, free_indices, in_memory_order, is_flat, store_all
from ...kernels.product import unravel
from ...kit import Buffer, Value, integer
from ...lower import Lowering
from ...tvm_api import tirx
from ..space import Space


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
    with space.each(count) as number:
        if is_flat(indices, definitions):
            zeros = [bound.get(index, integer(0)) for index in indices]
            lowering = Lowering(block, buffers, bound)
            lowering.identity = indices, block.simplify(block.flatten(zeros, made.shape, made.layout) + number)
        else:
            lowering = Lowering(block, buffers, {**bound, **unravel(block, free, number)})
        store_all(lowering, definitions)
