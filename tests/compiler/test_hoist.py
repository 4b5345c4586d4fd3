"""Recurrences as loops: what is computed before the loop, and gradients read by read.

Every loop is compared with the same steps written out one after the other, which no loop rule touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import (
    Function,
    Module,
    Output,
    Param,
    PrivacyConfig,
    StateDecl,
    StateName,
    Value,
    walk,
)
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ops import OPSET, control, grad, state
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.embedding import Lookup
from fluidc.compiler.ops.linear import MatMul
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline

N, T, D, H = Sym("N"), 5, 3, 4
Arrays = dict[str, np.ndarray]
Cell = Callable[[Builder, Sequence[Value], Sequence[Value], dict[str, Value]], tuple[Sequence[Value], Sequence[Value]]]


@dataclass(frozen=True)
class Net:
    """``cell(b, carried, (x_t, ids_t), parameters)`` gives the next carried values and the outputs of a step."""

    parameters: dict[str, tuple[int, ...]]
    cell: Cell
    carried: int = 1

    def module(self, loop: bool, privacy: PrivacyConfig | None = None, reverse: bool = False) -> Module:
        b = OpBuilder()
        x = Value(TensorType(DType.F32, (N, T, D)), "x")
        ids = Value(TensorType(DType.I64, (N, T)), "ids")
        declared = tuple(
            StateDecl(n, TensorType(DType.F32, s), role="parameter", trainable=True) for n, s in self.parameters.items()
        )
        read = {d.name: b(state.Read(StateName(d.name), d.type), d.name) for d in declared}
        rows, words = b.transpose(x, (1, 0, 2)), b.transpose(ids, (1, 0))
        start = [b.fill((N, H), DType.F32, 0.1) for _ in range(self.carried)]
        if loop:

            def step(inner: Builder, _: Value, *values: Value) -> Sequence[Value]:
                now, slices = values[: self.carried], values[self.carried : self.carried + 2]
                new, outputs = self.cell(inner, now, slices, dict(zip(read, values[self.carried + 2 :], strict=True)))
                return (*new, *outputs)

            found = control.scan(b, start, [rows, words], tuple(read.values()), T, step, reverse)
            last, outputs = found[: self.carried], found[self.carried :]
        else:
            last, collected = start, list[Sequence[Value]]()
            for t in range(T)[:: -1 if reverse else 1]:
                slices = (
                    b.reshape(b.slice(rows, 0, t, t + 1), (N, D)),
                    b.reshape(b.slice(words, 0, t, t + 1), (N,)),
                )
                last, made = self.cell(b, last, slices, read)
                collected.append(made)
            columns = list(zip(*collected, strict=True))
            outputs = [b.stack(column[:: -1 if reverse else 1], 0) for column in columns]
        total = b.reduce_sum(b.square(last[-1]), (0, 1))
        for number, output in enumerate(outputs):
            weighed = b.mul(b.tanh(output), b.scale(b.cast(b.iota((T, 1, 1), 0, DType.I64), DType.F32), 0.1, number))
            total = b.add(total, b.reduce_sum(weighed, (0, 1, 2)))
        gradients = b.emit(grad.Backward((total,), tuple(read.values()), private=privacy is not None))
        results = tuple(Output(f"g_{n}", g) for n, g in zip(self.parameters, gradients, strict=True))
        function = Function("step", (Param("x", x), Param("ids", ids)), tuple(b.ops), results)
        return Module(Stage.CAPTURED, declared, (Function("startup", (), (), ()), function), privacy)


def plain(b: Builder, h: Sequence[Value], s: Sequence[Value], w: dict[str, Value]):
    new = b.tanh(b.add(b.add(b.matmul(s[0], w["u"]), b.matmul(h[0], w["v"])), w["b"]))
    return (new,), (new,)


def lstm(b: Builder, h: Sequence[Value], s: Sequence[Value], w: dict[str, Value]):
    """One product of the joined rows; the cell state is carried, but not an output."""
    gates = b.add(b.matmul(b.concat((s[0], h[0]), 1), w["w"]), w["b"])
    i, f, o, g = (b.slice(gates, 1, k * H, (k + 1) * H) for k in range(4))
    cell = b.add(b.mul(b.sigmoid(f), h[1]), b.mul(b.sigmoid(i), b.tanh(g)))
    new = b.mul(b.sigmoid(o), b.tanh(cell))
    return (new, cell), (new,)


def several_reads(b: Builder, h: Sequence[Value], s: Sequence[Value], w: dict[str, Value]):
    """One matrix three times, once transposed and once changed by ops that see no example; one scale twice."""
    once = b.tanh(b.matmul(h[0], w["v"]))
    twice = b.matmul(b.mul(once, w["s"]), w["v"], tb=True)
    changed = b.scale(b.mul(b.transpose(w["v"], (1, 0)), w["s"]), 0.5, 0.1)
    new = b.tanh(b.add(b.matmul(s[0], w["u"]), b.add(twice, b.matmul(once, changed))))
    return (new,), (new,)


def words(b: Builder, h: Sequence[Value], s: Sequence[Value], w: dict[str, Value]):
    """A table read in every step, and a second product behind the loop's own state."""
    row = b.emit(Lookup(w["table"], s[1], 1))[0]
    new = b.tanh(b.add(b.matmul(row, w["v"]), b.matmul(h[0], w["v"])))
    return (new,), (b.add(b.matmul(new, w["out"]), w["b"]),)


