"""Random ops on the onnx target: words from outside or made in the graph, open sizes, loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from cases import Case, all_cases, batch_size, tensor
from onnx_jobs import check, exported
from onnx_streams import run
from op_jobs import job

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.build import export
from fluidc.compiler.errors import TargetError
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Shape, Sym, TensorType
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.control import scan
from fluidc.compiler.ops.drawing import Drawing
from fluidc.compiler.ops.random import Normal, TruncatedNormal, Uniform
from fluidc.runtime import keystream

# Cases with a key among their inputs.
CASES = [
    case
    for case in all_cases()
    if case.onnx is True and any(getattr(x, "dtype", None) == np.uint32 and x.shape == (8,) for x in case.inputs)
]
JOBS = [(case, False) for case in CASES] + [(case, True) for case in CASES if case.kinds and batch_size(case)]

KEY = np.arange(8, dtype=np.uint32) * np.uint32(0x9E3779B9)
N = Sym("N")
Make = Callable[..., Drawing]

FROM_KEYSTREAM: dict[str, tuple[Make, Shape]] = {
    "uniform": (lambda shape, **on: Uniform(type=shape, low=-1.0, high=2.0, stream=3, **on), (N, 5)),
    "normal": (lambda shape, **on: Normal(type=shape, mean=1.0, std=0.5, stream=3, **on), (N, 67)),
    "scaled": (lambda shape, **on: Normal(type=shape, mean=0.0, std=1.0, stream=3, **on), (2, Sym("N", 3))),
}
OF_LOT: dict[str, tuple[Make, Shape]] = {
    "uniform": (lambda shape, **on: Uniform(type=shape, low=0.0, high=1.0, stream=3, **on), (N, 5)),
    "normal": (lambda shape, **on: Normal(type=shape, mean=0.0, std=1.0, stream=3, **on), (N, 67)),
    "groups": (lambda shape, **on: Normal(type=shape, mean=0.0, std=1.0, stream=3, **on), (N, 320)),
    "inside": (
        lambda shape, **on: Normal(type=shape, mean=0.0, std=1.0, stream=3, axis=1, pre=2, post=3, **on),
        (4, Sym("N", 6), 5),
    ),
}
PADDLE: dict[str, tuple[Make, Shape]] = {
    "uniform": (lambda shape, **on: Uniform(type=shape, low=-1.0, high=2.0, **on), (N, 50)),
    "normal": (lambda shape, **on: Normal(type=shape, mean=0.5, std=2.0, **on), (3, N)),
    "truncated": (lambda shape, **on: TruncatedNormal(type=shape, mean=0.5, std=2.0, **on), (Sym("N", 7),)),
}


@pytest.mark.parametrize("self_contained", [False, True], ids=["fed", "self-contained"])
@pytest.mark.parametrize(("case", "symbolic"), JOBS, ids=[c.id + ("-N" if symbolic else "") for c, symbolic in JOBS])
def test_cases(case: Case, symbolic: bool, self_contained: bool) -> None:
    made = job(case, "f", symbolic=symbolic, backward=False)
    model = exported(made, self_contained=self_contained)
    bits = [v.type.tensor_type.shape.dim[0] for v in model.graph.input if v.name.startswith("@bits")]
    assert self_contained == (not bits)
    assert all(size.dim_value % 16 == 0 and (size.dim_value or size.dim_param.endswith("*N")) for size in bits)
    check(made, model)


def drawn(make: Callable[..., Drawing], shape: Shape, roles: dict[str, TensorType], **options: Any) -> onnx.ModelProto:
    """What ``make`` draws as a model that the strict checks accept; ``roles`` are its operands."""
    operands = {role: Value(kind, role) for role, kind in roles.items()}
    size = Value(tensor("f32[N]"))
    b = OpBuilder()
    op = make(TensorType(DType.F32, shape), **operands)
    (result,) = b.emit(op)
    params = (Param("size", size), *(Param(role, value) for role, value in operands.items()))
    function = Function("f", params, tuple(b.ops), (Output("o", result),))
    model = export(Module(Stage.TARGET, (), (function,)), function, BuildOptions(**options))
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    return model


def at(shape: Shape, n: int) -> TensorType:
    return TensorType(DType.F32, tuple(dim.scale * n if isinstance(dim, Sym) else dim for dim in shape))


@pytest.mark.parametrize("self_contained", [False, True])
@pytest.mark.parametrize("name", FROM_KEYSTREAM)
def test_open_sizes(name: str, self_contained: bool) -> None:
    make, shape = FROM_KEYSTREAM[name]
    roles = {"key": tensor("u32[8]"), "counter": tensor("u64[]")}
    model = drawn(make, shape, roles, self_contained=self_contained)
    for n in (1, 2, 33):
        given = {"key": KEY, "counter": np.array(2**35 + n, np.uint64)}
        expected = make(at(shape, n), **{role: Value(kind) for role, kind in roles.items()}).evaluate(*given.values())
        (found,) = run(model, [np.zeros(n, np.float32), *given.values()])
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("self_contained", [False, True])
@pytest.mark.parametrize("name", OF_LOT)
def test_open_part_of_a_lot(name: str, self_contained: bool) -> None:
    make, shape = OF_LOT[name]
    roles = {"key": tensor("u32[8]"), "counter": tensor("u64[]"), "row": tensor("i64[]")}
    model = drawn(make, shape, roles, self_contained=self_contained)
    for n, row in ((1, 0), (2, 7), (33, 1000)):
        given = {"key": KEY, "counter": np.array(9, np.uint64), "row": np.array(row)}
        expected = make(at(shape, n), **{role: Value(kind) for role, kind in roles.items()}).evaluate(*given.values())
        (found,) = run(model, [np.zeros(n, np.float32), *given.values()])
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("n", [1, 2, 20, 21_000])
@pytest.mark.parametrize("name", PADDLE)
def test_paddle_of_open_size(name: str, n: int) -> None:
    """More than 1024^2 draws have three digits."""
    make, shape = PADDLE[name]
    seeded = {"key": None, "counter": None, "seed": 7, "generator": "paddle"}
    model = drawn(lambda kind: make(kind, **seeded), shape, {})
    (found,) = run(model, [np.zeros(n, np.float32)])
    expected = make(at(shape, n), **seeded).evaluate(None, None)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=0 if name == "uniform" else 4e-6)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**32 + 5, -1])
@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 1025, 2**20 + 1])
def test_paddle_of_fixed_size(seed: int, count: int) -> None:
    seeded = {"key": None, "counter": None, "seed": seed, "generator": "paddle"}

    def make(kind: TensorType) -> Drawing:
        return Uniform(type=kind, low=0.0, high=1.0, **seeded)

    (found,) = run(drawn(make, (count,), {}), [np.zeros(1, np.float32)])
    np.testing.assert_array_equal(found, make(TensorType(DType.F32, (count,))).evaluate(None, None))


def test_what_is_drawn_twice_is_made_once_and_what_differs_never_shares() -> None:
    """One stream twice, another number, another counter: three inputs, whose sizes and words are their own."""
    names = {"key": tensor("u32[8]"), "counter": tensor("u64[]"), "later": tensor("u64[]"), "size": tensor("f32[N]")}
    values = {name: Value(kind, name) for name, kind in names.items()}
    b, shape = OpBuilder(), TensorType(DType.F32, (N, 5))
    asked = [("counter", 3), ("counter", 3), ("counter", 4), ("later", 3)]
    results = [
        b.emit(Uniform(values["key"], values[counter], shape, 0.0, 1.0, stream=stream))[0] for counter, stream in asked
    ]
    outputs = tuple(Output(f"o{i}", result) for i, result in enumerate(results))
    function = Function("f", tuple(Param(name, value) for name, value in values.items()), tuple(b.ops), outputs)
    model = export(Module(Stage.TARGET, (), (function,)), function, BuildOptions())
    inputs = [v.type.tensor_type.shape.dim[0].dim_param for v in model.graph.input if v.name.startswith("@bits")]
    assert inputs == ["16*N"] * 3  # a block of 16 words is enough for the 5 elements of a row
    given = {"key": KEY, "counter": np.array(7, np.uint64), "later": np.array(8, np.uint64)}
    found = run(model, [*given.values(), np.zeros(33, np.float32)])
    for have, (counter, stream) in zip(found, asked, strict=True):
        make = Uniform(Value(names["key"]), Value(names[counter]), at(shape.shape, 33), 0.0, 1.0, stream=stream)
        np.testing.assert_array_equal(have, make.evaluate(KEY, given[counter]))
    np.testing.assert_array_equal(found[0], found[1])
    assert len({x.tobytes() for x in found}) == 3


def drawn_in_a_loop() -> Function:
    """Uniforms in a scan: the key stands outside, the counter is the step's own."""
    key, counters = Value(tensor("u32[8]"), "key"), Value(tensor("u64[3]"), "counters")
    b = OpBuilder()

    def body(b: Builder, index: Value, counter: Value, key: Value) -> Sequence[Value]:
        return b.emit(Uniform(key, counter, type=tensor("f32[4]"), low=0.0, high=1.0, stream=5))

    results = scan(b, [], [counters], [key], 3, body)
    params = (Param("key", key), Param("counters", counters))
    return Function("f", params, tuple(b.ops), (Output("o", results[0]),))


def test_a_self_contained_file_draws_in_loops() -> None:
    function = drawn_in_a_loop()
    model = export(Module(Stage.TARGET, (), (function,)), function, BuildOptions(self_contained=True))
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    counters = np.array([2**33 + 1, 0, 7], np.uint64)
    (found,) = run(model, [KEY, counters])
    for row, counter in zip(found, counters, strict=True):
        words = keystream.words(KEY, domain=keystream.Domain.MODEL, tensor=5, draw=int(counter), count_blocks=1)
        np.testing.assert_array_equal(row, (words[0, :4] >> np.uint32(8)).astype(np.float32) * np.float32(2**-24))


def test_words_from_outside_are_not_drawn_in_loops() -> None:
    function = drawn_in_a_loop()
    with pytest.raises(TargetError, match="random numbers inside a loop") as caught:
        export(Module(Stage.TARGET, (), (function,)), function, BuildOptions())
    assert "self-contained" in str(caught.value)
