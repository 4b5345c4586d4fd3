"""Cases of the ops that move elements; expectations are index arithmetic in loops."""

import numpy as np
from cases import Case, ErrorCase, floats, ints, tensor

from fluidc.compiler.ir.types import DType, Sym, dim_mul
from fluidc.compiler.ops import shape as sh
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind

E0, E1, E2 = ExampleKind(0), ExampleKind(1), ExampleKind(2)
MEAN, SUM = TotalKind("mean"), TotalKind("sum")


def where(shape, source):
    """An array whose element at ``index`` is ``source(*index)`` of the operand."""

    def expect(x):
        out = np.zeros(shape, x.dtype)
        for index in np.ndindex(*shape):
            out[index] = source(x, *index)
        return out

    return expect


def row_major(shape):
    def expect(x):
        out, elements = np.zeros(shape, x.dtype), list(x.reshape(-1))
        for position, index in enumerate(np.ndindex(*shape)):
            out[index] = elements[position]
        return out

    return expect


def reshape(tag, x, fixed, change, kinds, kind):
    """``change`` writes the new shape in terms of the operand's, so that the batch stays symbolic."""
    return Case(
        "shape.reshape-" + tag, lambda v: sh.Reshape(v, change(v.tensor.shape)), (x,), row_major(fixed), wrt=(0,),
        kinds=kinds, kind=kind,
    )  # fmt: skip


def move(name, tag, build, x, expect, kinds=(), kind=None, **options):
    return Case(f"shape.{name}-{tag}", build, (x,), expect, wrt=(0,), kinds=kinds, kind=kind, **options)


X, CUBE, ROW = floats(4, 3, seed=1), floats(2, 4, 3, seed=2), floats(3, seed=3)
SIX = floats(6, 4, seed=4)


def padded(low, high, value, interior=(0, 0)):
    def expect(x):
        steps = [g + 1 for g in interior]
        out = np.full(
            [a + max((n - 1) * s + 1, 0) + c for a, n, s, c in zip(low, x.shape, steps, high)], value, x.dtype
        )
        for index in np.ndindex(*x.shape):
            out[tuple(a + i * s for a, i, s in zip(low, index, steps))] = x[index]
        return out

    return expect


def joined(axis):
    def expect(*xs):
        rows = [list(np.moveaxis(x, axis, 0)) for x in xs]
        return np.moveaxis(np.array([row for part in rows for row in part]), 0, axis)

    return expect


