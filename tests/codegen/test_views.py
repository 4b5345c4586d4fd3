"""Chains of views on the cpu target: random reshapes, transposes, slices … in front of every kind of kernel.

How a kernel reads memory (whole vectors, one element for all lanes, lane by lane) is chosen from index arithmetic that
such chains make arbitrarily intricate.  Whatever is chosen, the numbers are those of the reference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.tvm.build import compile_module
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.printer import function_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import Dim, DType, Shape, Sym, TensorType, dim_mul
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.shape import Reverse
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")
N, ROWS = Sym("N"), 5
LARGEST = 600
DTYPES = [DType.F32, DType.F32, DType.F32, DType.F64, DType.I64, DType.I32, DType.BOOL]
Draw = Callable[..., int]


def size(dim: Dim) -> int:
    return dim if isinstance(dim, int) else ROWS * dim.scale


def elements(shape: Shape) -> int:
    return prod(map(size, shape))


# Steps: each takes the builder, the value so far and a source of small numbers ----------------------------


def reshape(b: OpBuilder, x: Value, draw: Draw) -> Value:
    """Axes split or merged; a symbolic one keeps its symbol in front."""
    shape = list(x.tensor.shape)
    for _ in range(draw(1, 3)):
        at = draw(0, len(shape) - 1)
        if draw(0, 1) and at + 1 < len(shape) and isinstance(shape[at + 1], int):
            shape[at : at + 2] = [dim_mul(shape[at], shape[at + 1])]
        elif len(shape) < 5:
            dim = shape[at]
            count = dim if isinstance(dim, int) else dim.scale
            factors = [factor for factor in range(1, count + 1) if count % factor == 0]
            factor = factors[draw(0, len(factors) - 1)]
            rest = count // factor
            shape[at : at + 1] = [rest if isinstance(dim, int) else Sym(dim.name, rest), factor]
    return b.reshape(x, tuple(shape))


def transpose(b: OpBuilder, x: Value, draw: Draw) -> Value:
    left = list(range(x.tensor.rank))
    return b.transpose(x, [left.pop(draw(0, len(left) - 1)) for _ in range(x.tensor.rank)])


def slice_(b: OpBuilder, x: Value, draw: Draw) -> Value:
    at = draw(0, x.tensor.rank - 1)
    extent = x.tensor.shape[at]
    if not isinstance(extent, int) or extent == 1:
        return x
    start = draw(0, extent - 1)
    return b.slice(x, at, start, draw(start + 1, extent), draw(1, 3))


def broadcast(b: OpBuilder, x: Value, draw: Draw) -> Value:
    shape: list[Dim] = [draw(2, 9) if dim == 1 else dim for dim in x.tensor.shape]
    if draw(0, 2) == 0 or shape == list(x.tensor.shape):
        shape.insert(0, draw(1, 3))
    return b.broadcast(x, tuple(shape))


def reverse(b: OpBuilder, x: Value, draw: Draw) -> Value:
    return b.reverse(x, [draw(0, x.tensor.rank - 1)])


def pad(b: OpBuilder, x: Value, draw: Draw) -> Value:
    def amounts(most: int) -> list[int]:
        return [draw(0, most) if isinstance(dim, int) else 0 for dim in x.tensor.shape]

    return b.pad(x, amounts(3), amounts(9), 1.0, amounts(1))


def concat(b: OpBuilder, x: Value, draw: Draw) -> Value:
    at = draw(0, x.tensor.rank - 1)
    return b.concat([x, b.reverse(x, [draw(0, x.tensor.rank - 1)])], at)


STEPS = (reshape, reshape, transpose, transpose, slice_, broadcast, reverse, pad, concat)

# What reads the view --------------------------------------------------------------------------------------


def copied(b: OpBuilder, x: Value, draw: Draw) -> Value:
    return x


def elementwise(b: OpBuilder, x: Value, draw: Draw) -> Value:
    if x.tensor.dtype is DType.BOOL:
        return b.logical_not(x)
    return b.add(x, b.reverse(x, [draw(0, x.tensor.rank - 1)]))


def reduced(b: OpBuilder, x: Value, draw: Draw) -> Value:
    axes = [axis for axis in range(x.tensor.rank) if draw(0, 1)] or [x.tensor.rank - 1]
    if not x.tensor.dtype.is_float:
        x = b.cast(x, DType.F32)
    return b.reduce_max(x, axes) if draw(0, 1) else b.reduce_sum(x, axes)


def argument(b: OpBuilder, x: Value, draw: Draw) -> Value:
    if not x.tensor.dtype.is_float:
        x = b.cast(x, DType.F32)
    return b.argmax(x, draw(0, x.tensor.rank - 1))


def stored_between(b: OpBuilder, x: Value, draw: Draw) -> Value:
    """A dear element: it is stored, and then read through another view."""
    y = b.tanh(x if x.tensor.dtype.is_float else b.cast(x, DType.F32))
    return b.sub(transpose(b, y, draw), b.fill((), y.tensor.dtype, 1.0))


def product(b: OpBuilder, x: Value, draw: Draw) -> Value:
    """The view as either operand, with itself transposed."""
    if not x.tensor.dtype.is_float:
        x = b.cast(x, DType.F32)
    if x.tensor.rank < 2:
        x = b.reshape(x, (1, *x.tensor.shape))
    return b.matmul(x, x, ta=False, tb=True) if draw(0, 1) else b.matmul(x, x, ta=True)


CONSUMERS = (copied, elementwise, reduced, argument, stored_between, product, product)


@dataclass(frozen=True)
class Chain:
    """A function's parameter, ops and result."""

    x: Value
    b: OpBuilder
    y: Value

    def function(self, name: str) -> Function:
        return Function(name, (Param("x", self.x),), tuple(self.b.ops), (Output("y", self.y),))

    def __repr__(self) -> str:
        return function_text(self.function("f"))


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Views of one parameter, and what reads the last of them."""

    def number(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    shape: list[Dim] = [number(1, 9) for _ in range(number(1, 3))]
    shape.append(draw(st.sampled_from([8, 24, 64, 12, 7])))
    while elements(tuple(shape)) > LARGEST:
        shape.pop(0)
    if len(shape) > 1 and number(0, 1):
        shape[0] = N
    b, x = OpBuilder(), Value(TensorType(draw(st.sampled_from(DTYPES)), tuple(shape)), "x")
    y = x
    for _ in range(number(1, 5)):
        y = draw(st.sampled_from(STEPS))(b, y, number)
        if elements(y.tensor.shape) > LARGEST or y.tensor.rank > 5:
            break
    return Chain(x, b, draw(st.sampled_from(CONSUMERS))(b, y, number))


def argument_for(chain: Chain, seed: int) -> np.ndarray:
    """Small whole numbers: sums and products of them are exact."""
    rng = np.random.default_rng(seed)
    kind = chain.x.tensor
    shape = [size(dim) for dim in kind.shape]
    return rng.integers(0, 2 if kind.dtype is DType.BOOL else 9, shape).astype(kind.dtype.numpy)


def compare(made: Sequence[Chain]) -> None:
    """Compile all functions in one module; raise AssertionError where one differs from the reference."""
    module = Module(Stage.TARGET, (), tuple(chain.function(f"f{i}") for i, chain in enumerate(made)))
    engine, reference = compile_module(module).engine(), Reference(module)
    for i, chain in enumerate(made):
        x = argument_for(chain, seed=i)
        wanted = reference.run(f"f{i}", {"x": x})["y"]
        (found,) = engine.call(f"f{i}", [engine.tensor(aligned_copy(x))])
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), chain
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6, err_msg=repr(chain))


# A failure names its function, so nothing is gained by compiling hundreds of smaller lists.
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.lists(chains(), min_size=20, max_size=20))
def test_chains_of_views(made: list[Chain]) -> None:
    compare(made)


def made(x: TensorType, view: Callable[[OpBuilder, Value], Value]) -> Chain:
    b, value = OpBuilder(), Value(x, "x")
    return Chain(value, b, view(b, value))


def heads(b: OpBuilder, x: Value) -> Value:
    """The heads of attention: half a vector from one place, half from another."""
    return b.reshape(b.transpose(b.reshape(x, (5, 2, 8, 4)), (0, 2, 1, 3)), (40, 8))


def beside_its_reverse(b: OpBuilder, x: Value) -> Value:
    """A vector of both halves begins before the tensor where the second half is its first row."""
    rows = b.reshape(x, (36, 8))
    return b.concat([rows, b(Reverse(rows, (0,)))], 1)


def test_known_chains() -> None:
    """Lanes that leave their run inside a vector; truth values in vectors; whole numbers along the lanes."""
    f32, truth, whole = (TensorType(dtype, (5, 64)) for dtype in (DType.F32, DType.BOOL, DType.I64))
    compare(
        [
            made(f32, heads),
            made(TensorType(DType.F32, (4, 9, 8)), beside_its_reverse),
            made(whole, heads),
            made(truth, heads),
            made(truth, lambda b, x: b.concat([x, x], 0)),
            made(truth, lambda b, x: b.concat([x, b.logical_not(x)], 1)),
            made(whole, lambda b, x: b.add(x, b.iota((5, 64), 1, DType.I64))),
        ]
    )