def nested(b: Builder, h: Sequence[Value], s: Sequence[Value], w: dict[str, Value]):
    """A loop in the loop, which has no form for all steps at once: `v` is summed up step by step."""

    def twice(inner: Builder, _: Value, now: Value, v: Value) -> Sequence[Value]:
        return (inner.tanh(inner.matmul(now, v)),)

    (new,) = control.scan(b, [b.add(b.matmul(s[0], w["u"]), h[0])], [], [w["v"]], 2, twice)
    return (new,), (new,)


def passed_on(b: Builder, h: Sequence[Value], s: Sequence[Value], w: dict[str, Value]):
    """A parameter that is itself an output of the step."""
    new = b.tanh(b.add(b.matmul(s[0], w["u"]), b.mul(h[0], w["b"])))
    return (new,), (new, b.reshape(w["b"], (1, H)), w["u"])


NETS = {
    "plain": Net({"u": (D, H), "v": (H, H), "b": (H,)}, plain),
    "lstm": Net({"w": (D + H, 4 * H), "b": (4 * H,)}, lstm, 2),
    "several_reads": Net({"u": (D, H), "v": (H, H), "s": (H,)}, several_reads),
    "words": Net({"table": (6, H), "v": (H, H), "out": (H, 2), "b": (2,)}, words),
    "nested": Net({"u": (D, H), "v": (H, H)}, nested),
}
PASSED_ON = Net({"u": (D, H), "b": (H,)}, passed_on)


def numbers(net: Net, rows: int) -> tuple[Arrays, Arrays]:
    rng = np.random.default_rng(rows)
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in net.parameters.items()}
    x = rng.normal(size=(rows, T, D)).astype(np.float32)
    return params, {"x": x, "ids": rng.integers(0, 6, (rows, T))}


def gradients(net: Net, loop: bool, reverse: bool, rows: int) -> Arrays:
    module = net.module(loop, reverse=reverse)
    target = run_passes(module, pipeline(module))
    params, feeds = numbers(net, rows)
    wide = {name: value.astype(np.float64) for name, value in params.items()}
    feeds["x"] = feeds["x"].astype(np.float64)
    return {k: np.asarray(v) for k, v in Reference(target, promote=True).run("step", feeds, wide).items()}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", [*NETS, "passed_on"])
def test_gradients_are_those_of_the_steps_written_out(name: str, reverse: bool) -> None:
    net = NETS.get(name, PASSED_ON)
    found, expected = (gradients(net, loop, reverse, 3) for loop in (True, False))
    assert set(found) == {f"g_{parameter}" for parameter in net.parameters}
    for parameter, value in expected.items():
        np.testing.assert_allclose(found[parameter], value, rtol=1e-9, atol=1e-9)
        assert np.abs(value).max() > 1e-3


