"""The CPU code generator: kernels against numpy, updates in place, shared libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from tvm_rules import module_of

from fluidc.compiler.codegen.tvm import link
from fluidc.compiler.codegen.tvm.build import Compiled, compile_module
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.codegen.tvm.define import FunctionScope
from fluidc.compiler.codegen.tvm.fuse import plan
from fluidc.compiler.codegen.tvm.nests import Plan
from fluidc.compiler.errors import TargetError
from fluidc.compiler.ir.core import Function, Module, Output, Param, StateDecl, StateName, Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Shape, Sym, TensorType
from fluidc.compiler.ops import state
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.runtime import keystream
from fluidc.runtime.engine import aligned_copy
from fluidc.runtime.errors import EngineError
from fluidc.runtime.tvm_engine import TvmEngine

os.environ.setdefault("TVM_NUM_THREADS", "2")
N = Sym("N")
F32 = DType.F32


def f32(*shape: Any) -> TensorType:
    return TensorType(F32, shape)


def run(engine: Any, function: str, *arrays: np.ndarray) -> list[np.ndarray]:
    return engine.call(function, [engine.tensor(aligned_copy(x)) for x in arrays])


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def plan_of(module: Module, function: str) -> Plan:
    scope = FunctionScope(module, module.function(function))
    return plan(scope.emitter.tensors, scope.outputs, scope.writes, scope.emitter.keep)


# Kernels --------------------------------------------------------------------------------------------------

PRODUCTS = [(64, 64, 64), (37, 45, 23), (7, 3, 5), (4, 40, 9), (1, 16, 8), (130, 1, 7), (5, 17, 1030), (50, 80, 600)]


def test_products() -> None:
    """Every orientation, tails in every extent, an inner extent above one pass, an epilogue."""
    built: list[Function] = []
    wanted: list[tuple[list[np.ndarray], np.ndarray]] = []
    for m, n, k in PRODUCTS:
        for ta, tb in ((False, False), (True, False), (False, True), (True, True)):
            a = floats(*((k, m) if ta else (m, k)), seed=m)
            b = floats(*((n, k) if tb else (k, n)), seed=n)
            c = floats(n, seed=k)

            def rule(t: Any, x: Any, y: Any, z: Any, ta: bool = ta, tb: bool = tb) -> Any:
                return t.pointwise(lambda u, v: t.maximum(u + v, 0.0), t.matmul(x, y, ta, tb), z)

            module = module_of([f32(*a.shape), f32(*b.shape), f32(n)], [f32(m, n)], rule)
            built.append(_renamed(module.functions[0], f"f{len(built)}"))
            product = (a.T if ta else a).astype(np.float64) @ (b.T if tb else b) + c
            wanted.append(([a, b, c], np.maximum(product, 0)))
    engine = compile_module(Module(Stage.TARGET, (), tuple(built))).engine()
    for i, (arrays, expected) in enumerate(wanted):
        (found,) = run(engine, f"f{i}", *arrays)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6 * np.abs(expected).max())


def _renamed(function: Function, name: str) -> Function:
    return Function(name, function.params, function.ops, function.outputs)


@pytest.mark.parametrize("rows", [1, 5, 6, 64, 257])
def test_symbolic_products(rows: int) -> None:
    """The batch as rows of a product, and as its inner extent: one build for every size."""

    def rule(t: Any, x: Any, w: Any, g: Any) -> Any:
        return t.matmul(x, w, False, False), t.matmul(x, g, True, False)

    module = module_of([f32(N, 23), f32(23, 45), f32(N, 10)], [f32(N, 45), f32(23, 10)], rule)
    x, w, g = floats(rows, 23), floats(23, 45), floats(rows, 10)
    forward, backward = run(compile_module(module).engine(), "f", x, w, g)
    np.testing.assert_allclose(forward, x @ w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(backward, x.T @ g, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shapes", [((3, 4, 20, 30), (4, 30, 11)), ((3, 4, 20, 30), (30, 11)), ((1, 9, 8), (5, 8, 6))])
def test_batched_products(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a, b = floats(*shapes[0]), floats(*shapes[1])
    expected = a @ b
    types = [f32(*a.shape), f32(*b.shape)]
    module = module_of(types, [f32(*expected.shape)], lambda t, x, y: t.matmul(x, y, False, False))
    (found,) = run(compile_module(module).engine(), "f", a, b)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@dataclass(frozen=True)
class Geometry:
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    groups: int


GEOMETRIES = [
    ((2, 3, 9, 11), (5, 3, 3, 2), Geometry((2, 1), (1, 0, 2, 1), (1, 1), 1)),
    ((3, 4, 9, 9), (6, 2, 3, 3), Geometry((2, 2), (1, 1, 1, 1), (1, 1), 2)),
    ((2, 4, 12, 12), (4, 1, 3, 3), Geometry((1, 1), (2, 2, 2, 2), (2, 2), 4)),
    ((2, 1, 5, 5), (1, 1, 1, 1), Geometry((1, 1), (0, 0, 0, 0), (1, 1), 1)),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "geometry"), GEOMETRIES)
def test_convolution(x_shape: tuple[int, ...], w_shape: tuple[int, ...], geometry: Geometry) -> None:
    x, w = floats(*x_shape), floats(*w_shape)
    y = _convolve(x, w, geometry)
    ct = floats(*y.shape)

    def rule(t: Any, x: Any, w: Any, ct: Any) -> Any:
        return (
            t.conv2d(x, w, ct.shape, geometry),
            t.conv2d_input_grad(w, ct, x.shape, geometry),
            t.conv2d_filter_grad(x, ct, w.shape, geometry),
        )

    batch: Shape = (N, *y.shape[1:])
    images, filters = f32(N, *x_shape[1:]), f32(*w_shape)
    module = module_of([images, filters, f32(*batch)], [f32(*batch), images, filters], rule)
    found = run(compile_module(module).engine(), "f", x, w, ct)
    np.testing.assert_allclose(found[0], y, rtol=1e-4, atol=1e-5)
    # A convolution is linear in each operand, so its gradients are its transposes.
    dx, dw = floats(*x_shape, seed=5), floats(*w_shape, seed=6)
    transposed = np.vdot(ct, _convolve(dx, w, geometry)), np.vdot(ct, _convolve(x, dw, geometry))
    assert np.vdot(found[1].astype(np.float64), dx) == pytest.approx(transposed[0], rel=1e-4, abs=1e-3)
    assert np.vdot(found[2].astype(np.float64), dw) == pytest.approx(transposed[1], rel=1e-4, abs=1e-3)


def _convolve(x: np.ndarray, w: np.ndarray, g: Geometry) -> np.ndarray:
    """Explicit loops over the window, in float64."""
    top, left, bottom, right = g.pads
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, inputs, kh, kw = w.shape
    (sh, sw), (dh, dw) = g.strides, g.dilations
    height = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((len(x), outputs, height, width))
    per_group = outputs // g.groups
    for o in range(outputs):
        for c in range(inputs):
            for i in range(kh):
                for j in range(kw):
                    plane = padded[:, o // per_group * inputs + c]
                    y[:, o] += w[o, c, i, j] * plane[:, i * dh :: sh, j * dw :: sw][:, :height, :width]
    return y


@pytest.mark.parametrize("count", [1, 159, 160, 161, 40_000])
def test_noise(count: int) -> None:
    """Words bit for bit, normals to 1e-6, as runtime/keystream.py defines them."""
    blocks = count // 16 + 1
    types = [TensorType(DType.U32, (8,)), TensorType(DType.U64, ())]
    module = module_of(
        types, [TensorType(DType.U32, (16 * blocks,)), f32(count)],
        lambda t, key, draw: (t.chacha_words(key, draw, 7, 1, blocks), t.chacha_normals(key, draw, 7, 1, count)),
    )  # fmt: skip
    key, draw = np.arange(8, dtype=np.uint32) * np.uint32(0x1234567) + np.uint32(7), 2**40 + 5
    words, normals = run(compile_module(module).engine(), "f", key, np.array(draw, np.uint64))
    stream = {"domain": keystream.Domain.GRADIENT, "tensor": 7, "draw": draw}
    expected = keystream.words(key, **stream, count_blocks=max(blocks, keystream.blocks_for(count)))
    np.testing.assert_array_equal(words, expected.reshape(-1)[: 16 * blocks])
    np.testing.assert_allclose(normals, keystream.normals_from_words_f64(expected, count), rtol=0, atol=1e-6)


def test_unsigned_arithmetic_wraps() -> None:
    u32 = TensorType(DType.U32, (11,))
    module = module_of([u32, u32], [u32, u32, u32], lambda t, x, y: tuple(
        t.pointwise(f, x, y) for f in (lambda a, b: (a + b) + 3, lambda a, b: a - b, lambda a, b: a * b)
    ))  # fmt: skip
    x = np.random.default_rng(0).integers(0, 2**32, 11, dtype=np.uint32)
    y = x[::-1].copy()
    found = run(compile_module(module).engine(), "f", x, y)
    for have, want in zip(found, (x + y + np.uint32(3), x - y, x * y), strict=True):
        np.testing.assert_array_equal(have, want)


def test_a_branch_not_taken_is_not_read() -> None:
    """Padding by ``select`` reads nothing outside the tensor, whatever the vector width."""
    module = module_of([f32(13)], [f32(40)], lambda t, x: t.compute(
        (40,), F32, lambda i: t.select((i >= 9) & (i < 22), x[i - 9], 0)
    ))  # fmt: skip
    x = floats(13)
    (found,) = run(compile_module(module).engine(), "f", x)
    np.testing.assert_array_equal(found, np.pad(x, (9, 18)))


# State ----------------------------------------------------------------------------------------------------


def updates(*writes: Callable[[OpBuilder, dict[str, Value]], Value | None], fetch: str = "") -> Module:
    """A function ``f`` over state a, b: f32[3,5]; ``writes`` give their new values."""
    b, kind = OpBuilder(), f32(3, 5)
    declared = tuple(StateDecl(name, kind) for name in "ab")
    read = {d.name: b(state.Read(StateName(d.name), kind)) for d in declared}
    new = [write(b, read) for write in writes]
    for name, value in zip("ab", new, strict=True):
        if value is not None:
            b.emit(state.Write(value, StateName(name)))
    outputs = (Output("fetch", read[fetch]),) if fetch else ()
    return Module(Stage.TARGET, declared, (Function("f", (), tuple(b.ops), outputs),))


def after(module: Module) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    engine = compile_module(module).engine()
    a, b = aligned_copy(floats(3, 5, seed=1)), aligned_copy(floats(3, 5, seed=2))
    fetched = engine.call("f", [engine.tensor(a), engine.tensor(b)])
    return a, b, fetched


OLD_A, OLD_B = floats(3, 5, seed=1), floats(3, 5, seed=2)


def test_update_in_place() -> None:
    module = updates(lambda b, s: b.add(s["a"], s["b"]), lambda b, s: b.scale(s["b"], 2.0))
    a, b, _ = after(module)
    np.testing.assert_array_equal(a, OLD_A + OLD_B)
    np.testing.assert_array_equal(b, OLD_B * 2)
    assert len(plan_of(module, "f").in_place) == 2


def test_swap() -> None:
    a, b, _ = after(updates(lambda b, s: s["b"], lambda b, s: s["a"]))
    np.testing.assert_array_equal(a, OLD_B)
    np.testing.assert_array_equal(b, OLD_A)


def test_old_value_moves_on() -> None:
    """b takes a's old value while a is updated."""
    a, b, _ = after(updates(lambda b, s: b.add(s["a"], s["a"]), lambda b, s: s["a"]))
    np.testing.assert_array_equal(a, OLD_A * 2)
    np.testing.assert_array_equal(b, OLD_A)


