"""Loops and branches around nests.

A scan is a loop on the host around the launches of its body, a branch a condition that every thread reads, a map a
team of threads per trip.  A while loop, whose trips only the device counts, is one team's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from .....ir.types import DType
from ...expr import Node, load, loop_index
from ...graph import Body, Structured, TensorDef
from ...kernels.compute import Definition, extent_of
from ...kit import Buffer, Value, integer
from ...nests import Group
from ...tvm_api import tirx
from ..device import MOST_THREADS, THREADS, DeviceBlock, Part
from ..space import Grid, Space, Team
from .compute import emit_compute

EmitGroup: TypeAlias = Callable[[Space, dict[TensorDef, Buffer], Group, Mapping[Node, Value]], None]


def emit_structured(
    space: Space,
    buffers: Mapping[TensorDef, Buffer],
    program: Structured,
    bound: Mapping[Node, Value],
    emit_group: EmitGroup,
) -> None:
    """A loop or branch; ``emit_group`` emits the groups of a body."""
    emission = _Emission(dict(buffers), program, bound, emit_group)
    match program.kind:
        case "scan":
            emission.scan(space)
        case "map":
            emission.map(space)
        case "if":
            emission.branch(space)
        case "while":
            with space.teams(integer(1), MOST_THREADS) as (_, team):
                emission.repeat(team)


class _Emission:
    def __init__(
        self,
        buffers: dict[TensorDef, Buffer],
        program: Structured,
        bound: Mapping[Node, Value],
        emit_group: EmitGroup,
    ) -> None:
        self.buffers = buffers
        self.program = program
        self.bound = bound
        self.emit_group = emit_group

    def _start(self, space: Space) -> None:
        """Copy the initial values into the results, which carry them from then on."""
        for output, source in zip(self.program.outputs, self.program.init, strict=False):
            indices = tuple(loop_index(dim) for dim in source.shape)
            definition = Definition(output, indices, load(source, indices))
            emit_compute(space, self.buffers, indices, [definition], self.bound)

    def _enter(self, block: DeviceBlock, body: Body, trip: Value | None = None) -> dict[TensorDef, Buffer]:
        """Buffers as the body sees them; what it stores for itself gets room, of its own in every ``trip``."""
        inner = dict(self.buffers)
        for placeholder, outer in body.outer.items():
            inner[placeholder] = self.buffers[outer]
        for placeholder, output in zip(body.carried, self.program.outputs, strict=False):
            inner[placeholder] = self.buffers[output]
        for value, state in body.plan.in_place.items():
            inner[value] = inner[state]
        for group in body.plan.groups:
            for tensor in group.stores():
                if tensor not in inner:
                    inner[tensor] = self._room(block, tensor, trip)
        return inner

    def _room(self, block: DeviceBlock, tensor: TensorDef, trip: Value | None) -> Buffer | Part:
        index = self.program.index
        if trip is None or index is None:
            return block.room(tensor.dtype, tensor.shape, "inner")[1]
        _, whole = block.room(tensor.dtype, (extent_of(index), *tensor.shape), "inner")
        return block.part(whole, trip, tensor.shape)

    def _body(self, space: Space, body: Body, inner: dict[TensorDef, Buffer], bound: Mapping[Node, Value]) -> None:
        for group in body.plan.groups:
            self.emit_group(space, inner, group, bound)

    def scan(self, space: Space) -> None:
        program, (body,), block = self.program, self.program.bodies, space.block
        self._start(space)
        inner = self._enter(block, body)
        inner.update({output: self.buffers[output] for output in program.outputs[len(program.init) :]})
        trips = self._trips(block)
        with block.loop(trips, "trip") as trip:
            position = block.simplify(trips - integer(1) - trip) if program.reverse else trip
            self._body(space, body, inner, self._at(position))

    def map(self, space: Space) -> None:
        program, (body,), block = self.program, self.program.bodies, space.block
        with space.teams(self._trips(block), THREADS) as (trip, team):
            inner = self._enter(block, body, trip)
            inner.update({output: self.buffers[output] for output in program.outputs})
            self._body(team, body, inner, self._at(trip))

    def _trips(self, block: DeviceBlock) -> Value:
        index = self.program.index
        return integer(1) if index is None else block.size(extent_of(index))

    def _at(self, trip: Value) -> Mapping[Node, Value]:
        return self.bound if self.program.index is None else {**self.bound, self.program.index: trip}

    def branch(self, space: Space) -> None:
        then, otherwise = self.program.bodies
        assert self.program.predicate is not None
        predicate = self.buffers[self.program.predicate]
        # One room for each: a branch that is not taken stores nothing.
        rooms = self._enter(space.block, then), self._enter(space.block, otherwise)
        for body, inner, taken in ((then, rooms[0], True), (otherwise, rooms[1], False)):

            def holds(block: DeviceBlock, taken: bool = taken) -> Value:
                flag = block.let(tirx.Cast("int32", block.read(predicate, integer(0))), DType.I32)
                return (tirx.NE if taken else tirx.EQ)(flag, tirx.const(0, "int32"))

            if isinstance(space, Grid):
                self._body(Grid(space.block, (*space.when, holds)), body, inner, self.bound)
            else:
                with space.block.when(holds(space.block)):
                    self._body(space, body, inner, self.bound)

    def repeat(self, team: Team) -> None:
        program, block = self.program, team.block
        condition, body = program.bodies
        self._start(team)
        trips = block.register(DType.I64, 1, "trips")
        goes_on = block.register(DType.I32, 1, "goes_on")
        block.put(trips, integer(0))
        within, inner = self._enter(block, condition), self._enter(block, body)
        (verdict,) = condition.results

        def decide() -> None:
            self._body(team, condition, within, self.bound)
            holds = block.read(within[verdict], integer(0))
            if program.max_trip is not None:
                holds = tirx.And(holds, block.get(trips) < integer(program.max_trip))
            block.put(goes_on, tirx.Cast("int32", holds))
            block.sync()  # before the verdict is overwritten

        decide()
        with block.repeat(lambda: tirx.NE(block.get(goes_on), tirx.const(0, "int32"))):
            self._body(team, body, inner, self.bound)
            block.put(trips, block.get(trips) + integer(1))
            decide()
