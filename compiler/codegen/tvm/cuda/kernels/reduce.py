"""Reductions: a thread per result where there are many, else a team of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .....ir.types import numel
from ...expr import Node
from ...graph import TensorDef
from ...kernels.combine import Combine
from ...kernels.compute import Definition, extent_guess, extent_of, free_indices, in_memory_order, store_all
from ...kernels.product import unravel
from ...kernels.reduce import Sums
from ...kit import Buffer, Value, integer
from ...lower import Lowering
from ...tvm_api import tirx
from ..device import THREADS
from ..space import Space, Team


def emit_reduce(
    space: Space,
    buffers: Mapping[TensorDef, Buffer],
    sums: Sums,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
) -> None:
    """Reduce for every index not in ``bound`` and store ``definitions``, which read the results."""
    block = space.block
    free = free_indices(in_memory_order(sums.indices, definitions[0].tensor), bound)
    results, terms = numel(extent_of(i) for i in free), numel(extent_of(i) for i in sums.reduced)
    work = _Reduction(buffers, sums, definitions)
    if extent_guess(terms) <= 32:
        with space.each(block.size(results)) as number:
            at = {**bound, **unravel(block, free, number)}
            totals = work.totals(space, at, integer(0), block.size(terms), 1)
            work.finish(space, at, totals)
        return
    with space.teams(block.size(results), THREADS) as (number, team):
        at = {**bound, **unravel(block, free, number)}
        totals = work.together(team, work.totals(team, at, team.thread, block.size(terms), team.threads))
        with block.when(tirx.EQ(team.thread, integer(0))):
            work.finish(team, at, totals)
        block.sync()


class _Reduction:
    def __init__(self, buffers: Mapping[TensorDef, Buffer], sums: Sums, definitions: Sequence[Definition]) -> None:
        self.buffers = buffers
        self.sums = sums
        self.definitions = definitions

    def totals(self, space: Space, at: Mapping[Node, Value], first: Value, terms: Value, step: int) -> list[Buffer]:
        """Registers with the combined terms ``first``, ``first + step``, ..."""
        block = space.block
        combines = [Combine(block, part.kind, part.accumulate) for part in self.sums.parts]
        totals = [block.register(combine.dtype, 1, "total") for combine in combines]
        for combine, total in zip(combines, totals, strict=True):
            block.put(total, combine.start(1))
        count = block.simplify(tirx.floordiv(terms - first + integer(step - 1), integer(step)))
        with block.loop(count, "term") as turn:
            number = block.simplify(first + turn * integer(step))
            lowering = Lowering(block, self.buffers, {**at, **unravel(block, self.sums.reduced, number)})
            lowering.expect(*self.sums.bodies)
            for combine, total, body in zip(combines, totals, self.sums.bodies, strict=True):
                term = combine.term(lowering.scalar_or_vector(body))
                block.put(total, combine.join(block.get(total), term))
        return totals

    def together(self, team: Team, totals: Sequence[Buffer]) -> list[Buffer]:
        """The totals of all threads combined, in a fixed tree order; right in the first thread."""
        block = team.block
        for part, total in zip(self.sums.parts, totals, strict=True):
            combine = Combine(block, part.kind, part.accumulate)
            shared = block.shared(combine.dtype, team.threads)
            block.write(shared, team.thread, block.get(total))
            block.sync()
            half = team.threads // 2
            while half:
                with block.when(team.thread < integer(half)):
                    low, high = block.read(shared, team.thread), block.read(shared, team.thread + integer(half))
                    block.write(shared, team.thread, block.let(combine.join(low, high), combine.dtype))
                block.sync()
                half //= 2
            block.put(total, block.read(shared, integer(0)))
        return list(totals)

    def finish(self, space: Space, at: Mapping[Node, Value], totals: Sequence[Buffer]) -> None:
        block = space.block
        slots: dict[Node, Value] = {}
        for part, result, total in zip(self.sums.parts, self.sums.results, totals, strict=True):
            slots[result] = Combine(block, part.kind, part.accumulate).result(block.get(total))
        store_all(Lowering(block, self.buffers, at, slots=slots), self.definitions)
