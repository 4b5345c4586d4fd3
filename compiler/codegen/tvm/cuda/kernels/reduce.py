"""Reductions: results side by side in a team of threads, each result taken by one thread or by several.

Where results are few and terms many, teams take parts of the terms, and a second launch joins what they found.  Terms
are joined in an order that depends on nothing but sizes: results are the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .....ir.types import Dim, DType, numel
from ...expr import Index, Node
from ...graph import TensorDef
from ...kernels.combine import Combine
from ...kernels.compute import Definition, extent_guess, extent_of, free_indices, in_memory_order, store_all
from ...kernels.product import unravel
from ...kernels.reduce import Sums
from ...kit import TVM_NAMES, Buffer, Value, convert, integer
from ...lower import Lowering
from ...tvm_api import tirx
from ..access import by_stride, coalescing
from ..device import BLOCKS_WANTED, WARP, DeviceBlock
from ..space import Space, Team

FEW_TERMS = 8
"""Terms that one thread adds up where they lie side by side."""
FEW_ROWS_OF_TERMS = 32
"""Terms that one thread adds up where its neighbours read what lies beside them."""
TERMS_OF_WARP = 1024
"""Terms up to which a warp is enough for a result."""
TERMS_OF_THREAD = 32
"""Terms of a thread from which others may take some of them."""

Terms = Callable[[Mapping[Node, Value], Value, Value], list[Value]]
"""The terms, one per reduction, of the result at these indices, with this number; and the term's number."""


@dataclass(frozen=True)
class Layout:
    """How the threads of a team are shared out.

    Attributes:
        results: Results that a team takes at a time.
        lanes: Threads of one result.
        across: Whether neighbouring threads have neighbouring results (else neighbouring terms of one).
    """

    results: int
    lanes: int
    across: bool


