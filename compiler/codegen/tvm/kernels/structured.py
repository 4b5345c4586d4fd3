"""Loops and branches around nests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ....ir.types import DType, numel
from ..expr import Node, load, loop_index
from ..graph import Body, Structured, TensorDef
from ..kit import Block, Buffer, Value, integer
from ..nests import Group
from ..tvm_api import tirx
from .compute import Definition, emit_compute, extent_guess, extent_of, worth_threads

EmitGroup: TypeAlias = Callable[[Block, dict[TensorDef, Buffer], Group, Mapping[Node, Value], bool], None]


def emit_structured(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    program: Structured,
    bound: Mapping[Node, Value],
    threads: bool,
    emit_group: EmitGroup,
) -> None:
    """A loop or branch; ``emit_group`` emits the groups of a body."""
    _Emission(block, buffers, program, bound, threads, emit_group).run()


class _Emission:
    def __init__(
        self,
        block: Block,
        buffers: Mapping[TensorDef, Buffer],
        program: Structured,
        bound: Mapping[Node, Value],
        threads: bool,
        emit_group: EmitGroup,
    ) -> None:
        self.block = block
        self.buffers = dict(buffers)
        self.program = program
        self.bound = bound
        self.threads = threads
        self.emit_group = emit_group

    def run(self) -> None:
        match self.program.kind:
            case "scan":
                self._scan()
            case "map":
                self._map()
            case "if":
                self._if()
            case "while":
                self._while()

    def _start(self) -> None:
        """Copy the initial values into the results, which carry them from then on."""
        for output, source in zip(self.program.outputs, self.program.init, strict=False):
            self._copy(output, source)

    def _copy(self, target: TensorDef, source: TensorDef) -> None:
        indices = tuple(loop_index(dim) for dim in source.shape)
        definition = Definition(target, indices, load(source, indices))
        emit_compute(self.block, self.buffers, indices, [definition], self.bound, self.threads)

    def _enter(self, body: Body) -> dict[TensorDef, Buffer]:
        """Buffers as the body sees them; what it stores for itself gets workspace here."""
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
                    inner[tensor] = self.block.workspace(tensor.dtype, numel(tensor.shape), "inner")
        return inner

    def _body(self, body: Body, inner: dict[TensorDef, Buffer], bound: Mapping[Node, Value], threads: bool) -> None:
        for group in body.plan.groups:
            self.emit_group(self.block, inner, group, bound, threads)

    def _scan(self) -> None:
        program, (body,) = self.program, self.program.bodies
        self._start()
        stacked = program.outputs[len(program.init) :]
        inner = self._enter(body)
        inner.update({output: self.buffers[output] for output in stacked})
        with self.block.loop(self._trips(), "trip") as trip:
            position = trip
            if program.reverse:
                position = self.block.simplify(self._trips() - integer(1) - trip)
            self._body(body, inner, self._at(position), self.threads)

    def _map(self) -> None:
        program, (body,) = self.program, self.program.bodies
        work = 1
        for group in body.plan.groups:
            for tensor in group.stores():
                for dim in tensor.shape:
                    work = max(work, work * extent_guess(dim))
        extent = program.index.extent if program.index is not None else 1
        assert extent is not None
        parallel = self.threads and worth_threads((extent,), work)
        with self.block.loop(self._trips(), "trip", parallel=parallel) as trip:
            inner = self._enter(body)
            inner.update({output: self.buffers[output] for output in program.outputs})
            self._body(body, inner, self._at(trip), False)

    def _trips(self) -> Value:
        index = self.program.index
        return integer(1) if index is None else self.block.size(extent_of(index))

    def _at(self, trip: Value) -> Mapping[Node, Value]:
        return self.bound if self.program.index is None else {**self.bound, self.program.index: trip}

    def _if(self) -> None:
        program = self.program
        assert program.predicate is not None
        predicate = self.block.read(self.buffers[program.predicate], integer(0))
        flag = self.block.let(tirx.Cast("int32", predicate), DType.I32)
        taken = tirx.NE(flag, tirx.const(0, "int32"))
        then, otherwise = program.bodies
        with self.block.when(taken):
            self._body(then, self._enter(then), self.bound, self.threads)
        with self.block.otherwise(taken):
            self._body(otherwise, self._enter(otherwise), self.bound, self.threads)

    def _while(self) -> None:
        program, block = self.program, self.block
        condition, body = program.bodies
        self._start()
        trips = block.scratch(DType.I64, 1, "trips")
        goes_on = block.scratch(DType.I32, 1, "goes_on")
        block.write(trips, integer(0), integer(0))
        within, inner = self._enter(condition), self._enter(body)
        (verdict,) = condition.results

        def decide() -> None:
            self._body(condition, within, self.bound, self.threads)
            holds = block.read(within[verdict], integer(0))
            if program.max_trip is not None:
                holds = tirx.And(holds, block.read(trips, integer(0)) < integer(program.max_trip))
            block.write(goes_on, integer(0), tirx.Cast("int32", holds))

        decide()
        with block.repeat(lambda: tirx.NE(block.read(goes_on, integer(0)), tirx.const(0, "int32"))):
            self._body(body, inner, self.bound, self.threads)
            block.write(trips, integer(0), block.read(trips, integer(0)) + integer(1))
            decide()
