"""Noise and clip factors inside the kernels that use them, against the reference rules."""

from __future__ import annotations

import numpy as np
import pytest
from tvm_rules import module_of

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import named_cpu
from fluidc.compiler.codegen.tvm.define import FunctionScope
from fluidc.compiler.codegen.tvm.fuse import plan
from fluidc.compiler.codegen.tvm.llvm import cpu_host
from fluidc.compiler.codegen.tvm.nests import KeystreamNest, Plan
from fluidc.compiler.codegen.tvm.streams import fuse_streams
from fluidc.compiler.ir.core import Function, Module, Output, Param, StateName, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import Dim, DType, Sym, TensorType
from fluidc.compiler.ops import dp, dp_noise, embedding
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.runtime import keystream
from fluidc.runtime.engine import aligned_copy

N = Sym("N")
KEY, DRAW = np.arange(8, dtype=np.uint32) * np.uint32(0x9E3779B9), np.array(2**33 + 1, np.uint64)
KEY_TYPES = (TensorType(DType.U32, (8,)), TensorType(DType.U64, ()))
SIGMA, CLIP, LOT = 1.5, 2.0, 4.0


def f32(*shape: Dim) -> TensorType:
    return TensorType(DType.F32, shape)


def noisy(b: OpBuilder, total: Value, key: Value, draw: Value) -> Value:
    return b(dp_noise.AddNoise(total, None, key, draw, 3, SIGMA, CLIP, LOT, StateName("w")))


def weight_gradient(rows: Dim, inputs: int, outputs: int) -> Module:
    """The clipped and noisy gradient of a layer's weights."""
    b = OpBuilder()
    kinds = {"x": f32(rows, inputs), "d": f32(rows, outputs), "c": f32(rows)}
    values = {name: Value(kind, name) for name, kind in (*kinds.items(), *zip(("key", "draw"), KEY_TYPES, strict=True))}
    x, c = values["x"], values["c"]
    total = b.matmul(b(dp.SelectRows(x, c)), b(dp.ScaleRows(values["d"], c)), ta=True)
    made = noisy(b, total, values["key"], values["draw"])
    params = tuple(Param(name, value) for name, value in values.items())
    return Module(Stage.TARGET, (), (Function("f", params, tuple(b.ops), (Output("g", made),)),))


def planned(module: Module) -> Plan:
    scope = FunctionScope(module, module.function("f"))
    found = plan(scope.emitter.tensors, scope.outputs, scope.writes, scope.emitter.keep)
    fuse_streams(found, cpu_host())
    return found


def streams_left(module: Module) -> int:
    return sum(isinstance(nest, KeystreamNest) for group in planned(module).groups for nest in group.nests)


def run(module: Module, arrays: dict[str, np.ndarray], threads: int = 2) -> np.ndarray:
    engine = compile_module(module, Options(named_cpu("native"), threads)).engine()
    (found,) = engine.call("f", [engine.tensor(aligned_copy(arrays[p.name])) for p in module.function("f").params])
    return found


def batch(rows: int, inputs: int, outputs: int) -> dict[str, np.ndarray]:
    """Every third row is dead, and holds what must not spread."""
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    d = rng.normal(size=(rows, outputs)).astype(np.float32)
    c = rng.uniform(0.1, 1, size=rows).astype(np.float32)
    c[::3], x[::3], d[::6] = 0, np.nan, np.inf
    return {"x": x, "d": d, "c": c, "key": KEY, "draw": DRAW}


# 51 200 = 320 groups of 160 normals; the other sizes end within a group, a strip of rows, or a panel of columns.
SIZES = [(64, 256, 200), (37, 333, 157), (700, 409, 131), (1, 257, 199)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_noisy_weight_gradient(size: tuple[int, int, int], symbolic: bool, threads: int) -> None:
    rows, inputs, outputs = size
    module = weight_gradient(N if symbolic else rows, inputs, outputs)
    arrays = batch(*size)
    expected = np.asarray(Reference(module).run("f", arrays, {})["g"])
    found = run(module, arrays, threads)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.sqrt(rows))


