"""Indices that come as data: compiled code stays inside its buffers, whatever they are.

The reference refuses such indices with a message.  Compiled code reads NaN (0 of integers) in their place and leaves
out what they would write.  Huge ones would end the process if they ever became an address.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from fluidc.compiler.codegen.tvm.build import compile_module
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops import elementwise, embedding, indexing, loss, metric, ragged
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.region import pullback
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")

ROWS = 3
BAD = np.array([-1, ROWS, -ROWS, 2**31, 2**40, -(2**40), 2**62, -(2**63), 2**63 - 1])
IDS = np.concatenate([[1], BAD, [2, 0]])
"""Inside a table of three rows: the first and the last two."""
COUNT = len(IDS)
NAN = np.float32(np.nan)
ONE_HOT = np.eye(ROWS, dtype=np.float32)


def table(*shape: int) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


def kept(rows: np.ndarray, missing: Any = NAN) -> np.ndarray:
    """``rows`` (by position in IDS) where the id is one of the table's, ``missing`` elsewhere."""
    known = (IDS >= 0) & (IDS < ROWS)
    return np.where(known.reshape(-1, *[1] * (rows.ndim - 1)), rows, missing).astype(rows.dtype)


def taken(x: np.ndarray) -> np.ndarray:
    return x[np.clip(IDS, 0, ROWS - 1)]


def added(x: np.ndarray, updates: np.ndarray, overwrite: bool = False) -> np.ndarray:
    """``x`` with the updates of ids inside the table."""
    out = x.copy()
    for row, update in zip(IDS, updates, strict=True):
        if 0 <= row < ROWS:
            out[row] = update if overwrite else out[row] + update
    return out


Build = Callable[..., Value | Sequence[Value]]


@dataclass(frozen=True)
class Lookup:
    """Ops on arrays, one of which holds the indices; what they must give."""

    build: Build
    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]


def gradient(b: OpBuilder, op: Op, ct: Value) -> Value:
    """The cotangent of an op's first operand for that of its first result."""
    (found,) = pullback(b, [op], [(b.emit(op)[0], ct)], [op.operands[0]])
    assert found is not None
    return found


X, WIDE = table(ROWS, 9), table(4, ROWS)
UPDATES = table(COUNT, 9)
LABELS = IDS.reshape(-1, 1)
LOGITS = np.log(np.tile(np.array([0.2, 0.3, 0.5], np.float32), (COUNT, 1)))
CHANCES = np.tile(np.array([0.2, 0.3, 0.5], np.float32), (COUNT, 1))
ACROSS, ACROSS_UPDATES = np.tile(IDS, (4, 1)), table(4, COUNT)
COUNTS = np.zeros(ROWS, np.int64)
SCORES = np.array([[0.5], [-1.0], [3.0], [np.nan], [np.inf], [-np.inf], [1e30], [1.0]], np.float32)

