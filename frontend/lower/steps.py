"""What the blocks of loops share: running a block in a region, and drawing its dropout masks before the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, TensorType
from ...compiler.ops import random
from ...compiler.ops.construct import OpBuilder
from ..framework import Block
from .context import Frame, MaskOf, OpLowering, Rule
from .creation import source
from .held import Held


def run_block(
    o: OpLowering,
    block: Block,
    b: OpBuilder,
    local: dict[str, Value],
    mask: MaskOf | None = None,
    held: Held | None = None,
    instead: Mapping[int, Rule] | None = None,
) -> None:
    """Lower a block's ops into ``b`` on the values of ``local``, which learns what they write.

    Args:
        o: The op that the block belongs to.
        block: The block.
        b: The region's builder.
        local: Values by name.
        mask: Gives the masks of its dropouts.
        held: Its arrays and tables.
        instead: Rules of single ops, by their ids, in place of those of their types.
    """
    frame = Frame(o.function, block, b, local, mask, held, instead)
    for op in block.ops:
        o.function.lower(op, frame)


def masks_of(o: OpLowering, block: Block, trip: Dim, attempt: Callable[[OpBuilder, MaskOf], None]) -> list[Value]:
    """The masks of a step's dropouts, for all steps on axis 0, in the order in which the step asks for them.

    ``attempt(b, draw)`` lowers a step into a builder that is thrown away: what dropout is applied to is known then.
    """
    if not any(op.type == "dropout" for op in block.ops):
        return []
    masks: list[Value] = []

    def draw(kind: TensorType, p: float, implementation: str) -> Value:
        ones = o.b.fill((trip, *kind.shape), kind.dtype, 1.0)
        how = cast("random.Implementation", implementation)
        masks.append(o.b.emit(random.Dropout(x=ones, p=p, implementation=how, **source(o, 0)))[1])
        return Value(kind)

    attempt(o.b.nested(), draw)
    return masks