def test_crossed_updates() -> None:
    """Each new value reads both old ones."""
    a, b, _ = after(updates(lambda b, s: b.sub(s["a"], s["b"]), lambda b, s: b.add(s["a"], s["b"])))
    np.testing.assert_array_equal(a, OLD_A - OLD_B)
    np.testing.assert_array_equal(b, OLD_A + OLD_B)


def test_transposed_read_is_not_overwritten_early() -> None:
    def mirrored(b: OpBuilder, s: dict[str, Value]) -> Value:
        flat = b.reshape(s["a"], (5, 3))
        return b.reshape(b.transpose(flat, (1, 0)), (3, 5))

    a, _, _ = after(updates(mirrored, lambda b, s: None))
    np.testing.assert_array_equal(a, OLD_A.reshape(5, 3).T)


def test_fetched_state_is_a_copy() -> None:
    a, _, (fetched,) = after(updates(lambda b, s: b.scale(s["a"], 3.0), lambda b, s: None, fetch="a"))
    np.testing.assert_array_equal(fetched, OLD_A)
    np.testing.assert_array_equal(a, OLD_A * np.float32(3))


# Artifacts ------------------------------------------------------------------------------------------------


def product_module() -> Module:
    return module_of([f32(N, 9), f32(9, 20)], [f32(N, 20)], lambda t, x, w: t.matmul(x, w, False, False))