CASES: dict[str, Lookup] = {
    "lookup": Lookup(lambda b, x, i: b.lookup(x, i), (X, IDS), (kept(taken(X)),)),
    "lookup_grad": Lookup(
        lambda b, i, ct: b(embedding.LookupGrad(i, ct, ROWS)), (IDS, UPDATES), (added(X * 0, UPDATES),)
    ),
    "lookup_norm_sq": Lookup(
        lambda b, i, ct: b(embedding.LookupNormSq(i, ct)),
        (LABELS, UPDATES.reshape(COUNT, 1, 9)),
        ((UPDATES.astype(np.float64) ** 2).sum(1),),
    ),
    "one_hot": Lookup(lambda b, i: b.one_hot(i, ROWS, DType.F32), (IDS,), (kept(taken(ONE_HOT), 0),)),
    "gather": Lookup(lambda b, x, i: b.gather(x, i, 0), (X, IDS), (kept(taken(X)),)),
    "gather-columns": Lookup(lambda b, x, i: b.gather(x, i, 1), (WIDE, IDS), (kept(taken(WIDE.T)).T,)),
    "gather-integers": Lookup(
        lambda b, x, i: b.gather(x, i, 0), (X.astype(np.int64), IDS), (kept(taken(X), 0).astype(np.int64),)
    ),
    "gather_nd": Lookup(lambda b, x, i: indexing.GatherNd(x, i).decompose(b), (X, LABELS), (kept(taken(X)),)),
    "scatter_add": Lookup(lambda b, x, i, u: b.scatter_add(x, i, u, 0), (X, IDS, UPDATES), (added(X, UPDATES),)),
    "scatter_add-columns": Lookup(
        lambda b, x, i, u: b.scatter_add(x, i, u, 1), (WIDE, IDS, ACROSS_UPDATES), (added(WIDE.T, ACROSS_UPDATES.T).T,)
    ),
    "scatter": Lookup(
        lambda b, x, i, u: b(indexing.Scatter(x, i, u, 0)), (X, IDS, UPDATES), (added(X, UPDATES, overwrite=True),)
    ),
    "scatter_nd_add": Lookup(
        lambda b, x, i, u: indexing.ScatterNdAdd(x, i, u).decompose(b), (X, LABELS, UPDATES), (added(X, UPDATES),)
    ),
    "take_along": Lookup(lambda b, x, i: b.take_along(x, i, 1), (WIDE, ACROSS), (kept(taken(WIDE.T)).T,)),
    "add_along": Lookup(
        lambda b, x, i, u: b(indexing.AddAlong(x, i, u, 1)),
        (WIDE, ACROSS, ACROSS_UPDATES),
        (added(WIDE.T, ACROSS_UPDATES.T).T,),
    ),
    "softmax_cross_entropy": Lookup(
        lambda b, x, y: b.emit(loss.SoftmaxCrossEntropy(x, y))[0], (LOGITS, LABELS), (kept(-taken(LOGITS[0])[:, None]),)
    ),
    "softmax_cross_entropy-gradient": Lookup(
        lambda b, x, y, ct: gradient(b, loss.SoftmaxCrossEntropy(x, y), ct),
        (LOGITS, LABELS, np.ones((COUNT, 1), np.float32)),
        (CHANCES - kept(taken(ONE_HOT), 0),),
    ),
    "cross_entropy": Lookup(
        lambda b, p, y: b(loss.CrossEntropy(p, y)), (CHANCES, LABELS), (kept(-taken(LOGITS[0])[:, None]),)
    ),
    "cross_entropy-gradient": Lookup(
        lambda b, p, y, ct: gradient(b, loss.CrossEntropy(p, y), ct),
        (CHANCES, LABELS, np.ones((COUNT, 1), np.float32)),
        (-kept(taken(ONE_HOT), 0) / CHANCES,),
    ),
    "auc_counts": Lookup(
        lambda b, s, y, p, n: metric.AucCounts(s, y, p, n).decompose(b),
        (SCORES, np.ones((len(SCORES), 1), np.int64), COUNTS, COUNTS),
        (np.array([0, 1, 1]), COUNTS),
    ),
    "from_lengths": Lookup(
        lambda b, x, n: b(ragged.Pool(b(ragged.FromLengths(x, n)), "sum")),
        (np.ones((7, 2), np.float32), np.array([2, -5, 2**62, 2**63 - 1, 1])),
        (np.array([[2, 2], [0, 0], [5, 5], [0, 0], [0, 0]], np.float32),),
    ),
}


@cache
def engine() -> Any:
    """All cases, each a function, in one module."""
    return compile_module(Module(Stage.TARGET, (), tuple(map(function, CASES)))).engine()


def function(name: str) -> Function:
    case = CASES[name]
    values = [Value(TensorType(DType.of(x.dtype), x.shape), f"x{i}") for i, x in enumerate(case.inputs)]
    b = OpBuilder()
    made = case.build(b, *values)
    results = [made] if isinstance(made, Value) else list(made)
    params = tuple(Param(f"p{i}", value) for i, value in enumerate(values))
    return Function(name, params, tuple(b.ops), tuple(Output(f"o{i}", value) for i, value in enumerate(results)))


@pytest.mark.parametrize("name", CASES)
def test_indices_out_of_range(name: str) -> None:
    case = CASES[name]
    found = engine().call(name, [engine().tensor(aligned_copy(x)) for x in case.inputs])
    for have, want in zip(found, case.expected, strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-7)


def test_division_of_integers_does_not_trap() -> None:
    """By zero it gives 0, and the smallest number divided by -1 wraps round: as numpy has it, in vectors and tails."""
    x = np.array([1, 2, -3, 4, -(2**63), 7, -7, 9, 9] * 3)
    y = np.array([0, 1, 2, 0, -1, -1, 3, -4, 0] * 3)
    first, second = (Value(TensorType(DType.I64, x.shape), name) for name in "xy")
    b = OpBuilder()
    results = (b(elementwise.FloorDiv(first, second)), b(elementwise.Mod(first, second)))
    outputs = tuple(Output(f"o{i}", value) for i, value in enumerate(results))
    built = Function("f", (Param("x", first), Param("y", second)), tuple(b.ops), outputs)
    machine = compile_module(Module(Stage.TARGET, (), (built,))).engine()
    quotient, remainder = machine.call("f", [machine.tensor(aligned_copy(a)) for a in (x, y)])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(quotient, x // y)
        np.testing.assert_array_equal(remainder, x % y)
