"""Whole recurrent layers as loops over time.

Sequences of different lengths are padded beside each other, time first; read backwards, a sequence's last token comes
first.  Padding follows all tokens, so no token sees it, and no gradient comes from it.  It could only do harm by
growing without bound, to infinities whose products with zero gradients are not zero: states are kept there where
activations let them grow.

A scan puts out the sums that activations are applied to: its gradient then computes no product a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, RaggedType
from ...compiler.ops import control, ragged, ragged_pad, random
from ...compiler.ops.base import OpBuilder as Builder
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.grad import StopGradient
from ...compiler.ops.indexing import TakeAlong
from .context import OpLowering, Rules
from .creation import source

_BOUNDED = ("sigmoid", "tanh")


def _activated(b: Builder, name: str, x: Value) -> Value:
    match name:
        case "sigmoid":
            return b.sigmoid(x)
        case "tanh":
            return b.tanh(x)
        case "relu":
            return b.maximum(x, b.zeros_like(x))
        case "identity":
            return x
        case _:
            raise ValueError(f"unknown activation {name!r}")


@dataclass(frozen=True)
class _Steps:
    """The tokens of sequences by steps.

    Attributes:
        rows: The sequences.
        width: Steps of the longest.
        reverse: Whether sequences are read backwards.
        masked: Whether states must be kept where a sequence has no token.
    """

    rows: Value
    width: Dim
    reverse: bool
    masked: bool

    @staticmethod
    def of(o: OpLowering, bounded: bool) -> _Steps:
        rows = o.any("Input")
        if not isinstance(rows.type, RaggedType):
            raise o.error(f"{o.op.input('Input')[0]} holds no sequences", "feed sequences, or use rnn for padded ones")
        return _Steps(rows, o.function.longest(rows), bool(o.attr("is_reverse", False)), not bounded)

    def start(self, o: OpLowering, slot: str, width: Dim) -> Value:
        """The state before the first step, [N, width]."""
        given = o.optional(slot)
        return o.b.fill((self.rows.ragged.count, width), self.rows.type.dtype, 0.0) if given is None else given

    def stacked(self, b: OpBuilder, tokens: Value) -> list[Value]:
        """``tokens`` [T, …] as [steps, N, …]; then, where states must be kept, whether there is a token."""
        by_row = b(ragged.Like(tokens, self.rows))
        steps = b(ragged_pad.Pad(by_row, self.width, reverse=self.reverse, steps_first=True))
        if not self.masked:
            return [steps]
        mask = ragged_pad.step_mask(b, self.rows, self.width, DType.BOOL)
        return [steps, b.reshape(mask, (*mask.tensor.shape, 1))]

    def kept(self, b: Builder, mask: Sequence[Value], new: Value, old: Value) -> Value:
        """The new state; the old one where there is no token."""
        return b.where(mask[0], new, old) if mask else new

    def divided(self, b: OpBuilder, by_step: Value) -> Value:
        """What a scan put out, [steps, N, …], as sequences."""
        return b(ragged_pad.Unpad(by_step, self.rows, self.reverse, steps_first=True))


@dataclass(frozen=True)
class _LstmCell:
    """One step of an LSTM.

    Attributes:
        units: D.
        gate, cell, candidate: Activations.
        clip: Bound of the cell; 0 for none.
        order: Where candidate, input, forget and output gate stand among the sums.
    """

    units: int
    gate: str = "sigmoid"
    cell: str = "tanh"
    candidate: str = "tanh"
    clip: float = 0.0
    order: tuple[int, int, int, int] = (0, 1, 2, 3)

    def step(self, b: Builder, sums: Value, before: Value, peepholes: Sequence[Value]) -> tuple[Value, Value]:
        """``(hidden, cell)`` from the sums [N, 4D] and the cell before; ``peepholes``: none, or three [1, D]."""
        d = self.units
        c, i, f, o = (b.slice(sums, 1, k * d, k * d + d) for k in self.order)
        if peepholes:
            i, f = (b.add(x, b.mul(before, w)) for x, w in zip((i, f), peepholes, strict=False))
        fresh = b.mul(_activated(b, self.gate, i), _activated(b, self.candidate, c))
        after = b.add(b.mul(_activated(b, self.gate, f), before), fresh)
        if self.clip:
            bound = b.fill((), after.tensor.dtype, self.clip)
            after = b.maximum(b.minimum(after, bound), b.neg(bound))
        if peepholes:
            o = b.add(o, b.mul(after, peepholes[2]))
        return b.mul(_activated(b, self.gate, o), _activated(b, self.cell, after)), after


def _lstm_cell(o: OpLowering, units: int) -> _LstmCell:
    names = [str(o.attr(f"{name}_activation")) for name in ("gate", "cell", "candidate")]
    return _LstmCell(units, *names, clip=float(o.attr("cell_clip", 0.0)))


def _with_bias(o: OpLowering, steps: _Steps, units: int) -> tuple[list[Value], list[Value]]:
    """The inputs of every step, biases added; and the weights of the peepholes, if there are any."""
    b, bias, d = o.b, o.x("Bias"), units
    tokens = b.add(b(ragged.Data(steps.rows)), b.slice(bias, 1, 0, 4 * d))
    weights = [b.slice(bias, 1, k * d, k * d + d) for k in (4, 5, 6)] if o.attr("use_peepholes", True) else []
    return steps.stacked(b, tokens), weights


def _lstm(o: OpLowering) -> None:
    b, weight = o.b, o.x("Weight")
    units = weight.tensor.shape[0]
    assert isinstance(units, int)
    cell = _lstm_cell(o, units)
    steps = _Steps.of(o, cell.gate in _BOUNDED and cell.candidate in _BOUNDED)
    inputs, peepholes = _with_bias(o, steps, units)

    def step(b: Builder, i: Value, h: Value, c: Value, *rest: Value) -> Sequence[Value]:
        (x, *mask), w, weights = rest[: len(inputs)], rest[len(inputs)], rest[len(inputs) + 1 :]
        sums = b.add(x, b.matmul(h, w))
        hidden, after = cell.step(b, sums, c, weights)
        hidden, after = steps.kept(b, mask, hidden, h), steps.kept(b, mask, after, c)
        return hidden, after, hidden, after, sums

    start = [steps.start(o, "H0", units), steps.start(o, "C0", units)]
    found = control.scan(b, start, inputs, [weight, *peepholes], steps.width, step)
    o.set(steps.divided(b, found[2]), "Hidden")
    o.set(steps.divided(b, b(StopGradient(found[3]))), "Cell")  # as in Paddle, which forgets its gradient


def _lstmp(o: OpLowering) -> None:
    b, weight, projection = o.b, o.x("Weight"), o.x("ProjWeight")
    units, width = projection.tensor.shape
    assert isinstance(units, int)
    cell = _lstm_cell(o, units)
    act, clip = str(o.attr("proj_activation")), float(o.attr("proj_clip", 0.0))
    steps = _Steps.of(o, cell.gate in _BOUNDED and cell.candidate in _BOUNDED)
    inputs, peepholes = _with_bias(o, steps, units)

    def step(b: Builder, i: Value, r: Value, c: Value, *rest: Value) -> Sequence[Value]:
        (x, *mask), (w, p), weights = rest[: len(inputs)], rest[len(inputs) :][:2], rest[len(inputs) + 2 :]
        sums = b.add(x, b.matmul(r, w))
        hidden, after = cell.step(b, sums, c, weights)
        product = b.matmul(hidden, p)
        projected = _activated(b, act, product)
        if clip:
            bound = b.fill((), projected.tensor.dtype, clip)
            projected = b.maximum(b.minimum(projected, bound), b.neg(bound))
        projected, after = steps.kept(b, mask, projected, r), steps.kept(b, mask, after, c)
        return projected, after, projected, after, sums, product

    start = [steps.start(o, "H0", width), steps.start(o, "C0", units)]
    found = control.scan(b, start, inputs, [weight, projection, *peepholes], steps.width, step)
    o.set(steps.divided(b, found[2]), "Projection")
    o.set(steps.divided(b, b(StopGradient(found[3]))), "Cell")  # as in Paddle, which forgets its gradient


def _gru(o: OpLowering) -> None:
    b, weight = o.b, o.x("Weight")
    d = weight.tensor.shape[0]
    assert isinstance(d, int)
    gate, act = str(o.attr("gate_activation")), str(o.attr("activation"))
    steps = _Steps.of(o, gate == "sigmoid" and act in _BOUNDED)
    tokens = b(ragged.Data(steps.rows))
    if o.has("Bias"):
        tokens = b.add(tokens, o.x("Bias"))
    inputs = steps.stacked(b, tokens)
    for_gates, for_candidate = gru_weights(b, weight)

    def step(b: Builder, i: Value, h: Value, *rest: Value) -> Sequence[Value]:
        (x, *mask), (w, v) = rest[: len(inputs)], rest[len(inputs) :]
        sums = b.add(b.slice(x, 1, 0, 2 * d), b.matmul(h, w))
        gates = _activated(b, gate, sums)
        update, reset = b.slice(gates, 1, 0, d), b.slice(gates, 1, d, 2 * d)
        proposed = b.add(b.slice(x, 1, 2 * d, 3 * d), b.matmul(b.mul(reset, h), v))
        candidate = _activated(b, act, proposed)
        old, new = (candidate, h) if o.attr("origin_mode", False) else (h, candidate)
        after = steps.kept(b, mask, b.add(old, b.mul(update, b.sub(new, old))), h)
        return after, after, sums, proposed

    found = control.scan(b, [steps.start(o, "H0", d)], inputs, [for_gates, for_candidate], steps.width, step)
    o.set(steps.divided(b, found[1]), "Hidden")


def gru_weights(b: OpBuilder, weight: Value) -> tuple[Value, Value]:
    """The matrices [D, 2D] of the gates and [D, D] of the candidate in fluid's weight [D, 3D]."""
    d = weight.tensor.shape[0]
    assert isinstance(d, int)
    flat = b.reshape(weight, (3 * d * d,))
    for_gates = b.reshape(b.slice(flat, 0, 0, 2 * d * d), (d, 2 * d))
    return for_gates, b.reshape(b.slice(flat, 0, 2 * d * d, 3 * d * d), (d, d))