def test_shared_library_is_deterministic_and_runs() -> None:
    first = compile_module(product_module()).members()["module.so"]
    assert compile_module(product_module()).members()["module.so"] == first
    x, w = floats(11, 9), floats(9, 20)
    (found,) = run(TvmEngine(first), "f", x, w)
    np.testing.assert_allclose(found, x @ w, rtol=1e-5, atol=1e-5)


RUNTIME_ONLY = """
import sys, numpy as np
from fluidc.runtime.tvm_engine import TvmEngine
from fluidc.runtime.engine import aligned_copy
engine = TvmEngine(open(sys.argv[1], "rb").read(), threads=1)
x, w = aligned_copy(np.ones((3, 9), np.float32)), aligned_copy(np.ones((9, 20), np.float32))
assert (engine.call("f", [engine.tensor(x), engine.tensor(w)])[0] == 9).all()
assert "tvm" not in sys.modules and "libtvm_compiler" not in open("/proc/self/maps").read()
"""


def test_runs_without_the_compiler(tmp_path: Any) -> None:
    library = tmp_path / "module.so"
    library.write_bytes(compile_module(product_module()).members()["module.so"])
    subprocess.run([sys.executable, "-c", RUNTIME_ONLY, str(library)], check=True)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_module(product_module())


def test_spec_names_the_cpu(compiled: Compiled) -> None:
    assert compiled.spec.kind == "cpu"
    assert compiled.spec.cpu == host_cpu().name


