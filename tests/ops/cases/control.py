"""Loops with a known number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cases import Case, ErrorCase, floats, tensor

from fluidc.compiler.ir.core import OpBase, Region, Value
from fluidc.compiler.ir.types import DType, Sym, TensorType, dim_div
from fluidc.compiler.ops import control
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.elementwise import Fill
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, MixedKind

T = 3


# scan ---------------------------------------------------------------------------------------------------


def rnn(outputs: int, reverse: bool = False) -> Any:
    """h' = tanh(x_t w + h u); ``outputs``: 0 none, 1 the carried value, 2 another one, 3 and 4 both, 5 the last one."""

    def build(h0: Value, x: Value, w: Value, u: Value) -> OpBase:
        def step(b: Builder, i: Value, h: Value, xt: Value, w: Value, u: Value) -> Sequence[Value]:
            new = b.tanh(b.add(b.matmul(xt, w), b.matmul(h, u)))
            other = b.mul(new, h)
            return [(new,), (new, new), (new, other), (new, other, new), (new, new, other), (new, h)][outputs]

        return control.scan_op(OpBuilder(), [h0], [x], [w, u], x.tensor.shape[0], step, reverse)

    return build


def rnn_loops(outputs: int, reverse: bool = False) -> Any:
    def expect(h0: np.ndarray, x: np.ndarray, w: np.ndarray, u: np.ndarray) -> Any:
        h = h0.astype(np.float64)
        rows, carried, before = ([np.zeros(0)] * len(x) for _ in range(3))
        for t in reversed(range(len(x))) if reverse else range(len(x)):
            new = np.tanh(x[t].astype(np.float64) @ w + h @ u)
            rows[t] = new if outputs == 1 else new * h
            before[t] = h
            h = carried[t] = new
        found = (h, np.stack(rows), np.stack(carried))
        if outputs == 5:
            return h, np.stack(before)
        return (h, found[2], found[1]) if outputs == 4 else found[: (1, 2, 2, 3)[outputs]]

    return expect


RNN = (floats(2, 4), floats(T, 2, 3, seed=1), floats(3, 4, seed=2), floats(4, 4, seed=3))
RNN_KINDS = (ExampleKind(0), ExampleKind(1), PUBLIC, PUBLIC)


def weighted(total: Value, count: Value, x: Value) -> OpBase:
    """Uses the index; two carried values, one of them an integer; nothing is passed whole."""

    def step(b: Builder, i: Value, total: Value, count: Value, row: Value) -> Sequence[Value]:
        scaled = b.mul(row, b.cast(i, row.type.dtype))
        return b.add(total, scaled), b.add(count, i), scaled

    return control.scan_op(OpBuilder(), [total, count], [x], [], x.tensor.shape[0], step)


def weighted_loops(total: np.ndarray, count: np.ndarray, x: np.ndarray) -> Any:
    rows = np.stack([i * row for i, row in enumerate(x)])
    return total + rows.sum(axis=0), count + 6, rows


def powers(x: Value) -> OpBase:
    """No slices: x, x^2, x^4, … with a static trip count."""

    def step(b: Builder, i: Value, now: Value) -> Sequence[Value]:
        return b.square(now), now

    return control.scan_op(OpBuilder(), [x], [], [], T, step)


def powers_loops(x: np.ndarray) -> Any:
    x = x.astype(np.float64)
    return x**8, np.stack([x, x**2, x**4])


def over_batch(total: Value, x: Value) -> OpBase:
    def step(b: Builder, i: Value, total: Value, row: Value) -> Sequence[Value]:
        return (b.add(total, row),)

    return control.scan_op(OpBuilder(), [total], [x], [], x.tensor.shape[0], step)


def counter(start: Value, x: Value) -> OpBase:
    """Counts the examples; no slice is read."""

    def step(b: Builder, i: Value, now: Value, x: Value) -> Sequence[Value]:
        return (b.scale(now, 1.0, 1.0),)

    return control.scan_op(OpBuilder(), [start], [], [x], x.tensor.shape[0], step)


# map ----------------------------------------------------------------------------------------------------


def outer(x: Value, y: Value, w: Value) -> OpBase:
    """Gradients of single examples: x_i^T y_i, times something whole."""

    def body(b: Builder, x: Value, y: Value, w: Value) -> Sequence[Value]:
        return b.mul(b.matmul(x, y, ta=True), w), b.reduce_sum(x, (0, 1))

    return control.map_op(OpBuilder(), [x, y, w], [0, 0, -1], x.tensor.shape[0], body)


