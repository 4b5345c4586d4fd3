"""Places outside an axis, of any integer type, in ONNX Runtime: NaN (0 in integers) is read, nothing is written."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import floats, ints, type_of
from onnx_jobs import exported, session
from op_jobs import Job

from fluidc.compiler.ir.core import Function, OpBase, Output, Param, Value
from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import embedding as em
from fluidc.compiler.ops import indexing as ix

OUTSIDE = np.array([2, -1, 0, 4, 3, -4, 9, 2])
TYPES = [DType.F32, DType.F64, DType.F16, DType.I32, DType.I64, DType.I8, DType.U8, DType.U32, DType.U64, DType.BOOL]


def run(build: Any, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """What ONNX Runtime computes of an op."""
    values = [Value(type_of(array)) for array in inputs]
    op: OpBase = build(*values)
    outputs = tuple(Output(f"o{i}", value) for i, value in enumerate(op.results))
    function = Function("f", tuple(Param(f"p{i}", value) for i, value in enumerate(values)), (op,), outputs)
    model = exported(Job(function, inputs, ()))
    return tuple(session(model).run(None, {f"p{i}": array for i, array in enumerate(inputs)}))


def rows(dtype: DType, count: int = 4) -> np.ndarray:
    found = ints(count, 3, high=90, seed=count) % (2 if dtype is DType.BOOL else 91)
    return found.astype(dtype.numpy)


def missing(dtype: DType) -> Any:
    return np.nan if dtype.is_float else 0


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.value)
def test_what_is_read_outside(dtype: DType) -> None:
    x, valid = rows(dtype), (OUTSIDE >= 0) & (OUTSIDE < 4)
    wanted = np.where(valid[:, None], x[OUTSIDE % 4], missing(dtype)).astype(x.dtype)
    for place_type in (np.int64, np.int32, np.int8):
        places = OUTSIDE.astype(place_type)
        (found,) = run(lambda x, i: ix.Gather(x, i, 0), x, places)
        np.testing.assert_array_equal(found, wanted)
        (found,) = run(lambda x, i: em.Lookup(x, i), x, places)
        np.testing.assert_array_equal(found, wanted)
    (found,) = run(lambda x, i: ix.Gather(x, i, 1), np.ascontiguousarray(x.T), OUTSIDE.reshape(2, 4))
    np.testing.assert_array_equal(found, wanted.T.reshape(3, 2, 4))
    (found,) = run(lambda x, i: ix.TakeAlong(x, i, 0), x, np.repeat(OUTSIDE[:, None], 3, 1))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", TYPES[:-1], ids=lambda dtype: dtype.value)
def test_what_is_written_outside(dtype: DType) -> None:
    x, updates = rows(dtype), rows(dtype, len(OUTSIDE))
    added, written = x.copy(), x.copy()
    for place, row in zip(OUTSIDE, updates, strict=True):
        if 0 <= place < 4:
            added[place] += row
            written[place] = row
    for axis in (0, 1):
        turned = [np.ascontiguousarray(np.moveaxis(a, 0, axis)) for a in (x, updates, added, written)]
        (found,) = run(lambda x, i, u, a=axis: ix.ScatterAdd(x, i, u, a), turned[0], OUTSIDE, turned[1])
        np.testing.assert_array_equal(found, turned[2])
        (found,) = run(lambda x, i, u, a=axis: ix.Scatter(x, i, u, a), turned[0], OUTSIDE, turned[1])
        np.testing.assert_array_equal(found, turned[3])
    (found,) = run(lambda x, i, u: ix.AddAlong(x, i, u, 0), x, np.repeat(OUTSIDE[:, None], 3, 1), updates)
    np.testing.assert_array_equal(found, added)


def test_updates_outside_may_be_anything() -> None:
    x, updates = floats(4, 3), floats(2, 3, seed=1)
    updates[0] = np.nan
    places = np.array([-1, 2])
    wanted = x.copy()
    wanted[2] += updates[1]
    np.testing.assert_array_equal(run(lambda x, i, u: ix.ScatterAdd(x, i, u, 0), x, places, updates)[0], wanted)
    along = np.repeat(places[:, None], 3, 1)
    np.testing.assert_array_equal(run(lambda x, i, u: ix.AddAlong(x, i, u, 0), x, along, updates)[0], wanted)
    (found,) = run(lambda i, ct: em.LookupGrad(i, ct, 4), places, updates)
    np.testing.assert_array_equal(found, np.where(np.arange(4)[:, None] == 2, updates[1], 0))


def test_padding_hides_whatever_the_table_holds() -> None:
    table, ids = floats(4, 3), np.array([[1, 3], [-1, 1]])
    table[1] = np.inf
    (found,) = run(lambda t, i: em.Lookup(t, i, 1), table, ids)
    np.testing.assert_array_equal(found, np.array([[np.zeros(3), table[3]], [np.full(3, np.nan), np.zeros(3)]]))
    ct = floats(2, 2, 3, seed=1)
    ct[0, 0] = np.nan
    (found,) = run(lambda i, ct: em.LookupGrad(i, ct, 4, 1), ids, ct)
    np.testing.assert_array_equal(found, np.where(np.arange(4)[:, None] == 3, ct[0, 1], 0))
    (found,) = run(lambda i, ct: em.LookupNormSq(i, ct, 1), ids, ct)
    np.testing.assert_allclose(found, np.square(ct[[0, 1], [1, 0]].astype(np.float64)).sum(1), rtol=1e-12)


def test_norms_of_what_is_not_finite() -> None:
    ids, ct = np.array([[1, 1, 0], [0, 1, 2]]), floats(2, 3, 2)
    ct[0, 2, 0], ct[1, 0, 1] = np.nan, np.inf
    (found,) = run(em.LookupNormSq, ids, ct)
    np.testing.assert_array_equal(found, [np.nan, np.inf])


def test_one_hot_of_places_outside() -> None:
    for dtype in (DType.F32, DType.I32, DType.BOOL):
        (found,) = run(lambda i, d=dtype: em.OneHot(i, 4, d), OUTSIDE.astype(np.int32))
        np.testing.assert_array_equal(found, (OUTSIDE[:, None] == np.arange(4)).astype(dtype.numpy))


@pytest.mark.parametrize("dtype", [t for t in TYPES if t not in (DType.U64, DType.BOOL)], ids=lambda t: t.value)
def test_sorting_and_running_sums_of_any_type(dtype: DType) -> None:
    x = rows(dtype, 6)
    for op in (
        lambda x: ix.TopK(x, 2),
        lambda x: ix.Argsort(x, 0),
        lambda x: ix.Argsort(x, 1, True),
        lambda x: ix.Cumsum(x, 0, True),
    ):
        wanted = op(Value(type_of(x))).evaluate(x)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for have, want in zip(run(op, x), wanted, strict=True):
            np.testing.assert_array_equal(have, want)