def _cudnn_lstm(o: OpLowering) -> None:
    """Layers of LSTMs over padded steps; the weight is cut into cuDNN's matrices and biases."""
    b, x, flat = o.b, o.x("Input"), o.x("W")
    first_h, first_c = o.x("InitH"), o.x("InitC")
    d, layers = int(o.attr("hidden_size")), int(o.attr("num_layers"))
    directions = 2 if o.attr("is_bidirec", False) else 1
    dropout = 0.0 if o.attr("is_test", False) else float(o.attr("dropout_prob", 0.0))
    trip, count = x.tensor.shape[:2]
    cell = _LstmCell(d, order=(2, 0, 1, 3))
    widths = [int(o.attr("input_size")), *[d * directions] * (layers - 1)]
    at, biases = 0, sum(4 * d * (width + d) * directions for width in widths)

    def step(b: Builder, i: Value, h: Value, c: Value, x: Value, w: Value) -> Sequence[Value]:
        sums = b.add(x, b.matmul(h, w, tb=True))
        hidden, after = cell.step(b, sums, c, [])
        return hidden, after, hidden, after, sums

    last_h: list[Value] = []
    last_c: list[Value] = []
    for layer, width in enumerate(widths):
        if layer and dropout:
            how = cast("random.Implementation", "upscale_in_train")
            x = b.emit(random.Dropout(x=x, p=dropout, implementation=how, **source(o, 0)))[0]
        outputs: list[Value] = []
        for direction in range(directions):
            w = b.reshape(b.slice(flat, 0, at, at + 4 * d * width), (4 * d, width))
            r = b.reshape(b.slice(flat, 0, at + 4 * d * width, at + 4 * d * (width + d)), (4 * d, d))
            at += 4 * d * (width + d)
            bias = b.add(b.slice(flat, 0, biases, biases + 4 * d), b.slice(flat, 0, biases + 4 * d, biases + 8 * d))
            biases += 8 * d
            n = layer * directions + direction
            start = [b.reshape(b.slice(v, 0, n, n + 1), (count, d)) for v in (first_h, first_c)]
            sums = b.add(b.matmul(x, w, tb=True), bias)
            found = control.scan(b, start, [sums], [r], trip, step, reverse=direction == 1)
            last_h.append(b.reshape(found[0], (1, count, d)))
            last_c.append(b.reshape(found[1], (1, count, d)))
            outputs.append(found[2])
        x = b.concat(outputs, 2) if directions == 2 else outputs[0]
    o.set(x)
    o.set(b.concat(last_h, 0), "last_h")
    o.set(b.concat(last_c, 0), "last_c")


def _gather_tree(o: OpLowering) -> None:
    """From the last step to the first: the id that the beam has, and the beam before it."""
    b, ids, parents = o.b, o.x("Ids"), o.x("Parents")
    trip, *rows = ids.tensor.shape
    places = b.iota(tuple(rows), 1, parents.tensor.dtype)

    def step(b: Builder, i: Value, beam: Value, ids: Value, parents: Value) -> Sequence[Value]:
        return b(TakeAlong(parents, beam, 1)), b(TakeAlong(ids, beam, 1))

    o.set(control.scan(b, [places], [ids, parents], [], trip, step, reverse=True)[1])


RULES: Rules = {"gather_tree": _gather_tree, "lstm": _lstm, "lstmp": _lstmp, "gru": _gru, "cudnn_lstm": _cudnn_lstm}
