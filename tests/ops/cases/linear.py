"""Cases of the matrix product; expectations are triple loops."""

import math

import numpy as np
from cases import Case, ErrorCase, floats, ints, tensor

from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind
from fluidc.compiler.ops.linear import MatMul

E0, E1, E2 = ExampleKind(0), ExampleKind(1), ExampleKind(2)


def product(ta=False, tb=False):
    def expect(x, w):
        x = np.array([m.T for m in x.reshape(-1, *x.shape[-2:])]).reshape(*x.shape[:-2], *x.shape[:-3:-1]) if ta else x
        w = np.array([m.T for m in w.reshape(-1, *w.shape[-2:])]).reshape(*w.shape[:-2], *w.shape[:-3:-1]) if tb else w
        lead = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
        out = np.zeros((*lead, x.shape[-2], w.shape[-1]), x.dtype)
        for index in np.ndindex(*out.shape):
            *batch, i, j = index
            a = x[(*(0 if d == 1 else b for d, b in zip(x.shape[:-2], batch[len(batch) - x.ndim + 2 :])), i)]
            c = w[
                (*(0 if d == 1 else b for d, b in zip(w.shape[:-2], batch[len(batch) - w.ndim + 2 :])), slice(None), j)
            ]
            out[index] = math.fsum(float(p) * float(q) for p, q in zip(a, c))
        return out

    return expect


def case(tag, x, w, ta=False, tb=False, *, kinds=(), kind=None, norm=None, wrt=(0, 1)):
    return Case(
        "linear.matmul" + tag, lambda a, b: MatMul(a, b, ta, tb), (x, w), product(ta, tb), wrt=wrt, kinds=kinds,
        kind=kind, norm=norm, atol=1e-6,
    )  # fmt: skip


X, W, WT = floats(4, 3, seed=1), floats(3, 5, seed=2), floats(5, 3, seed=3)
TIME, BATCH = floats(2, 4, 3, seed=4), floats(2, 3, 5, seed=5)

TIME64 = TIME.astype(np.float64)  # [2, 4, 3]

CASES = (
    case("", X, W, kinds=(E0, PUBLIC), kind=E0, norm=1),
    case("-tb", X, WT, tb=True, kinds=(E0, PUBLIC), kind=E0, norm=1),
    case("-ta", floats(3, 4, seed=6), W, ta=True, kinds=(E1, PUBLIC), kind=E0),
    case("-ta-tb", floats(3, 4, seed=6), WT, ta=True, tb=True),
    case("-weights-first", WT, floats(3, 4, seed=7), kinds=(PUBLIC, E1), kind=E1),
    case("-contracts-batch", floats(4, 3, seed=6), floats(4, 5, seed=7), ta=True, kinds=(E0, E0), kind="mixed"),
    case("-gram", X, X + 1, tb=True, kinds=(E0, E0), kind="mixed"),
    case("-time", TIME, W, kinds=(E0, PUBLIC), kind=E0),
    case("-time-tb", TIME, WT, tb=True, kinds=(E0, PUBLIC), kind=E0),
    case("-time-ta", floats(2, 3, 4, seed=8), W, ta=True),
    case("-time-batch-second", TIME, W, kinds=(E1, PUBLIC), kind=E1),
    case("-batched", TIME, BATCH, kinds=(E0, E0), kind=E0),
    case("-batched-tb", TIME, floats(2, 5, 3, seed=9), tb=True, kinds=(E0, E0), kind=E0),
    case("-batched-ta", floats(2, 3, 4, seed=9), BATCH[:1], ta=True, kinds=(E0, PUBLIC), kind=E0),
    case("-batched-ta-tb", floats(2, 3, 4, seed=9), floats(2, 5, 3, seed=1), ta=True, tb=True),
    case("-batched-contracts", TIME, BATCH, kinds=(E2, E1), kind="mixed"),
    case("-broadcast", floats(2, 1, 4, 3, seed=10), floats(3, 3, 5, seed=11), kinds=(E0, PUBLIC), kind=E0),
    case("-broadcast-batches", floats(2, 1, 4, 3, seed=10), floats(2, 3, 5, seed=11), kinds=(E0, E0), kind="mixed"),
    case("-weights-batched", X, BATCH, kinds=(PUBLIC, E0), kind=E0),
    case("-folded", floats(6, 3), W, kinds=(ExampleKind(0, 1, 3), PUBLIC), kind=ExampleKind(0, 1, 3)),
    case("-total", X, W, kinds=(TotalKind("mean"), PUBLIC), kind=TotalKind("mean")),
    case("-totals", X, W, kinds=(TotalKind("mean"), TotalKind("mean")), kind="mixed"),
    case("-public", X, W, kinds=(PUBLIC, PUBLIC), kind=PUBLIC),
    case("-batched-ta-tb-f64", TIME64, floats(2, 5, 4, seed=1).astype(np.float64), ta=True, tb=True),
    Case("linear.matmul-int", MatMul, (ints(2, 3, high=9), ints(3, 2, high=9)), product()),
)

ERRORS = (
    ErrorCase("linear.matmul-inner", MatMul, (tensor("f32[2,3]"), tensor("f32[2,3]")), "inner sizes differ, 3 and 2"),
    ErrorCase(
        "linear.matmul-inner-ta",
        lambda x, w: MatMul(x, w, ta=True),
        (tensor("f32[2,3]"), tensor("f32[3,3]")),
        "inner sizes differ, 2 and 3, in f32[2,3]ᵀ @ f32[3,3]",
    ),
    ErrorCase("linear.matmul-vector", MatMul, (tensor("f32[3]"), tensor("f32[3,2]")), "at least two axes"),
    ErrorCase("linear.matmul-types", MatMul, (tensor("f32[2,3]"), tensor("f64[3,2]")), "element types differ"),
    ErrorCase("linear.matmul-lead", MatMul, (tensor("f32[2,4,3]"), tensor("f32[5,3,2]")), "do not broadcast"),
)
