"""The builder's helpers that are more than one op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import floats, ints, tensor, type_of

from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ir.core import Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, Kind
from fluidc.compiler.ops.region import evaluate_op


def run(build: Callable[..., Any], *inputs: np.ndarray) -> Any:
    values = [Value(type_of(x), "x") for x in inputs]
    b = OpBuilder()
    made = build(b, *values)
    environment: dict[Value, Any] = dict(zip(values, inputs, strict=True))
    for op in b.ops:
        evaluate_op(op, environment)
    return [environment[v] for v in made] if isinstance(made, tuple) else environment[made]


X = floats(4, 3)


def test_what_does_nothing_adds_no_op() -> None:
    b, x = OpBuilder(), Value(tensor("f32[N,3]"), "x")
    same = [
        b.reshape(x, x.tensor.shape), b.transpose(x, (0, 1)), b.broadcast(x, x.tensor.shape), b.cast(x, DType.F32),
        b.reduce_sum(x, ()), b.slice(x, 0, 0, x.tensor.shape[0]), b.pad(x, (0, 0), (0, 0)), b.concat([x], 0),
        b.unbroadcast(x, x.tensor.shape),
    ]  # fmt: skip
    assert all(value is x for value in same)
    assert b.ops == []


def test_stack_split_tile() -> None:
    np.testing.assert_array_equal(run(lambda b, x, y: b.stack([x, y], 1), X, X + 1), np.array([[r, r + 1] for r in X]))
    np.testing.assert_array_equal(run(lambda b, x, y: b.stack([x, y], -1), X, X)[..., 1], X)
    first, second = run(lambda b, x: b.split(x, 1, (1, 2)), X)
    np.testing.assert_array_equal(first, X[:, :1])
    np.testing.assert_array_equal(second, X[:, 1:])
    np.testing.assert_array_equal(run(lambda b, x: b.tile(x, (2, 3)), X), np.tile(X, (2, 3)))
    np.testing.assert_array_equal(run(lambda b, x: b.tile(x, (1, 2)), X), np.tile(X, (1, 2)))


def test_tiling_keeps_examples_apart() -> None:
    """Repeating the batch k times multiplies ``pre`` (privacy documentation §3)."""
    b, x = OpBuilder(), Value(tensor("f32[N,3]"), "x")
    kinds: dict[Value, Kind] = {x: ExampleKind(0)}
    result = b.tile(x, (2, 2))
    for op in b.ops:
        kinds[op.result] = op.example_axis([kinds.get(v, PUBLIC) for v in op.operands])  # type: ignore[attr-defined]
    assert kinds[result] == ExampleKind(0, 2, 1)
    assert str(result.type) == "f32[2*N,6]"


@pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 1), (1,), (), (4, 3)])
def test_unbroadcast_is_the_transpose_of_broadcast(shape: tuple[int, ...]) -> None:
    small, large = floats(*shape, seed=1), floats(2, 4, 3, seed=2)
    spread = run(lambda b, x: b.broadcast(x, (2, 4, 3)), small)
    summed = run(lambda b, x: b.unbroadcast(x, shape), large)
    assert summed.shape == shape
    np.testing.assert_allclose(np.sum(spread * large), np.sum(small * summed), rtol=1e-5)


def test_ops_take_the_current_location() -> None:
    b, x = OpBuilder(), Value(tensor("f32[2]"), "x")
    with b.at(Loc("net.py", 7, "relu")):
        b.relu(x)
        b.nested().relu(x)
    assert b.ops[0].loc.line == 7


def test_an_id_outside_the_table_is_named() -> None:
    with pytest.raises(FluidcError, match=r"id 9 at \[1, 0\] is outside a table of 4 rows"):
        run(lambda b, t, i: b.lookup(t, i), X, np.array([[0], [9]]))
    with pytest.raises(FluidcError, match="outside a table of 3 rows"):
        run(lambda b, t, i: b.gather(t, i, 1), X, ints(2, high=2) - 5)
