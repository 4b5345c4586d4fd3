"""The verifier on private recurrences: what the loops stack is rows of examples, with time in front of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ir.core import Function, Module, Output, Param, PrivacyConfig, StateDecl, StateName, Value
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ir.verify import verify
from fluidc.compiler.ops import OPSET, control, grad, state
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.privacy_flow import check_privacy_flow
from fluidc.compiler.pipeline import pipeline

N, T, D, H = Sym("N"), 4, 48, 64
SHAPES = {"b": (H,), "u": (D, H), "v": (H, H)}


@pytest.fixture(scope="module")
def text() -> str:
    """An RNN over T steps whose matrices are too large to store one gradient per example."""
    b = OpBuilder()
    x = Value(TensorType(DType.F32, (T, N, D)), "x")
    declared = [StateDecl(n, TensorType(DType.F32, s), role="parameter", trainable=True) for n, s in SHAPES.items()]
    bias, u, v = (b(state.Read(StateName(d.name), d.type), d.name) for d in declared)

    def step(b: Builder, _: Value, h: Value, row: Value, u: Value, v: Value, bias: Value) -> Sequence[Value]:
        return (b.tanh(b.add(b.add(b.matmul(row, u), b.matmul(h, v)), bias)),)

    (last,) = control.scan(b, [b.fill((N, H), DType.F32, 0.0)], [x], [u, v, bias], T, step)
    loss = b.reduce_sum(b.square(last), (0, 1))
    gradients = b.emit(grad.Backward((loss,), (bias, u, v), private=True))
    outputs = tuple(Output(f"g_{name}", g) for name, g in zip(SHAPES, gradients, strict=True))
    function = Function("step", (Param("x", x),), tuple(b.ops), outputs)
    module = Module(Stage.CAPTURED, tuple(declared), (function,), PrivacyConfig(1.0, 16.0, 1.1))
    found = to_text(run_passes(module, pipeline(module, to=Stage.PRIVATE)))
    for label in (" clipped<%c>", " scaled<%c>", " public"):  # what is derived decides, not what is stated
        found = found.replace(label, "")
    return found


def check(text: str) -> None:
    module = parse(text, OPSET)
    verify(module)
    check_privacy_flow(module)


def line(text: str, pattern: str) -> str:
    found = [one for one in text.splitlines() if re.search(pattern, one)]
    assert found, pattern
    return found[0]


def refusal(text: str) -> str:
    with pytest.raises(FluidcError) as caught:
        check(text)
    return str(caught.value)


def test_the_module_stands_on_stacked_rows(text: str) -> None:
    check(text)
    assert "dp.gram_norm_sq" in text or "dp.outer_norm_sq" in text
    assert re.search(r"dp\.scale_rows\(%\w+, %c\) \{axis=1\} : f32\[4,N,64\]", text)
    assert "control.map" not in text


def test_time_is_not_the_examples(text: str) -> None:
    """Factors along time would clip steps, not people."""
    old = line(text, r"dp\.scale_rows\(.*axis=1")
    assert "is not N" in refusal(text.replace(old, old.replace("{axis=1}", "{axis=0}")))


def test_steps_that_were_not_selected(text: str) -> None:
    """A dead row's inputs would meet the scaled cotangents in the product over steps and rows."""
    selected = line(text, r"dp\.select_rows\(%x, %c\)")
    name = selected.split(" = ")[0].strip()
    assert "not selected by the clip factor" in refusal(
        "\n".join(one if one == selected else one.replace(f"{name})", "%x)") for one in text.splitlines()).replace(
            f"{name},", "%x,"
        )
    )


def test_a_norm_of_fewer_steps(text: str) -> None:
    """The norm of the first step alone bounds nothing."""
    norm = line(text, r"dp\.(gram|outer)_norm_sq\(")
    rows, deltas = re.findall(r"\[(%\w+)\]", norm)[:2]
    width = {name: re.search(rf"{name} = .*: f32\[N,4,(\d+)\]", text) for name in (rows, deltas)}
    cut = [
        f"    {name}_cut = shape.slice({name}) {{axis=1, start=0, stop=1}} : f32[N,1,{found[1]}]"
        for name, found in width.items()
        if found is not None
    ]
    assert len(cut) == 2
    shorter = norm.replace(f"[{rows}]", f"[{rows}_cut]").replace(f"[{deltas}]", f"[{deltas}_cut]")
    assert "is smaller than that of the gradient" in refusal(text.replace(norm, "\n".join([*cut, shorter])))


def test_the_norm_of_another_loop_value(text: str) -> None:
    """Norm terms read the very stacks that the product reads."""
    terms = re.search(r"dp\.clip_factor\(\[(.*?)\]", text)
    assert terms is not None
    first, second, third = terms[1].split(", ")
    assert "does not read what its clipped sum reads" in refusal(
        text.replace(f"[{first}, {second}, {third}]", f"[{first}, {second}, {second}]")
    )


def test_scaled_rows_do_not_enter_a_loop(text: str) -> None:
    """Nothing says how often a loop would add them up."""
    scaled = line(text, r"dp\.scale_rows\(.*f32\[4,N,64\]")
    name = scaled.split(" = ")[0].strip()
    loop = [
        f"    %zeros = elementwise.fill() {{value=0.0}} : f32[N,{H}]",
        f"    %summed = control.scan([%zeros], [{name}], []) {{trip={T}}} : f32[N,{H}] {{",
        f"      ^(%ii: i64[], %hh: f32[N,{H}], %rr: f32[N,{H}]):",
        f"        %ss = elementwise.add(%hh, %rr) : f32[N,{H}]",
        "        yield %ss",
        "    }",
    ]
    assert "control.scan in function step: rows" in refusal(text.replace(scaled, "\n".join([scaled, *loop])))
