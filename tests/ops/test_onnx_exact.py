"""ONNX forms where tolerances would hide what counts: limits met exactly, numbers near 0, other types; bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import floats, tensor, type_of
from onnx import TensorProto, helper
from onnx_jobs import exported, session
from onnx_streams import run
from op_jobs import Job

from fluidc.compiler.codegen.onnx.emit import Argument, Emitter
from fluidc.compiler.codegen.onnx.types import value_info
from fluidc.compiler.errors import MissingRule
from fluidc.compiler.ir.core import Function, OpBase, Output, Param, StateName, Value
from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import dp, elementwise, loss, reduce
from fluidc.compiler.ops import embedding as em
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.dp_noise import AddNoise
from fluidc.compiler.ops.example_norm import GramNormSq
from fluidc.compiler.ops.norm import Standardize
from fluidc.compiler.ops.norm_bound import guarded, onnx_guarded
from fluidc.compiler.ops.onnx_forms import expm1, log1p
from fluidc.compiler.ops.random import Dropout
from fluidc.compiler.ops.region import evaluate_op
from fluidc.compiler.ops.shape import Iota

W = StateName("w")
LEAST = 2.0**-126
KEY, DRAW = np.arange(8, dtype=np.uint32), np.array(2**33 + 5, np.uint64)


def both_ways(build: Callable[..., OpBase], *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What ONNX Runtime computes of an op, and what ``evaluate`` does."""
    values = [Value(type_of(array), f"p{i}") for i, array in enumerate(inputs)]
    op = build(*values)
    function = Function(
        "f", tuple(Param(v.hint, v) for v in values), (op,), tuple(Output(f"o{i}", r) for i, r in enumerate(op.results))
    )
    known: dict[Value, Any] = dict(zip(values, inputs, strict=True))
    evaluate_op(op, known)
    found = run(exported(Job(function, inputs, ())), inputs)
    return found[0], np.asarray(known[op.results[0]])


def same(build: Callable[..., OpBase], *inputs: np.ndarray, rtol: float = 0) -> np.ndarray:
    """The result, once it is the same both ways up to ``rtol``, of the type and in whatever is no number."""
    found, expected = both_ways(build, *inputs)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0)
    return found


