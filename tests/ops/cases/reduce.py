"""Cases of the reductions; expectations are explicit loops over the kept axes."""

import math

import numpy as np
from cases import Case, ErrorCase, distinct, floats, ints, tensor

from fluidc.compiler.ops import reduce
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind

E0, E1 = ExampleKind(0), ExampleKind(1)


def groups(x, axes):
    """(index of the kept axes, list of the elements reduced into it), in row-major order."""
    kept = [i for i in range(x.ndim) if i not in axes]
    found = {}
    for index in np.ndindex(*x.shape):
        found.setdefault(tuple(index[i] for i in kept), []).append(x[index].item())
    return tuple(x.shape[i] for i in kept), found


def loop(f, *axes, keepdims=False, dtype=None):
    def expect(x):
        shape, found = groups(x, axes)
        out = np.zeros(shape, dtype or x.dtype)
        for index, elements in found.items():
            out[index] = f(elements)
        return out.reshape([1 if i in axes else d for i, d in enumerate(x.shape)]) if keepdims else out

    return expect


def mean(v):
    return math.fsum(v) / len(v)


def first_largest(v):
    return max(range(len(v)), key=lambda i: (v[i], -i))


def first_smallest(v):
    return min(range(len(v)), key=lambda i: (v[i], i))


X = floats(3, 4, 2, seed=1)
D = distinct(3, 4, 2, seed=2)
ZEROS = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 4.0], [1.5, -2.0, 0.5]], np.float32)
B = np.array([[True, False, True], [False, False, False], [True, True, True]])
NAN = float("nan")


def case(cls, f, x, axes, tag, *, keepdims=False, wrt=(0,), kinds=(), kind=None, dtype=None, **options):
    return Case(
        f"{cls.name}-{tag}", lambda v: cls(v, axes, keepdims), (x,), loop(f, *axes, keepdims=keepdims, dtype=dtype),
        wrt=wrt, kinds=kinds, kind=kind, **options,
    )  # fmt: skip


def position(cls, f, x, axis, tag, *, keepdims=False, kinds=(), kind=None):
    return Case(
        f"{cls.name}-{tag}", lambda v: cls(v, axis, keepdims), (x,), loop(f, axis, keepdims=keepdims, dtype=np.int64),
        kinds=kinds, kind=kind,
    )  # fmt: skip


