"""Arithmetic of extents, products of open ones included, and code for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.target import BuildOptions
from fluidc.compiler.driver import Source, compile_source
from fluidc.compiler.ir.bind import bind
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import Dim, DType, Sym, TensorType, bind_dim, dim_add, dim_div, dim_mul
from fluidc.compiler.ops import OPSET, control, grad
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.runtime.engine import aligned_copy

N, S = Sym("N"), Sym("S")
BOTH = Sym("N*S", 6)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (dim_mul(Sym("S", 2), Sym("N", 3)), BOTH),
        (dim_mul(3, dim_mul(N, Sym("S", 2))), BOTH),
        (dim_mul(dim_mul(N, N), S), Sym("N*N*S")),
        (dim_mul(Sym("N*S"), 0), 0),
        (dim_div(BOTH, Sym("S", 3)), Sym("N", 2)),
        (dim_div(BOTH, BOTH), 1),
        (dim_div(BOTH, Sym("N*S")), 6),
        (dim_div(Sym("N*N"), N), N),
        (dim_div(BOTH, Sym("T")), None),
        (dim_div(BOTH, 4), None),
        (dim_div(N, Sym("N*N")), None),
        (dim_div(12, 5), None),
        (dim_div(12, 0), None),
        (dim_add(BOTH, Sym("N*S", 2)), Sym("N*S", 8)),
        (bind_dim(BOTH, {"N": 4}), Sym("S", 24)),
        (bind_dim(BOTH, {"N": 4, "S": 2}), 48),
        (bind_dim(BOTH, {"T": 4}), BOTH),
        (bind_dim(Sym("N*N"), {"N": 3}), 9),
    ],
)
def test_arithmetic(found: Dim | None, wanted: Dim | None) -> None:
    assert found == wanted


def padded_layer() -> Module:
    """Tokens [N, S, 3] through a layer as one matrix, and the gradients of all of it; with a scan over the steps."""
    b = OpBuilder()
    x, w = Value(TensorType(DType.F32, (N, S, 3)), "x"), Value(TensorType(DType.F32, (3, 5)), "w")
    flat = b.tanh(b.matmul(b.reshape(x, (dim_mul(N, S), 3)), w))
    steps = b.transpose(b.reshape(flat, (N, S, 5)), (1, 0, 2))

    def step(b: Builder, i: Value, h: Value, xt: Value) -> Sequence[Value]:
        new = b.tanh(b.add(h, xt))
        return new, new, h

    rows = control.scan(b, [b.fill((N, 5), DType.F32, 0.0)], [steps], [], S, step)[1]
    total = b.reduce_sum(b.square(rows), (0, 1, 2))
    dx, dw = b.emit(grad.Backward((total,), (x, w)))
    outputs = tuple(Output(n, v, "last") for n, v in (("flat", flat), ("total", total), ("dx", dx), ("dw", dw)))
    return Module(Stage.CAPTURED, (), (Function("step", (Param("x", x), Param("w", w)), tuple(b.ops), outputs),))


def test_text_reads_back() -> None:
    text = to_text(padded_layer())
    assert "f32[N*S,3]" in text
    assert to_text(parse(text, OPSET)) == text
    assert "f32[4*S,3]" in to_text(bind(padded_layer(), {"N": 4}))


@pytest.mark.parametrize("target", ["cpu", "onnx"])
def test_one_build_for_all_sizes(target: str) -> None:
    module = padded_layer()
    reference = Reference(run_passes(module, pipeline(module)))
    engine = compile_source(Source(module), target=target, batch=0, options=BuildOptions()).built.engine()
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(3, 5)).astype(np.float32)
    for count, steps in ((4, 3), (1, 7), (70, 2)):
        x = rng.normal(size=(count, steps, 3)).astype(np.float32)
        wanted: dict[str, Any] = reference.run("step", {"x": x, "w": weights})
        found = engine.call("step", [engine.tensor(aligned_copy(a)) for a in (x, weights)])
        for mine, theirs in zip(found, wanted.values(), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
