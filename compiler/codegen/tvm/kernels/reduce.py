"""Reductions with vector accumulators.

Where the last reduced index runs along memory, lanes hold parts of one sum and are added up at the end (a *row*
reduction); where the last index of the result does, each lane is a sum of its own (a *column* reduction).  Long sums
are taken in two levels, which keeps the rounding error of float32 small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

from ....ir.types import Dim, DType, Shape
from ..expr import Index, Node, Slot, loads, walk
from ..graph import Reduce, TensorDef
from ..kit import (
    LEAST_PART,
    TVM_NAMES,
    Block,
    Buffer,
    Value,
    broadcast,
    const,
    convert,
    integer,
    is_nan,
    lanes_of,
    sweep,
)
from ..lower import Lowering
from ..tvm_api import sym, tirx
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


class Combine:
    """How two partial results of a kind become one, on TIR values."""

    def __init__(self, block: Block, kind: str, dtype: DType) -> None:
        self.block = block
        self.kind = kind
        self.logical = dtype is DType.BOOL
        self.dtype = DType.I32 if self.logical else dtype

    def start(self, lanes: int) -> Value:
        """The neutral element."""
        if self.kind in ("sum", "any"):
            return const(0, self.dtype, lanes)
        if self.kind in ("prod", "all"):
            return const(1, self.dtype, lanes)
        largest = self.kind == "min"
        if self.dtype.is_float:
            return const(float("inf") if largest else float("-inf"), self.dtype, lanes)
        name = self.dtype.value if self.dtype is not DType.I32 else "i32"
        bits = int(name[1:])
        signed = name[0] == "i"
        top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        bottom = -(2 ** (bits - 1)) if signed else 0
        return const(top if largest else bottom, self.dtype, lanes)

    def term(self, value: Value) -> Value:
        """A value of the reduced expression in the accumulator's type."""
        if self.logical:
            lanes = lanes_of(value)
            return tirx.Select(value, const(1, DType.I32, lanes), const(0, DType.I32, lanes))
        return value if str(value.ty.dtype).split("x")[0] == TVM_NAMES[self.dtype] else convert(self.dtype, value)

    def join(self, total: Value, value: Value) -> Value:
        match self.kind:
            case "sum":
                return total + value
            case "prod":
                return total * value
            case "any":
                return tirx.max(total, value)
            case "all":
                return tirx.min(total, value)
            case _ if not self.dtype.is_float:
                return tirx.max(total, value) if self.kind == "max" else tirx.min(total, value)
            case _:
                # A NaN term wins, and a NaN total is never beaten.
                value = self.block.let(value, self.dtype)
                better = value > total if self.kind == "max" else value < total
                nan = const(float("nan"), self.dtype, lanes_of(value))
                return tirx.Select(is_nan(value, self.dtype), nan, tirx.Select(better, value, total))

    def across(self, vector: Value) -> Value:
        """One value from all lanes, in a fixed tree order."""
        lanes = lanes_of(vector)
        if lanes == 1:
            return vector
        buffer = self.block.scratch(self.dtype, lanes, "across")
        self.block.write(buffer, integer(0), vector)
        while lanes > 1:
            lanes //= 2
            low = self.block.read(buffer, integer(0), lanes)
            high = self.block.read(buffer, integer(lanes), lanes)
            joined = self.block.let(self.join(low, high), self.dtype)
            self.block.write(buffer, integer(0), joined)
        return self.block.read(buffer, integer(0))

    def result(self, value: Value) -> Value:
        """The accumulator as a value of the result's type."""
        return tirx.NE(value, const(0, DType.I32, lanes_of(value))) if self.logical else value


