"""Loops that count: how many steps a ``while`` takes, and which indices its block computes from the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, Sym
from ...compiler.ops import elementwise
from ..framework import Block, Operator, Program
from .context import OpLowering
from .numbers import elements

_BOUNDS = {
    "less_than": ("X", "Y", 0),
    "less_equal": ("X", "Y", 1),
    "greater_than": ("Y", "X", 0),
    "greater_equal": ("Y", "X", 1),
}
"""By comparison: the slot of the counter, that of the bound, and what is added to the bound."""


@dataclass(frozen=True)
class Linear:
    """An integer that is ``step * t + start`` in step t of a loop."""

    step: int
    start: int

    def plus(self, other: Linear, sign: int = 1) -> Linear:
        return Linear(self.step + sign * other.step, self.start + sign * other.start)


@dataclass(frozen=True)
class Counted:
    """A loop whose number of steps is known on entry.

    Attributes:
        trip: That number.
        test: The name of its condition.
        counters: What only increments change.
    """

    trip: Dim
    test: str
    counters: Mapping[str, Linear]


def counted(o: OpLowering, block: Block) -> Counted | None:
    """The steps of a ``while`` whose block ends by comparing a counter with a bound; None for any other."""
    test = o.op.input("Condition")[0]
    writers = [op for op in block.ops if test in op.output_arg_names]
    if len(writers) != 1 or writers[0].type not in _BOUNDS:
        return None
    comparison = writers[0]
    counter_slot, bound_slot, more = _BOUNDS[comparison.type]
    counter, bound = comparison.input(counter_slot)[0], comparison.input(bound_slot)[0]
    counters = _counters(o, block)
    if counter not in counters or any(bound in op.output_arg_names for op in all_ops(o.function.program, block)):
        return None
    if block.ops.index(comparison) < max(i for i, op in enumerate(block.ops) if counter in op.output_arg_names):
        return None
    limit, first = known(o, bound), _first(o, o.value(test))
    step, start = counters[counter].step, counters[counter].start
    if isinstance(limit, Sym):
        usual = (step, start, more, first) == (1, 0, 0, limit)
        return Counted(limit, test, counters) if usual else None
    if limit is None or not isinstance(first, bool) or step <= 0:
        return None
    # A block whose first test was another one runs at least once.
    trip = max(1, -(-(limit + more - start) // step)) if first else 0
    return Counted(trip, test, counters)


def indices(o: OpLowering, block: Block, loop: Counted) -> dict[int, Linear]:
    """The index that every op of the block on an array has in its slot I, by the op's id, where it is linear."""
    now: dict[str, Linear] = dict(loop.counters)
    written = {name for op in all_ops(o.function.program, block) for name in op.output_arg_names}

    def of(name: str) -> Linear | None:
        if name not in now and name not in written:
            found = known(o, name)
            if isinstance(found, int):
                now[name] = Linear(0, found)
        return now.get(name)

    found: dict[int, Linear] = {}
    for op in block.ops:
        at = of(op.input("I")[0]) if op.input("I") else None
        if at is not None:
            found[id(op)] = at
        result = _linear(op, of)
        for name in op.output_arg_names:
            now.pop(name, None)
            if result is not None:
                now[name] = result
    return found


def known(o: OpLowering, name: str) -> Dim | None:
    """The one integer that a name of the block around stands for, if it is known."""
    value = o.frame.read(name)
    found = None if value is None or value.type.dtype.is_float else elements(o, value)
    if found is None or len(found) != 1 or isinstance(found[0], float):
        return None
    return found[0]


def _linear(op: Operator, look: Callable[[str], Linear | None]) -> Linear | None:
    """What an op that computes one integer makes of linear ones."""
    match op.type:
        case "fill_constant":
            value = op.attr("value")
            return Linear(0, int(value)) if op.attr("shape") == [1] and float(value).is_integer() else None
        case "increment":
            x, step = look(op.input("X")[0]), float(op.attr("step"))
            return None if x is None or not step.is_integer() else x.plus(Linear(0, int(step)))
        case "assign":
            return look(op.input("X")[0])
        case "elementwise_add" | "elementwise_sub":
            x, y = look(op.input("X")[0]), look(op.input("Y")[0])
            return None if x is None or y is None else x.plus(y, 1 if op.type == "elementwise_add" else -1)
        case "scale":
            x, factor, bias = look(op.input("X")[0]), float(op.attr("scale")), float(op.attr("bias"))
            if x is None or op.input("ScaleTensor") or not factor.is_integer() or not bias.is_integer():
                return None
            if not op.attr("bias_after_scale"):
                x, bias = x.plus(Linear(0, int(bias))), 0.0
            return Linear(x.step * int(factor), x.start * int(factor) + int(bias))
        case _:
            return None


def _counters(o: OpLowering, block: Block) -> dict[str, Linear]:
    """Names of the block around that the loop's block only increments, and how."""
    found: dict[str, Linear] = {}
    for name in o.op.output("Out"):
        writers = [op for op in all_ops(o.function.program, block) if name in op.output_arg_names]
        start = known(o, name) if all(op.type == "increment" and op.input("X") == [name] for op in writers) else None
        steps = [float(op.attr("step")) for op in writers if op.type == "increment"]
        top = all(any(op is own for own in block.ops) for op in writers)
        if isinstance(start, int) and top and all(step.is_integer() for step in steps):
            found[name] = Linear(int(sum(steps)), start)
    return found


def _first(o: OpLowering, test: Value) -> bool | Sym | None:
    """Whether the first test holds; an extent where it is whether 0 is less than that."""
    op = test.op
    if isinstance(op, elementwise.Less | elementwise.LessEqual):
        x, y = elements(o, op.x) or [None], elements(o, op.y) or [None]
        if isinstance(x[0], int) and isinstance(y[0], int):
            return x[0] < y[0] if isinstance(op, elementwise.Less) else x[0] <= y[0]
        return y[0] if x == [0] and isinstance(y[0], Sym) and isinstance(op, elementwise.Less) else None
    found = elements(o, test)
    return None if found is None else bool(found[0])


def all_ops(program: Program, block: Block) -> Iterator[Operator]:
    """The ops of a block and of the blocks inside it."""
    for op in block.ops:
        yield op
        if op.has_attr("sub_block"):
            yield from all_ops(program, program.blocks[op.attr("sub_block")])
