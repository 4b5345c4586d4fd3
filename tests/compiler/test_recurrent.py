"""A recurrent net through every stage: its text, its gradient, and its private step against the algorithm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.errors import PrivacyError
from fluidc.compiler.ir.core import Function, Module, Output, Param, PrivacyConfig, StateDecl, StateName, Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType, static_shape
from fluidc.compiler.ops import OPSET, control, grad, optim, state
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline

N, T, D, H = Sym("N"), 4, 3, 5
SHAPES = {"b": (H,), "u": (H, H), "v": (H, 1), "w": (D, H)}
CLIP, LOT, SIGMA, RATE = 0.3, 8.0, 0.0, 0.5
Arrays = dict[str, np.ndarray]


def rnn(privacy: PrivacyConfig | None, *, over_batch: bool = False) -> Module:
    """h' = tanh(x_t w + h u + b) from zeros; loss: mean over examples of (h_T v - y)^2.  One step of SGD."""
    b = OpBuilder()
    x, y = Value(TensorType(DType.F32, (T, N, D)), "x"), Value(TensorType(DType.F32, (N, 1)), "y")
    declared = [StateDecl(n, TensorType(DType.F32, s), role="parameter", trainable=True) for n, s in SHAPES.items()]
    declared.append(StateDecl("lr", TensorType(DType.F32, (1,)), role="learning_rate"))
    read = {d.name: b(state.Read(StateName(d.name), d.type), d.name) for d in declared}

    def step(b: Builder, i: Value, h: Value, xt: Value, w: Value, u: Value, bias: Value) -> Sequence[Value]:
        new = b.tanh(b.add(b.add(b.matmul(xt, w), b.matmul(h, u)), bias))
        return new, new

    with b.at(Loc("rnn.py", 4, "StaticRNN")):
        start = b.fill((N, H), DType.F32, 0.0)
        if over_batch:
            rows = b.matmul(b.reduce_mean(x, (0,)), b.fill((D, H), DType.F32, 0.1))
            added = control.scan(b, [b.fill((H,), DType.F32, 0.0)], [rows], [], N, lambda b, i, h, r: (b.add(h, r),))
            start = b.add(start, added[0])
        last, _ = control.scan(b, [start], [x], [read["w"], read["u"], read["b"]], T, step)
    with b.at(Loc("rnn.py", 6, "square_error_cost")):
        loss = b.reduce_mean(b.square(b.sub(b.matmul(last, read["v"]), y)), (0, 1))
    inputs = tuple(read[name] for name in SHAPES)
    gradients = b.emit(grad.Backward((loss,), inputs, private=privacy is not None))
    for name, gradient in zip(SHAPES, gradients, strict=True):
        b.emit(state.Write(b(optim.Sgd(read[name], gradient, read["lr"])), StateName(name)))
    function = Function("step", (Param("x", x), Param("y", y)), tuple(b.ops), (Output("loss", loss, "mean"),))
    return Module(Stage.CAPTURED, tuple(declared), (function,), privacy)


def example_gradient(p: Arrays, x: np.ndarray, y: float) -> Arrays:
    """Back-propagation through time for one example, x: [T, D], in float64."""
    h: list[np.ndarray] = [np.zeros(H)]
    for row in x:
        h.append(np.tanh(row @ p["w"] + h[-1] @ p["u"] + p["b"]))
    error = 2 * (h[-1] @ p["v"] - y)
    g: Arrays = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    g["v"] = np.outer(h[-1], error)
    delta = p["v"] @ error
    for t in reversed(range(T)):
        delta = delta * (1 - h[t + 1] ** 2)
        g["w"] += np.outer(x[t], delta)
        g["u"] += np.outer(h[t], delta)
        g["b"] += delta
        delta = p["u"] @ delta
    return g