CASES = (
    reshape("fold-time", CUBE, (8, 3), lambda s: (dim_mul(s[0], 4), 3), (E0,), ExampleKind(0, 1, 4)),
    reshape("fold-outer", CUBE, (8, 3), lambda s: (dim_mul(s[1], 2), 3), (E1,), ExampleKind(0, 2, 1)),
    reshape("unfold-time", SIX, (3, 2, 4), lambda s: (Sym("N") if isinstance(s[0], Sym) else 3, 2, 4),
            (ExampleKind(0, 1, 2),), E0),
    reshape("unfold-outer", SIX, (2, 3, 4), lambda s: (2, Sym("N") if isinstance(s[0], Sym) else 3, 4),
            (ExampleKind(0, 2, 1),), E1),
    reshape("unfold-wrong", SIX, (2, 3, 4), lambda s: (2, Sym("N") if isinstance(s[0], Sym) else 3, 4),
            (ExampleKind(0, 1, 2),), "mixed"),
    reshape("flatten", CUBE, (2, 12), lambda s: (s[0], 12), (E0,), E0),
    reshape("split-features", floats(3, 12), (3, 2, 6), lambda s: (s[0], 2, 6), (E0,), E0),
    reshape("split-into-batch", floats(3, 6), (9, 2), lambda s: (dim_mul(s[0], 3), 2), (E0,), ExampleKind(0, 1, 3)),
    reshape("batch-moves", floats(4, 6), (6, 4), lambda s: (6, s[0]), (E0,), "mixed"),
    reshape("outer-into-batch", floats(6, 3, 2), (2, 9, 2), lambda s: (2, dim_mul(s[1], 3), 2), (E1,),
            ExampleKind(1, 3, 1)),
    reshape("unit-axes", X, (1, 4, 1, 3), lambda s: (1, s[0], 1, 3), (E0,), E1),
    reshape("all", X, (12,), lambda s: (dim_mul(s[0], 3),), (E0,), ExampleKind(0, 1, 3)),
    reshape("scalar", floats(1), (), lambda s: (), (MEAN,), MEAN),
    reshape("to-scalar-vector", floats(), (1,), lambda s: (1,), (SUM,), SUM),
    reshape("public", X, (3, 4), lambda s: (3, 4), (PUBLIC,), PUBLIC),
    move("transpose", "batch-last", lambda v: sh.Transpose(v, (1, 2, 0)), CUBE,
         where((4, 3, 2), lambda x, i, j, k: x[k, i, j]), (E0,), E2),
    move("transpose", "swap", lambda v: sh.Transpose(v, (0, 2, 1)), CUBE,
         where((2, 3, 4), lambda x, i, j, k: x[i, k, j]), (ExampleKind(1, 2, 2),), ExampleKind(2, 2, 2)),
    *(move("transpose", f"{rows}x{columns}", lambda v: sh.Transpose(v, (1, 0)), floats(rows, columns),
           lambda x: np.array([[x[j, i] for j in range(x.shape[0])] for i in range(x.shape[1])]))
      for rows, columns in ((32, 48), (37, 21), (16, 100))),
    move("transpose", "images", lambda v: sh.Transpose(v, (0, 2, 3, 1)), floats(2, 19, 3, 17),
         where((2, 3, 17, 19), lambda x, i, j, k, c: x[i, c, j, k])),
    move("transpose", "scalar", lambda v: sh.Transpose(v, ()), floats(), lambda x: x, (MEAN,), MEAN),
    move("broadcast", "row", lambda v: sh.Broadcast(v, (4, 3)), ROW, where((4, 3), lambda x, i, j: x[j]), (PUBLIC,),
        PUBLIC),
    move("broadcast", "column", lambda v: sh.Broadcast(v, (2, v.tensor.shape[0], 3)), X[:, :1],
         where((2, 4, 3), lambda x, i, j, k: x[j, 0]), (E0,), E1),
    move("broadcast", "scalar", lambda v: sh.Broadcast(v, (2, 2)), floats(), where((2, 2), lambda x, i, j: x[()])),
    move("broadcast", "total", lambda v: sh.Broadcast(v, (2, 1)), floats(1), where((2, 1), lambda x, i, j: x[0]),
        (MEAN,), MEAN),
    Case("shape.concat-columns", lambda *v: sh.Concat(v, 1), (X, floats(4, 2), X[:, :1]), joined(1), wrt=(0, 1, 2),
         kinds=(E0, E0, E0), kind=E0),
    # Blocks of whole vectors, and some that end within one.
    Case("shape.concat-wide", lambda *v: sh.Concat(v, 1), (floats(3, 32), floats(3, 48, seed=1)), joined(1)),
    Case("shape.concat-ragged", lambda *v: sh.Concat(v, 1),
         (floats(3, 21), floats(3, 2, seed=1), floats(3, 17, seed=2)), joined(1)),
    Case("shape.concat-rows", lambda *v: sh.Concat(v, 0), (X, floats(2, 3)), joined(0), wrt=(0, 1)),
    Case("shape.concat-batches", lambda *v: sh.Concat(v, 0), (X, X + 1), joined(0), wrt=(0, 1), kinds=(E0, E0),
         kind=ExampleKind(0, 2, 1)),
    Case("shape.concat-blocks", lambda *v: sh.Concat(v, 0), (floats(4, 3), floats(8, 3)), joined(0), wrt=(1,),
         kinds=(ExampleKind(0, 1, 2), ExampleKind(0, 2, 2)), kind=ExampleKind(0, 3, 2)),
    Case("shape.concat-unequal-post", lambda *v: sh.Concat(v, 0), (floats(4, 3), floats(4, 3)), joined(0),
         kinds=(ExampleKind(0, 1, 2), ExampleKind(0, 2, 1)), kind="mixed"),
    Case("shape.concat-axes", lambda *v: sh.Concat(v, 2), (floats(3, 3, 2), floats(3, 3, 1)), joined(2),
         kinds=(PUBLIC, PUBLIC), kind=PUBLIC),
    Case("shape.concat-totals", lambda *v: sh.Concat(v, 0), (ROW, ROW), joined(0), kinds=(MEAN, PUBLIC), kind=MEAN),
    Case("shape.concat-forms", lambda *v: sh.Concat(v, 0), (ROW, ROW), joined(0), kinds=(MEAN, SUM), kind="mixed"),
    Case("shape.concat-int", lambda *v: sh.Concat(v, 0), (ints(3, high=9), ints(2, high=9)), joined(0)),
    move("slice", "columns", lambda v: sh.Slice(v, 1, 1, 3), X, where((4, 2), lambda x, i, j: x[i, j + 1]), (E0,), E0),
    move("slice", "step", lambda v: sh.Slice(v, 1, 1, 4, 2), CUBE, where((2, 2, 3), lambda x, i, j, k: x[i, 1 + 2 * j,
        k])),
    move("slice", "step-end", lambda v: sh.Slice(v, 0, 0, 4, 3), X, where((2, 3), lambda x, i, j: x[3 * i, j])),
    move("slice", "step-short", lambda v: sh.Slice(v, 0, 0, 4, 2), X, where((2, 3), lambda x, i, j: x[2 * i, j])),
    move("slice", "empty", lambda v: sh.Slice(v, 0, 2, 2), X, lambda x: np.zeros((0, 3), np.float32)),
    Case("shape.slice-by-position", lambda v: sh.Slice(v, 0, 0, 1), (X,), where((1, 3), lambda x, i, j: x[0, j]),
         kinds=(E0,), kind="mixed"),
    move("slice", "batch-of-two",
         lambda v: sh.Slice(v, 0, Sym("N"), Sym("N", 2)) if isinstance(v.tensor.shape[0], Sym) else sh.Slice(v, 0, 3,
         6),
         SIX, where((3, 4), lambda x, i, j: x[i + 3, j]), (ExampleKind(0, 2, 1),), E0),
    move("slice", "first-of-two",
         lambda v: sh.Slice(v, 0, 0, Sym("N") if isinstance(v.tensor.shape[0], Sym) else 3), SIX,
         where((3, 4), lambda x, i, j: x[i, j]), (ExampleKind(0, 2, 1),), E0),
    move("slice", "half-of-time",
         lambda v: sh.Slice(v, 0, 0, Sym("N")) if isinstance(v.tensor.shape[0], Sym) else sh.Slice(v, 0, 0, 3),
         SIX, where((3, 4), lambda x, i, j: x[i, j]), (ExampleKind(0, 1, 2),), "mixed"),
    move("slice", "total", lambda v: sh.Slice(v, 0, 1, 2), ROW, where((1,), lambda x, i: x[1]), (MEAN,), MEAN),
    move("pad", "constant", lambda v: sh.Pad(v, (0, 1), (0, 2), 7.0), X, padded((0, 1), (0, 2), 7.0), (E0,), E0),
    move("pad", "wide", lambda v: sh.Pad(v, (1, 32), (0, 16), 7.0), floats(3, 64), padded((1, 32), (0, 16), 7.0)),
    move("pad", "ragged", lambda v: sh.Pad(v, (0, 3), (1, 20), 7.0), floats(3, 37), padded((0, 3), (1, 20), 7.0)),
    move("pad", "batch", lambda v: sh.Pad(v, (1, 0), (2, 0)), X, padded((1, 0), (2, 0), 0.0)),
    move("pad", "interior", lambda v: sh.Pad(v, (1, 0), (0, 1), 0.5, (1, 2)), X, padded((1, 0), (0, 1), 0.5, (1, 2))),
    move("pad", "one-column", lambda v: sh.Pad(v, (0, 1), (0, 0), 7.0), X[:, :1], padded((0, 1), (0, 0), 7.0)),
    move("pad", "between", lambda v: sh.Pad(v, (0, 0), (0, 0), 0.5, (0, 1)), X, padded((0, 0), (0, 0), 0.5, (0, 1))),
    move("pad", "empty-between", lambda v: sh.Pad(v, (1, 0), (0, 0), 0.5, (1, 0)), X[:0],
         lambda x: np.full((1, 3), 0.5, np.float32)),
    move("pad", "total", lambda v: sh.Pad(v, (1,), (0,)), ROW, padded((1,), (0,), 0.0, (0,)), (SUM,), SUM),
    move("reverse", "rows", lambda v: sh.Reverse(v, (1,)), X, where((4, 3), lambda x, i, j: x[i, 2 - j]), (E0,), E0),
    move("reverse", "both", lambda v: sh.Reverse(v, (0, 1)), X, where((4, 3), lambda x, i, j: x[3 - i, 2 - j]), (E0,),
        "mixed"),
    Case("shape.iota", lambda: sh.Iota(1, tensor("i64[2,3]")), (), lambda: np.array([[0, 1, 2]] * 2)),
    Case("shape.iota-float", lambda: sh.Iota(0, tensor("f32[3,1]")), (), lambda: np.array([[0.0], [1.0], [2.0]],
         np.float32)),
    Case("shape.extent", lambda: sh.Extent(7, DType.F32), (), lambda: np.float32(7)),
    Case("shape.extent-int", lambda: sh.Extent(2**40, DType.I64), (), lambda: np.int64(2**40)),
)  # fmt: skip