BAD_CALLS = {
    "shape": [(3, 8), (9, 20)],
    "rank": [(3, 9, 1), (9, 20)],
    "count": [(3, 9)],
}


@pytest.mark.parametrize("shapes", BAD_CALLS.values(), ids=BAD_CALLS)
def test_wrong_arguments_are_refused(compiled: Compiled, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(EngineError, match="refused its arguments"):
        run(compiled.engine(), "f", *(floats(*shape) for shape in shapes))


def test_wrong_type_is_refused(compiled: Compiled) -> None:
    with pytest.raises(EngineError, match="float32"):
        run(compiled.engine(), "f", floats(3, 9).astype(np.float64), floats(9, 20))


def test_unknown_function(compiled: Compiled) -> None:
    with pytest.raises(EngineError, match="no function 'g'"):
        compiled.engine().call("g", [])  # type: ignore[attr-defined]


def test_unaligned_memory_is_refused(compiled: Compiled) -> None:
    raw = np.zeros(100, np.float32)
    start = 1 if raw.ctypes.data % 64 == 0 else 0
    with pytest.raises(ValueError, match="64-byte"):
        compiled.engine().tensor(raw[start : start + 9])  # type: ignore[attr-defined]


def test_damaged_library() -> None:
    with pytest.raises(EngineError, match="does not load"):
        TvmEngine(b"\x7fELF" + bytes(100))


def test_no_linker(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.shutil, "which", lambda name: None)
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match="neither `ld` on PATH nor the Python package `ziglang`"):
        compiled.members()


def test_op_without_rule() -> None:
    @dataclass(frozen=True, eq=False)
    class Odd(Op):
        name: ClassVar[str] = "test.odd"
        x: Value

        def infer(self) -> TensorType:
            return self.x.tensor

    x = Value(f32(3), "x")
    op = Odd(x, loc=Loc("net.py", 12, "odd_layer"))
    module = Module(Stage.TARGET, (), (Function("f", (Param("x", x),), (op,), (Output("y", op.result),)),))
    with pytest.raises(TargetError) as caught:
        compile_module(module)
    assert "odd_layer (test.odd) has no `to_tvm` rule" in str(caught.value)
    assert "net.py:12" in str(caught.value)


# Fusion ---------------------------------------------------------------------------------------------------


def test_softmax_is_one_kernel() -> None:
    def softmax(t: Any, x: Any) -> Any:
        n, c = x.shape
        top = t.reduce("max", (n,), (c,), lambda i, j: x[i, j], F32)
        e = t.compute((n, c), F32, lambda i, j: t.call("exp", x[i, j] - top[i]))
        total = t.reduce("sum", (n,), (c,), lambda i, j: e[i, j], F32)
        return t.compute((n, c), F32, lambda i, j: e[i, j] / total[i])

    module = module_of([f32(N, 19)], [f32(N, 19)], softmax)
    assert len(plan_of(module, "f").groups) == 1
    x = floats(33, 19) * 30
    (found,) = run(compile_module(module).engine(), "f", x)
    shifted = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    np.testing.assert_allclose(found, shifted / shifted.sum(1, keepdims=True), rtol=1e-5, atol=1e-12)


def test_a_product_over_no_rows_is_zero() -> None:
    """An empty batch as inner extent: the result is written all the same."""
    module = module_of([f32(N, 23), f32(N, 10)], [f32(23, 10)], lambda t, x, g: t.matmul(x, g, True, False))
    engine = compile_module(module).engine()
    run(engine, "f", floats(8, 23), floats(8, 10))  # memory that is used again holds numbers
    (found,) = run(engine, "f", floats(0, 23), floats(0, 10))
    assert not found.any()