def test_no_stream_and_no_copy_of_the_inputs_is_stored() -> None:
    module = weight_gradient(64, 256, 200)
    (group,) = planned(module).groups
    assert len(group.stores()) == 1
    assert streams_left(weight_gradient(64, 200, 200)) == 1, "small streams share one kernel"


@pytest.mark.parametrize("shape", [(1000, 64), (313, 7, 25), (1, 800, 67)])
def test_noise_of_a_table(shape: tuple[int, ...]) -> None:
    """Element-by-element readers, as the update of an embedding."""
    b = OpBuilder()
    values = [Value(kind, name) for name, kind in zip(("x", "key", "draw"), (f32(*shape), *KEY_TYPES), strict=True)]
    made = noisy(b, values[0], values[1], values[2])
    params = tuple(Param(value.hint, value) for value in values)
    module = Module(Stage.TARGET, (), (Function("f", params, tuple(b.ops), (Output("g", made),)),))
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    arrays = {"x": x, "key": KEY, "draw": DRAW}
    assert streams_left(module) == 0
    expected = np.asarray(Reference(module).run("f", arrays, {})["g"])
    np.testing.assert_allclose(run(module, arrays), expected, rtol=0, atol=2e-6)


def test_a_reader_in_another_order_takes_a_stored_stream() -> None:
    shape = (300, 200)
    stream = keystream.words(KEY, domain=keystream.Domain.GRADIENT, tensor=3, draw=int(DRAW), count_blocks=6000)
    normals = keystream.normals_from_words(stream, 60_000)

    def transposed(t, key, draw):
        made = t.chacha_normals(key, draw, 3, 1, 60_000)
        return (t.compute(shape, DType.F32, lambda i, j: made[j * 300 + i] + 1.0),)

    module = module_of(KEY_TYPES, [f32(*shape)], transposed)
    assert streams_left(module) == 1
    found = run(module, {"x0": KEY, "x1": DRAW})
    np.testing.assert_allclose(found, normals.reshape(200, 300).T + 1, rtol=0, atol=2e-6)


def test_a_stream_with_two_readers_is_stored() -> None:
    def twice(t, key, draw):
        made = t.chacha_normals(key, draw, 3, 1, 60_000)
        first = t.compute((300, 200), DType.F32, lambda i, j: made[i * 200 + j] + 1.0)
        return first, t.compute((600, 100), DType.F32, lambda i, j: made[i * 100 + j] * 2.0)

    module = module_of(KEY_TYPES, [f32(300, 200), f32(600, 100)], twice)
    assert streams_left(module) == 1


def test_clipped_gradient_of_a_table_keeps_no_scaled_copy() -> None:
    """The rows of a lookup's gradient are scaled as they are added up."""
    b = OpBuilder()
    kinds = {"ids": TensorType(DType.I64, (N, 5)), "d": f32(N, 5, 8), "c": f32(N)}
    values = {name: Value(kind, name) for name, kind in kinds.items()}
    scaled = b(dp.ScaleRows(values["d"], values["c"]))
    made = b(embedding.LookupGrad(values["ids"], scaled, 30))
    params = tuple(Param(name, value) for name, value in values.items())
    module = Module(Stage.TARGET, (), (Function("f", params, tuple(b.ops), (Output("g", made),)),))
    (group,) = planned(module).groups
    assert [tensor.shape for tensor in group.stores()] == [(30, 8)]
    rng = np.random.default_rng(3)
    arrays = {"ids": rng.integers(0, 30, (9, 5)), "d": rng.normal(size=(9, 5, 8)).astype(np.float32)}
    arrays["c"] = rng.uniform(0.1, 1, 9).astype(np.float32)
    arrays["c"][4], arrays["d"][4] = 0, np.nan
    expected = np.asarray(Reference(module).run("f", arrays, {})["g"])
    np.testing.assert_allclose(run(module, arrays), expected, rtol=0, atol=1e-6)