ERRORS = (
    ErrorCase("shape.reshape-count", lambda x: sh.Reshape(x, (5,)), (tensor("f32[2,3]"),), "as many elements"),
    ErrorCase("shape.reshape-batch", lambda x: sh.Reshape(x, (Sym("N", 2), 2)), (tensor("f32[N,3]"),), "[2*N, 2]"),
    ErrorCase("shape.transpose-perm", lambda x: sh.Transpose(x, (0, 0)), (tensor("f32[2,3]"),), "once each"),
    ErrorCase("shape.broadcast-shape", lambda x: sh.Broadcast(x, (2, 4)), (tensor("f32[3]"),), "broadcast"),
    ErrorCase("shape.broadcast-down", lambda x: sh.Broadcast(x, (1, 3)), (tensor("f32[2,3]"),), "broadcast"),
    ErrorCase("shape.concat-shapes", lambda x, y: sh.Concat((x, y), 0), (tensor("f32[2,3]"), tensor("f32[2,4]")),
              "differ outside axis 0"),
    ErrorCase("shape.concat-sum", lambda x, y: sh.Concat((x, y), 0), (tensor("f32[N,3]"), tensor("f32[2,3]")),
              "do not add up"),
    ErrorCase("shape.concat-nothing", lambda: sh.Concat((), 0), (), "nothing to concatenate"),
    ErrorCase("shape.slice-outside", lambda x: sh.Slice(x, 1, 1, 4), (tensor("f32[2,3]"),), "does not lie within"),
    ErrorCase("shape.slice-negative", lambda x: sh.Slice(x, 0, -1, 1), (tensor("f32[2,3]"),), "does not lie within"),
    ErrorCase("shape.slice-batch", lambda x: sh.Slice(x, 0, 1, Sym("N")), (tensor("f32[N,3]"),), "neither fixed nor"),
    ErrorCase("shape.pad-negative", lambda x: sh.Pad(x, (-1,), (0,)), (tensor("f32[2]"),), "negative"),
    ErrorCase("shape.pad-batch", lambda x: sh.Pad(x, (1,), (0,)), (tensor("f32[N]"),), "cannot be padded"),
    ErrorCase("shape.reverse-axes", lambda x: sh.Reverse(x, (0, 0)), (tensor("f32[2]"),), "distinct axes"),
    ErrorCase("shape.iota-axis", lambda: sh.Iota(1, tensor("i64[3]")), (), "no positions"),
)  # fmt: skip