@pytest.mark.parametrize("clip", [0.5, 1e4])
@pytest.mark.parametrize("name", NETS)
def test_clipped_sums_are_those_of_single_examples(name: str, clip: float) -> None:
    net, rows = NETS[name], 5
    privacy = PrivacyConfig(clip=clip, lot=1.0, sigma=0.0)
    module = net.module(True, privacy)
    target = run_passes(module, pipeline(module))
    params, feeds = numbers(net, rows)
    single = net.module(False)
    reference = Reference(run_passes(single, pipeline(single)), promote=True)
    wide = {k: v.astype(np.float64) for k, v in params.items()}
    expected, scale = {f"g_{k}": np.zeros(v.shape) for k, v in params.items()}, 0.0
    for i in range(rows):
        one = {"x": feeds["x"][i : i + 1].astype(np.float64), "ids": feeds["ids"][i : i + 1]}
        g = {k: np.asarray(v) for k, v in reference.run("step", one, dict(wide)).items()}
        norm = np.sqrt(sum(np.square(v).sum() for v in g.values()))
        factor = min(1.0, clip / norm)
        scale += factor * norm
        for k, v in g.items():
            expected[k] += factor * v
    padded = {
        k: np.concatenate([v, np.full_like(v[:2], np.nan if v.dtype.kind == "f" else 0)]) for k, v in feeds.items()
    }
    given = padded | {"mask": np.arange(rows + 2) < rows, "key": np.zeros(8, np.uint32), "draw": np.array(0, np.uint64)}
    found = Reference(target).run("step", given, dict(params))
    error = np.sqrt(sum(np.square(found[k] - v).sum() for k, v in expected.items()))
    assert error <= 1e-5 * scale


# What the text shows -----------------------------------------------------------------------------------------


def at(net: Net, stage: Stage, privacy: PrivacyConfig | None = None) -> Module:
    module = net.module(True, privacy)
    found = run_passes(module, pipeline(module, to=stage))
    assert to_text(parse(to_text(found), OPSET)) == to_text(found)
    return found


def loops(module: Module) -> list[control.Scan]:
    return [op for op in module.function("step").ops if isinstance(op, control.Scan)]


def inside(loop: control.Scan, kind: type) -> int:
    return sum(isinstance(op, kind) for op in walk(loop.body.ops))


@pytest.mark.parametrize("privacy", [None, PrivacyConfig(1.0, 8.0, 1.0)], ids=["plain", "private"])
def test_a_step_of_the_reverse_loop_has_one_product(privacy: PrivacyConfig | None) -> None:
    """Inputs are projected before the loop, weight gradients after it; nothing runs twice."""
    forward, backward = loops(at(NETS["plain"], Stage.TARGET, privacy))
    assert inside(forward, MatMul) == inside(backward, MatMul) == 1
    forward, backward = loops(at(NETS["lstm"], Stage.TARGET, privacy))
    assert inside(forward, MatMul) == inside(backward, MatMul) == 1
    assert len(backward.init) == 2, "no sum of weight gradients is carried"


def test_ops_that_see_no_step_move_in_front() -> None:
    (forward,) = loops(at(NETS["several_reads"], Stage.CORE))
    assert inside(forward, MatMul) == 3
    assert not any(op.name in ("shape.transpose", "unary.scale") for op in forward.body.ops)


def test_a_private_loop_is_not_mapped_over_examples() -> None:
    uses = at(NETS["words"], Stage.GRAD, PrivacyConfig(1.0, 8.0, 1.0)).function("step").ops
    of = {op.of.name for op in uses if isinstance(op, grad.Use)}
    assert of == {"linear.matmul", "embedding.lookup", "elementwise.add"}


@pytest.mark.parametrize(("name", "mapped"), [(name, name == "nested") for name in NETS])
def test_only_loops_in_loops_are_mapped_over_examples(name: str, mapped: bool) -> None:
    target = at(NETS[name], Stage.TARGET, PrivacyConfig(1.0, 8.0, 1.0))
    assert any(isinstance(op, control.Map) for op in walk(target.function("step").ops)) == mapped


def test_what_cannot_be_lifted_is_a_read_of_the_loop() -> None:
    uses = at(NETS["nested"], Stage.GRAD, PrivacyConfig(1.0, 8.0, 1.0)).function("step").ops
    of = {str(op.param): op.of.name for op in uses if isinstance(op, grad.Use)}
    assert of == {"u": "linear.matmul", "v": "control.scan"}


def test_outputs_that_nobody_reads_go() -> None:
    """What a loop returns for its reverse is dropped where no sweep reads it."""
    (forward, *_) = loops(at(NETS["plain"], Stage.CORE))
    assert len(forward.outputs) == 2
    (forward, *_) = loops(at(NETS["plain"], Stage.TARGET))
    assert len(forward.outputs) == 1
