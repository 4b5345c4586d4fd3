"""Loops, branches and cells of recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler.ir.core import Value
from ...compiler.ir.types import TensorType
from ...compiler.ops import branching, control
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.grad import StopGradient
from ..framework import Block
from .context import MaskOf, OpLowering, Rules
from .if_else import branch_of_rows
from .recurrent import gru_weights
from .steps import masks_of, run_block


def _body(o: OpLowering) -> Block:
    return o.function.program.blocks[o.attr("sub_block")]


def _recurrent(o: OpLowering) -> None:
    block = _body(o)
    inputs, init, whole = o.ins("inputs"), o.ins("initial_states"), o.ins("parameters")
    carried_names: list[str] = list(o.attr("ex_states"))
    new_names: list[str] = list(o.attr("states"))
    output_names = o.op.output("outputs")
    names = [*carried_names, *o.op.input("inputs"), *o.op.input("parameters")]

    trip = inputs[0].tensor.shape[0]
    kinds = [*(v.tensor for v in init), *(v.tensor.with_shape(v.tensor.shape[1:]) for v in inputs)]

    def attempt(b: OpBuilder, draw: MaskOf) -> None:
        run_block(o, block, b, dict(zip(names, [*map(Value, kinds), *whole], strict=True)), draw)

    masks = masks_of(o, block, trip, attempt)

    def body(b: OpBuilder, index: Value, *values: Value) -> Sequence[Value]:
        del index
        at = len(init) + len(inputs)
        slices = iter(values[at : at + len(masks)])
        local = dict(zip(names, (*values[:at], *values[at + len(masks) :]), strict=True))
        run_block(o, block, b, local, lambda *_: next(slices))
        return [local[name] for name in (*new_names, *output_names)]

    results = control.scan(o.b, init, [*inputs, *masks], whole, trip, body, reverse=bool(o.attr("reverse", False)))
    o.set_all(results[len(init) :], "outputs")


def _conditional_block(o: OpLowering) -> None:
    """A branch whose results keep their old values, or are zero where there is none, when it is not taken."""
    block = _body(o)
    if not o.attr("is_scalar_condition", True):
        branch_of_rows(o, block)
        return
    outputs = o.op.output("Out")
    old = {name: o.frame.read(name) for name in outputs}
    given = [value for value in old.values() if value is not None]
    kept = [name for name in outputs if old[name] is not None]
    reads = [name for name in o.op.input("Input") if name not in kept]
    names = [*kept, *reads]
    types: list[TensorType] = []

    def taken(b: OpBuilder, *values: Value) -> Sequence[Value]:
        local = dict(zip(names, values, strict=True))
        run_block(o, block, b, local)
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


def _lstm_unit(o: OpLowering) -> None:
    b, before = o.b, o.x("C_prev")
    width = before.tensor.shape[1]
    assert isinstance(width, int)
    i, f, out, new = b.split(o.x(), 1, [width] * 4)
    kept = b.mul(b.sigmoid(b.scale(f, 1.0, float(o.attr("forget_bias", 0.0)))), before)
    cell = b.add(kept, b.mul(b.sigmoid(i), b.tanh(new)))
    o.set(cell, "C")
    o.set(b.mul(b.sigmoid(out), b.tanh(cell)), "H")


def _activated(b: OpBuilder, which: int, x: Value) -> Value:
    """The activation that fluid numbers so."""
    return (lambda x: x, b.sigmoid, b.tanh, b.relu)[which](x)


def _gru_unit(o: OpLowering) -> None:
    b, x, before, weight = o.b, o.x("Input"), o.x("HiddenPrev"), o.x("Weight")
    d = weight.tensor.shape[0]
    assert isinstance(d, int)
    for_gates, for_candidate = gru_weights(b, weight)
    if o.has("Bias"):
        x = b.add(x, o.x("Bias"))
    gates = _activated(b, o.attr("gate_activation", 1), b.add(b.slice(x, 1, 0, 2 * d), b.matmul(before, for_gates)))
    update, reset = b.split(gates, 1, [d, d])
    kept = b.mul(reset, before)
    proposed = b.add(b.slice(x, 1, 2 * d, 3 * d), b.matmul(kept, for_candidate))
    candidate = _activated(b, o.attr("activation", 2), proposed)
    old, new = (before, candidate) if not o.attr("origin_mode", False) else (candidate, before)
    # As in Paddle, which forgets the gradients of these two.
    o.set(b(StopGradient(b.concat((gates, candidate), 1))), "Gate")
    o.set(b(StopGradient(kept)), "ResetHiddenPrev")
    o.set(b.add(old, b.mul(update, b.sub(new, old))), "Hidden")


RULES: Rules = {
    "lstm_unit": _lstm_unit,
    "gru_unit": _gru_unit,
    "recurrent": _recurrent,
    "conditional_block": _conditional_block,
    "select_input": _select_input,
}
