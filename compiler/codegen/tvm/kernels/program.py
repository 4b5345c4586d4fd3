"""Explicit loops, as a rule wrote them."""

from __future__ import annotations

from collections.abc import Mapping

from ....ir.types import DType, static_shape
from ..expr import Load, Node, loads, walk
from ..graph import Allocate, Loop, Placeholder, Program, Statement, Store, TensorDef, When
from ..kit import Block, Buffer, Value, integer, sweep
from ..lower import Lowering
from ..tvm_api import tirx
from .compute import extent_guess, work

FEW_TRIPS = 4
"""Trips that a loop of computed length is assumed to make."""

PARALLEL_ELEMENTS = 4096
"""Elements of the largest output, or innermost iterations, from which parallel loops are run on several threads."""


def emit_program(
    block: Block, buffers: Mapping[TensorDef, Buffer], program: Program, bound: Mapping[Node, Value], threads: bool
) -> None:
    """The statements of ``program``; a parallel loop runs on several threads where ``threads`` allows."""
    made = max(_iterations(program.statements), *(work(output.shape, 1) for output in program.outputs))
    _Emission(block, dict(buffers), threads and made >= PARALLEL_ELEMENTS).run(program.statements, dict(bound))


def _iterations(statements: tuple[Statement, ...]) -> int:
    """Innermost iterations, with guesses for symbolic extents; loops whose extent is computed count once."""
    found = 1
    for statement in statements:
        if isinstance(statement, Loop):
            extent = statement.index.extent
            found = max(found, _iterations(statement.body) * (1 if extent is None else extent_guess(extent)))
        elif isinstance(statement, When):
            found = max(found, _iterations(statement.then), _iterations(statement.otherwise))
    return found


def trips(program: Program) -> list[tuple[Load, float]]:
    """The reads of what the program does not make itself, each with how often it runs."""
    found: list[tuple[Load, float]] = []

    def visit(statements: tuple[Statement, ...], times: float) -> None:
        for statement in statements:
            match statement:
                case Store():
                    found.extend((read, times) for read in loads(statement.value, *statement.indices))
                case Loop():
                    found.extend((read, times) for read in loads(statement.extent))
                    extent = statement.index.extent
                    visit(statement.body, times * (FEW_TRIPS if extent is None else extent_guess(extent)))
                case When():
                    found.extend((read, times) for read in loads(statement.condition))
                    visit(statement.then + statement.otherwise, times)
                case Allocate():
                    pass

    visit(program.statements, 1.0)
    outer = set(program.reads())
    return [(read, times) for read, times in found if read in outer]


class _Emission:
    def __init__(self, block: Block, buffers: dict[TensorDef, Buffer], threads: bool) -> None:
        self.block = block
        self.buffers = buffers
        self.threads = threads

    def run(self, statements: tuple[Statement, ...], bound: dict[Node, Value]) -> None:
        for statement in statements:
            self._statement(statement, bound)

    def _statement(self, statement: Statement, bound: dict[Node, Value]) -> None:
        block = self.block
        match statement:
            case Store():
                lowering = Lowering(block, self.buffers, bound)
                lowering.expect(statement.value)
                value = lowering.scalar_or_vector(statement.value)
                lowering.put(statement.tensor, statement.indices, value)
            case Loop() if self._side_by_side(statement, bound):
                assert isinstance(statement.index.extent, int)

                def emit(offset: Value, width: int, loop: Loop = statement) -> None:
                    at = {**bound, loop.index: offset}
                    for store in loop.body:
                        assert isinstance(store, Store)
                        lowering = Lowering(block, self.buffers, at, loop.index, width)
                        lowering.expect(store.value)
                        lowering.put(store.tensor, store.indices, lowering.vector(store.value))

                sweep(block, statement.index.extent, block.host.lanes, emit, "i")
            case Loop():
                extent = Lowering(block, self.buffers, bound).scalar_or_vector(statement.extent)
                with block.loop(extent, parallel=statement.parallel and self.threads) as i:
                    self.run(statement.body, {**bound, statement.index: i})
            case When():
                condition = Lowering(block, self.buffers, bound).scalar_or_vector(statement.condition)
                # The condition is read once: the first branch may overwrite what it depends on.
                if statement.otherwise:
                    flag = block.let(tirx.Cast("int32", condition), DType.I32)
                    condition = tirx.NE(flag, tirx.const(0, "int32"))
                with block.when(condition):
                    self.run(statement.then, bound)
                if statement.otherwise:
                    with block.otherwise(condition):
                        self.run(statement.otherwise, bound)
            case Allocate():
                self._allocate(statement.tensor)

    def _side_by_side(self, loop: Loop, bound: Mapping[Node, Value]) -> bool:
        """Whether the trips of a loop are the lanes of vectors: each stores its own elements, which lie side by side,
        and reads of what the loop stores no others."""
        block, index, lanes = self.block, loop.index, self.block.host.lanes
        if loop.parallel or not isinstance(index.extent, int) or index.extent < lanes:
            return False
        stores = [statement for statement in loop.body if isinstance(statement, Store)]
        if len(stores) < len(loop.body) or any(store.tensor.dtype is DType.BOOL for store in stores):
            return False
        own = {store.tensor: store.indices for store in stores}
        if len(own) < len(stores):
            return False
        probe = Lowering(block, self.buffers, {**bound, index: tirx.Var(block.names.fresh("i"), "int64")}, index, lanes)
        for store in stores:
            if any(read.children != own[read.tensor] for read in loads(store.value) if read.tensor in own):
                return False
            if any(index in walk(position) and loads(position) for position in store.indices):
                return False
            if probe.offset(store.tensor, store.indices)[1] != 1:
                return False
        return True

    def _allocate(self, tensor: Placeholder) -> None:
        count = 1
        for extent in static_shape(tensor.shape):
            count *= extent
        self.buffers[tensor] = self.block.memory(tensor.dtype, integer(count), "local")
