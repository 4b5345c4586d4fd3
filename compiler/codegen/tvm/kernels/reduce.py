"""Reductions with vector accumulators.

Where the last reduced index runs along memory, lanes hold parts of one sum and are added up at the end (a *row*
reduction); where the last index of the result does, each lane is a sum of its own (a *column* reduction).  Long sums
are taken in two levels, which keeps the rounding error of float32 small.  Where the result has too few elements to
share out, threads take parts of the sums, and the parts are added up in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

from ....ir.types import Dim, Shape, numel
from ..expr import Index, Node, Slot, loads, walk
from ..graph import Reduce, TensorDef
from ..kit import LEAST_PART, Block, Buffer, Value, broadcast, integer, sweep
from ..lower import Lowering
from ..tvm_api import sym, tirx
from .combine import Combine
from .compute import (
    Definition,
    cost,
    extent_guess,
    extent_of,
    free_indices,
    free_of_loads,
    in_memory_order,
    store_all,
    worth_threads,
)
from .turn import contiguous

SEGMENT = 2048
"""Terms that one accumulator takes before it is added to the total."""
LARGEST_STRIP = 512
LEAST_STRIP = 64
"""Columns that a strip of sums kept in the first-level cache has at most, and at least."""
CHEAP = 8
"""Operations of an element up to which several accumulators are worth their code."""

Finish: TypeAlias = Callable[[Sequence[Value], Mapping[Node, Value], "Index | None", int], None]
"""Takes the accumulators of one element (or of the lanes from ``Index`` on), and the loop variables."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Reductions over the same indices, taken together; ``results`` are what definitions read."""

    parts: tuple[Reduce, ...]
    results: tuple[Slot, ...]

    @property
    def indices(self) -> tuple[Node, ...]:
        return self.parts[0].indices

    @property
    def reduced(self) -> tuple[Index, ...]:
        return self.parts[0].reduced

    @property
    def bodies(self) -> list[Node]:
        return [part.body for part in self.parts]


def emit_reduce(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    sums: Sums,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    threads: bool,
) -> None:
    """Reduce for every index not in ``bound`` and store ``definitions``, which read the results."""
    order = in_memory_order(sums.indices, definitions[0].tensor)
    sums = _along_memory(block, sums, bound)
    merged = _merged(block, sums, definitions, bound, order)
    bound = {**bound, **dict.fromkeys(merged.hidden, integer(0))}
    free = free_indices(order, bound)
    shape: Shape = tuple(extent_of(i) for i in (*free_indices(sums.indices, {}), *sums.reduced))
    threads = threads and worth_threads(shape, cost(*sums.bodies) + len(sums.parts))
    columns = _lanes_run_along(block, sums, free, bound)
    emission = _Emission(block, buffers, sums, merged, free, columns)

    def finish(totals: Sequence[Value], indices: Mapping[Node, Value], lane: Index | None, lanes: int) -> None:
        values = [emission.combines[i].result(total) for i, total in enumerate(totals)]
        slots: dict[Node, Value] = dict(zip(sums.results, values, strict=True))
        store_all(Lowering(block, buffers, indices, lane, lanes, slots), definitions)

    if threads and emission.too_few():
        emission.split(bound, finish)
    else:
        emission.run(bound, threads, finish)


def _along_memory(block: Block, sums: Sums, bound: Mapping[Node, Value]) -> Sums:
    """The same sums, the reduced index that suits lanes best innermost."""

    def score(index: Index) -> int:
        return sum(contiguous(block, body, index, bound) for body in sums.bodies)

    *others, last = sums.reduced
    best = max(others, key=score, default=last)
    if score(best) <= score(last):
        return sums
    reduced = (*(index for index in sums.reduced if index is not best), best)
    return Sums(tuple(replace(part, reduced=reduced) for part in sums.parts), sums.results)


@dataclass(frozen=True)
class _Merged:
    """Trailing indices whose elements lie in one line: the last of them runs over all, the ``hidden`` stay at 0."""

    hidden: frozenset[Index]
    extents: Mapping[Index, int]

    def extent_of(self, index: Index) -> Dim:
        return self.extents.get(index, extent_of(index))