def emit_reduce(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    reduction: Reduce,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    threads: bool,
) -> None:
    """Reduce for every index not in ``bound`` and store ``definitions``, which read the result as ``result``."""
    order = in_memory_order(reduction.indices, definitions[0].tensor)
    merged = _merged(block, reduction, definitions, bound, order)
    bound = {**bound, **dict.fromkeys(merged.hidden, integer(0))}
    free = free_indices(order, bound)
    per_element = cost(reduction.body) + 1
    shape: Shape = tuple(extent_of(i) for i in (*free_indices(reduction.indices, {}), *reduction.reduced))
    threads = threads and worth_threads(shape, per_element)
    columns = _lanes_run_along(block, buffers, reduction, free, bound)
    with ExitStack() as loops:
        inner: dict[Node, Value] = dict(bound)
        for index in free[:-1] if columns else free:
            extent = merged.extent_of(index)
            inner[index] = loops.enter_context(block.loop(extent, parallel=threads and extent != 1))
            threads = threads and extent == 1
        if not columns:
            _row(block, buffers, reduction, result, definitions, inner, merged)
            return
        last = free[-1]

        def emit(offset: Value, width: int) -> None:
            _column(block, buffers, reduction, result, definitions, {**inner, last: offset}, last, width, merged)

        extent = merged.extent_of(last)
        width = _strip(extent, block.host.lanes, 2 * block.host.threads if threads else 1)
        if width:
            strips = -(-extent_guess(extent) // width)
            with block.loop(strips, "strip", parallel=threads) as strip:
                at = {**inner, last: block.simplify(strip * integer(width))}
                _strip_of_columns(block, buffers, reduction, result, definitions, at, last, width, merged)
            return
        lanes = block.host.lanes * _registers(extent, block.host.lanes, per_element)
        if threads and isinstance(extent, int) and extent % lanes == 0:
            with block.loop(extent // lanes, "j", parallel=True) as vector:
                emit(vector * integer(lanes), lanes)
        else:
            sweep(block, extent, lanes, emit)


@dataclass(frozen=True)
class _Merged:
    """Trailing indices whose elements lie in one line: the last of them runs over all, the ``hidden`` stay at 0."""

    hidden: frozenset[Index]
    extents: Mapping[Index, int]

    def extent_of(self, index: Index) -> Dim:
        return self.extents.get(index, extent_of(index))


def _merged(
    block: Block,
    reduction: Reduce,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    order: Sequence[Node],
) -> _Merged:
    """What may be merged among the result's indices, and among the reduced ones."""
    hidden: set[Index] = set()
    extents: dict[Index, int] = {}
    values = [definition.value for definition in definitions]
    places = [(definition.tensor, definition.where) for definition in definitions]
    places += [(read.tensor, read.children) for read in loads(reduction.body, *values)]
    for indices in (free_indices(order, bound), reduction.reduced):
        for count in range(len(indices), 1, -1):
            group = indices[-count:]
            sizes = [extent_of(index) for index in group]
            whole = [size for size in sizes if isinstance(size, int)]
            if len(whole) == count and _in_line(block, [reduction.body, *values], places, group, whole):
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
            node: tirx.Var(block.names.fresh("probe"), "int64") for index in position for node in _indices_of(index)
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


def _lanes_run_along(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    reduction: Reduce,
    free: Sequence[Index],
    bound: Mapping[Node, Value],
) -> bool:
    """Whether lanes should run along the result's last index (True) or the last reduced one (False)."""
    if not free:
        return False
    if not reduction.reduced:
        return True
    return contiguous(block, reduction.body, free[-1], bound) > contiguous(
        block, reduction.body, reduction.reduced[-1], bound
    )


def _indices_of(body: Node) -> list[Node]:
    return [node for node in walk(body) if isinstance(node, Index)]


def _finish(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    result: Slot,
    total: Value,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    lane: Index | None,
    lanes: int,
) -> None:
    store_all(Lowering(block, buffers, bound, lane, lanes, {result: total}), definitions)


def _row(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    reduction: Reduce,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    merged: _Merged,
) -> None:
    combine = Combine(block, reduction.kind, reduction.accumulate)
    *outer, last = (index for index in reduction.reduced if index not in merged.hidden)
    extent = merged.extent_of(last)
    lanes = block.host.lanes * _registers(extent, block.host.lanes, cost(reduction.body))
    while isinstance(extent, int) and extent < lanes:
        lanes = lanes // 2 if lanes > LEAST_PART else 1
    total = block.register(combine.dtype, lanes, "total")
    block.put(total, combine.start(lanes))
    rest = block.register(combine.dtype, 1, "rest") if lanes > 1 else total
    if lanes > 1:
        block.put(rest, combine.start(1))
    with ExitStack() as loops:
        inner: dict[Node, Value] = dict(bound)
        for index in outer:
            inner[index] = loops.enter_context(block.loop(extent_of(index), "r"))

        def emit(offset: Value, width: int, into: Buffer) -> None:
            lowering = Lowering(block, buffers, {**inner, last: offset}, last, width)
            lowering.expect(reduction.body)
            value = combine.term(lowering.vector(reduction.body))
            if width != lanes:
                value, into = block.let(combine.across(value), combine.dtype), rest
            block.put(into, combine.join(block.get(into), value))

        if isinstance(extent, int) and extent <= SEGMENT and not outer:

            def whole(offset: Value, width: int) -> None:
                emit(offset, width, total)

            sweep(block, extent, lanes, whole, "r")
        else:
            _segmented(block, combine, lanes, block.size(extent), total, emit)
    value = block.let(combine.across(block.get(total)), combine.dtype)
    if lanes > 1:
        value = block.let(combine.join(value, block.get(rest)), combine.dtype)
    _finish(block, buffers, result, combine.result(value), definitions, bound, None, 1)


def _segmented(
    block: Block,
    combine: Combine,
    lanes: int,
    count: Value,
    total: Buffer,
    emit: Callable[[Value, int, Buffer], None],
) -> None:
    """Sum segments of the last index in accumulators of their own, then add those to the total."""
    with block.loop(tirx.floordiv(count + integer(SEGMENT - 1), integer(SEGMENT)), "segment") as segment:
        start = segment * integer(SEGMENT)
        part = block.simplify(tirx.min(integer(SEGMENT), count - start))
        partial = block.register(combine.dtype, lanes, "part")
        block.put(partial, combine.start(lanes))

        def each(offset: Value, width: int, start: Value = start, partial: Buffer = partial) -> None:
            emit(start + offset, width, partial)

        sweep(block, part, lanes, each, "r")
        block.put(total, combine.join(block.get(total), block.get(partial)))


def _column(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    reduction: Reduce,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    lane: Index,
    lanes: int,
    merged: _Merged,
) -> None:
    combine = Combine(block, reduction.kind, reduction.accumulate)
    total = block.register(combine.dtype, lanes, "total")
    block.put(total, combine.start(lanes))
    first, *others = (index for index in reduction.reduced if index not in merged.hidden)
    count = block.size(merged.extent_of(first))
    with block.loop(tirx.floordiv(count + integer(SEGMENT - 1), integer(SEGMENT)), "segment") as segment:
        start = segment * integer(SEGMENT)
        partial = block.register(combine.dtype, lanes, "part")
        block.put(partial, combine.start(lanes))
        with ExitStack() as loops:
            part = block.simplify(tirx.min(integer(SEGMENT), count - start))
            inner: dict[Node, Value] = {**bound, first: start + loops.enter_context(block.loop(part, "r"))}
            for index in others:
                inner[index] = loops.enter_context(block.loop(merged.extent_of(index), "r"))
            lowering = Lowering(block, buffers, inner, lane, lanes)
            lowering.expect(reduction.body)
            value = broadcast(combine.term(lowering.scalar_or_vector(reduction.body)), lanes)
            block.put(partial, combine.join(block.get(partial), value))
        block.put(total, combine.join(block.get(total), block.get(partial)))
    value = block.let(block.get(total), combine.dtype)
    _finish(block, buffers, result, combine.result(value), definitions, bound, lane, lanes)


def _strip_of_columns(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    reduction: Reduce,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    lane: Index,
    width: int,
    merged: _Merged,
) -> None:
    """``width`` columns from ``bound[lane]`` on, row by row: what is read lies side by side."""
    combine = Combine(block, reduction.kind, reduction.accumulate)
    lanes, start = block.host.lanes, bound[lane]
    left = block.simplify(tirx.min(integer(width), block.size(merged.extent_of(lane)) - start))
    totals = block.scratch(combine.dtype, width, "totals")

    def each(buffer: Buffer, value: Callable[[Value, int], Value]) -> None:
        sweep(block, left, lanes, lambda offset, wide: block.write(buffer, offset, value(offset, wide)), "c")

    def add(offset: Value, wide: int, into: Buffer, indices: Mapping[Node, Value]) -> Value:
        lowering = Lowering(block, buffers, {**indices, lane: start + offset}, lane, wide)
        lowering.expect(reduction.body)
        value = broadcast(combine.term(lowering.scalar_or_vector(reduction.body)), wide)
        return combine.join(block.read(into, offset, wide), value)

    first, *others = (index for index in reduction.reduced if index not in merged.hidden)
    count = block.size(merged.extent_of(first))
    each(totals, lambda _, wide: combine.start(wide))
    with block.loop(tirx.floordiv(count + integer(SEGMENT - 1), integer(SEGMENT)), "segment") as segment:
        row = segment * integer(SEGMENT)
        parts = block.scratch(combine.dtype, width, "parts")
        each(parts, lambda _, wide: combine.start(wide))
        with ExitStack() as loops:
            rows = block.simplify(tirx.min(integer(SEGMENT), count - row))
            inner: dict[Node, Value] = {**bound, first: row + loops.enter_context(block.loop(rows, "r"))}
            for index in others:
                inner[index] = loops.enter_context(block.loop(extent_of(index), "r"))
            each(parts, lambda offset, wide: add(offset, wide, parts, inner))

        def join(offset: Value, wide: int) -> Value:
            return combine.join(block.read(totals, offset, wide), block.read(parts, offset, wide))

        each(totals, join)

    def finish(offset: Value, wide: int) -> None:
        value = block.let(block.read(totals, offset, wide), combine.dtype)
        indices = {**bound, lane: start + offset}
        _finish(block, buffers, result, combine.result(value), definitions, indices, lane, wide)

    sweep(block, left, lanes, finish, "c")
