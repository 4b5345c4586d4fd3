"""Explicit loops, as a rule wrote them: independent trips are shared out, the rest is one thread's."""

from __future__ import annotations

from collections.abc import Mapping

from .....ir.types import DType, numel, static_shape
from ...expr import Binary, Cast, Index, Load, Node, index, loads, slot, substitute, walk
from ...graph import Allocate, Loop, Program, Statement, Store, TensorDef, When
from ...kernels.compute import extent_guess, extent_of
from ...kernels.product import unravel
from ...kit import Buffer, Value, convert, integer
from ...lower import Lowering
from ...tvm_api import tirx
from ..device import BLOCKS_WANTED, WARP, DeviceBlock
from ..space import Space, Team
from ..spread import Own, independent_loops, own_elements

MANY_TERMS = 256
"""Terms from which a team looks together for those that are its own."""
AT_ONCE = 4
"""Terms that a thread reads before it adds the first of them."""


def emit_program(
    space: Space, buffers: Mapping[TensorDef, Buffer], program: Program, bound: Mapping[Node, Value]
) -> None:
    """The statements of ``program``."""
    if any(isinstance(statement, Allocate) for statement in program.statements):
        with space.each(integer(1)):
            _run(space.block, dict(buffers), program.statements, dict(bound))
        return
    for statement in program.statements:
        own = own_elements(statement) if isinstance(statement, Loop) else None
        if own is not None:
            _Owned(space, buffers, own, bound).emit()
        elif isinstance(statement, Loop) and (independent := independent_loops(statement))[0]:
            indices, body = independent
            with space.each(space.block.size(numel(extent_of(i) for i in indices))) as number:
                _run(space.block, dict(buffers), body, {**bound, **unravel(space.block, indices, number)})
        else:
            with space.each(integer(1)):
                _run(space.block, dict(buffers), (statement,), dict(bound))


