"""Sums of padded pieces become concatenations before they are exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import tensor

from fluidc.compiler.codegen.onnx.join import joined
from fluidc.compiler.ir.bind import bind
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value, walk
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import static_shape
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.region import evaluate_op

Placed = tuple[int, int]  # where a piece of f32[N,8] starts, and its width


def sum_of(pieces: Sequence[Placed], *, value: float = 0.0, axis: int = 1) -> Function:
    """Pieces of a row, padded to 8 elements and added up from the left."""
    b = OpBuilder()
    params: list[Param] = []
    total: Value | None = None
    for number, (start, width) in enumerate(pieces):
        x = Value(tensor(f"f32[N,{width}]" if axis else f"f32[{width},N]"), f"x{number}")
        params.append(Param(x.hint, x))
        low, high = [0, 0], [0, 0]
        low[axis], high[axis] = start, 8 - start - width
        padded = b.pad(x, low, high, value)
        total = padded if total is None else b.add(total, padded)
    assert total is not None
    return Function("f", tuple(params), tuple(b.ops), (Output("y", total),))


def after(function: Function) -> Function:
    return joined(Module(Stage.TARGET, (), (function,))).functions[0]


def names(function: Function) -> list[str]:
    return [op.name for op in walk(function.ops)]


def computed(function: Function) -> np.ndarray:
    """The result for three rows of random numbers."""
    function = bind(function, {"N": 3})
    rng = np.random.default_rng(1)
    known: dict[Value, Any] = {}
    for param in function.params:
        known[param.value] = rng.normal(size=static_shape(param.value.tensor.shape)).astype(np.float32)
    for op in function.ops:
        assert isinstance(op, Op)
        evaluate_op(op, known)
    return known[function.outputs[0].value]


@pytest.mark.parametrize(
    "pieces", [[(0, 4), (4, 4)], [(6, 2), (4, 2), (0, 2), (2, 2)], [(3, 5), (0, 3)]], ids=["halves", "gates", "unequal"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_pieces_that_fill_an_axis(pieces: list[Placed], axis: int) -> None:
    made = sum_of(pieces, axis=axis)
    found = after(made)
    assert names(found) == ["shape.concat"]
    np.testing.assert_array_equal(computed(found), computed(made))


@pytest.mark.parametrize(
    "made",
    [
        sum_of([(0, 4), (3, 5)]),
        sum_of([(0, 4), (5, 3)]),
        sum_of([(0, 4)]),
        sum_of([(0, 4), (4, 4)], value=1.0),
        sum_of([(0, 8), (0, 8)]),
    ],
    ids=["overlap", "gap", "one piece", "padded with ones", "whole"],
)
def test_other_sums_stay(made: Function) -> None:
    assert names(after(made)) == names(made)


def test_a_sum_that_is_read_stays_beside_the_concatenation() -> None:
    made = sum_of([(0, 2), (2, 4), (6, 2)])
    part = made.ops[2].results[0]
    both = Function(made.name, made.params, made.ops, (*made.outputs, Output("part", part)))
    assert names(after(both)) == ["shape.pad", "shape.pad", "elementwise.add", "shape.concat"]