CASES = (
    case(reduce.Sum, math.fsum, X, (1,), "rows", kinds=(E0,), kind=E0),
    case(reduce.Sum, math.fsum, X, (0, 2), "batch", kinds=(E0,), kind=TotalKind("sum")),
    case(reduce.Sum, math.fsum, X, (0, 1, 2), "all", kinds=(ExampleKind(1, 2, 1),), kind=TotalKind("sum")),
    case(reduce.Sum, math.fsum, X, (0,), "moves-batch", kinds=(E1,), kind=E0),
    case(reduce.Sum, math.fsum, X, (0,), "keepdims", keepdims=True, kinds=(E1,), kind=E1),
    case(reduce.Sum, math.fsum, X, (1,), "total", kinds=(TotalKind("mean"),), kind=TotalKind("mean")),
    case(reduce.Sum, math.fsum, X, (), "nothing"),
    case(reduce.Sum, sum, ints(3, 4, high=9), (1,), "int", wrt=()),
    case(reduce.Mean, mean, X, (1, 2), "rows", kinds=(E0,), kind=E0),
    case(reduce.Mean, mean, X, (0, 1, 2), "all", kinds=(E0,), kind=TotalKind("mean")),
    case(reduce.Mean, mean, X[:, :1], (1,), "one"),
    case(reduce.Mean, mean, X, (2,), "keepdims", keepdims=True),
    # Every element that equals the extreme takes the whole gradient (Paddle's rule).
    case(reduce.Max, max, np.array([3, 1, 3], np.float32), (0,), "ties", wrt=(), at_kink=([1.0, 0.0, 1.0],)),
    case(reduce.Min, min, np.array([3, 1, 1], np.float32), (0,), "ties", wrt=(), at_kink=([0.0, 1.0, 1.0],)),
    case(reduce.Prod, math.prod, np.array([0, 2, 3], np.float32), (0,), "zero", wrt=(), at_kink=([6.0, 0.0, 0.0],)),
    case(reduce.Prod, math.prod, np.array([0, 0, 3], np.float32), (0,), "two-zeros", wrt=(),
         at_kink=([0.0, 0.0, 0.0],)),
    case(reduce.Max, max, D, (1,), "rows", kinds=(E0,), kind=E0),
    case(reduce.Max, max, D, (0, 1), "batch", kinds=(E0,), kind="mixed"),
    case(reduce.Max, max, D, (0, 2), "keepdims", keepdims=True),
    case(reduce.Max, max, X, (1,), "total", kinds=(TotalKind("sum"),), kind="mixed", wrt=()),
    case(reduce.Max, max, ints(3, 4, high=9), (0,), "int", wrt=()),
    Case(
        "reduce.max-nan", lambda v: reduce.Max(v, (0,)), (np.array([1.0, NAN, 3.0], np.float32),),
        lambda x: np.float32(NAN),
    ),
    case(reduce.Min, min, D, (2,), "rows"),
    case(reduce.Min, min, D, (0, 1, 2), "all"),
    Case(
        "reduce.min-nan", lambda v: reduce.Min(v, (0,)), (np.array([1.0, NAN, 3.0], np.float32),),
        lambda x: np.float32(NAN),
    ),
    case(reduce.Prod, math.prod, X, (1,), "rows", kinds=(E0,), kind=E0),
    case(reduce.Prod, math.prod, X, (0, 1), "batch", kinds=(E0,), kind="mixed"),
    # Gradients of gradients beside a zero factor are limits that the rule does not take.
    case(reduce.Prod, math.prod, ZEROS, (1,), "zeros", second=False),
    case(reduce.Prod, math.prod, X, (0,), "keepdims", keepdims=True),
    case(reduce.Any_, any, B, (1,), "rows", wrt=(), kinds=(E0,), kind=E0),
    case(reduce.Any_, any, B, (0, 1), "all", wrt=(), kinds=(E0,), kind="mixed"),
    case(reduce.All, all, B, (1,), "rows", wrt=()),
    case(reduce.All, all, B, (0,), "keepdims", keepdims=True, wrt=()),
    position(reduce.Argmax, first_largest, D, 1, "middle", kinds=(E0,), kind=E0),
    position(reduce.Argmax, first_largest, D, 0, "batch", kinds=(E0,), kind="mixed"),
    position(reduce.Argmax, first_largest, D, 0, "moves-batch", kinds=(E1,), kind=E0),
    position(reduce.Argmax, first_largest, D, 2, "keepdims", keepdims=True),
    position(reduce.Argmax, first_largest, np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 1.0]], np.float32), 1, "ties"),
    Case(
        "reduce.argmax-nan", lambda v: reduce.Argmax(v, 0), (np.array([1.0, NAN, 3.0, NAN], np.float32),),
        lambda x: np.int64(1),
    ),
    position(reduce.Argmin, first_smallest, D, 1, "middle"),
    position(reduce.Argmin, first_smallest, ints(3, 5, high=3), 1, "int-ties"),
    case(reduce.Sum, math.fsum, X, (1,), "public", kinds=(PUBLIC,), kind=PUBLIC, wrt=()),
)  # fmt: skip

ERRORS = (
    ErrorCase("reduce.sum-axis", lambda x: reduce.Sum(x, (2,)), (tensor("f32[2,3]"),), "axes [2]"),
    ErrorCase("reduce.sum-twice", lambda x: reduce.Sum(x, (1, 1)), (tensor("f32[2,3]"),), "distinct"),
    ErrorCase("reduce.sum-bool", lambda x: reduce.Sum(x, (0,)), (tensor("bool[2]"),), "cast it first"),
    ErrorCase("reduce.mean-int", lambda x: reduce.Mean(x, (0,)), (tensor("i64[2]"),), "floating-point"),
    ErrorCase("reduce.any-float", lambda x: reduce.Any_(x, (0,)), (tensor("f32[2]"),), "boolean"),
    ErrorCase("reduce.max-empty", lambda x: reduce.Max(x, (0,)), (tensor("f32[0,2]"),), "no element"),
    ErrorCase("reduce.argmax-axis", lambda x: reduce.Argmax(x, 3), (tensor("f32[2]"),), "axis 3"),
)
