"""Conditions and loops that end by a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cases import Case, ErrorCase, floats, tensor

from fluidc.compiler.ir.core import OpBase, Region, Value
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops import branching
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.elementwise import Fill
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, MixedKind, TotalKind


def f32(*numbers: float) -> np.ndarray:
    return np.asarray(numbers, np.float32)


def either(predicate: Value, x: Value, y: Value) -> OpBase:
    """``x * y`` and ``x``, or ``x - y`` and ``x + y``."""

    def then(b: Builder, x: Value, y: Value) -> Sequence[Value]:
        return b.mul(x, y), x

    def otherwise(b: Builder, x: Value, y: Value) -> Sequence[Value]:
        return b.sub(x, y), b.add(x, y)

    return branching.branch_op(OpBuilder(), predicate, [x, y], then, otherwise)


def either_loops(predicate: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return (x * y, x) if predicate else (x - y, x + y)


def halve(max_trip: int | None) -> Any:
    """Halves ``x * w`` while its first element exceeds 1."""

    def build(x: Value, w: Value) -> OpBase:
        def goes_on(b: Builder, x: Value, w: Value) -> Sequence[Value]:
            first = b.reshape(b.slice(x, 0, 0, 1), ())
            return (b.less(b.fill((), x.type.dtype, 1.0), first),)

        def body(b: Builder, x: Value, w: Value) -> Sequence[Value]:
            return (b.scale(b.mul(x, w), 0.5),)

        return branching.loop_op(OpBuilder(), [x], [w], goes_on, body, max_trip)

    return build


def halve_loops(limit: int) -> Any:
    def expect(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        for _ in range(limit):
            if x[0] <= 1:
                break
            x = x * w * np.float32(0.5)
        return x

    return expect


def counted(n: Value, x: Value) -> OpBase:
    """``x`` doubled ``n`` times: the number of steps is a value of its own."""

    def goes_on(b: Builder, n: Value, x: Value) -> Sequence[Value]:
        return (b.less(b.fill((), DType.I64, 0), n),)

    def body(b: Builder, n: Value, x: Value) -> Sequence[Value]:
        return b.sub(n, b.fill((), DType.I64, 1)), b.add(x, x)

    return branching.loop_op(OpBuilder(), [n, x], [], goes_on, body, 5)


MET = MixedKind("examples have met", Fill(0.0, tensor("f32[]")))
PAIR = (floats(3, 2), floats(3, 2, seed=1))
CASES = (
    Case(
        "control.if-true",
        either,
        (np.asarray(True), *PAIR),
        either_loops,
        wrt=(1, 2),
        kinds=(PUBLIC, ExampleKind(0), ExampleKind(0)),
        kind=(ExampleKind(0), ExampleKind(0)),
    ),
    Case(
        "control.if-false",
        either,
        (np.asarray(False), floats(3, 2), floats(3, 1, seed=1)),
        either_loops,
        wrt=(1, 2),
        kinds=(PUBLIC, ExampleKind(1), PUBLIC),
        kind=(ExampleKind(1), ExampleKind(1)),
    ),
    Case(
        "control.if-private_predicate",
        either,
        (np.asarray(True), *PAIR),
        either_loops,
        kinds=(TotalKind("sum"), ExampleKind(0), ExampleKind(0)),
        kind="mixed",
    ),
    Case(
        "control.if-mixed_predicate",
        either,
        (np.asarray(True), *PAIR),
        either_loops,
        kinds=(MET, PUBLIC, PUBLIC),
        kind="mixed",
    ),
    Case("control.while", halve(None), (f32(9, -3), f32(0.9, 1.1)), halve_loops(9)),
    Case(
        "control.while-bounded",
        halve(6),
        (f32(9, -3), f32(0.9, 1.1)),
        halve_loops(6),
        wrt=(0, 1),
    ),
    Case(
        "control.while-stopped_by_the_bound",
        halve(2),
        (f32(9, -3), f32(0.9, 1.1)),
        halve_loops(2),
        wrt=(0, 1),
    ),
    Case("control.while-one_step", halve(1), (f32(9, -3), f32(0.9, 1.1)), halve_loops(1), wrt=(0, 1)),
    Case("control.while-no_step", halve(2), (f32(0.5, -3), f32(0.9, 1.1)), halve_loops(2), wrt=(0, 1)),
    Case(
        "control.while-counted",
        counted,
        (np.asarray(3), floats(3, 2)),
        lambda n, x: (np.asarray(0), x * 8),
        wrt=(1,),
        kinds=(PUBLIC, ExampleKind(0)),
        kind=(PUBLIC, ExampleKind(0)),
    ),
    Case(
        "control.while-private_condition",
        halve(2),
        (f32(9, -3, 2), f32(0.9)),
        halve_loops(2),
        kinds=(ExampleKind(0), PUBLIC),
        kind="mixed",
    ),
)


def _if(predicate: Value, x: Value) -> OpBase:
    first, second = Value(x.type), Value(x.type)
    zero = Value(TensorType(DType.F32, ()))
    return branching.If(predicate, (x,), Region((first,), (), (first,)), Region((second,), (), (zero,)))


def _while(x: Value) -> OpBase:
    inside, again = Value(x.type), Value(x.type)
    return branching.While((x,), (), Region((inside,), (), (inside,)), Region((again,), (), (again,)))


ERRORS = (
    ErrorCase("control.if-predicate", _if, (tensor("f32[]"), tensor("f32[2]")), "the predicate is bool[], not f32[]"),
    ErrorCase(
        "control.if-branches", _if, (tensor("bool[]"), tensor("f32[2]")), "yields (f32[]) where (f32[2]) is expected"
    ),
    ErrorCase("control.while-condition", _while, (tensor("f32[2]"),), "the condition yields (f32[2]) where (bool[])"),
)