def _merged(
    block: Block, sums: Sums, definitions: Sequence[Definition], bound: Mapping[Node, Value], order: Sequence[Node]
) -> _Merged:
    """What may be merged among the result's indices, and among the reduced ones."""
    hidden: set[Index] = set()
    extents: dict[Index, int] = {}
    values = [*sums.bodies, *(definition.value for definition in definitions)]
    places = [(definition.tensor, definition.where) for definition in definitions]
    places += [(read.tensor, read.children) for read in loads(*values)]
    for indices in (free_indices(order, bound), sums.reduced):
        for count in range(len(indices), 1, -1):
            group = indices[-count:]
            sizes = [extent_of(index) for index in group]
            whole = [size for size in sizes if isinstance(size, int)]
            if len(whole) == count and _in_line(block, values, places, group, whole):
                hidden.update(group[:-1])
                extents[group[-1]] = prod(whole)
                break
    return _Merged(frozenset(hidden), extents)


def _in_line(
    block: Block,
    roots: Sequence[Node],
    places: Sequence[tuple[TensorDef, tuple[Node, ...]]],
    group: Sequence[Index],
    sizes: Sequence[int],
) -> bool:
    """Whether every access depends on ``group`` as on one row-major number, and nothing else depends on it."""
    if free_of_loads(roots) & set(group):
        return False
    for tensor, position in places:
        if any(loads(index) for index in position):
            if any(part in group for index in position for part in walk(index)):
                return False
            continue
        every: dict[Node, Value] = {
            node: tirx.Var(block.names.fresh("probe"), "int64")
            for index in position
            for node in walk(index)
            if isinstance(node, Index)
        }
        flat, _ = Lowering(block, {}, every).offset(tensor, position)
        steps = sym.detect_linear_equation(flat, [every[index] for index in group if index in every])
        if not steps:
            return False
        step = dict(zip([index for index in group if index in every], steps, strict=False))
        zero = integer(0)
        unit = step.get(group[-1], zero)
        for number, index in enumerate(group):
            expected = unit * integer(prod(sizes[number + 1 :]))
            if not block.analyzer.can_prove_equal(step.get(index, zero), expected):
                return False
    return True


def _registers(extent: Dim, lanes: int, per_element: int) -> int:
    """How many vector registers one accumulator spans: several hide the latency of the addition, and use whole
    cache lines.  A dear element keeps the processor busy by itself."""
    if not isinstance(extent, int) or per_element > CHEAP:
        return 1
    exact = [count for count in (4, 2) if extent % (count * lanes) == 0]
    return exact[0] if exact else 4 if extent >= 64 * lanes else 1