def choose_layout(results: int, terms: int, across: bool, threads: int) -> Layout:
    """The layout for so many results of so many terms each; ``across`` where results lie side by side."""
    across = across and results > 1
    if terms <= (FEW_ROWS_OF_TERMS if across else FEW_TERMS):
        return Layout(threads, 1, True)
    if across:
        if results >= BLOCKS_WANTED * 8 * threads:
            return Layout(threads, 1, True)
        beside = min(_power(results), WARP)
        return Layout(beside, threads // beside, True)
    if terms <= 2 * FEW_TERMS:
        lanes = FEW_TERMS
    elif terms <= TERMS_OF_WARP or results >= 64 * BLOCKS_WANTED:
        lanes = WARP
    else:
        lanes = threads
    return Layout(threads // lanes, lanes, False)


def _power(count: int) -> int:
    """The power of two that is not below a number."""
    return 1 << max(count - 1, 0).bit_length()


@dataclass(frozen=True)
class ReductionPlan:
    """How reductions are shared out.

    Attributes:
        free: Loop variables of the results, in the order they lie in memory.
        reduced: Those of the terms, likewise.
        results: How many there are.
        terms: How many each has.
        layout: Of a team.
        parts: Into which the terms are cut, for teams of their own.
    """

    free: tuple[Index, ...]
    reduced: tuple[Index, ...]
    results: Dim
    terms: Dim
    layout: Layout
    parts: int


def plan_reduction(
    block: DeviceBlock, sums: Sums, definitions: Sequence[Definition], bound: Mapping[Node, Value], threads: int
) -> ReductionPlan:
    """How to reduce for every index not in ``bound``, by teams of ``threads`` threads."""
    free = free_indices(in_memory_order(sums.indices, definitions[0].tensor), bound)
    reduced = by_stride(block, sums.bodies, sums.reduced, bound)
    across = bool(free) and coalescing(block, sums.bodies, free[-1], bound) > coalescing(
        block, sums.bodies, reduced[-1], bound
    )
    results, terms = numel(extent_of(index) for index in free), numel(extent_of(index) for index in reduced)
    layout = choose_layout(extent_guess(results), extent_guess(terms), across, threads)
    return ReductionPlan(
        free, reduced, results, terms, layout, _parts(layout, extent_guess(results), extent_guess(terms))
    )


def emit_reduce(
    space: Space,
    buffers: Mapping[TensorDef, Buffer],
    sums: Sums,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
) -> None:
    """Reduce for every index not in ``bound`` and store ``definitions``, which read the results."""
    block = space.block
    plan = plan_reduction(block, sums, definitions, bound, space.widest)
    free, reduced, layout = plan.free, plan.reduced, plan.layout
    combines = [Combine(block, part.kind, part.accumulate) for part in sums.parts]

    def terms(at: Mapping[Node, Value], _number: Value, term: Value) -> list[Value]:
        lowering = Lowering(block, buffers, {**at, **unravel(block, reduced, term)})
        lowering.expect(*sums.bodies)
        return [c.term(lowering.scalar_or_vector(body)) for c, body in zip(combines, sums.bodies, strict=True)]

    def finish(at: Mapping[Node, Value], _number: Value, totals: Sequence[Value]) -> None:
        found = [combine.result(total) for combine, total in zip(combines, totals, strict=True)]
        slots: dict[Node, Value] = dict(zip(sums.results, found, strict=True))
        store_all(Lowering(block, buffers, at, slots=slots), definitions)

    size = plan.results, plan.terms
    results, count = block.size(size[0]), block.size(size[1])
    if size[0] == 0:
        return
    work = _Reduction(block, combines, free, bound, results)
    parts = plan.parts if space.alone else 1
    if parts == 1:
        work.run(space, layout, 1, count, terms, lambda at, number, _part, totals: finish(at, number, totals))
        return
    beside = extent_guess(size[0]) >= WARP
    rooms = [block.room(c.dtype, (parts, size[0]) if beside else (size[0], parts), "parts")[1] for c in combines]

    def place(number: Value, part: Value) -> Value:
        return block.simplify(part * results + number if beside else number * integer(parts) + part)

    def keep(_at: Mapping[Node, Value], number: Value, part: Value, totals: Sequence[Value]) -> None:
        for room, total in zip(rooms, totals, strict=True):
            block.write(room, place(number, part), total)

    work.run(space, layout, parts, count, terms, keep)
    joined = choose_layout(extent_guess(size[0]), parts, beside, space.widest)

    def kept(_at: Mapping[Node, Value], number: Value, part: Value) -> list[Value]:
        return [block.read(room, place(number, part)) for room in rooms]

    work.run(space, joined, 1, integer(parts), kept, lambda at, number, _part, totals: finish(at, number, totals))


def _parts(layout: Layout, results: int, terms: int) -> int:
    """Into how many parts the terms are cut, so that there are teams for the whole device."""
    teams = -(-results // layout.results)
    turns = -(-terms // layout.lanes)
    if teams >= BLOCKS_WANTED or turns <= 2 * TERMS_OF_THREAD:
        return 1
    return min(-(-turns // TERMS_OF_THREAD), -(-2 * BLOCKS_WANTED // teams))


@dataclass(frozen=True)
class _Reduction:
    block: DeviceBlock
    combines: Sequence[Combine]
    free: tuple[Index, ...]
    bound: Mapping[Node, Value]
    results: Value

    def run(
        self,
        space: Space,
        layout: Layout,
        parts: int,
        count: Value,
        terms: Terms,
        finish: Callable[[Mapping[Node, Value], Value, Value, Sequence[Value]], None],
    ) -> None:
        """Join ``count`` terms of each result, a part of them in each team, and hand on the totals."""
        block = self.block
        beside = integer(layout.results)
        tiles = block.simplify(tirx.floordiv(self.results + beside - integer(1), beside))
        chunk = block.simplify(tirx.floordiv(count + integer(parts - 1), integer(parts)))
        with space.tiles(block.simplify(tiles * integer(parts))) as (number, team):
            part = block.simplify(tirx.floordiv(number, tiles)) if parts > 1 else integer(0)
            tile = block.simplify(number - part * tiles)
            fast, slow = integer(layout.results if layout.across else layout.lanes), team.thread
            low, high = block.simplify(tirx.floormod(slow, fast)), block.simplify(tirx.floordiv(slow, fast))
            own, lane = (low, high) if layout.across else (high, low)
            result = block.simplify(tile * beside + own)
            inside = block.simplify(result < self.results)
            at = {**self.bound, **unravel(block, self.free, result)}
            first = block.simplify(part * chunk)
            some = block.simplify(tirx.max(tirx.min(chunk, count - first), integer(0))) if parts > 1 else count
            lanes = integer(layout.lanes)
            turns = block.simplify(tirx.floordiv(some - lane + lanes - integer(1), lanes))
            totals = [block.register(combine.dtype, 1, "total") for combine in self.combines]
            for combine, total in zip(self.combines, totals, strict=True):
                block.put(total, combine.start(1))
            if not (isinstance(count, tirx.IntImm) and int(count.value) == 0):
                with block.when(inside), block.loop(turns, "term") as turn:
                    values = terms(at, result, block.simplify(first + turn * lanes + lane))
                    for combine, total, value in zip(self.combines, totals, values, strict=True):
                        block.put(total, combine.join(block.get(total), value))
            for combine, total in zip(self.combines, totals, strict=True):
                self._join(team, layout, combine, total, own)
            with block.when(tirx.And(inside, tirx.EQ(lane, integer(0)))):
                finish(at, result, part, [block.get(total) for total in totals])

    def _join(self, team: Team, layout: Layout, combine: Combine, total: Buffer, own: Value) -> None:
        """The totals of all threads of a result, in each of them."""
        if layout.lanes == 1:
            return
        if layout.across and layout.results < WARP and layout.results * layout.lanes <= WARP:
            self._exchange(combine, total, layout.results, WARP // layout.results)
        elif layout.across:
            self._collect(team, combine, total, team.thread, own, layout.lanes, layout.results)
        else:
            self._exchange(combine, total, 1, min(layout.lanes, WARP))
            if layout.lanes > WARP:
                warp = self.block.simplify(tirx.floordiv(team.thread, integer(WARP)))
                first = self.block.simplify(own * integer(layout.lanes // WARP))
                self._collect(team, combine, total, warp, first, layout.lanes // WARP, 1)

    def _exchange(self, combine: Combine, total: Buffer, distance: int, lanes: int) -> None:
        """Join the totals of ``lanes`` threads of a warp that are ``distance`` apart, by halves."""
        block = self.block
        narrow = combine.dtype in (DType.I8, DType.U8, DType.F16, DType.BF16)
        wide = DType.F32 if combine.dtype.is_float else DType.I32
        while lanes > 1:
            lanes //= 2
            mine = block.get(total)
            if narrow:
                other = tirx.Cast(TVM_NAMES[combine.dtype], block.exchange(convert(wide, mine), wide, lanes * distance))
            else:
                other = block.exchange(mine, combine.dtype, lanes * distance)
            block.put(total, combine.join(mine, other))

    def _collect(
        self, team: Team, combine: Combine, total: Buffer, mine: Value, first: Value, count: int, step: int
    ) -> None:
        """Join ``count`` totals that lie ``step`` apart in shared memory, where each thread has put its
        own (step 1: the first thread of each warp)."""
        block, of_warps = self.block, step == 1
        assert team.slots == 1
        shared = block.reused(combine.dtype, team.threads // (WARP if of_warps else 1))
        lane = block.simplify(tirx.floormod(team.thread, integer(WARP)))
        with block.when(tirx.EQ(lane, integer(0)) if of_warps else tirx.const(True, "bool")):
            block.write(shared, mine, block.get(total))
        team.sync()
        block.put(total, block.read(shared, first))
        with block.loop(count - 1, "lane") as lane:
            value = block.read(shared, block.simplify(first + (lane + integer(1)) * integer(step)))
            block.put(total, combine.join(block.get(total), value))
        team.sync()