def outer_loops(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> Any:
    return np.einsum("ni,nj->nij", x, y) * w, x.sum(axis=1)


def against_first(x: Value, y: Value) -> OpBase:
    """Each example less the first one of another operand."""

    def body(b: Builder, x: Value, y: Value) -> Sequence[Value]:
        return (b.sub(x, b.slice(y, 0, 0, 1)),)

    return control.map_op(OpBuilder(), [x, y], [0, -1], x.tensor.shape[0], body)


def pairs(x: Value) -> OpBase:
    """Blocks of two rows."""

    def body(b: Builder, block: Value) -> Sequence[Value]:
        return (b.reduce_sum(b.square(block), (0,)),)

    trip = dim_div(x.tensor.shape[0], 2)
    assert trip is not None
    return control.map_op(OpBuilder(), [x], [0], trip, body)


def pairs_loops(x: np.ndarray) -> Any:
    return np.stack([x[2 * i] ** 2 + x[2 * i + 1] ** 2 for i in range(len(x) // 2)])


def by_size(x: Value) -> OpBase:
    """Every example divided by the size of the batch."""
    size = x.tensor.shape[0]

    def body(b: OpBuilder, row: Value) -> Sequence[Value]:
        return (b.div(row, b.extent(size, row.type.dtype)),)

    return control.map_op(OpBuilder(), [x], [0], size, body)


def column_blocks(x: Value) -> OpBase:
    """Blocks of two columns, each squared and summed over rows."""

    def body(b: Builder, block: Value) -> Sequence[Value]:
        return (b.reduce_sum(b.square(block), (1,)),)

    return control.map_op(OpBuilder(), [x], [1], 3, body)


def column_blocks_loops(x: np.ndarray) -> Any:
    return np.stack([(x[:, 2 * i : 2 * i + 2] ** 2).sum(axis=1) for i in range(3)])


CASES = (
    Case("control.scan", rnn(0), RNN, rnn_loops(0), wrt=(0, 1, 2, 3), kinds=RNN_KINDS, kind=(ExampleKind(0),)),
    Case(
        "control.scan-history_is_an_output",
        rnn(1),
        RNN,
        rnn_loops(1),
        wrt=(0, 1, 2, 3),
        kinds=RNN_KINDS,
        kind=(ExampleKind(0), ExampleKind(1)),
    ),
    Case("control.scan-other_output", rnn(2), RNN, rnn_loops(2), wrt=(0, 1, 2, 3)),
    Case("control.scan-reverse", rnn(1, True), RNN, rnn_loops(1, True), wrt=(0, 1, 2, 3)),
    Case("control.scan-reverse_other_output", rnn(2, True), RNN, rnn_loops(2, True), wrt=(0, 1, 2, 3)),
    Case("control.scan-two_outputs", rnn(3), RNN, rnn_loops(3), wrt=(0, 1, 2, 3)),
    Case("control.scan-two_outputs_history_first", rnn(4), RNN, rnn_loops(4), wrt=(0, 1, 2, 3)),
    Case("control.scan-output_before", rnn(5), RNN, rnn_loops(5), wrt=(0, 1, 2, 3)),
    Case("control.scan-reverse_output_before", rnn(5, True), RNN, rnn_loops(5, True), wrt=(0, 1, 2, 3)),
    Case("control.scan-two_steps", rnn(1), (RNN[0], RNN[1][:2], *RNN[2:]), rnn_loops(1), wrt=(0, 1, 2, 3)),
    Case("control.scan-one_step", rnn(1), (RNN[0], RNN[1][:1], *RNN[2:]), rnn_loops(1), wrt=(0, 1, 2, 3)),
    Case(
        "control.scan-index",
        weighted,
        (floats(2), np.asarray(5), floats(4, 2, seed=1)),
        weighted_loops,
        wrt=(0, 2),
    ),
    Case("control.scan-no_slices", powers, (floats(2, 2, low=0.5, high=1.2),), powers_loops, wrt=(0,)),
    Case(
        "control.scan-over_examples",
        over_batch,
        (floats(2), floats(3, 2, seed=1)),
        lambda total, x: total + x[0] + x[1] + x[2],
        wrt=(0, 1),
        kinds=(PUBLIC, ExampleKind(0)),
        kind="mixed",
    ),
    Case(
        "control.scan-counts_examples",
        counter,
        (np.float32(2).reshape(()), floats(3, 2)),
        lambda start, x: start + 3,
        wrt=(0,),
        kinds=(PUBLIC, ExampleKind(0)),
        kind="mixed",
    ),
    Case(
        "control.map",
        outer,
        (floats(3, 2), floats(3, 4, seed=1), floats(2, 4, seed=2)),
        outer_loops,
        wrt=(0, 1, 2),
        kinds=(ExampleKind(0), ExampleKind(0), PUBLIC),
        kind=(ExampleKind(0), ExampleKind(0)),
    ),
    Case(
        "control.map-of_mixed",
        outer,
        (floats(3, 2), floats(3, 4, seed=1), floats(2, 4, seed=2)),
        outer_loops,
        kinds=(MixedKind("examples have met", Fill(0.0, tensor("f32[]"))), PUBLIC, PUBLIC),
        kind=("mixed", "mixed"),
    ),
    Case(
        "control.map-less_the_first",
        against_first,
        (floats(3, 2), floats(3, 2, seed=1)),
        lambda x, y: (x - y[0])[:, None],
        wrt=(0, 1),
    ),
    Case(
        "control.map-less_the_first_example",
        against_first,
        (floats(3, 2), floats(3, 2, seed=1)),
        lambda x, y: (x - y[0])[:, None],
        kinds=(ExampleKind(0), ExampleKind(0)),
        kind="mixed",
    ),
    Case(
        "control.map-pairs_of_one_example",
        pairs,
        (floats(6, 2),),
        pairs_loops,
        wrt=(0,),
        kinds=(ExampleKind(0, 1, 2),),
        kind=ExampleKind(0),
    ),
    Case(
        "control.map-pairs_of_neighbours",
        pairs,
        (floats(6, 2),),
        pairs_loops,
        kinds=(ExampleKind(0, 2, 1),),
        kind="mixed",
    ),
    Case(
        "control.map-size_of_the_batch",
        by_size,
        (floats(4, 2),),
        lambda x: x[:, None] / 4,
        wrt=(0,),
        kinds=(ExampleKind(0),),
        kind="mixed",
    ),
    Case(
        "control.map-blocks",
        column_blocks,
        (floats(4, 6),),
        column_blocks_loops,
        wrt=(0,),
        kinds=(ExampleKind(0),),
        kind=ExampleKind(1),
    ),
)


def _scan_of(trip: Any) -> Any:
    def build(h: Value, x: Value) -> OpBase:
        params = (Value(control.INDEX), Value(h.type), Value(TensorType(DType.F32, (2,))))
        return control.Scan((h,), (x,), (), trip, Region(params, (), (params[1],)))

    return build


def _yields_slice(h: Value, x: Value) -> OpBase:
    params = (Value(control.INDEX), Value(h.type), Value(TensorType(DType.F32, (2,))))
    return control.Scan((h,), (x,), (), 3, Region(params, (), (params[2],)))


def _map_of(*axes: int) -> Any:
    def build(x: Value) -> OpBase:
        params = (Value(TensorType(DType.F32, (1, 4))),)
        return control.Map((x,), axes, 3, Region(params, (), params))

    return build


ERRORS = (
    ErrorCase("control.scan-trip", _scan_of(4), (tensor("f32[]"), tensor("f32[3,2]")), "has 4 entries on axis 0"),
    ErrorCase(
        "control.scan-symbolic_trip",
        _scan_of(Sym("N")),
        (tensor("f32[]"), tensor("f32[3,2]")),
        "has N entries on axis 0",
    ),
    ErrorCase(
        "control.scan-parameters",
        _scan_of(3),
        (tensor("f32[]"), tensor("f32[3,5]")),
        "it is given (i64[], f32[], f32[5])",
    ),
    ErrorCase(
        "control.scan-yield", _yields_slice, (tensor("f32[]"), tensor("f32[3,2]")), "yields (f32[2]) where (f32[])"
    ),
    ErrorCase("control.map-axes", _map_of(0, 1), (tensor("f32[3,4]"),), "1 operands and 2 axes"),
    ErrorCase("control.map-division", _map_of(1), (tensor("f32[3,4]"),), "axis 1 of f32[3,4] does not divide into 3"),
)
