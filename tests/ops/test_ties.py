"""Gradients where the derivative does not exist: the values Paddle gives there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from cases import type_of
from fluidc.compiler.ir.core import OpBase, Value
from fluidc.compiler.ops import elementwise, indexing, reduce, unary
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.region import evaluate_op, pullback


def gradients(build: Callable[..., OpBase], *inputs: np.ndarray) -> list[list[float]]:
    """The cotangents of all inputs for a cotangent of ones."""
    values = [Value(type_of(x), "x") for x in inputs]
    b = OpBuilder()
    result = b(build(*values))
    ct = b.fill(result.tensor.shape, result.tensor.dtype, 1.0)
    grads = pullback(b, tuple(b.ops), [(result, ct)], values)
    environment = dict(zip(values, inputs, strict=True))
    for op in b.ops:
        evaluate_op(op, environment)
    return [environment[g].tolist() for g in grads if g is not None]


def array(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize("op", [elementwise.Maximum, elementwise.Minimum])
def test_the_second_operand_takes_a_tie(op: type[OpBase]) -> None:
    assert gradients(op, array([1.0, 2.0]), array([1.0, 2.0])) == [[0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("op", [reduce.Max, reduce.Min])
def test_every_extreme_element_takes_the_whole_gradient(op: Callable[..., OpBase]) -> None:
    assert gradients(lambda x: op(x, (0,)), array([3.0, 3.0])) == [[1.0, 1.0]]


def test_functions_of_one_element() -> None:
    zero = array([0.0])
    assert gradients(unary.Relu, zero) == [[0.0]]
    assert gradients(unary.Relu, array([np.nan])) == [[0.0]]
    assert gradients(unary.Abs, zero) == [[0.0]]
    assert gradients(lambda x: unary.LeakyRelu(x, 0.1), zero) == [[1.0]]
    assert gradients(lambda x: unary.Clip(x, -1.0, 1.0), array([-1.0, 0.5, 1.0])) == [[0.0, 1.0, 0.0]]
    assert gradients(unary.Softplus, zero) == [[0.5]]


def test_pow_at_base_zero() -> None:
    x, y = gradients(elementwise.Pow, array([0.0]), array([2.0]))
    assert x == [0.0]
    assert y == [0.0]


def test_prod_with_zeros() -> None:
    one, two = array([0.0, 2.0, 3.0]), array([0.0, 0.0, 3.0])
    assert gradients(lambda x: reduce.Prod(x, (0,)), one) == [[6.0, 0.0, 0.0]]
    assert gradients(lambda x: reduce.Prod(x, (0,)), two) == [[0.0, 0.0, 0.0]]


def test_scatter_passes_the_cotangent_to_every_update() -> None:
    x, updates, index = array([1.0, 2.0]), array([5.0, 6.0]), np.array([0, 0])
    dx, dupdates = gradients(lambda a, i, u: indexing.Scatter(a, i, u, 0), x, index, updates)
    assert dx == [0.0, 1.0]
    assert dupdates == [1.0, 1.0]
