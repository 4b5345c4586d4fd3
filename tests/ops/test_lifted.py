"""Ops lifted over a loop: the op on stacked values is the op of every step, stacked."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from cases import Case, all_cases, built_on, outcome, type_of

from fluidc.compiler.ir.core import Value
from fluidc.compiler.ops import control, elementwise, embedding, linear, unary
from fluidc.compiler.ops import shape as moves
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.region import evaluate_op

STEPS = 3
DENSE = [
    case
    for case in all_cases()
    if all(isinstance(x, np.ndarray) for x in case.inputs)
    and 0 < len(case.inputs) <= 3
    and not built_on(case, tuple(Value(type_of(x)) for x in case.inputs)).op.has_decomposition
]


def stacked(x: np.ndarray) -> np.ndarray:
    """A different value for each step, the case's own first."""
    rows = [x, np.flip(x), np.roll(x, 1)]
    return np.stack([np.ascontiguousarray(row).reshape(x.shape) for row in rows])


def lifted(case: Case, over: tuple[bool, ...], inputs: list[np.ndarray]) -> tuple[Op, list[Any]] | None:
    """The lifted op and its results on ``inputs``; None where there is no such form."""
    b = OpBuilder()
    op = built_on(case, tuple(Value(type_of(x), f"x{i}") for i, x in enumerate(case.inputs))).op
    values = tuple(Value(type_of(x), f"x{i}") for i, x in enumerate(inputs))
    # An op may have its operands in another order than the case its inputs.
    if len(op.operands) != len(values):
        return None
    order = [int(value.hint[1:]) for value in op.operands]
    made = op.lifted(b, [values[i] for i in order], [over[i] for i in order])
    if made is None:
        return None
    b.emit(made)
    environment: dict[Value, Any] = dict(zip(values, inputs, strict=True))
    for each in b.ops:
        evaluate_op(each, environment)
    for place, i in enumerate(order):
        assert over[i] or made.operands[place] is values[i], "what all steps share stays an operand"
    return made, [environment[value] for value in made.results]


@pytest.mark.parametrize("case", DENSE, ids=[case.id for case in DENSE])
def test_lifted_is_every_step_stacked(case: Case) -> None:
    for over in product((False, True), repeat=len(case.inputs)):
        if not any(over):
            continue
        inputs = [stacked(x) if o else x for x, o in zip(case.inputs, over, strict=True)]
        found = lifted(case, over, inputs)
        if found is None:
            continue
        op, results = found
        assert op.name == case.op_name
        steps = [outcome(case, [x[t] if o else x for x, o in zip(inputs, over, strict=True)]) for t in range(STEPS)]
        for number, value in enumerate(op.results):
            expected = np.stack([step[number] for step in steps])
            assert value.tensor.shape == expected.shape
            np.testing.assert_allclose(results[number], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "cls",
    [
        linear.MatMul, embedding.Lookup, elementwise.Add, elementwise.Mul, elementwise.Div, elementwise.Where,
        elementwise.Cast, unary.Tanh, moves.Reshape, moves.Transpose, moves.Concat, moves.Slice,
    ],
)  # fmt: skip
def test_the_ops_of_recurrent_cells_lift(cls: type[Op]) -> None:
    """The table above does not pass for want of rules."""
    names = [case for case in DENSE if case.op_name == cls.name]
    assert any(lifted(case, (True,) * len(case.inputs), [stacked(x) for x in case.inputs]) for case in names) or (
        cls is embedding.Lookup and any(lifted(c, (False, True), [c.inputs[0], stacked(c.inputs[1])]) for c in names)
    )


def test_a_loop_has_no_lifted_form() -> None:
    x = Value(type_of(np.zeros((4, 2), np.float32)))
    b = OpBuilder()
    op = control.scan_op(b, [b.fill((2,), x.type.dtype, 0.0)], [x], [], 4, lambda b, i, h, row: (b.add(h, row),))
    assert op.lifted(b, [*op.init, Value(type_of(np.zeros((3, 4, 2), np.float32)))], [False, True]) is None
