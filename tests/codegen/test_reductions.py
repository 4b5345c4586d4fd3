"""Reductions and rows on the CPU: shared among threads, taken together, in memory that is used twice."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
import pytest
from tvm_rules import module_of

from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.codegen.tvm.define import FunctionScope
from fluidc.compiler.codegen.tvm.fuse import plan
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.loss import Softmax
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")
N = Sym("N")


def f32(*shape: Any) -> TensorType:
    return TensorType(DType.F32, shape)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def moments(kind: TensorType, axes: tuple[int, ...]) -> Module:
    """Sum, sum of squares, and largest element over ``axes``."""
    b, x = OpBuilder(), Value(kind, "x")
    found = (b.reduce_sum(x, axes), b.reduce_sum(b.square(x), axes), b.reduce_max(x, axes))
    outputs = tuple(Output(f"y{i}", value) for i, value in enumerate(found))
    return Module(Stage.TARGET, (), (Function("f", (Param("x", x),), tuple(b.ops), outputs),))


@cache
def engine(kind: TensorType, axes: tuple[int, ...], threads: int) -> Any:
    return compile_module(moments(kind, axes), Options(host_cpu(), threads)).engine()


CASES = [
    ((200_003,), (0,)),  # one number: threads take parts of the sum
    ((30_011, 7), (0,)),  # fewer columns than a vector has lanes
    ((20_000, 64), (0,)),
    ((40, 3, 37, 41), (0, 2, 3)),
    ((5, 30_001), (1,)),
    ((4096, 10), (1,)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
def test_long_sums(shape: tuple[int, ...], axes: tuple[int, ...], threads: int) -> None:
    x = floats(*shape)
    made = engine(f32(*shape), axes, threads)
    first, again = (made.call("f", [made.tensor(aligned_copy(x))]) for _ in range(2))
    wide = x.astype(np.float64)
    for found, want in zip(first, (wide.sum(axes), np.square(wide).sum(axes), wide.max(axes)), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=2e-3)
    for found, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("rows", [0, 1, 3, 40_000])
def test_sums_over_a_symbolic_batch(rows: int) -> None:
    x = floats(rows, 5)
    made = engine(f32(N, 5), (0,), 2)
    total, squares, largest = made.call("f", [made.tensor(aligned_copy(x))])
    np.testing.assert_allclose(total, x.astype(np.float64).sum(0), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(squares, np.square(x.astype(np.float64)).sum(0), rtol=1e-5)
    np.testing.assert_array_equal(largest, x.max(0, initial=-np.inf))


def test_a_nan_is_the_largest_wherever_it_stands() -> None:
    for place in (0, 17, 99_999, 200_002):
        x = floats(200_003)
        x[place] = np.nan
        made = engine(f32(200_003), (0,), 2)
        assert np.isnan(made.call("f", [made.tensor(aligned_copy(x))])[2])


def test_reductions_of_one_tensor_are_one_pass() -> None:
    module = moments(f32(300, 50), (0,))
    scope = FunctionScope(module, module.function("f"))
    assert len(plan(scope.emitter.tensors, scope.outputs, scope.writes, scope.emitter.keep).groups) == 1


@pytest.mark.parametrize("rows", [1, 5, 64, 66, 131])
@pytest.mark.parametrize("width", [1, 10, 64, 300])
def test_softmax_of_rows(rows: int, width: int) -> None:
    """Short rows are taken several at a time, whatever their number."""
    module = module_of(
        [f32(rows, width)], [f32(rows, width)], lambda t, x: Softmax(Value(f32(rows, width), "x")).to_tvm(t, x)
    )
    made = compile_module(module).engine()
    x = floats(rows, width) * 10
    powers = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    (found,) = made.call("f", [made.tensor(aligned_copy(x))])
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-5, atol=1e-12)