def numbers(n: int) -> tuple[Arrays, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    before = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    before["lr"] = np.asarray([RATE], np.float32)
    return before, rng.normal(size=(T, n, D)).astype(np.float32), rng.normal(size=(n, 1)).astype(np.float32)


def gradients(before: Arrays, x: np.ndarray, y: np.ndarray) -> list[Arrays]:
    wide = {name: value.astype(np.float64) for name, value in before.items()}
    return [example_gradient(wide, x[:, i].astype(np.float64), float(y[i, 0])) for i in range(len(y))]


def test_plain_step() -> None:
    module = rnn(None)
    target = run_passes(module, pipeline(module))
    before, x, y = numbers(6)
    after = dict(before)
    Reference(target).run("step", {"x": x, "y": y}, after)
    rows = gradients(before, x, y)
    for name in SHAPES:
        expected = before[name] - RATE * sum(g[name] for g in rows) / len(rows)
        np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("live", [0, 1, 5, 8])
def test_private_step(live: int) -> None:
    """Without noise: the clipped sum over live rows, whatever the dead ones hold."""
    module = rnn(PrivacyConfig(CLIP, LOT, SIGMA))
    target = run_passes(module, pipeline(module, batch=8))
    before, x, y = numbers(8)
    rows = gradients(before, x, y)[:live]
    x[:, live:] = np.nan
    given = {"x": x, "y": y, "mask": np.arange(8) < live}
    noisy = {"key": np.arange(8, dtype=np.uint32), "draw": np.asarray(3, np.uint64)}
    after = before | {d.name: np.zeros(static_shape(d.type.shape), np.float32) for d in target.state if d.kind == "lot"}
    Reference(target).run("step", given | noisy, after)
    factors = [min(1.0, CLIP / np.sqrt(sum((v**2).sum() for v in g.values()))) for g in rows]
    assert live < 5 or sum(factor < 1 for factor in factors) > 0
    for name in SHAPES:
        total = sum((f * g[name] for f, g in zip(factors, rows, strict=True)), np.zeros(SHAPES[name]))
        np.testing.assert_allclose(after[name], before[name] - RATE * total / LOT, rtol=0, atol=1e-6)


def test_a_scan_over_examples_is_refused() -> None:
    module = rnn(PrivacyConfig(CLIP, LOT, SIGMA), over_batch=True)
    with pytest.raises(PrivacyError) as caught:
        run_passes(module, pipeline(module))
    assert "rnn.py:4" in str(caught.value)
    assert "control.scan runs over the examples one after another" in str(caught.value)


@pytest.mark.parametrize("privacy", [None, PrivacyConfig(CLIP, LOT, SIGMA)], ids=["plain", "private"])
def test_every_stage_reads_back(privacy: PrivacyConfig | None) -> None:
    module = rnn(privacy)
    texts: list[str] = []
    run_passes(module, pipeline(module), observe=lambda number, name, after: texts.append(to_text(after)))
    assert len(texts) > 8
    for text in texts:
        assert to_text(parse(text, OPSET)) == text


def test_gradient_of_an_open_number_of_steps() -> None:
    """The scan puts out what it carries before every step, so that it is not run a second time."""
    b, steps = OpBuilder(), Sym("S")
    x, w = Value(TensorType(DType.F32, (steps, 2, H)), "x"), Value(TensorType(DType.F32, (H, H)), "w")

    def step(b: Builder, i: Value, h: Value, xt: Value, w: Value) -> Sequence[Value]:
        new = b.tanh(b.add(xt, b.matmul(h, w)))
        return new, new

    start = [b.fill((2, H), DType.F32, 0.5)]
    rows = control.scan(b, start, [x], [w], steps, step)[1]
    gradients = b.emit(grad.Backward((b.reduce_sum(b.square(rows), (0, 1, 2)),), (x, w)))
    outputs = tuple(Output(name, value) for name, value in zip(("dx", "dw"), gradients, strict=True))
    function = Function("step", (Param("x", x), Param("w", w)), tuple(b.ops), outputs)
    module = Module(Stage.CAPTURED, (), (function,))
    target = run_passes(module, pipeline(module))
    scans = [op for op in target.function("step").ops if isinstance(op, control.Scan)]
    assert len(scans) == 2

    rng = np.random.default_rng(4)
    weights = rng.normal(size=(H, H)).astype(np.float32)
    for count in (4, 1):
        xs = rng.normal(size=(count, 2, H)).astype(np.float32)
        found = Reference(target).run("step", {"x": xs, "w": weights})
        h = [np.full((2, H), 0.5)]
        for row in xs:
            h.append(np.tanh(row + h[-1] @ weights))
        dx, dw, delta = np.zeros(xs.shape), np.zeros(weights.shape), np.zeros((2, H))
        for t in reversed(range(count)):
            dx[t] = (delta + 2 * h[t + 1]) * (1 - h[t + 1] ** 2)
            dw += h[t].T @ dx[t]
            delta = dx[t] @ weights.T
        np.testing.assert_allclose(found["dx"], dx, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["dw"], dw, rtol=1e-4, atol=1e-5)
