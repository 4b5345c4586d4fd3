"""IR text: what it looks like, that it reads back, and how errors point into it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import arguments, initial_state, modules
from hypothesis import HealthCheck, given, settings

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.errors import ParseError
from fluidc.compiler.ir.bind import bind, retype
from fluidc.compiler.ir.core import Module, walk
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import function_text, literal, op_text, to_text
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ir.verify import verify
from fluidc.compiler.ops import OPSET

# Every construct of the syntax once, in the printer's own layout.
TEXT = """\
module {stage = grad} {
  privacy {clip=1.0, lot=64.0, sigma=1.1, public_feeds=("lr",)}
  state @fc_0.w_0 : f32[3,4] {role=parameter, trainable=true}
  state @"a/b c" : i64[] {kind=diagnostic, role=counter}
  func @step(feed "x" %x: f32[N,3] example, feed "größe" %seq: ragged<f32[T,4], N>, mask %m: bool[N], key %k: u32[8]) {
    %w = state.read @fc_0.w_0 : f32[3,4]
    %0 = linear.matmul(%x, %w) : f32[N,4] loc(digits.py:12 fc)
    %h = unary.tanh(%0) : f32[N,4] loc("my script.py":13)
    %n = elementwise.fill() {value=-inf} : f32[N,4] loc(relu)
    %h#1 = shape.concat(%h, %n) {axis=0} : f32[2*N,4]
    %c = unary.sigmoid(%h) : f32[N,4] scaled<%0>
    %p = ragged.pool(%seq) {how="max"} : f32[N,4]
    %y, %hs = control.scan([%p], [], [%c]) {trip=3, reverse=true} : f32[N,4], f32[3,N,4] {
      ^(%i: i64[], %p#1: f32[N,4], %c#1: f32[N,4]):
        %1 = elementwise.mul(%p#1, %c#1) : f32[N,4]
        yield %1, %p#1
    }
    %b = unary.isfinite(%y) : bool[N,4]
    %all = reduce.all(%b) {axes=(0, 1)} : bool[]
    %z = control.if(%all, [%y]) : f32[N,4] {
      ^(%y#1: f32[N,4]):
        yield %y#1
    } {
      ^(%y#2: f32[N,4]):
        %2 = unary.neg(%y#2) : f32[N,4]
        yield %2
    }
    %dw = grad.use[linear.matmul](%x, %w; [%0], [%z]) {live=(0,), operand=1, param=@fc_0.w_0} : f32[3,4] clipped<%c>
    %d = grad.use[shape.concat {axis=0}](%h, %n; [%h#1], [%h#1]) {live=(0,), operand=0, param=@"a/b c"} : f32[N,4]
    state.write @fc_0.w_0, %dw
    return "loss" = %z {mean}, "d" = %d
  }
  func @infer() {
    return
  }
  proof {
    "loss is a \\"total\\""
    "second line"
  }
}
"""


def test_every_construct_reads_back() -> None:
    module = parse(TEXT, OPSET)
    assert to_text(module) == TEXT
    verify(module)


def test_layout_and_comments_are_free() -> None:
    crowded = " ".join(line.strip() for line in TEXT.splitlines())
    assert to_text(parse(crowded, OPSET)) == TEXT
    commented = TEXT.replace("\n", "  // a remark\n")
    assert to_text(parse(commented, OPSET)) == TEXT


def test_fields_survive() -> None:
    module = parse(TEXT, OPSET)
    assert module.privacy is not None
    assert module.privacy.public_feeds == ("lr",)
    assert module.state[1].kind == "diagnostic"
    assert module.proof == ('loss is a "total"', "second line")
    step = module.function("step")
    assert [p.role for p in step.params] == ["feed", "feed", "mask", "key"]
    assert step.params[1].name == "größe"
    assert step.outputs[0].combine == "mean"
    read, product = step.ops[:2]
    assert read.results[0].hint == "w"
    assert product.results[0].hint == ""
    assert (product.loc.file, product.loc.line, product.loc.layer) == ("digits.py", 12, "fc")
    assert module.function("infer").ops == ()


def test_bind_replaces_symbols_everywhere() -> None:
    """Types of values, state and regions, attributes, and the op that a contribution stands for."""
    text = TEXT.replace("{trip=3, reverse=true}", "{trip=T, reverse=true}").replace("f32[3,N,4]", "f32[T,N,4]")
    assert to_text(parse(text, OPSET)) == text
    bound = bind(parse(text, OPSET), {"N": 5, "T": 3})
    verify(bound)
    assert to_text(bound) == text.replace("2*N", "10").replace("N", "5").replace("trip=T", "trip=3").replace(
        "[T,", "[3,"
    )
    half = bind(parse(text, OPSET), {"T": 3})
    assert to_text(half) == text.replace("trip=T", "trip=3").replace("[T,", "[3,")


def test_retype_replaces_element_types_everywhere() -> None:
    wide = retype(parse(TEXT, OPSET), {DType.F32: DType.F64})
    verify(wide)
    assert to_text(wide) == TEXT.replace("f32", "f64")


def test_function_text_is_a_part_of_the_module() -> None:
    module = parse(TEXT, OPSET)
    for line in function_text(module.function("step")).splitlines():
        assert f"  {line}\n" in TEXT


def test_one_op() -> None:
    op = parse(TEXT, OPSET).function("step").ops[1]
    assert op_text(op) == "%0 = linear.matmul(%x, %w) : f32[N,4] loc(digits.py:12 fc)"


@pytest.mark.parametrize(
    ("value", "annotation", "text"),
    [
        (1, float, "1.0"),
        (True, float, "1.0"),
        (1, int, "1"),
        (True, bool, "true"),
        (1e-05, float, "1e-05"),
        (0.1, float, "0.1"),
        (float("nan"), float, "nan"),
        (float("-inf"), float, "-inf"),
        ("a\n", str, '"a\\n"'),
        ((1, Sym("N", 8)), None, "(1, 8*N)"),
        ((), None, "()"),
        (None, None, "none"),
        (DType.BF16, None, "bf16"),
        (TensorType(DType.U64, ()), None, "u64[]"),
    ],
)
def test_literal(value: object, annotation: object, text: str) -> None:
    assert literal(value, annotation) == text


def test_no_spelling() -> None:
    with pytest.raises(TypeError, match="no spelling"):
        literal(object())


def _close(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


def _run(module: Module, n: int) -> tuple[dict[str, Any], dict[str, Any]]:
    state = initial_state()
    return Reference(module).run("step", arguments(n), state), state


@given(modules())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip(module: Module) -> None:
    """The text is a fixed point, the module read from it is valid and computes the same numbers."""
    text = to_text(module)
    again = parse(text, OPSET)
    assert to_text(again) == text
    verify(module)
    verify(again)
    for found, wanted in zip(_run(again, 3), _run(module, 3), strict=True):
        _close(found, wanted)


@given(modules(composites=True, backward=True))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip_of_captured_modules(module: Module) -> None:
    text = to_text(module)
    verify(module)
    assert to_text(parse(text, OPSET)) == text


@given(modules())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bound(module: Module) -> None:
    """With its symbols replaced a module has none left, reads back and computes the same numbers."""
    fixed = bind(module, {"N": 3})
    verify(fixed)
    text = to_text(fixed)
    assert to_text(parse(text, OPSET)) == text
    for op in walk(fixed.function("step").ops):
        for value in op.results:
            assert all(isinstance(dim, int) for dim in value.tensor.shape)
    for found, wanted in zip(_run(fixed, 3), _run(module, 3), strict=True):
        _close(found, wanted)


# Errors -------------------------------------------------------------------------------------------------

# name: what is replaced in TEXT, and by what.
BROKEN: dict[str, tuple[str, str]] = {
    "unknown_op": ("linear.matmul(%x, %w) :", "linear.matmull(%x, %w) :"),
    "unknown_op_far_off": ("linear.matmul(%x, %w) :", "torch.nn(%x, %w) :"),
    "unknown_attribute": ("{axes=(0, 1)}", "{axis=(0, 1)}"),
    "attribute_of_none": ("unary.tanh(%0)", "unary.tanh(%0) {fast=true}"),
    "attribute_of_another_type": ("{axes=(0, 1)}", "{axes=1.5}"),
    "attribute_missing": ("{live=(0,), operand=1, param=@fc_0.w_0}", "{live=(0,), param=@fc_0.w_0}"),
    "operand_number": ("operand=1, param=@fc_0.w_0", "operand=7, param=@fc_0.w_0"),
    "attribute_twice": ("{trip=3, reverse=true}", "{trip=3, trip=3}"),
    "too_few_operands": ("linear.matmul(%x, %w) :", "linear.matmul(%x) :"),
    "too_many_operands": ("linear.matmul(%x, %w) :", "linear.matmul(%x, %w, %w) :"),
    "operands_not_grouped": ("([%p], [], [%c])", "(%p, [], [%c])"),
    "undefined_value": ("unary.sigmoid(%h)", "unary.sigmoid(%hh)"),
    "captured_value": ("elementwise.mul(%p#1, %c#1)", "elementwise.mul(%p#1, %c)"),
    "value_twice": ("%all =", "%b ="),
    "result_names": ("%y, %hs =", "%y ="),
    "type_mismatch": ("unary.tanh(%0) : f32[N,4]", "unary.tanh(%0) : f32[N,5]"),
    "type_missing": ("unary.tanh(%0) : f32[N,4]", "unary.tanh(%0)"),
    "infer_fails": ("linear.matmul(%x, %w) :", "linear.matmul(%w, %x) :"),
    "dense_for_ragged": ("ragged.pool(%seq)", "ragged.pool(%h)"),
    "element_type": ("bool[]\n", "boolean[]\n"),
    "extent": ("f32[2*N,4]", "f32[N*2,4]"),
    "stage": ("stage = grad", "stage = gradient"),
    "role": ("mask %m", "masked %m"),
    "state_role": ("role=counter", "role=count"),
    "state_twice": ('@"a/b c" : i64[]', "@fc_0.w_0 : i64[]"),
    "privacy_without_sigma": (", sigma=1.1", ""),
    "combine": ("{mean}", "{average}"),
    "open_string": ('"second line"', '"second line'),
    "bad_string": ('"second line"', '"second \\q line"'),
    "bad_number": ("{trip=3,", "{trip=3x,"),
    "bad_character": ("mask %m", "mask & %m"),
    "cut_off": ("    state.write @fc_0.w_0, %dw\n" + TEXT.split("    state.write @fc_0.w_0, %dw\n")[1], ""),
    "after_the_end": ('"second line"\n  }\n}', '"second line"\n  }\n}\nmodule'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_parse_error(name: str, golden: Any) -> None:
    before, after = BROKEN[name]
    assert TEXT.count(before) == 1
    with pytest.raises(ParseError) as caught:
        parse(TEXT.replace(before, after), OPSET, "broken.ir")
    golden(f"errors/parse_{name}.txt", f"{caught.value}\n")
