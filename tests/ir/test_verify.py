"""Every rule of the verifier, broken once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fluidc.compiler.errors import VerifyError
from fluidc.compiler.ir.core import Function, Module, OpBase, Output, Param, Region, StateDecl, StateName, Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import Clipped, DType, Sym, TensorType
from fluidc.compiler.ir.verify import verify
from fluidc.compiler.ops import control, elementwise, grad, unary
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.state import Read, Write

WEIGHT = StateDecl("w", TensorType(DType.F32, (3,)))
ROWS = TensorType(DType.F32, (Sym("N"), 3))


def module(*ops: OpBase, params: tuple[Param, ...] = (), outputs: tuple[Output, ...] = (), **fields: Any) -> Module:
    function = Function("step", params, ops, outputs)
    return Module(**{"stage": Stage.CORE, "state": (WEIGHT,), "functions": (function,), **fields})


def feed(kind: TensorType = ROWS) -> Param:
    return Param("x", Value(kind, "x"))


def read(name: str = "w", shape: tuple[int, ...] = (3,)) -> Read:
    op = Read(StateName(name), TensorType(DType.F32, shape))
    op.result.hint = "w"
    return op


def refused(broken: Module, *wanted: str) -> None:
    with pytest.raises(VerifyError) as caught:
        verify(broken)
    for text in wanted:
        assert text in str(caught.value)


def test_a_valid_module_passes() -> None:
    x, w = feed(), read()
    h = elementwise.Mul(x.value, w.result)
    verify(module(w, h, Write(w.result, StateName("w")), params=(x,), outputs=(Output("h", h.result),)))


def test_the_error_has_the_function_the_line_and_the_place() -> None:
    x = feed()
    first = unary.Neg(x.value)
    second = unary.Abs(first.result, loc=Loc("/home/someone/train.py", 7, "abs"))
    first.result.hint, second.result.hint = "a", "b"
    with pytest.raises(VerifyError) as caught:
        verify(module(second, first, params=(x,)))
    assert str(caught.value) == (
        "unary.abs reads %a, which is defined nowhere before this line\n"
        "  at @step: %b = unary.abs(%?a) : f32[N,3] loc(train.py:7 abs)\n"
        "  from /home/someone/train.py:7 (abs)"
    )


def test_undefined_value() -> None:
    refused(module(unary.Neg(Value(ROWS))), "unary.neg reads an unnamed value of type f32[N,3]")


def test_the_same_op_twice() -> None:
    x = feed()
    op = unary.Neg(x.value)
    refused(module(op, op, params=(x,)), "defined twice")


def test_a_parameter_is_a_value_of_its_own() -> None:
    x = feed()
    refused(module(params=(x, Param("y", x.value))), "parameter 'y' is no value of its own")
    refused(module(params=(Param("y", unary.Neg(x.value).result),)), "parameter 'y' is no value of its own")


@pytest.mark.parametrize(
    ("role", "kind", "wanted"),
    [
        ("key", TensorType(DType.U32, (4,)), "u32[8], not u32[4]"),
        ("draw", TensorType(DType.I64, ()), "u64[], not i64[]"),
        ("rng_key", TensorType(DType.U64, (8,)), "u32[8], not u64[8]"),
        ("rng_counter", TensorType(DType.U64, (1,)), "u64[], not u64[1]"),
        ("clock", TensorType(DType.I64, ()), "u64[], not i64[]"),
        ("mask", TensorType(DType.F32, (Sym("N"),)), "bool[N], not f32[N]"),
        ("mask", TensorType(DType.BOOL, (Sym("N"), 1)), "bool[N], not bool[N,1]"),
        ("extent", TensorType(DType.I64, (Sym("L"),)), "bool[S], not i64[L]"),
        ("extent", TensorType(DType.BOOL, (Sym("L", 2),)), "bool[S], not bool[2*L]"),
        ("extent", TensorType(DType.BOOL, ()), "bool[S], not bool[]"),
    ],
)
def test_parameters_with_a_role_have_its_type(role: Any, kind: TensorType, wanted: str) -> None:
    refused(module(params=(Param(role, Value(kind), role),)), wanted)


def test_an_extent_alone_tells_its_size() -> None:
    x = feed()
    size = Param("max(x)", Value(TensorType(DType.BOOL, (Sym("N"),))), "extent")
    refused(module(params=(x, size)), "the extent 'max(x)' is the size N, which 'x' has too")


def test_types_are_inferred_anew() -> None:
    x = feed()
    op = unary.Neg(x.value)
    op.result.type = TensorType(DType.F32, (Sym("N"), 4))
    refused(module(op, params=(x,)), "unary.neg has results of type f32[N,4], its operands give f32[N,3]")


def test_operands_that_no_longer_fit() -> None:
    x, w = feed(), read()
    op = elementwise.Mul(x.value, w.result)
    x.value.type = TensorType(DType.F32, (Sym("N"), 5))
    refused(module(w, op, params=(x,)), "do not broadcast", "%0 = elementwise.mul(%x, %w)")


def test_stages() -> None:
    x = feed()
    stop = grad.StopGradient(x.value)
    verify(module(stop, params=(x,), stage=Stage.CORE))
    refused(module(stop, params=(x,), stage=Stage.GRAD), "grad.stop does not occur at stage grad")


def test_stages_of_ops_in_regions() -> None:
    x = feed()
    rows = control.map_op(OpBuilder(), [x.value], [0], Sym("N"), lambda b, row: (b(grad.StopGradient(row)),))
    verify(module(rows, params=(x,)))
    refused(module(rows, params=(x,), stage=Stage.TARGET), "grad.stop does not occur at stage target")


def test_a_region_captures_nothing() -> None:
    x = feed()
    row = Value(TensorType(DType.F32, (1, 3)))
    inside = unary.Neg(x.value)
    op = control.Map((x.value,), (0,), Sym("N"), Region((row,), (inside,), (row,)))
    refused(module(op, params=(x,)), "unary.neg reads %x, which is defined around this region")


def test_a_region_yields_its_own_values() -> None:
    x = feed(TensorType(DType.F32, (1, 3)))
    row = Value(x.value.type)
    op = control.Map((x.value,), (0,), 1, Region((row,), (), (x.value,)))
    refused(module(op, params=(x,)), "a region of control.map yields a value that it does not define")


def test_a_region_does_not_access_state() -> None:
    x, inside = feed(), read()
    row = Value(TensorType(DType.F32, (1, 3)))
    op = control.Map((x.value,), (0,), Sym("N"), Region((row,), (inside,), (row,)))
    refused(module(op, params=(x,)), "state.read stands in a region")


def test_state() -> None:
    w = read()
    write = Write(w.result, StateName("w"))
    refused(module(w, read()), "read of @w a second time", "at most once")
    refused(module(w, write, Write(w.result, StateName("w"))), "write of @w a second time")
    refused(module(read("v")), "state variable @v is not declared")
    refused(module(read(shape=(4,))), "@w is f32[3]; read as f32[4]")
    wide = read("v", (4,))
    other = (WEIGHT, StateDecl("v", TensorType(DType.F32, (4,))))
    refused(module(wide, Write(wide.result, StateName("w")), state=other), "@w is f32[3]; write as f32[4]")
    refused(module(state=(WEIGHT, WEIGHT)), "@w is declared twice")


def test_functions_and_outputs() -> None:
    x = feed()
    output = Output("x", x.value)
    refused(module(params=(x,), outputs=(output, output)), "output 'x' is returned twice")
    refused(module(outputs=(output,)), "output 'x' returns a value that the function does not define")
    twice = module()
    refused(replace(twice, functions=twice.functions * 2), "function @step occurs twice")


def test_labels_name_values_in_scope() -> None:
    x = feed()
    op = unary.Neg(x.value)
    op.result.label = Clipped(x.value)
    verify(module(op, params=(x,)))
    op.result.label = Clipped(Value(TensorType(DType.F32, (3,))))
    refused(module(op, params=(x,)), "names a factor that is not defined before it")
