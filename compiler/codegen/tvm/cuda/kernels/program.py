"""Explicit loops, as a rule wrote them: a parallel loop's trips are shared out, the rest is one thread's."""

from __future__ import annotations

from collections.abc import Mapping

from .....ir.types import DType, static_shape
from ...expr import Node
from ...graph import Allocate, Loop, Program, Statement, Store, TensorDef, When
from ...kit import Buffer, Value, integer
from ...lower import Lowering
from ...tvm_api import tirx
from ..device import DeviceBlock
from ..space import Space


def emit_program(
    space: Space, buffers: Mapping[TensorDef, Buffer], program: Program, bound: Mapping[Node, Value]
) -> None:
    """The statements of ``program``."""
    if any(isinstance(statement, Allocate) for statement in program.statements):
        with space.each(integer(1)):
            _run(space.block, dict(buffers), program.statements, dict(bound))
        return
    for statement in program.statements:
        if isinstance(statement, Loop) and statement.parallel and not _computed(statement):
            extent = Lowering(space.block, buffers, bound).scalar_or_vector(statement.extent)
            with space.each(extent) as trip:
                _run(space.block, dict(buffers), statement.body, {**bound, statement.index: trip})
        else:
            with space.each(integer(1)):
                _run(space.block, dict(buffers), (statement,), dict(bound))


def _computed(loop: Loop) -> bool:
    """Whether the trips of a loop are counted by data, which only the device sees."""
    return loop.index.extent is None


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
                # The condition is read once: the first branch may overwrite what it depends on.
                condition = Lowering(block, buffers, bound).scalar_or_vector(statement.condition)
                flag = block.let(tirx.Cast("int32", condition), DType.I32)
                condition = tirx.NE(flag, tirx.const(0, "int32"))
                with block.when(condition):
                    _run(block, buffers, statement.then, bound)
                with block.otherwise(condition):
                    _run(block, buffers, statement.otherwise, bound)
            case Allocate():
                count = 1
                for extent in static_shape(statement.tensor.shape):
                    count *= extent
                buffers[statement.tensor] = block.scratch(statement.tensor.dtype, count, "local")