def written(write: Callable[..., str], *inputs: np.ndarray) -> np.ndarray:
    """What the nodes compute that ``write(emitter, *names)`` writes; the result is like the first input."""
    kinds = [tensor(f"{DType.of(x.dtype).value}[{','.join(map(str, x.shape))}]") for x in inputs]
    values = [Value(kind, f"p{i}") for i, kind in enumerate(kinds)]
    function = Function("f", tuple(Param(v.hint, v) for v in values), (), ())
    arguments = [Argument("feed", v.hint, v.hint, kind) for v, kind in zip(values, kinds, strict=True)]
    o = Emitter(function, arguments, (), self_contained=False, ort_training=False)
    result = write(o, *(v.hint for v in values))
    nodes, infos = o.finish()
    graph = helper.make_graph(
        nodes, "f", [value_info(v.hint, kind) for v, kind in zip(values, kinds, strict=True)],
        [value_info(result, kinds[0])], initializer=o.constants, value_info=infos,
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    (found,) = session(model).run(None, {v.hint: x for v, x in zip(values, inputs, strict=True)})
    return found


# Privacy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gram", [0.0, 2.0**-11, 1e-3, 2.0])
def test_norms_that_are_never_too_small(gram: float) -> None:
    """The bounds of both roundings, met exactly, passed and missed; sums below 0; what is no number."""
    squares = [1.0, 1.0, 4.0, 1e-9, 0.0, -1e-12, -5.0, np.nan, np.inf, 1.0, 1e300, 3.0, 1.0]
    lengths = [1.0, 1024.0, 2.0, 1.0, 3.0, 1.0, 2.0, 1.0, np.inf, np.nan, 1e160, 3e6, 1025.0]
    for terms in (1, 2, 700):
        given = np.array(squares), np.array(lengths)
        found = written(lambda o, s, n, terms=terms: onnx_guarded(o, s, n, gram, terms), *given)
        np.testing.assert_allclose(found, guarded(*given, gram, terms), rtol=1e-15, atol=0)


def test_factors_and_products_below_the_least_normal_number_are_zero() -> None:
    x = np.array([[LEAST, -LEAST, LEAST * 0.75], [LEAST * 2, LEAST * 1.5, 1.0]], np.float32)
    found = same(dp.ScaleRows, x, np.array([1.0, 0.5], np.float32))
    assert np.count_nonzero(found) == 4
    # 2 / n: one, the least, half of it, and what n^2 that overflows has.
    norm_sq = np.array([4.0, (2 / LEAST) ** 2, (4 / LEAST) ** 2, np.inf])
    for options in ({}, {"gamma": 2.0**-20}):
        found = same(lambda n, live, o=options: dp.ClipFactor((n,), live, 2.0, (W,), **o), norm_sq, np.ones(4, bool))
        assert found[1:].tolist() == [np.float32(LEAST), 0, 0]


@pytest.mark.parametrize(("pre", "post"), [(2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("op", [dp.ScaleRows, dp.SelectRows])
def test_rows_inside_an_axis(op: Any, pre: int, post: int) -> None:
    """Each of three examples has parts in several places; the second is dead."""
    x, c = floats(2, 3 * pre * post, 2), np.array([0.5, 0.0, 1.0], np.float32)
    x.reshape(2, pre, 3, post, 2)[:, :, 1] = np.nan
    same(lambda x, c: op(x, c, 1, pre, post), x, c)


def test_private_ops_on_float64() -> None:
    g, c = floats(4, 6).astype(np.float64), np.array([0.5, 0.0, 1.0, 0.25], np.float32)
    g[1] = np.inf
    same(dp.ScaleRows, g, c)
    same(dp.SelectRows, g, c)
    same(dp.ClippedSum, g, c, rtol=1e-15)
    same(lambda t, k, d: AddNoise(t, None, k, d, 7, 1.25, 0.5, 8.0, W), g[0], KEY, DRAW, rtol=1e-6)
    same(dp.RowNormSq, floats(5))


@pytest.mark.parametrize("phase", [-(2**40), -9, -1, 0, 1, 2, 9, 2**40])
def test_a_phase_that_there_is_not_has_no_update(phase: int) -> None:
    phases: Any = {"sigmas": (1.0, 2.0), "lots": (8.0, 4.0)}
    found = same(
        lambda t, k, d, p: AddNoise(t, None, k, d, 7, 1.0, 0.5, 8.0, W, phase=p, **phases),
        floats(3), KEY, DRAW, np.array(phase), rtol=1e-5,
    )  # fmt: skip
    assert np.isnan(found).all() == (phase not in (0, 1))


def test_norms_of_tables_tied_to_products() -> None:
    """An id that is no row of the table meets no product; those of padding are left out, 0 too."""
    x, d, e = floats(2, 3, 4), floats(2, 3, 5, seed=1), floats(2, 3, 5, seed=2)
    ids = np.array([[0, -2, 3], [4, 3, 9]])
    same(lambda x, i, d, e: GramNormSq((x, i), (d, e), ()), x, ids, d, e, rtol=1e-12)
    ids = np.array([[0, 0, 1], [1, 0, 2]])
    for padding in (0, 1):
        found = same(lambda i, d, p=padding: GramNormSq((i,), (d,), (p,)), ids, d, rtol=1e-12)
        assert found[0] != found[1]


def test_norms_of_rows_of_a_table() -> None:
    """Rounding that counts, just counts, and does not; padding has no length; ids of another type."""
    ids = np.array([[0, 0, 2], [1, 1, 2], [2, 2, 2], [0, 1, 2]])
    ct = np.array([[1025, -1023, 0], [1, -1, 9], [1e6, 1e6, 1e6], [3e4, 2e4, 1e9]], np.float32)[..., None]
    for padding in (None, 2):
        found = same(lambda i, c, p=padding: em.LookupNormSq(i, c, p), ids, ct, rtol=1e-15)
        np.testing.assert_array_equal(
            same(lambda i, c, p=padding: em.LookupNormSq(i, c, p), ids.astype("i4"), ct), found
        )
    # With two terms the bound, 2^-22 * 2048, is 2^-12 of the norm: it does not count yet.
    assert same(em.LookupNormSq, ids[:1, :2], ct[:1, :2]) == 4


def test_an_element_at_the_very_probability_is_kept() -> None:
    x = floats(4, 8)
    key, counter = Value(tensor("u32[8]")), Value(tensor("u64[]"))
    uniforms = Dropout(key, counter, Value(type_of(x)), 0.5, stream=3).uniforms(KEY, DRAW, None, x.shape)
    ways: tuple[Any, ...] = "upscale_in_train", "downgrade_in_infer"
    for p in (float(uniforms[1, 2]), 0.5):
        for how in ways:
            same(lambda k, c, x, p=p, how=how: Dropout(k, c, x, p, how, stream=3), KEY, DRAW, x, rtol=1e-6)
            same(
                lambda k, c, x, p=p, how=how: Dropout(k, c, x, p, how, stream=3),
                KEY, DRAW, x.astype(np.float64), rtol=1e-6,
            )  # fmt: skip


def test_narrow_numbers_are_computed_in_wider_ones() -> None:
    """The strict checks of types say so; ONNX Runtime's Python takes no arrays of bfloat16."""
    key, counter, x = (Value(tensor(kind), f"p{i}") for i, kind in enumerate(("u32[8]", "u64[]", "bf16[3,4]")))
    op = Dropout(key, counter, x, 0.5, stream=3)
    params = tuple(Param(v.hint, v) for v in (key, counter, x))
    model = exported(Job(Function("f", params, (op,), (Output("o", op.results[0]),)), (), ()))
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.BFLOAT16
    op = Standardize(x, (1,))
    exported(Job(Function("f", params[2:], (op,), (Output("o", op.results[0]),)), (), ()))


# Others -----------------------------------------------------------------------------------------------------


def test_functions_near_zero() -> None:
    x = np.array([0, 1e-30, -1e-12, 1e-7, -3e-4, 1e-3, 0.3, -0.7, 1, 5, -0.999, 80, np.inf, np.nan])
    for dtype, kind in ((np.float32, DType.F32), (np.float64, DType.F64)):
        near, rtol = x.astype(dtype), 8 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(written(lambda o, x, k=kind: log1p(o, x, k), near), np.log1p(near), rtol=rtol)
        np.testing.assert_allclose(written(lambda o, x, k=kind: expm1(o, x, k), near), np.expm1(near), rtol=rtol)


@pytest.mark.parametrize("exponent", range(8))
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8])
def test_powers_of_integers(dtype: Any, exponent: int) -> None:
    x = np.array([-3, -1, 0, 1, 2, 7], dtype)
    b, base = OpBuilder(), Value(type_of(x), "p0")
    power = elementwise.Pow(base, b.fill((), DType.of(x.dtype), exponent))
    (result,) = b.emit(power)
    function = Function("f", (Param("p0", base),), tuple(b.ops), (Output("o", result),))
    (found,) = run(exported(Job(function, (x,), ())), [x])
    np.testing.assert_array_equal(found, x**exponent)


@pytest.mark.parametrize("exponent", [-1, None])
def test_powers_that_are_refused(exponent: int | None) -> None:
    b, base = OpBuilder(), Value(tensor("i64[3]"), "p0")
    by = Value(tensor("i64[3]"), "p1") if exponent is None else b.fill((), DType.I64, exponent)
    (result,) = b.emit(elementwise.Pow(base, by))
    params = (Param("p0", base), *([Param("p1", by)] if exponent is None else []))
    with pytest.raises(MissingRule, match="only to a fixed power"):
        exported(Job(Function("f", params, tuple(b.ops), (Output("o", result),)), (), ()))


def test_the_greatest_of_large_unsigned_numbers_is_refused() -> None:
    """They would be negative where ONNX Runtime compares."""
    with pytest.raises(MissingRule, match="u64"):
        both_ways(lambda x: reduce.Argmax(x, 0), np.array([1, 2**63], np.uint64))


def test_the_floor_of_softmax() -> None:
    """A share of the largest, which is not the same in every row."""
    same(lambda x: loss.Softmax(x, 1), np.array([[0, -30, -100, 0.5], [1, 1, -200, 1]], np.float32), rtol=1e-5)


@pytest.mark.parametrize(("shape", "axis"), [((3,), 0), ((2, 3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), 2), ((1, 3, 1), 1)])
def test_positions_along_any_axis(shape: tuple[int, ...], axis: int) -> None:
    for dtype in ("i64", "f32"):
        same(lambda kind=dtype: Iota(axis, tensor(f"{kind}[{','.join(map(str, shape))}]")))


def test_whole_numbers_of_times() -> None:
    x, y = floats(500, low=-90, high=90), floats(500, seed=1)
    found = same(elementwise.FloorDiv, x, y)
    np.testing.assert_array_equal(found, np.round(found))