class _Owned:
    """Loops around one store, element by element; what goes where data says is owned by place, in chunks."""

    def __init__(
        self, space: Space, buffers: Mapping[TensorDef, Buffer], own: Own, bound: Mapping[Node, Value]
    ) -> None:
        self.space = space
        self.block = space.block
        self.buffers = buffers
        self.own = own
        self.bound = bound
        self.elements = numel(extent_of(i) for i in own.elements)
        self.terms = numel(extent_of(loop.index) for loop in own.terms)

    def emit(self) -> None:
        block, axis = self.block, self.own.scattered
        if self.elements == 0 or self.terms == 0:
            return
        if axis is not None and self._together(axis):
            self._by_chunks(axis)
            return
        with self.space.each(block.size(self.elements)) as number:
            at = {**self.bound, **unravel(block, self.own.elements, number)}
            _run(block, dict(self.buffers), (self.own.nest(),), at)

    def _together(self, axis: int) -> bool:
        """Whether a team is to look for the terms of its places: they are many, the same for all its elements."""
        if extent_guess(self.terms) < MANY_TERMS:
            return False
        own = self.own
        if _reads_itself(own.store) and _added(own.store) is None:
            return False
        deciding = (*own.conditions, own.store.indices[axis])
        return not any(i in own.elements for node in deciding for i in _indices(node))

    def _by_chunks(self, axis: int) -> None:
        """Teams own chunks of the places along ``axis``; each looks through all terms for its own, in their order."""
        block, store = self.block, self.own.store
        dim = store.tensor.shape[axis]
        chunks = min(extent_guess(dim), 2 * BLOCKS_WANTED) if self.space.alone else 1
        size = block.simplify(tirx.floordiv(block.size(dim) + integer(chunks - 1), integer(chunks)))
        with self.space.tiles(integer(chunks)) as (chunk, team):
            low = block.simplify(chunk * size)
            words = team.shared(DType.U32, max(team.threads // WARP, 1), "words")
            found = team.shared(DType.I32, team.threads, "found")
            threads, count = integer(team.threads), block.size(self.terms)
            with block.loop(tirx.floordiv(count + threads - integer(1), threads), "tile") as tile:
                first = block.simplify(tile * threads)
                mine = self._is_mine(axis, first + team.thread, low, size)
                total = self._list(team, mine, words, found)
                with block.loop(tirx.floordiv(total + integer(AT_ONCE - 1), integer(AT_ONCE)), "some") as some:
                    self._apply(team, first, block.simplify(some * integer(AT_ONCE)), total, found)
                team.sync()

    def _is_mine(self, axis: int, term: Value, low: Value, size: Value) -> Value:
        """Whether a term goes to a place of the team's chunk: 0 or 1."""
        block, own = self.block, self.own
        flag = block.register(DType.I32, 1, "mine")
        block.put(flag, tirx.const(0, "int32"))
        start, stop = index(None), index(None)
        place = own.store.indices[axis]
        place = place if place.dtype is DType.I64 else Cast(DType.I64, (place,))
        condition: tuple[Node, ...] = (*own.conditions, place >= start, place < stop)
        indices = tuple(loop.index for loop in own.terms)
        with block.when(term < block.size(self.terms)):
            at = {**self.bound, **unravel(block, indices, term), start: low, stop: low + size}

            def check(rest: tuple[Node, ...]) -> None:
                if not rest:
                    block.put(flag, tirx.const(1, "int32"))
                    return
                with block.when(Lowering(block, self.buffers, at).scalar_or_vector(rest[0])):
                    check(rest[1:])

            check(condition)
        return block.get(flag)

    def _list(self, team: Team, mine: Value, words: Buffer, found: Buffer) -> Value:
        """Write the numbers of the threads whose term is the team's to ``found``, in order; returns how many."""
        block = self.block
        warp = block.simplify(tirx.floordiv(team.thread, integer(WARP)))
        lane = block.simplify(tirx.floormod(team.thread, integer(WARP)))
        word = block.let(
            tirx.call_extern("uint32", "__ballot_sync", tirx.const(0xFFFF_FFFF, "uint32"), mine), DType.U32, "word"
        )
        with block.when(tirx.EQ(lane, integer(0))):
            block.write(words, warp, word)
        team.sync()
        before = block.register(DType.I32, 1, "before")
        total = block.register(DType.I32, 1, "total")
        block.put(before, tirx.const(0, "int32"))
        block.put(total, tirx.const(0, "int32"))
        with block.loop(team.threads // WARP, "other") as other:
            ones = block.let(_ones(block.read(words, other)), DType.I32)
            block.put(total, block.get(total) + ones)
            with block.when(other < warp):
                block.put(before, block.get(before) + ones)
        below = tirx.shift_left(tirx.const(1, "uint32"), tirx.Cast("uint32", lane)) - tirx.const(1, "uint32")
        with block.when(tirx.NE(mine, tirx.const(0, "int32"))):
            at = block.get(before) + _ones(tirx.bitwise_and(word, below))
            block.write(found, convert(DType.I64, at), tirx.Cast("int32", team.thread))
        team.sync()
        return convert(DType.I64, block.get(total))

    def _apply(self, team: Team, first: Value, some: Value, total: Value, found: Buffer) -> None:
        """Terms ``some`` to ``some + AT_ONCE`` of those found, for every element of the team's."""
        block, store, own = self.block, self.own.store, self.own
        indices = tuple(loop.index for loop in own.terms)
        added = _added(store)
        threads, count = integer(team.threads), block.size(self.elements)
        with block.loop(tirx.floordiv(count + threads - integer(1), threads), "turn") as turn:
            number = block.simplify(turn * threads + team.thread)
            with block.when(number < count):
                element = {**self.bound, **unravel(block, own.elements, number)}
                read: list[tuple[Value, dict[Node, Value], Buffer]] = []
                for step in range(AT_ONCE):
                    here = block.simplify(some + integer(step))
                    place = block.read(found, tirx.min(here, total - integer(1)))
                    term = block.let(first + convert(DType.I64, place), DType.I64, "term")
                    at = {**element, **unravel(block, indices, term)}
                    value = store.value if added is None else added[1]
                    lowering = Lowering(block, self.buffers, at)
                    lowering.expect(value)
                    kept = block.register(store.tensor.dtype, 1, "term")
                    block.put(kept, lowering.scalar_or_vector(value))
                    read.append((here, at, kept))
                for here, at, kept in read:
                    with block.when(here < total):
                        value = block.get(kept)
                        if added is None:
                            Lowering(block, self.buffers, at).put(store.tensor, store.indices, value)
                            continue
                        lowering = Lowering(block, self.buffers, at, slots={added[2]: value})
                        lowering.expect(added[0])
                        lowering.put(store.tensor, store.indices, lowering.scalar_or_vector(added[0]))


def _reads_itself(store: Store) -> bool:
    return any(read.tensor is store.tensor for read in loads(store.value))


def _added(store: Store) -> tuple[Node, Node, Node] | None:
    """A value that adds to the element: the sum with a slot for what is added, that, and the slot."""
    value = store.value
    if not isinstance(value, Binary) or not _reads_itself(store):
        return None
    others = [x for x in value.children if not any(read.tensor is store.tensor for read in loads(x))]
    if len(others) != 1 or not all(isinstance(x, Load) for x in value.children if x is not others[0]):
        return None
    held = slot(others[0].dtype)
    return substitute(value, {others[0]: held}), others[0], held


def _indices(root: Node) -> set[Index]:
    return {node for node in walk(root) if isinstance(node, Index)}


def _ones(word: Value) -> Value:
    return tirx.call_pure_extern("int32", "__popc", word)


def _run(
    block: DeviceBlock, buffers: dict[TensorDef, Buffer], statements: tuple[Statement, ...], bound: dict[Node, Value]
) -> None:
    for statement in statements:
        match statement:
            case Store():
                lowering = Lowering(block, buffers, bound)
                lowering.expect(statement.value)
                lowering.put(statement.tensor, statement.indices, lowering.scalar_or_vector(statement.value))
            case Loop():
                extent = Lowering(block, buffers, bound).scalar_or_vector(statement.extent)
                with block.loop(extent) as trip:
                    _run(block, buffers, statement.body, {**bound, statement.index: trip})
            case When():
                condition = Lowering(block, buffers, bound).scalar_or_vector(statement.condition)
                if statement.otherwise:
                    # The condition is read once: the first branch may overwrite what it depends on.
                    flag = block.let(tirx.Cast("int32", condition), DType.I32)
                    condition = tirx.NE(flag, tirx.const(0, "int32"))
                with block.when(condition):
                    _run(block, buffers, statement.then, bound)
                if statement.otherwise:
                    with block.otherwise(condition):
                        _run(block, buffers, statement.otherwise, bound)
            case Allocate():
                count = 1
                for extent in static_shape(statement.tensor.shape):
                    count *= extent
                buffers[statement.tensor] = block.scratch(statement.tensor.dtype, count, "local")
