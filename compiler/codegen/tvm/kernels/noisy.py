"""Elements with noise in them: a task makes the normals of its rows, then stores the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..expr import Index, Node
from ..graph import StreamTile, TensorDef
from ..kit import Block, Buffer, Value, integer
from ..tvm_api import tirx
from .chacha import emit_stream_tile
from .compute import Definition, emit_compute, extent_guess, extent_of

TASK = 4096
"""Elements of a task: their normals fit the first-level cache."""


def emit_noisy_compute(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    indices: tuple[Node, ...],
    definitions: Sequence[Definition],
    noise: StreamTile,
    threads: bool,
) -> None:
    """As ``emit_compute``, task by task along the first index."""
    loops = [index for index in indices if isinstance(index, Index)]
    rows, row = extent_guess(extent_of(loops[0])), 1
    for index in loops[1:]:
        row *= extent_guess(extent_of(index))
    per_task = max(1, TASK // row)
    with block.loop(-(-rows // per_task), "task", parallel=threads) as task:
        start = block.simplify(task * integer(per_task))
        count = block.simplify(tirx.min(integer(per_task), integer(rows) - start))
        size = integer(row)
        made, first = emit_stream_tile(
            block, buffers, noise, start * size, count * size, per_task * row, tirx.const(True, "bool")
        )
        with block.loop(count, "row") as number:
            bound: dict[Node, Value] = {loops[0]: start + number, noise.first: first}
            emit_compute(block, {**buffers, noise.made: made}, indices, definitions, bound, threads=False)
