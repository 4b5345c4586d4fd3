"""Loops that compute elements one by one: every index of a shape, several tensors at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ....ir.types import Dim, DType, Shape, Sym, numel
from ..expr import Binary, Call, Const, Extent, Index, Load, Node, Slot, loads, walk
from ..graph import TensorDef
from ..kit import Block, Buffer, Value, integer, sweep
from ..lower import Lowering
from ..split import pieces, resolved
from ..tvm_api import tirx
from .turn import contiguous, turned

CHUNK = 4096
"""Elements that one task of a flat loop handles."""

PARALLEL_WORK = 60_000
"""Operations below which a loop stays on one thread; waking a second one costs about as many."""

DEAR_CALL = 10
CALL_COST = {"abs": 2, "sqrt": 2, "floor": 2, "ceil": 2, "erf": 5}
"""Operations that a function counts as; ``DEAR_CALL`` for the others.  That of erf has no exponential."""

DEAREST_TURN = 12
"""Operations of an element up to which a square of them is straight-line code."""


@dataclass(frozen=True, eq=False)
class Definition:
    """``tensor[where] = value``, for every value of the index variables around it."""

    tensor: TensorDef
    where: tuple[Node, ...]
    value: Node


def cost(*roots: Node) -> int:
    """Operations per element, roughly; an elementary function counts as ten."""
    total = 0
    for node in walk(*roots):
        if isinstance(node, Call):
            total += CALL_COST.get(node.function, DEAR_CALL)
        elif isinstance(node, Binary) and node.op == "pow":
            total += DEAR_CALL
        elif not isinstance(node, Const | Index | Extent | Slot | Load):
            total += 1
    return total


def extent_guess(dim: Dim) -> int:
    """The size a symbolic extent is assumed to have when work is estimated."""
    return dim if isinstance(dim, int) else 64 ** len(dim.factors) * dim.scale


def work(shape: Shape, per_element: int) -> int:
    """Operations of a loop nest, with guesses for symbolic extents."""
    total = max(per_element, 1)
    for dim in shape:
        total *= extent_guess(dim)
    return total


def worth_threads(shape: Shape, per_element: int) -> bool:
    """Whether a loop nest does enough to wake other threads."""
    return work(shape, per_element) >= PARALLEL_WORK


def is_flat(indices: tuple[Node, ...], definitions: Sequence[Definition]) -> bool:
    """Whether the loops may run over all elements as one line: every access is either the element being
    computed or independent of it."""
    loop_variables = set(indices)
    shape, layout = definitions[0].tensor.shape, definitions[0].tensor.layout
    for definition in definitions:
        if definition.where != indices or definition.tensor.shape != shape or definition.tensor.layout != layout:
            return False
    values = [definition.value for definition in definitions]
    identity: set[Node] = set()
    for read in loads(*values):
        if read.children == indices and read.tensor.shape == shape and read.tensor.layout == layout:
            identity.add(read)
    return not (_free_indices(values, identity) & loop_variables)


def _free_indices(roots: Sequence[Node], stop: set[Node]) -> set[Node]:
    """Index variables that occur in ``roots`` outside the nodes of ``stop``."""
    found: set[Node] = set()
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if id(node) in seen or node in stop:
            continue
        seen.add(id(node))
        if isinstance(node, Index):
            found.add(node)
        stack.extend(node.children)
    return found


def free_of_loads(roots: Sequence[Node]) -> set[Node]:
    """Index variables that values depend on otherwise than through the elements they read."""
    return _free_indices(roots, set(loads(*roots)))


def emit_compute(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    indices: tuple[Node, ...],
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    threads: bool,
) -> None:
    """Loops over ``indices`` (those not in ``bound``) that store all ``definitions``.

    All values of an element are computed before any is stored, so a tensor may be updated in place.
    """
    free = free_indices(in_memory_order(indices, definitions[0].tensor), bound)
    per_element = cost(*(definition.value for definition in definitions))
    threads = threads and worth_threads(tuple(extent_of(i) for i in free), per_element + 2)
    if free and is_flat(indices, definitions):
        _flat_loop(block, buffers, indices, free, definitions, bound, threads)
        return
    across = _across(block, free, definitions, bound) if per_element <= DEAREST_TURN else None
    _Nest(block, buffers, free, threads, across).emit(0, definitions, dict(bound), {})


def _across(
    block: Block, free: Sequence[Index], definitions: Sequence[Definition], bound: Mapping[Node, Value]
) -> Index | None:
    """The loop along which most of what is read lies in memory, where that is not the last one."""
    lanes = block.host.lanes
    types = {definition.tensor.dtype for definition in definitions}
    if DType.BOOL in types or not free or not _holds(free[-1], lanes):
        return None

    def score(index: Index) -> int:
        return sum(contiguous(block, definition.value, index, bound) for definition in definitions)

    own = score(free[-1])
    if own >= 0:
        return None
    others = [(score(index), number) for number, index in enumerate(free[:-1]) if _holds(index, lanes)]
    best, number = max(others, default=(own, 0))
    return free[number] if best > max(own, 0) else None


def _holds(index: Index, lanes: int) -> bool:
    extent = extent_of(index)
    return isinstance(extent, int) and extent >= lanes


@dataclass(frozen=True)
class _Nest:
    """Loops over ``free``, the last along the lanes; those whose choices turn at known places run in pieces.

    With ``across``, what is read lies along that loop: square blocks are read along it, turned, and stored along
    the last one.
    """

    block: Block
    buffers: Mapping[TensorDef, Buffer]
    free: tuple[Index, ...]
    threads: bool
    across: Index | None = None

    def emit(
        self,
        depth: int,
        definitions: Sequence[Definition],
        bound: dict[Node, Value],
        ranges: dict[Node, tuple[int, int]],
    ) -> None:
        """The loops from ``depth`` on; ``ranges`` limit those outside of them."""
        block = self.block
        if not self.free:
            _element(block, self.buffers, definitions, bound, None, 1)
            return
        index = self.free[depth]
        extent = extent_of(index)
        parallel = self.threads and all(extent_of(outer) == 1 for outer in self.free[:depth]) and extent != 1
        if index is self.across:
            self._blocks(depth, definitions, bound, ranges, parallel)
            return
        values = [definition.value for definition in definitions]
        found = [] if parallel else pieces(index, values)
        if depth + 1 == len(self.free) and any(stop - start < block.host.lanes for start, stop in found):
            found = []  # a vector across the turn is cheaper than parts of vectors
        for start, stop in found if len(found) > 1 else [(0, extent)]:
            part = definitions
            if len(found) > 1 and isinstance(stop, int):
                within = {**ranges, index: (start, stop - 1)}
                part = [Definition(d.tensor, d.where, resolved(d.value, within)) for d in definitions]
            else:
                within = ranges
            count = stop - start if isinstance(stop, int) else stop
            if depth + 1 < len(self.free):
                with block.loop(count, parallel=parallel) as i:
                    self.emit(depth + 1, part, {**bound, index: block.simplify(i + integer(start))}, within)
            else:
                self._lanes(part, bound, index, start, count, parallel)

    def _blocks(
        self,
        depth: int,
        definitions: Sequence[Definition],
        bound: dict[Node, Value],
        ranges: dict[Node, tuple[int, int]],
        parallel: bool,
    ) -> None:
        """The loop ``across``, a vector of its trips at a time; those left over run one by one."""
        block, across, lanes = self.block, self.free[depth], self.block.host.lanes
        extent = extent_of(across)
        assert isinstance(extent, int)
        with block.loop(extent // lanes, "block", parallel=parallel) as number:
            start = block.simplify(number * integer(lanes))
            self._turned(depth + 1, definitions, {**bound, across: start}, ranges)
        done = extent // lanes * lanes
        with block.loop(extent - done) as i:
            at = block.simplify(i + integer(done))
            self.emit(depth + 1, definitions, {**bound, across: at}, ranges)

    def _turned(
        self,
        depth: int,
        definitions: Sequence[Definition],
        bound: dict[Node, Value],
        ranges: dict[Node, tuple[int, int]],
    ) -> None:
        """The loops from ``depth`` on for a vector of trips of ``across``, which starts at its bound value."""
        block, across, lanes = self.block, self.across, self.block.host.lanes
        index = self.free[depth]
        assert across is not None
        if depth + 1 < len(self.free):
            with block.loop(extent_of(index)) as i:
                self._turned(depth + 1, definitions, {**bound, index: i}, ranges)
            return
        extent = extent_of(index)
        assert isinstance(extent, int)
        with block.loop(extent // lanes, "square") as square:
            first = block.simplify(square * integer(lanes))
            rows: list[list[Value]] = [[] for _ in definitions]
            for row in range(lanes):
                lowering = Lowering(
                    block, self.buffers, {**bound, index: block.simplify(first + integer(row))}, across, lanes
                )
                lowering.expect(*(definition.value for definition in definitions))
                for made, definition in zip(rows, definitions, strict=True):
                    made.append(block.let(lowering.vector(definition.value), definition.value.dtype))
            for made, definition in zip(rows, definitions, strict=True):
                for column, vector in enumerate(turned(block, made, definition.value.dtype)):
                    at = {**bound, across: block.simplify(bound[across] + integer(column)), index: first}
                    Lowering(block, self.buffers, at, index, lanes).put(definition.tensor, definition.where, vector)
        done = extent // lanes * lanes
        if done < extent:
            with block.loop(lanes) as i:
                at = {**bound, across: block.simplify(bound[across] + i)}
                self._lanes(definitions, at, index, done, extent - done, False)

    def _lanes(
        self,
        definitions: Sequence[Definition],
        bound: dict[Node, Value],
        index: Index,
        start: int,
        extent: Dim,
        parallel: bool,
    ) -> None:
        block = self.block

        def emit(offset: Value, width: int) -> None:
            at = block.simplify(offset + integer(start))
            _element(block, self.buffers, definitions, {**bound, index: at}, index, width)

        _in_chunks(block, extent, emit, parallel)


def _in_chunks(block: Block, extent: Dim, emit: Callable[[Value, int], None], threads: bool) -> None:
    """``emit(offset, width)`` along a line; with ``threads``, in tasks of ``CHUNK`` elements and a last one."""
    lanes = block.host.lanes
    if not threads:
        sweep(block, extent, lanes, emit)
        return
    count = block.size(extent)
    with block.loop(tirx.floordiv(count + integer(CHUNK - 1), integer(CHUNK)), "task", parallel=True) as task:
        first = task * integer(CHUNK)
        part = block.simplify(tirx.min(integer(CHUNK), count - first))
        if isinstance(extent, int) and extent % lanes == 0:
            # The length of a part is no number, but whole vectors fill it.
            with block.loop(tirx.floordiv(part, integer(lanes)), "j") as vector:
                emit(first + vector * integer(lanes), lanes)
        else:
            sweep(block, part, lanes, lambda offset, width: emit(first + offset, width))


def _flat_loop(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    indices: tuple[Node, ...],
    free: tuple[Index, ...],
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    threads: bool,
) -> None:
    zeros = [bound.get(index, integer(0)) for index in indices]
    start = block.flatten(zeros, definitions[0].tensor.shape, definitions[0].tensor.layout)
    extent = numel(extent_of(index) for index in free)

    def emit(offset: Value, width: int) -> None:
        lowering = Lowering(block, buffers, bound, free[-1], width)
        lowering.identity = indices, block.simplify(start + offset)
        store_all(lowering, definitions)

    _in_chunks(block, extent, emit, threads)


def _element(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
    lane: Index | None,
    lanes: int,
) -> None:
    store_all(Lowering(block, buffers, bound, lane, lanes), definitions)


def store_all(lowering: Lowering, definitions: Sequence[Definition]) -> None:
    """Compute all values of an element, then store them."""
    lowering.expect(*(definition.value for definition in definitions))
    values = [lowering.vector(definition.value) for definition in definitions]
    if len(values) > 1:
        values = [lowering.block.let(v, d.value.dtype) for v, d in zip(values, definitions, strict=True)]
    for definition, value in zip(definitions, values, strict=True):
        lowering.put(definition.tensor, definition.where, value)


def free_indices(indices: Sequence[Node], bound: Mapping[Node, Value]) -> tuple[Index, ...]:
    """The loop variables of ``indices`` that still need a loop."""
    return tuple(index for index in indices if isinstance(index, Index) and index not in bound)


def in_memory_order(indices: Sequence[Node], tensor: TensorDef) -> tuple[Node, ...]:
    """The indices of a tensor's axes from the outermost in memory to the innermost."""
    if tensor.layout is None or len(tensor.layout) != len(indices):
        return tuple(indices)
    return tuple(indices[axis] for axis in tensor.layout)


def extent_of(index: Index) -> Dim:
    """The extent of a loop variable of a tensor's shape."""
    assert isinstance(index.extent, int | Sym)
    return index.extent
