"""How images lie in memory, and convolutions among other ops, where they lie with channels innermost."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.codegen.tvm.define import FunctionScope
from fluidc.compiler.codegen.tvm.fuse import plan
from fluidc.compiler.codegen.tvm.graph import TensorDef
from fluidc.compiler.codegen.tvm.nests import Plan, ReduceNest
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import Dim, DType, Sym, TensorType
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.conv import Conv2d
from fluidc.compiler.ops.norm import GroupNorm
from fluidc.compiler.ops.pool import MaxPool2d
from fluidc.compiler.ops.region import pullback
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")
N = Sym("N")
CHANNELS_LAST = (0, 2, 3, 1)


def f32(*shape: Dim) -> TensorType:
    return TensorType(DType.F32, shape)


def module_of(build: Callable[[OpBuilder, dict[str, Value]], dict[str, Value]], **kinds: TensorType) -> Module:
    b = OpBuilder()
    values = {name: Value(kind, name) for name, kind in kinds.items()}
    outputs = tuple(Output(name, value) for name, value in build(b, values).items())
    params = tuple(Param(name, value) for name, value in values.items())
    return Module(Stage.TARGET, (), (Function("f", params, tuple(b.ops), outputs),))


def planned(module: Module) -> tuple[Plan, FunctionScope]:
    scope = FunctionScope(module, module.function("f"))
    return plan(scope.emitter.tensors, scope.outputs, scope.writes, scope.emitter.keep), scope


def images(found: Plan) -> dict[str, list[TensorDef]]:
    """Stored tensors with four axes, by the op that makes them."""
    made: dict[str, list[TensorDef]] = {}
    for group in found.groups:
        for tensor in group.stores():
            if len(tensor.shape) == 4:
                made.setdefault(tensor.name, []).append(tensor)
    return made


# Choices --------------------------------------------------------------------------------------------------
def test_images_between_convolutions_have_their_channels_innermost() -> None:
    def network(b: OpBuilder, v: dict[str, Value]) -> dict[str, Value]:
        h = b(MaxPool2d(b.relu(b(Conv2d(v["x"], v["w"]))), kernel=(2, 2), strides=(2, 2)))
        return {"y": b(Conv2d(h, v["u"]))}

    found, scope = planned(module_of(network, x=f32(8, 3, 12, 12), w=f32(20, 3, 3, 3), u=f32(24, 20, 3, 3)))
    stored = [tensor for group in images(found).values() for tensor in group]
    (output,) = scope.outputs
    inner = [tensor for tensor in stored if tensor is not output]
    assert inner
    assert {tensor.layout for tensor in inner} == {CHANNELS_LAST}
    assert output.layout is None, "what others see is row-major"
    assert all(tensor.layout is None for tensor in scope.params)


def test_rows_of_a_matrix_product_keep_their_order() -> None:
    """A flatten reads its images as they are listed: the last ones before it stay row-major."""

    def network(b: OpBuilder, v: dict[str, Value]) -> dict[str, Value]:
        h = b.relu(b(Conv2d(b.relu(b(Conv2d(v["x"], v["w"]))), v["u"])))
        return {"y": b.matmul(b.reshape(h, (8, 24 * 64)), v["m"])}

    kinds = {"x": f32(8, 3, 12, 12), "w": f32(20, 3, 3, 3), "u": f32(24, 20, 3, 3), "m": f32(24 * 64, 10)}
    found, _ = planned(module_of(network, **kinds))
    layouts = {tensor.shape[1]: tensor.layout for group in images(found).values() for tensor in group}
    assert layouts == {20: CHANNELS_LAST, 24: None}


def test_without_convolutions_everything_is_row_major() -> None:
    module = module_of(
        lambda b, v: {"y": b(MaxPool2d(b.matmul(v["x"], v["w"]), kernel=(2, 2)))}, x=f32(2, 3, 8, 9), w=f32(9, 8)
    )
    assert all(tensor.layout is None for group in images(planned(module)[0]).values() for tensor in group)


def grouped(b: OpBuilder, v: dict[str, Value]) -> dict[str, Value]:
    """Something over groups of 5 channels between two convolutions."""
    h = b.exp(b.reshape(b(Conv2d(v["x"], v["w"])), (8, 4, 5, 7, 7)))
    total = b.reduce_sum(h, (2, 3, 4), keepdims=True)
    shares = b.div(h, b.broadcast(total, h.tensor.shape))
    return {"y": b(Conv2d(b.reshape(shares, (8, 20, 7, 7)), v["u"]))}


GROUPED = {"x": f32(8, 3, 9, 9), "w": f32(20, 3, 3, 3), "u": f32(24, 20, 3, 3)}


def test_groups_of_channels_lie_as_the_channels_do() -> None:
    found, scope = planned(module_of(grouped, **GROUPED))
    outside = {*scope.outputs, *scope.params}
    made = [tensor for group in found.groups for tensor in group.stores() if tensor not in outside]
    assert {tensor.layout for tensor in made if tensor.shape == (8, 4, 5, 7, 7)} == {(0, 3, 4, 1, 2)}
    assert {tensor.layout for tensor in made if len(tensor.shape) == 4} <= {CHANNELS_LAST}


def test_sums_over_groups_of_channels_run_in_two_steps() -> None:
    """First over the pixels, channels side by side; then over the channels of a group."""
    found, _ = planned(module_of(grouped, **GROUPED))
    nests = [nest for group in found.groups for nest in group.nests]
    sums = [part for nest in nests if isinstance(nest, ReduceNest) for part in nest.sums.parts]
    last = [part for part in sums if [index.extent for index in part.reduced] == [5]]
    assert last
    for part in last:
        (read,) = part.reads()
        assert read.tensor.shape == (*part.shape, 5)
        (first,) = (other for other in sums if other is read.tensor or other.shape == read.tensor.shape)
        assert [index.extent for index in first.reduced] == [7, 7]


# Results --------------------------------------------------------------------------------------------------
def agree(module: Module, options: Options | None = None, **sizes: tuple[int, ...]) -> None:
    """The compiled function beside the reference, on random numbers."""
    function = module.function("f")
    arrays: dict[str, np.ndarray] = {}
    for number, param in enumerate(function.params):
        shape = sizes.get(param.name) or tuple(int(str(dim)) for dim in param.value.tensor.shape)
        scale = 0.5 if len(shape) == 4 and number else 1.0
        arrays[param.name] = (scale * np.random.default_rng((number, *shape)).normal(size=shape)).astype(np.float32)
    engine = compile_module(module, options).engine()
    found = engine.call("f", [engine.tensor(aligned_copy(array)) for array in arrays.values()])
    wanted = Reference(module).run("f", arrays)
    for have, (name, want) in zip(found, wanted.items(), strict=True):
        size = max(1.0, float(np.abs(want).max(initial=0)))
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5 * size, err_msg=name)


def gradients(b: OpBuilder, y: Value, v: dict[str, Value], *names: str) -> dict[str, Value]:
    """Those of the sum of ``y``."""
    ops = tuple(b.ops)
    found = pullback(b, ops, [(y, b.ones_like(y))], [v[name] for name in names])
    made = {f"d{name}": grad for name, grad in zip(names, found, strict=True) if grad is not None}
    assert len(made) == len(names)
    return made


def normalised(b: OpBuilder, v: dict[str, Value]) -> dict[str, Value]:
    """A group norm between two convolutions, and the gradients of both filters."""
    norm = GroupNorm(b(Conv2d(v["x"], v["w"])), v["scale"], v["bias"], groups=4)
    y = b(Conv2d(b.relu(norm.decompose(b)[0]), v["u"]))
    return {"y": y} | gradients(b, b.mul(y, y), v, "w", "u")


def test_groups_of_channels_between_convolutions() -> None:
    agree(module_of(grouped, **GROUPED))
    agree(module_of(normalised, **GROUPED, scale=f32(20), bias=f32(20)))


def chain(n: Dim, x: tuple[int, ...], w: tuple[int, ...], u: tuple[int, ...], **geometry: Any) -> Module:
    """conv, relu, max pool, conv, flatten, matrix product; with the gradients of all operands."""

    def network(b: OpBuilder, v: dict[str, Value]) -> dict[str, Value]:
        first = b.relu(b(Conv2d(v["x"], v["w"], **geometry)))
        pooled = b(MaxPool2d(first, kernel=(2, 2), strides=(1, 1), pads=(1, 1, 0, 0)))
        second = b(Conv2d(pooled, v["u"], pads=(1, 1, 1, 1)))
        rows = b.reshape(second, (n, int(np.prod([int(str(dim)) for dim in second.tensor.shape[1:]]))))
        y = b.mul(rows, rows)
        return {"y": b.reduce_sum(y, (1,))} | gradients(b, y, v, "x", "w", "u")

    return module_of(network, x=f32(n, *x), w=f32(*w), u=f32(*u))


CHAINS: dict[str, tuple[Dim, tuple[int, ...], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "stride 1": (4, (3, 8, 8), (17, 3, 3, 3), (6, 17, 3, 3), {"pads": (1, 1, 1, 1)}),
    "stride 2": (6, (4, 9, 11), (16, 4, 4, 3), (5, 16, 2, 3), {"strides": (2, 2), "pads": (1, 0, 2, 1)}),
    "stride 3, filter below": (3, (5, 10, 10), (8, 5, 2, 2), (8, 8, 3, 3), {"strides": (3, 3)}),
    "dilation 2": (2, (2, 12, 11), (8, 2, 3, 3), (3, 8, 3, 3), {"dilations": (2, 2), "pads": (2, 2, 2, 2)}),
    "dilation 2, stride 2": (2, (2, 12, 11), (8, 2, 3, 2), (3, 8, 1, 1), {"dilations": (2, 2), "strides": (2, 2)}),
    "groups": (4, (6, 7, 7), (9, 2, 3, 3), (4, 9, 3, 3), {"groups": 3}),
    "1 x 1": (5, (7, 6, 6), (18, 7, 1, 1), (4, 18, 1, 1), {}),
    "one channel": (2, (1, 9, 9), (1, 1, 5, 5), (1, 1, 3, 3), {"strides": (2, 2), "pads": (2, 2, 2, 2)}),
    "one image": (1, (3, 6, 7), (16, 3, 3, 3), (16, 16, 3, 3), {}),
    "a prime of images": (13, (2, 6, 6), (16, 2, 3, 3), (3, 16, 3, 3), {}),
    "any number of images": (N, (2, 6, 6), (16, 2, 3, 3), (3, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
}


@pytest.mark.parametrize("name", CHAINS)
def test_convolutions_in_a_chain(name: str) -> None:
    n, x, w, u, geometry = CHAINS[name]
    agree(chain(n, x, w, u, **geometry), x=(n if isinstance(n, int) else 7, *x))


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_any_geometry_in_a_chain(data: st.DataObject) -> None:
    def few(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    strides, dilations = (few(1, 3), few(1, 3)), (few(1, 2), few(1, 2))
    size, pads = (few(1, 4), few(1, 4)), (few(0, 2), few(0, 2), few(0, 2), few(0, 2))
    groups = few(1, 2)
    least = [dilation * (extent - 1) + 1 for dilation, extent in zip(dilations, size, strict=True)]
    x = (groups * few(1, 3), least[0] + few(0, 5), least[1] + few(0, 5))
    w = (groups * few(1, 9), x[0] // groups, *size)
    module = chain(
        few(1, 5), x, w, (few(1, 17), w[0], 3, 3), strides=strides, dilations=dilations, pads=pads, groups=groups
    )
    agree(module)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.filterwarnings("ignore:.* threads")
def test_borders_with_channels_innermost(threads: int) -> None:
    """``Options.channels_last``: the same numbers, passed in and out as [N, H, W, C]."""

    def network(b: OpBuilder, v: dict[str, Value]) -> dict[str, Value]:
        return {"y": b(Conv2d(v["x"], v["w"], pads=(1, 1, 1, 1)))}

    module = module_of(network, x=f32(6, 20, 14, 14), w=f32(33, 20, 3, 3))
    x, w = (
        np.random.default_rng(shape).normal(size=shape).astype(np.float32)
        for shape in ((6, 20, 14, 14), (33, 20, 3, 3))
    )
    (wanted,) = Reference(module).run("f", {"x": x, "w": w}).values()
    engine = compile_module(module, Options(host_cpu(), threads, channels_last=("x", "y"))).engine()
    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(x.shape)
    (found,) = engine.call("f", [engine.tensor(aligned_copy(array)) for array in (turned, w)])
    np.testing.assert_allclose(found.reshape(6, 14, 14, 33).transpose(0, 3, 1, 2), wanted, rtol=1e-4, atol=1e-4)
