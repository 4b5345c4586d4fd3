"""Predicted operations and bytes, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_modules import plain_mlp, private_mlp

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.tvm.build import kernel_table
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import Dim, DType, Sym, TensorType
from fluidc.compiler.ops import conv
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.runtime.kernels import FunctionKernels, KernelCall, KernelTable
from fluidc.runtime.sizes import Size

N = Sym("N")


def f32(*shape: Dim) -> TensorType:
    return TensorType(DType.F32, shape)


def table(build: Callable[[OpBuilder, dict[str, Value]], Value], **kinds: TensorType) -> FunctionKernels:
    """The kernels of one small function."""
    b = OpBuilder()
    values = {name: Value(kind, name) for name, kind in kinds.items()}
    made = build(b, values)
    params = tuple(Param(name, value) for name, value in values.items())
    module = Module(Stage.TARGET, (), (Function("f", params, tuple(b.ops), (Output("out", made),)),))
    found = kernel_table(module, BuildOptions(threads=2)).function("f")
    assert found is not None
    return found


def only(found: FunctionKernels) -> KernelCall:
    (kernel,) = found.kernels
    return kernel


def test_a_product_with_its_bias_and_activation_is_one_kernel() -> None:
    kernel = only(
        table(
            lambda b, v: b.relu(b.add(b.matmul(v["x"], v["w"]), b.broadcast(v["b"], f32(32, 48).shape))),
            x=f32(32, 100), w=f32(100, 48), b=f32(48),
        )
    )  # fmt: skip
    assert [op.op for op in kernel.ops][:1] == ["linear.matmul"]
    assert kernel.ops[kernel.main].op == "linear.matmul"
    assert kernel.work.flops == Size.of(2 * 32 * 100 * 48 + 2 * 32 * 48), "the sum and the maximum of an element"
    assert kernel.work.read == Size.of(4 * (32 * 100 + 100 * 48 + 48))
    assert kernel.work.written == Size.of(4 * 32 * 48)
    assert kernel.work.integer == Size.of(0)


def test_a_symbolic_batch_stays_a_symbol() -> None:
    kernel = only(table(lambda b, v: b.matmul(v["x"], v["w"]), x=f32(N, 100), w=f32(100, 48)))
    assert str(kernel.work.flops) == f"{2 * 100 * 48}*N"
    assert str(kernel.work.read) == f"{400}*N+{4 * 100 * 48}"
    assert str(kernel.work.written) == "192*N"


def test_a_batched_product_counts_every_product() -> None:
    kernel = only(table(lambda b, v: b.matmul(v["x"], v["w"]), x=f32(3, 8, 20), w=f32(3, 20, 16)))
    assert kernel.work.flops == Size.of(2 * 3 * 8 * 20 * 16)
    assert kernel.work.read == Size.of(4 * 3 * (8 * 20 + 20 * 16))


def test_a_reduction_counts_its_body_and_its_sums() -> None:
    kernel = only(table(lambda b, v: b.reduce_sum(b.square(v["x"]), (1,)), x=f32(10, 30)))
    assert kernel.work.flops == Size.of(2 * 10 * 30)
    assert kernel.work.read == Size.of(4 * 300)
    assert kernel.work.written == Size.of(4 * 10)


def test_an_elementary_function_counts_ten() -> None:
    kernel = only(table(lambda b, v: b.exp(v["x"]), x=f32(10, 30)))
    assert kernel.work.flops == Size.of(10 * 300)


def test_of_a_table_no_more_is_read_than_is_looked_up() -> None:
    def look_up(rows: int) -> KernelCall:
        ids = TensorType(DType.I64, (5,))
        return only(table(lambda b, v: b.gather(v["table"], v["ids"], 0), table=f32(rows, 16), ids=ids))

    assert look_up(1000).work.read == Size.of(4 * 5 * 16 + 8 * 5)
    assert look_up(3).work.read == Size.of(4 * 3 * 16 + 8 * 5), "the whole table where that is less"


@pytest.mark.parametrize(
    ("image", "filters", "stride", "pad"),
    [(28, 8, 2, 3), (13, 4, 2, 0), (32, 3, 1, 1), (16, 3, 2, 1), (9, 1, 1, 0)],
)
def test_a_convolution_and_its_gradients_count_as_many_products(
    image: int, filters: int, stride: int, pad: int
) -> None:
    """2 · outputs · channels · filter, whatever zeros the loops multiply by."""
    x, w = f32(4, 3, image, image), f32(5, 3, filters, filters)
    out = (image + 2 * pad - filters) // stride + 1
    ct = f32(4, 5, out, out)
    geometry: dict[str, Any] = {"strides": (stride, stride), "pads": (pad, pad, pad, pad), "dilations": (1, 1)}
    expected = 2 * 4 * 5 * out * out * 3 * filters * filters
    makers: list[tuple[Callable[[OpBuilder, dict[str, Value]], Value], dict[str, TensorType]]] = [
        (lambda b, v: b(conv.Conv2d(v["x"], v["w"], **geometry)), {"x": x, "w": w}),
        (lambda b, v: b(conv.Conv2dInputGrad(v["w"], v["ct"], x.shape, **geometry)), {"w": w, "ct": ct}),
        (lambda b, v: b(conv.Conv2dFilterGrad(v["x"], v["ct"], w.shape, **geometry)), {"x": x, "ct": ct}),
    ]
    for make, kinds in makers:
        found = table(make, **kinds)
        counted = max(kernel.work.flops.at({}) for kernel in found.kernels)
        assert counted == expected, kinds


def test_memory_of_intermediates_and_its_peak() -> None:
    found = table(
        lambda b, v: b.matmul(b.matmul(b.matmul(v["x"], v["w"]), v["w"]), v["w"]), x=f32(32, 48), w=f32(48, 48)
    )
    assert len(found.kernels) == 3
    size = 4 * 32 * 48
    assert found.memory() == (Size.of(2 * size), Size.of(2 * size)), "both are alive while the second product runs"
    assert found.lifetimes() == {2: (0, 1), 3: (1, 2)}


def lowered(module: Module) -> KernelTable:
    return kernel_table(run_passes(module, pipeline(module, batch=256)), BuildOptions(threads=2))


def test_state_is_updated_where_it_lies() -> None:
    step = lowered(plain_mlp()).function("step")
    assert step is not None
    updated = {step.buffers[number].name for kernel in step.kernels for number in kernel.updated}
    assert updated == {"w0", "b0", "w1"}
    assert all(step.buffers[number].kind == "result" for number in step.results)


@pytest.mark.parametrize("private", [False, True])
def test_products_of_a_step_add_up(private: bool) -> None:
    """Forward, and back to the weights; the first layer's inputs have no gradient."""
    step = lowered(private_mlp() if private else plain_mlp()).function("step")
    assert step is not None
    products = [k for k in step.kernels if k.ops[k.main].op == "linear.matmul"]
    forward = 2 * 256 * (8 * 4 + 4 * 3)
    backward = forward + 2 * 256 * 4 * 3
    counted = sum(kernel.work.flops.at({}) for kernel in products)
    assert forward + backward <= counted < 1.5 * (forward + backward), "what is fused behind them comes on top"


def test_noise_is_integer_work() -> None:
    step, plain = lowered(private_mlp()).function("step"), lowered(plain_mlp()).function("step")
    assert step is not None
    assert plain is not None
    assert sum(k.work.integer.at({}) for k in step.kernels) == 98 * (8 * 4 + 4 + 4 * 3)
    assert sum(k.work.integer.at({}) for k in plain.kernels) == 0
