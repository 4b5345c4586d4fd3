"""Loops, branches and sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from ...compiler.ir.core import Value
from ...compiler.ir.types import TensorType
from ...compiler.ops import branching, control, ragged
from ...compiler.ops.construct import OpBuilder
from ..framework import Block
from .context import Frame, OpLowering, Rules


def _run(o: OpLowering, block: Block, b: OpBuilder, local: dict[str, Value]) -> dict[str, Value]:
    """Lower a block's ops into ``b`` on the values of ``local``, which learns what they write."""
    frame = Frame(o.function, block, b, local)
    for op in block.ops:
        o.function.lower(op, frame)
    return local


def _body(o: OpLowering) -> Block:
    return o.function.program.blocks[o.attr("sub_block")]


def _recurrent(o: OpLowering) -> None:
    block = _body(o)
    inputs, init, whole = o.ins("inputs"), o.ins("initial_states"), o.ins("parameters")
    carried_names: list[str] = list(o.attr("ex_states"))
    new_names: list[str] = list(o.attr("states"))
    output_names = o.op.output("outputs")
    names = [*carried_names, *o.op.input("inputs"), *o.op.input("parameters")]

    def body(b: OpBuilder, index: Value, *values: Value) -> Sequence[Value]:
        del index
        local = _run(o, block, b, dict(zip(names, values, strict=True)))
        return [local[name] for name in (*new_names, *output_names)]

    results = control.scan(
        o.b, init, inputs, whole, inputs[0].tensor.shape[0], body, reverse=bool(o.attr("reverse", False))
    )
    o.set_all(results[len(init) :], "outputs")


def _while(o: OpLowering) -> None:
    block = _body(o)
    test = o.op.input("Condition")[0]
    carried = list(dict.fromkeys([test, *o.op.output("Out")]))
    whole = [name for name in o.op.input("X") if name not in carried]
    init = [o.value(name) for name in carried]
    names = [*carried, *whole]

    def condition(b: OpBuilder, *values: Value) -> Sequence[Value]:
        return [b.reshape(values[0], ())]

    def body(b: OpBuilder, *values: Value) -> Sequence[Value]:
        local = _run(o, block, b, dict(zip(names, values, strict=True)))
        return [local[name] for name in carried]

    results = branching.loop(o.b, init, [o.value(name) for name in whole], condition, body)
    for name, value in zip(carried, results, strict=True):
        o.frame.write(name, value)


def _conditional_block(o: OpLowering) -> None:
    """A branch whose results keep their old values, or are zero where there is none, when it is not taken."""
    block = _body(o)
    outputs = o.op.output("Out")
    old = {name: o.frame.read(name) for name in outputs}
    given = [value for value in old.values() if value is not None]
    kept = [name for name in outputs if old[name] is not None]
    reads = [name for name in o.op.input("Input") if name not in kept]
    names = [*kept, *reads]
    types: list[TensorType] = []

    def taken(b: OpBuilder, *values: Value) -> Sequence[Value]:
        local = _run(o, block, b, dict(zip(names, values, strict=True)))
        found = [local[name] for name in outputs]
        types.extend(value.tensor for value in found)
        return found

    def passed(b: OpBuilder, *values: Value) -> Sequence[Value]:
        before = dict(zip(names, values, strict=True))
        return [
            before[name] if name in before else b.fill(kind.shape, kind.dtype, 0)
            for name, kind in zip(outputs, types, strict=True)
        ]

    predicate = o.number(o.x("Cond"))
    results = branching.branch(o.b, predicate, [*given, *(o.value(name) for name in reads)], taken, passed)
    for name, value in zip(outputs, results, strict=True):
        o.frame.write(name, value)


def _select_input(o: OpLowering) -> None:
    no, yes = o.ins("X")
    mask = o.number(o.x("Mask"))
    o.set(o.b.where(o.b.not_equal(mask, o.b.fill((), mask.tensor.dtype, 0)), yes, no))


def _sequence_pool(o: OpLowering) -> None:
    how = cast("ragged.Pooling", str(o.attr("pooltype")).lower())
    o.set(o.b(ragged.Pool(o.any("X"), how, o.attr("pad_value", 0.0))))


def _sequence_softmax(o: OpLowering) -> None:
    o.set(o.b(ragged.Softmax(o.any("X"))))


RULES: Rules = {
    "recurrent": _recurrent,
    "while": _while,
    "conditional_block": _conditional_block,
    "select_input": _select_input,
    "sequence_pool": _sequence_pool,
    "sequence_softmax": _sequence_softmax,
}
