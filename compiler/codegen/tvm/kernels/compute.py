"""Loops that compute elements one by one: every index of a shape, several tensors at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....ir.types import Dim, Shape, Sym, numel
from ..expr import Binary, Call, Const, Extent, Index, Load, Node, Slot, loads, walk
from ..graph import TensorDef
from ..kit import Block, Buffer, Value, integer, sweep
from ..lower import Lowering
from ..split import pieces, resolved
from ..tvm_api import tirx

CHUNK = 4096
"""Elements that one task of a flat loop handles."""

PARALLEL_WORK = 60_000
"""Operations below which a loop stays on one thread; waking a second one costs about as many."""


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
        if isinstance(node, Call) or (isinstance(node, Binary) and node.op == "pow"):
            total += 2 if isinstance(node, Call) and node.function in ("abs", "sqrt", "floor", "ceil") else 10
        elif not isinstance(node, Const | Index | Extent | Slot | Load):
            total += 1
    return total


def extent_guess(dim: Dim) -> int:
    """The size a symbolic extent is assumed to have when work is estimated."""
    return dim if isinstance(dim, int) else 64 * dim.scale


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
    shape = definitions[0].tensor.shape
    for definition in definitions:
        if definition.where != indices or definition.tensor.shape != shape:
            return False
    values = [definition.value for definition in definitions]
    identity: set[Node] = set()
    for read in loads(*values):
        if read.children == indices and read.tensor.shape == shape:
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
    free = free_indices(indices, bound)
    per_element = cost(*(definition.value for definition in definitions))
    threads = threads and worth_threads(tuple(extent_of(i) for i in free), per_element + 2)
    if free and is_flat(indices, definitions):
        _flat_loop(block, buffers, indices, free, definitions, bound, threads)
        return
    _Nest(block, buffers, free, threads).emit(0, definitions, dict(bound), {})


@dataclass(frozen=True)
class _Nest:
    """Loops over ``free``, the last along the lanes; those whose choices turn at known places run in pieces."""

    block: Block
    buffers: Mapping[TensorDef, Buffer]
    free: tuple[Index, ...]
    threads: bool

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
        lanes = block.host.lanes

        def emit(offset: Value, width: int) -> None:
            at = block.simplify(offset + integer(start))
            _element(block, self.buffers, definitions, {**bound, index: at}, index, width)

        if not parallel:
            sweep(block, extent, lanes, emit)
            return
        # One dimension only: split it, the tail goes to the last task.
        count = block.size(extent)
        with block.loop(tirx.floordiv(count + integer(CHUNK - 1), integer(CHUNK)), "task", parallel=True) as task:
            first = task * integer(CHUNK)
            part = block.simplify(tirx.min(integer(CHUNK), count - first))
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
    lanes = block.host.lanes
    zeros = [bound.get(index, integer(0)) for index in indices]
    start = block.flatten(zeros, definitions[0].tensor.shape)
    extent = numel(extent_of(index) for index in free)

    def emit(offset: Value, width: int) -> None:
        lowering = Lowering(block, buffers, bound, free[-1], width)
        lowering.identity = indices, block.simplify(start + offset)
        store_all(lowering, definitions)

    if not threads:
        sweep(block, extent, lanes, emit)
        return
    count = block.size(extent)
    with block.loop(tirx.floordiv(count + integer(CHUNK - 1), integer(CHUNK)), "task", parallel=True) as task:
        first = task * integer(CHUNK)
        part = block.simplify(tirx.min(integer(CHUNK), count - first))
        if isinstance(extent, int) and extent % lanes == 0:
            with block.loop(tirx.floordiv(part, integer(lanes)), "j") as vector:
                emit(first + vector * integer(lanes), lanes)
        else:
            sweep(block, part, lanes, lambda offset, width: emit(first + offset, width))


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


def extent_of(index: Index) -> Dim:
    """The extent of a loop variable of a tensor's shape."""
    assert isinstance(index.extent, int | Sym)
    return index.extent