def _strip(extent: Dim, lanes: int, parts: int) -> int:
    """How many columns are summed side by side in memory; 0 where too few lie next to each other.

    A register's width of columns takes two cache lines of every row, from a page of its own where rows are long.
    """
    if not isinstance(extent, int) or extent < LEAST_STRIP:
        return 0
    wanted = max(min(LARGEST_STRIP, extent // parts), LEAST_STRIP)
    whole = [width for width in range(wanted, LEAST_STRIP // 2, -1) if extent % width == 0 and width % lanes == 0]
    return whole[0] if whole else wanted // lanes * lanes


def _lanes_run_along(block: Block, sums: Sums, free: Sequence[Index], bound: Mapping[Node, Value]) -> bool:
    """Whether lanes should run along the result's last index (True) or the last reduced one (False)."""
    if not free:
        return False

    def score(index: Index) -> int:
        return sum(contiguous(block, body, index, bound) for body in sums.bodies)

    return score(free[-1]) > score(sums.reduced[-1])


class _Emission:
    """The loops of one nest.  ``free`` are the result's indices that need a loop; with ``columns`` lanes run along
    the last of them, else along the last reduced index."""

    def __init__(
        self,
        block: Block,
        buffers: Mapping[TensorDef, Buffer],
        sums: Sums,
        merged: _Merged,
        free: Sequence[Index],
        columns: bool,
    ) -> None:
        self.block = block
        self.buffers = buffers
        self.sums = sums
        self.merged = merged
        self.free = free
        self.columns = columns
        self.combines = [Combine(block, part.kind, part.accumulate) for part in sums.parts]
        self.per_element = cost(*sums.bodies) + len(sums.parts)
        self.reduced = [index for index in sums.reduced if index not in merged.hidden]
        # The outermost reduced loop, and where it starts and how far it runs.
        self.start: Value = integer(0)
        self.count: Value = block.size(merged.extent_of(self.reduced[0]))

    # Threads ------------------------------------------------------------------------------------------
    def too_few(self) -> bool:
        """Whether the loop that threads would share has fewer trips than there are threads."""
        loops = self.free[:-1] if self.columns else self.free
        shared = next((extent for index in loops if (extent := self.merged.extent_of(index)) != 1), 1)
        if self.columns and all(self.merged.extent_of(index) == 1 for index in loops):
            last = extent_guess(self.merged.extent_of(self.free[-1]))
            shared = last // max(LEAST_STRIP, self.block.host.lanes)
        return extent_guess(shared) < self.block.host.threads

    def split(self, bound: Mapping[Node, Value], finish: Finish) -> None:
        """Threads take parts of the outermost reduced loop; what they found is added up in order."""
        block, parts = self.block, self.block.host.threads
        extents = [self.merged.extent_of(index) for index in self.free]
        strides = block.strides(tuple(extents))
        size = block.size(numel(extents))
        held = [block.workspace(c.dtype, block.simplify(size * integer(parts)), "parts") for c in self.combines]
        whole = self.count
        step = block.simplify(tirx.floordiv(whole + integer(parts - 1), integer(parts)))
        grain = integer(block.host.lanes)
        step = block.simplify(tirx.floordiv(step + grain - integer(1), grain) * grain)

        def place(indices: Mapping[Node, Value], part: Value) -> Value:
            flat = part * size
            for index, stride in zip(self.free, strides, strict=True):
                flat = flat + indices[index] * stride
            return block.simplify(flat)

        with block.loop(parts, "part", parallel=True) as part:
            self.start = block.simplify(part * step)
            self.count = block.simplify(tirx.max(tirx.min(step, whole - self.start), integer(0)))

            def keep(totals: Sequence[Value], indices: Mapping[Node, Value], _lane: Index | None, lanes: int) -> None:
                for buffer, total in zip(held, totals, strict=True):
                    block.write(buffer, place(indices, part), broadcast(total, lanes))

            self.run(bound, False, keep)

        def joined(indices: Mapping[Node, Value], lane: Index | None, lanes: int) -> None:
            totals: list[Value] = []
            for combine, buffer in zip(self.combines, held, strict=True):
                total = block.read(buffer, place(indices, integer(0)), lanes)
                for number in range(1, parts):
                    total = combine.join(total, block.read(buffer, place(indices, integer(number)), lanes))
                totals.append(block.let(total, combine.dtype))
            finish(totals, indices, lane, lanes)

        with ExitStack() as loops:
            inner: dict[Node, Value] = dict(bound)
            for index in self.free[:-1] if self.columns else self.free:
                inner[index] = loops.enter_context(block.loop(self.merged.extent_of(index)))
            if not self.columns:
                joined(inner, None, 1)
                return
            last = self.free[-1]
            extent = self.merged.extent_of(last)
            sweep(
                block, extent, block.host.lanes, lambda offset, width: joined({**inner, last: offset}, last, width), "c"
            )

    def run(self, bound: Mapping[Node, Value], threads: bool, finish: Finish) -> None:
        """The loops over the result, each with its sums."""
        block = self.block
        with ExitStack() as loops:
            inner: dict[Node, Value] = dict(bound)
            for index in self.free[:-1] if self.columns else self.free:
                extent = self.merged.extent_of(index)
                inner[index] = loops.enter_context(block.loop(extent, parallel=threads and extent != 1))
                threads = threads and extent == 1
            if not self.columns:
                self._row(inner, finish)
                return
            last = self.free[-1]

            def emit(offset: Value, width: int) -> None:
                self._column({**inner, last: offset}, last, width, finish)

            extent = self.merged.extent_of(last)
            width = _strip(extent, block.host.lanes, 2 * block.host.threads if threads else 1)
            if width:
                strips = -(-extent_guess(extent) // width)
                with block.loop(strips, "strip", parallel=threads) as strip:
                    at = {**inner, last: block.simplify(strip * integer(width))}
                    self._strip_of_columns(at, last, width, finish)
                return
            lanes = block.host.lanes * _registers(extent, block.host.lanes, self.per_element)
            if threads and isinstance(extent, int) and extent % lanes == 0:
                with block.loop(extent // lanes, "j", parallel=True) as vector:
                    emit(vector * integer(lanes), lanes)
            else:
                sweep(block, extent, lanes, emit)

    # Sums ---------------------------------------------------------------------------------------------
    def _terms(self, indices: Mapping[Node, Value], lane: Index, width: int) -> list[Value]:
        """The next terms, one per reduction."""
        lowering = Lowering(self.block, self.buffers, indices, lane, width)
        lowering.expect(*self.sums.bodies)
        found: list[Value] = []
        for combine, body in zip(self.combines, self.sums.bodies, strict=True):
            found.append(broadcast(combine.term(lowering.scalar_or_vector(body)), width))
        return found

    def _accumulators(self, lanes: int, name: str) -> list[Buffer]:
        """Registers with the neutral elements."""
        made = [self.block.register(combine.dtype, lanes, name) for combine in self.combines]
        for combine, register in zip(self.combines, made, strict=True):
            self.block.put(register, combine.start(lanes))
        return made

    def _join(self, into: Sequence[Buffer], values: Sequence[Value]) -> None:
        for combine, register, value in zip(self.combines, into, values, strict=True):
            self.block.put(register, combine.join(self.block.get(register), value))

    def _row(self, bound: Mapping[Node, Value], finish: Finish) -> None:
        block = self.block
        *outer, last = self.reduced
        extent = self.merged.extent_of(last)
        lanes = block.host.lanes * _registers(extent, block.host.lanes, self.per_element)
        while isinstance(extent, int) and extent < lanes:
            lanes = lanes // 2 if lanes > LEAST_PART else 1
        totals = self._accumulators(lanes, "total")
        rest = self._accumulators(1, "rest") if lanes > 1 else totals
        with ExitStack() as loops:
            inner: dict[Node, Value] = dict(bound)
            for index in outer:
                if index is self.reduced[0]:
                    inner[index] = block.simplify(self.start + loops.enter_context(block.loop(self.count, "r")))
                else:
                    inner[index] = loops.enter_context(block.loop(extent_of(index), "r"))
            start, count = (integer(0), block.size(extent)) if outer else (self.start, self.count)

            def emit(offset: Value, width: int, into: Sequence[Buffer]) -> None:
                values = self._terms({**inner, last: block.simplify(start + offset)}, last, width)
                if width != lanes:
                    values = [block.let(c.across(v), c.dtype) for c, v in zip(self.combines, values, strict=True)]
                    into = rest
                self._join(into, values)

            if isinstance(count, tirx.IntImm) and int(count.value) <= SEGMENT and not outer:
                sweep(block, count, lanes, lambda offset, width: emit(offset, width, totals), "r")
            else:
                self._segmented(lanes, count, totals, emit)
        found: list[Value] = []
        for number, combine in enumerate(self.combines):
            value = block.let(combine.across(block.get(totals[number])), combine.dtype)
            if lanes > 1:
                value = block.let(combine.join(value, block.get(rest[number])), combine.dtype)
            found.append(value)
        finish(found, bound, None, 1)

    def _segmented(
        self, lanes: int, count: Value, totals: Sequence[Buffer], emit: Callable[[Value, int, Sequence[Buffer]], None]
    ) -> None:
        """Sum segments of the last index in accumulators of their own, then add those to the totals."""
        block = self.block
        with block.loop(tirx.floordiv(count + integer(SEGMENT - 1), integer(SEGMENT)), "segment") as segment:
            start = segment * integer(SEGMENT)
            part = block.simplify(tirx.min(integer(SEGMENT), count - start))
            partial = self._accumulators(lanes, "part")
            sweep(block, part, lanes, lambda offset, width: emit(start + offset, width, partial), "r")
            self._join(totals, [block.get(register) for register in partial])

    def _column(self, bound: Mapping[Node, Value], lane: Index, lanes: int, finish: Finish) -> None:
        block = self.block
        totals = self._accumulators(lanes, "total")
        first, *others = self.reduced
        with block.loop(tirx.floordiv(self.count + integer(SEGMENT - 1), integer(SEGMENT)), "segment") as segment:
            start = segment * integer(SEGMENT)
            partial = self._accumulators(lanes, "part")
            with ExitStack() as loops:
                part = block.simplify(tirx.min(integer(SEGMENT), self.count - start))
                row = loops.enter_context(block.loop(part, "r"))
                inner: dict[Node, Value] = {**bound, first: block.simplify(self.start + start + row)}
                for index in others:
                    inner[index] = loops.enter_context(block.loop(self.merged.extent_of(index), "r"))
                self._join(partial, self._terms(inner, lane, lanes))
            self._join(totals, [block.get(register) for register in partial])
        values = [block.let(block.get(t), c.dtype) for t, c in zip(totals, self.combines, strict=True)]
        finish(values, bound, lane, lanes)

    def _strip_of_columns(self, bound: Mapping[Node, Value], lane: Index, width: int, finish: Finish) -> None:
        """``width`` columns from ``bound[lane]`` on, row by row: what is read lies side by side."""
        block, lanes, first_column = self.block, self.block.host.lanes, bound[lane]
        left = block.simplify(tirx.min(integer(width), block.size(self.merged.extent_of(lane)) - first_column))
        totals = [block.scratch(combine.dtype, width, "totals") for combine in self.combines]

        def each(into: Sequence[Buffer], values: Callable[[Value, int], Sequence[Value]]) -> None:
            def one(offset: Value, wide: int) -> None:
                for buffer, value in zip(into, values(offset, wide), strict=True):
                    block.write(buffer, offset, value)

            sweep(block, left, lanes, one, "c")

        def neutral(_offset: Value, wide: int) -> list[Value]:
            return [combine.start(wide) for combine in self.combines]

        first, *others = self.reduced
        each(totals, neutral)
        with block.loop(tirx.floordiv(self.count + integer(SEGMENT - 1), integer(SEGMENT)), "segment") as segment:
            row = segment * integer(SEGMENT)
            parts = [block.scratch(combine.dtype, width, "parts") for combine in self.combines]
            each(parts, neutral)
            with ExitStack() as loops:
                rows = block.simplify(tirx.min(integer(SEGMENT), self.count - row))
                number = loops.enter_context(block.loop(rows, "r"))
                inner: dict[Node, Value] = {**bound, first: block.simplify(self.start + row + number)}
                for index in others:
                    inner[index] = loops.enter_context(block.loop(self.merged.extent_of(index), "r"))

                def add(offset: Value, wide: int) -> list[Value]:
                    terms = self._terms({**inner, lane: first_column + offset}, lane, wide)
                    return self._joined(parts, terms, offset, wide)

                each(parts, add)

            def join(offset: Value, wide: int) -> list[Value]:
                return self._joined(totals, [block.read(part, offset, wide) for part in parts], offset, wide)

            each(totals, join)

        def done(offset: Value, wide: int) -> None:
            values = [
                block.let(block.read(total, offset, wide), combine.dtype)
                for total, combine in zip(totals, self.combines, strict=True)
            ]
            finish(values, {**bound, lane: first_column + offset}, lane, wide)

        sweep(block, left, lanes, done, "c")

    def _joined(self, held: Sequence[Buffer], values: Sequence[Value], offset: Value, wide: int) -> list[Value]:
        """What is held at ``offset`` with one more value each."""
        return [
            self.block.let(combine.join(self.block.read(buffer, offset, wide), value), combine.dtype)
            for combine, buffer, value in zip(self.combines, held, values, strict=True)
        ]
