"""Rows of different lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case, ErrorCase, distinct, floats, tensor

from fluidc.compiler.ir.core import OpBase, Value
from fluidc.compiler.ir.types import DType, RaggedType, Sym, TensorType
from fluidc.compiler.ops import ragged
from fluidc.compiler.ops.ragged import RaggedArray

X = RaggedArray(distinct(6, 2), np.asarray([0, 3, 3, 4, 6]))  # the second row is empty
FLAT = RaggedArray(floats(5), np.asarray([0, 2, 5]))


def pool(how: Any, pad_value: float = 0.0) -> Any:
    return lambda x: ragged.Pool(x, how, pad_value)


def pool_loops(how: str, pad_value: float = 0.0) -> Any:
    reduced = {
        "sum": lambda row: row.sum(axis=0),
        "average": lambda row: row.mean(axis=0),
        "sqrt": lambda row: row.sum(axis=0) / len(row) ** 0.5,
        "max": lambda row: row.max(axis=0),
        "first": lambda row: row[0],
        "last": lambda row: row[-1],
    }[how]

    def expect(x: RaggedArray) -> np.ndarray:
        out = np.full((len(x.offsets) - 1, *x.data.shape[1:]), pad_value)
        for i in range(len(out)):
            tokens = [x.data[t] for t in range(x.offsets[i], x.offsets[i + 1])]
            if tokens:
                out[i] = reduced(np.stack(tokens).astype(np.float64))
        return out

    return expect


def pool_grad(how: Any) -> Any:
    return lambda x, ct: ragged.PoolGrad(x, ct, how)


def pool_grad_loops(how: str) -> Any:
    def expect(x: RaggedArray, ct: np.ndarray) -> RaggedArray:
        out = np.zeros(x.data.shape)
        for i in range(len(ct)):
            start, stop = x.offsets[i], x.offsets[i + 1]
            for t in range(start, stop):
                weight = {"sum": 1.0, "average": 1 / (stop - start), "sqrt": (stop - start) ** -0.5}.get(how)
                if weight is not None:
                    out[t] = ct[i] * weight
                elif how in ("first", "last"):
                    out[t] = ct[i] if t == (start if how == "first" else stop - 1) else 0
                else:
                    out[t] = np.where(x.data[t] == x.data[start:stop].max(axis=0), ct[i], 0)
        return RaggedArray(out, x.offsets)

    return expect


def softmax_loops(x: RaggedArray) -> RaggedArray:
    out = np.zeros(x.data.shape)
    for a, b in zip(x.offsets[:-1], x.offsets[1:], strict=True):
        powers = np.exp(x.data[a:b].astype(np.float64))
        out[a:b] = powers / powers.sum(axis=0)
    return RaggedArray(out, x.offsets)


def expand_loops(x: np.ndarray, rows: RaggedArray) -> RaggedArray:
    lengths = [b - a for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)]
    return RaggedArray(np.stack([x[i] for i, n in enumerate(lengths) for _ in range(n)]), rows.offsets)


def taken_loops(x: RaggedArray, y: RaggedArray) -> np.ndarray:
    out = np.zeros((4, 2))
    for i in range(4):
        a, b = x.offsets[i], x.offsets[i + 1]
        for j in range(2):
            if a < b:
                out[i, j] = y.data[a + max(range(b - a), key=lambda t: x.data[a + t, j]), j]
    return out


HOWS = ("sum", "average", "sqrt", "max", "first", "last")
CT = floats(4, 2, seed=1)
TIES = RaggedArray(np.asarray([[1, 2], [1, 0], [1, 2]], np.float32), np.asarray([0, 3]))
CASES = (
    Case(
        "ragged.from_lengths",
        ragged.FromLengths,
        (distinct(6, 2), np.asarray([3, 0, 1, 2])),
        lambda data, lengths: RaggedArray(data, np.asarray([0, 3, 3, 4, 6])),
        wrt=(0,),
    ),
    Case("ragged.data", lambda x: ragged.Data(x), (X,), lambda x: x.data, wrt=(0,)),
    Case(
        "ragged.like",
        lambda data, rows: ragged.Like(data, rows),
        (floats(6, 3), X),
        lambda data, rows: RaggedArray(data, rows.offsets),
        wrt=(0,),
    ),
    Case("ragged.lengths", lambda x: ragged.Lengths(x), (X,), lambda x: np.asarray([3, 0, 1, 2])),
    *(Case(f"ragged.pool-{how}", pool(how), (X,), pool_loops(how), wrt=(0,)) for how in HOWS),
    *(Case(f"ragged.pool-{how}_scalars", pool(how), (FLAT,), pool_loops(how), wrt=(0,)) for how in ("sum", "max")),
    Case("ragged.pool-pad_value", pool("max", -1.5), (X,), pool_loops("max", -1.5), wrt=(0,)),
    *(Case(f"ragged.pool_grad-{how}", pool_grad(how), (X, CT), pool_grad_loops(how), wrt=(1,)) for how in HOWS),
    Case(
        "ragged.pool_grad-ties",
        pool_grad("max"),
        (TIES, np.asarray([[5, 7]], np.float32)),
        lambda x, ct: RaggedArray(np.asarray([[5, 7], [0, 0], [0, 0]]), x.offsets),
    ),
    Case(
        "ragged.pool_taken",
        lambda x, y: ragged.PoolTaken(x, y),
        (X, RaggedArray(floats(6, 2, seed=2), X.offsets)),
        taken_loops,
        wrt=(1,),
    ),
    Case("ragged.expand", lambda x, rows: ragged.Expand(x, rows), (floats(4, 3), X), expand_loops, wrt=(0,)),
    Case("ragged.softmax", lambda x: ragged.Softmax(x), (X,), softmax_loops, wrt=(0,)),
    Case(
        "ragged.softmax-far",
        lambda x: ragged.Softmax(x),
        (RaggedArray(FLAT.data * np.float32(100), FLAT.offsets),),
        softmax_loops,
        atol=1e-30,
    ),
    Case("ragged.softmax-scalars", lambda x: ragged.Softmax(x), (FLAT,), softmax_loops, wrt=(0,)),
)

ROWS = RaggedType(TensorType(DType.F32, (Sym("T"), 2)), Sym("N"))
WORDS = RaggedType(TensorType(DType.I64, (Sym("T"),)), Sym("N"))


def _pool(how: Any) -> Any:
    def build(x: Value) -> OpBase:
        return ragged.Pool(x, how)

    return build


ERRORS = (
    ErrorCase(
        "ragged.from_lengths",
        lambda data, lengths: ragged.FromLengths(data, lengths),
        (tensor("f32[T,2]"), tensor("i32[N]")),
        "takes tokens and the lengths i64[N]",
    ),
    ErrorCase("ragged.pool-how", _pool("median"), (ROWS,), "not by 'median'"),
    ErrorCase("ragged.pool-integers", _pool("sum"), (WORDS,), "pools floating-point tokens"),
    ErrorCase("ragged.like", lambda x, r: ragged.Like(x, r), (tensor("f32[N,2]"), ROWS), "not one entry per token"),
    ErrorCase("ragged.expand", lambda x, r: ragged.Expand(x, r), (tensor("f32[T,2]"), ROWS), "not one entry per row"),
    ErrorCase("ragged.softmax", lambda x: ragged.Softmax(x), (WORDS,), "takes floating-point tokens"),
    ErrorCase(
        "ragged.pool_grad",
        lambda x, ct: ragged.PoolGrad(x, ct, "sum"),
        (ROWS, tensor("f32[N]")),
        "is f32[N,2], not f32[N]",
    ),
    ErrorCase("ragged.pool_taken", lambda x, y: ragged.PoolTaken(x, y), (ROWS, WORDS), "operands of different types"),
)
