"""Cases of table lookup; expectations go through the ids one by one."""

import math

import numpy as np
from cases import Case, ErrorCase, floats, ints, tensor

from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import embedding as em
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind

E0, E1 = ExampleKind(0), ExampleKind(1)


def rows(padding=None):
    def expect(table, ids):
        out = np.zeros((*ids.shape, table.shape[1]), table.dtype)
        for index in np.ndindex(*ids.shape):
            if ids[index] != padding:
                out[index] = table[ids[index]]
        return out

    return expect


def sums(count, padding=None):
    def expect(ids, ct):
        out = np.zeros((count, ct.shape[-1]), ct.dtype)
        for index in np.ndindex(*ids.shape):
            if ids[index] != padding:
                out[ids[index]] += ct[index]
        return out

    return expect


def norms(padding=None):
    """Exactly: every sum by id in exact arithmetic."""

    def expect(ids, ct):
        out = []
        for row, deltas in zip(ids, ct):
            found = {}
            for i, delta in zip(row, deltas):
                if i != padding:
                    found.setdefault(int(i), []).append([float(v) for v in delta])
            columns = [math.fsum(c) for group in found.values() for c in zip(*group)]
            out.append(math.fsum(c * c for c in columns))
        return np.array(out)

    return expect


def guarded(ids, ct):
    """The exact norm; plus (T + 2) 2^-24 U, and at least U/1024, where that is above 2^-12 of it."""
    out = []
    for exact, deltas in zip(np.sqrt(norms()(ids, ct)), ct):
        lengths = math.fsum(math.hypot(*map(float, delta)) for delta in deltas)
        bound = (ids.shape[1] + 2) * 2.0**-24 * lengths
        out.append(exact if bound <= 2.0**-12 * exact else max(exact + bound, lengths / 1024))
    return np.square(out)


TABLE, IDS, FEW = floats(6, 3, seed=1), ints(4, 2, high=6, seed=2), ints(4, 5, high=2, seed=3)
CT = floats(4, 2, 3, seed=4)
# Two tokens of one id that cancel to within rounding: the norm covers the rounding of the clipped sum.
BIG = np.float32(1e6)
CANCEL = np.array([[[BIG, 1.0], [-BIG, 1.0]], [[BIG, 1e-7], [-BIG, 1e-7]], [[0.5, 2.0], [0.25, 1.0]]], np.float32)

BELOW = np.array([[[384.0, 0.0], [-383.0, 0.0]]], np.float32)
# Between U/1024 and (T + 2) 2^-12 U: what is added is the bound on the rounding.
ABOVE = np.array([[[384.0, 0.0], [-383.1, 0.0], [0.0, 0.0], [0.0, 0.0]]], np.float32)

CASES = (
    Case("embedding.lookup", em.Lookup, (TABLE, IDS), rows(), wrt=(0,), kinds=(PUBLIC, E0), kind=E0, norm=0),
    Case("embedding.lookup-vector", em.Lookup, (TABLE, IDS[:, 0]), rows(), wrt=(0,), kinds=(PUBLIC, E0), kind=E0,
         norm=0),
    Case("embedding.lookup-padding", lambda t, i: em.Lookup(t, i, 1), (TABLE, FEW), rows(1), wrt=(0,),
         kinds=(PUBLIC, E0), kind=E0, norm=0),
    Case("embedding.lookup-repeated", em.Lookup, (TABLE, FEW), rows(), wrt=(0,), kinds=(PUBLIC, E0), kind=E0, norm=0),
    Case("embedding.lookup-matrix", em.Lookup, (TABLE, ints(3, 2, 2, high=6)), rows(), wrt=(0,), kinds=(PUBLIC, E0),
         kind=E0, norm=0),
    Case("embedding.lookup-time-first", em.Lookup, (TABLE, IDS), rows(), kinds=(PUBLIC, E1), kind=E1),
    Case("embedding.lookup-example-table", em.Lookup, (floats(4, 3), ints(4, high=4)), rows(), kinds=(E0, E0),
         kind="mixed"),
    Case("embedding.lookup-int32", em.Lookup, (TABLE, IDS.astype(np.int32)), rows(), wrt=(0,)),
    Case("embedding.lookup_grad", lambda i, c: em.LookupGrad(i, c, 6), (IDS, CT), sums(6), wrt=(1,), kinds=(E0, E0),
         kind="mixed"),
    Case("embedding.lookup_grad-repeated", lambda i, c: em.LookupGrad(i, c, 3, 0), (FEW, floats(4, 5, 2)), sums(3, 0),
         wrt=(1,)),
    Case("embedding.lookup_norm_sq", em.LookupNormSq, (FEW, floats(4, 5, 3)), norms(), kinds=(E0, E0), kind=E0,
         rtol=1e-12),
    Case("embedding.lookup_norm_sq-padding", lambda i, c: em.LookupNormSq(i, c, 0), (FEW, floats(4, 5, 3)), norms(0),
         rtol=1e-12),
    Case("embedding.lookup_norm_sq-cancels", em.LookupNormSq, (np.zeros((3, 2), np.int64), CANCEL), guarded,
         rtol=1e-12),
    # (T + 2) 2^-24 U is 0.75 of 2^-12 here: nothing is added.
    Case("embedding.lookup_norm_sq-just-below", em.LookupNormSq, (np.zeros((1, 2), np.int64), BELOW), guarded,
         rtol=1e-12),
    Case("embedding.lookup_norm_sq-just-above", em.LookupNormSq, (np.zeros((1, 4), np.int64), ABOVE), guarded,
         rtol=1e-12),
    Case("embedding.one_hot", lambda i: em.OneHot(i, 4, DType.F32), (ints(3, 2, high=4),),
         lambda i: np.array([[[float(k == v) for k in range(4)] for v in r] for r in i], np.float32), kinds=(E0,),
         kind=E0),
    Case("embedding.one_hot-outside", lambda i: em.OneHot(i, 3, DType.F32), (np.array([-1, 3, 2]),),
         lambda i: np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1]], np.float32)),
)  # fmt: skip

ERRORS = (
    ErrorCase("embedding.lookup-float", em.Lookup, (tensor("f32[6,3]"), tensor("f32[4]")), "ids are integers"),
    ErrorCase("embedding.lookup-table", em.Lookup, (tensor("f32[6]"), tensor("i64[4]")), "table is a matrix"),
    ErrorCase("embedding.lookup-padding", lambda t, i: em.Lookup(t, i, 6), (tensor("f32[6,3]"), tensor("i64[4]")),
              "padding_idx 6"),
    ErrorCase("embedding.lookup_grad-rows", lambda i, c: em.LookupGrad(i, c, 5), (tensor("i64[4]"),
              tensor("f32[3,2]")), "one row per id"),
    ErrorCase("embedding.lookup_norm_sq-rank", em.LookupNormSq, (tensor("i64[4]"), tensor("f32[4,2]")), "[N, T]"),
    ErrorCase("embedding.one_hot-depth", lambda i: em.OneHot(i, 0, DType.F32), (tensor("i64[4]"),), "depth positive"),
)  # fmt: skip
