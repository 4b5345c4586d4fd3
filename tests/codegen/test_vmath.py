"""Vector forms of elementary functions against float64, over bit patterns of the whole range."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
from tvm_rules import Rule

from fluidc.compiler.codegen.tvm.build import compile_module
from fluidc.compiler.codegen.tvm.vmath import VECTOR
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops.base import Op
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 0.5, 2.0, -2.0, 88.72,
     -103.9, 1e-8, 0.3465, 0.70710677, 1.4142135],
    np.float32,
)  # fmt: skip


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


# Function, float64 truth, error bound in units of the last place.
FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "exp": (np.exp, 1.1),
    "expm1": (np.expm1, 2.0),
    "log": (np.log, 1.0),
    "log1p": (np.log1p, 2.0),
    "tanh": (np.tanh, 1.5),
    "sigmoid": (_sigmoid, 2.5),
    "erf": (scipy.special.erf, 1.5),
    "sin": (np.sin, 1.6),
    "cos": (np.cos, 1.6),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
    "sinh": (np.sinh, 2.0),
    "atan": (np.arctan, 1.5),
}


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    patterns = np.arange(0, 2**32, 65_521, dtype=np.uint64).astype(np.uint32).view(np.float32)
    rng = np.random.default_rng(0)
    near = rng.normal(size=20_000).astype(np.float32), rng.uniform(-1, 1, 10_003).astype(np.float32)
    return np.concatenate([SPECIAL, patterns, *near])


@pytest.fixture(scope="module")
def engine(inputs: np.ndarray) -> Any:
    kind = TensorType(DType.F32, inputs.shape)
    built: list[Function] = []
    for name in FUNCTIONS:
        x = Value(kind, "x")

        def rule(t: Any, x: Any, name: Any = name) -> Any:
            return t.pointwise(lambda v: t.call(name, v), x)

        built.append(_function(name, [x], Rule((x,), (kind,), rule)))
    x, y = Value(kind, "x"), Value(kind, "y")
    power = Rule((x, y), (kind,), lambda t, x, y: t.pointwise(lambda u, v: t.pow(u, v), x, y))
    built.append(_function("pow", [x, y], power))
    return compile_module(Module(Stage.TARGET, (), tuple(built))).engine()


def _function(name: str, params: list[Value], op: Op) -> Function:
    outputs = tuple(Output("y", value) for value in op.results)
    return Function(name, tuple(Param(f"p{i}", v) for i, v in enumerate(params)), (op,), outputs)


def ulps(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units of the last place of the exact result rounded to float32; special values must agree."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    special = ~np.isfinite(rounded)
    np.testing.assert_array_equal(found[special], rounded[special])
    assert np.isfinite(found[~special]).all()
    spacing = np.spacing(np.maximum(np.abs(rounded[~special]), np.float32(2.0**-126))).astype(np.float64)
    return np.abs(found[~special].astype(np.float64) - exact[~special]) / spacing


def test_every_vector_function_is_checked() -> None:
    assert set(VECTOR) <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(engine: Any, inputs: np.ndarray, name: str) -> None:
    truth, bound = FUNCTIONS[name]
    (found,) = engine.call(name, [engine.tensor(aligned_copy(inputs))])
    with np.errstate(all="ignore"):
        exact = truth(inputs.astype(np.float64))
    assert ulps(found, exact).max() <= bound


def test_signs_of_zero(engine: Any, inputs: np.ndarray) -> None:
    for name in ("expm1", "log1p", "tanh", "erf", "sin"):
        (found,) = engine.call(name, [engine.tensor(aligned_copy(inputs))])
        np.testing.assert_array_equal(np.signbit(found[:2]), [False, True], err_msg=name)


def test_power(engine: Any, inputs: np.ndarray) -> None:
    """Every pair of special values, and random pairs."""
    rng = np.random.default_rng(1)
    x, y = rng.permutation(inputs), rng.permutation(inputs)
    grid = np.array([0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, np.inf, -np.inf, np.nan, 1e30, 16777216, 8388609], "f4")
    pairs = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    x[: len(pairs)], y[: len(pairs)] = pairs[:, 0], pairs[:, 1]
    (found,) = engine.call("pow", [engine.tensor(aligned_copy(v)) for v in (x, y)])
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    assert ulps(found, exact).max() <= 0.6
    zeros = exact[: len(pairs)] == 0
    np.testing.assert_array_equal(np.signbit(found[: len(pairs)][zeros]), np.signbit(exact[: len(pairs)][zeros]))
