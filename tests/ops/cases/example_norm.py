"""Cases of per-example norms of sums of outer products: the matrices are added up token by token in float64."""

import numpy as np
from cases import Case, ErrorCase, floats, ints, tensor

from fluidc.compiler.ir.core import StateName
from fluidc.compiler.ops import example_norm as en
from fluidc.compiler.ops.kinds import ExampleKind

E0 = ExampleKind(0)
W = StateName("w")
U32, U64 = 2.0**-24, 2.0**-53


def matrices(lefts, rights, rows, padding):
    """[N, rows, columns], and the sum of the norms of the outer products of each example."""
    n, columns = rights[0].shape[0], rights[0].shape[2]
    total, lengths = np.zeros((n, rows, columns)), np.zeros(n)
    for block, (x, d) in enumerate(zip(lefts, rights, strict=True)):
        for i in range(n):
            for t in range(d.shape[1]):
                if x.ndim == 2 and x[i, t] == padding[block]:
                    continue
                row = np.eye(rows)[x[i, t]] if x.ndim == 2 else x[i, t].astype(np.float64)
                product = np.outer(row, d[i, t].astype(np.float64))
                total[i] += product
                lengths[i] += np.sqrt(np.sum(product**2))
    return total, lengths


def norms(count, rows, padding=None):
    """Squared norms of the exact sums: what both forms give where nothing cancels."""

    def expect(*arrays):
        lefts, rights = arrays[:count], arrays[count:]
        total, _ = matrices(lefts, rights, rows, padding or [-1] * count)
        return np.sum(np.square(total), axis=(1, 2))

    return expect


def guarded(count, rows, gram, roundoff):
    """Where sums cancel, the bounds of the documentation on top: of float64 Gram terms, then of float32 sums."""

    def expect(*arrays):
        lefts, rights = arrays[:count], arrays[count:]
        total, lengths = matrices(lefts, rights, rows, [-1] * count)
        terms = sum(d.shape[1] for d in rights)
        squares = np.sum(np.square(total), axis=(1, 2))
        error = (roundoff * U64 if gram else 0.0) * lengths**2
        squares = np.where(error <= 2.0**-11 * squares, squares, squares + error)
        bound = (terms + 2) * U32 * lengths
        stated = np.maximum(np.sqrt(squares) + bound, lengths / 1024) ** 2
        return np.where(bound <= 2.0**-12 * np.sqrt(squares), squares, stated)

    return expect


def gram(count, padding=()):
    return lambda *v: en.GramNormSq(v[:count], v[count:], padding)


def outer(count):
    return lambda *v: en.OuterNormSq(v[:count], v[count:])


X, D = floats(3, 5, 4), floats(3, 5, 2, seed=1)
Y, E = floats(3, 2, 4, seed=2), floats(3, 2, 2, seed=3)
IDS, JDS = ints(3, 5, high=4), ints(3, 2, high=4, seed=4)
# Tokens that take each other back: what is left is smaller than single precision can add up.
CANCEL = np.concatenate([X, -X * np.float32(1 + 2**-20)], axis=1), np.concatenate([D, D], axis=1)
LARGE = floats(2, 9, 3) * np.float32(1e18), floats(2, 9, 5, seed=1) * np.float32(1e-20)
PADDED = np.array([[0, 3, 0, 3, 1], [3, 3, 3, 3, 3], [1, 2, 1, 2, 1]])
# What is left is a few thousandths: the rounding is added to it, and counts.
NEARLY = np.concatenate([X, -X * np.float32(1 + 2**-7)], axis=1), CANCEL[1]
EMPTY = np.zeros((0, 5, 4), np.float32), np.zeros((0, 5, 2), np.float32)

CASES = (
    Case("dp.norm_sq", lambda x: en.NormSq(x, W, "gram", 1200, 800, ("direct 2 kFLOP 600 B",)),
         (floats(4).astype(np.float64),), lambda x: x, kinds=(E0,), kind=E0),
    Case("dp.gram_norm_sq", gram(1), (X, D), norms(1, 4), kinds=(E0, E0), kind=E0),
    Case("dp.gram_norm_sq-ids", gram(1), (IDS, D), norms(1, 4), kinds=(E0, E0), kind=E0),
    Case("dp.gram_norm_sq-tied", gram(2), (IDS, Y, D, E), norms(2, 4), kinds=(E0, E0, E0, E0), kind=E0),
    Case("dp.gram_norm_sq-tied-dense-first", gram(2), (Y, IDS, E, D), norms(2, 4)),
    Case("dp.gram_norm_sq-three", gram(3), (IDS, JDS, X, D, E, D), norms(3, 4)),
    Case("dp.gram_norm_sq-two-dense", gram(2), (X, Y, D, E), norms(2, 4)),
    Case("dp.gram_norm_sq-padding", gram(2, (3, -1)), (PADDED, JDS, D, E), norms(2, 4, (3, -1))),
    Case("dp.gram_norm_sq-same-ids", gram(1), (np.zeros((3, 5), np.int64), D), norms(1, 1)),
    Case("dp.gram_norm_sq-cancels", gram(1), CANCEL, guarded(1, 4, True, 4 + 2 + 2 * 10 + 8), rtol=1e-6),
    Case("dp.gram_norm_sq-nearly-cancels", gram(1), NEARLY, guarded(1, 4, True, 4 + 2 + 2 * 10 + 8), rtol=1e-6),
    Case("dp.gram_norm_sq-extremes", gram(1), LARGE, norms(1, 3)),
    Case("dp.gram_norm_sq-empty", gram(1), EMPTY, norms(1, 4)),
    Case("dp.gram_norm_sq-int32", gram(1), (IDS.astype(np.int32), D), norms(1, 4)),
    Case("dp.outer_norm_sq", outer(1), (X, D), norms(1, 4), kinds=(E0, E0), kind=E0),
    Case("dp.outer_norm_sq-two", outer(2), (X, Y, D, E), norms(2, 4)),
    Case("dp.outer_norm_sq-cancels", outer(1), CANCEL, guarded(1, 4, False, 0.0), rtol=1e-6),
    Case("dp.outer_norm_sq-nearly-cancels", outer(1), NEARLY, guarded(1, 4, False, 0.0), rtol=1e-6),
    Case("dp.outer_norm_sq-extremes", outer(1), LARGE, norms(1, 3)),
    Case("dp.outer_norm_sq-wide", outer(1), (floats(2, 3, 2), floats(2, 3, 1030, seed=1)), norms(1, 2)),
    Case("dp.outer_norm_sq-empty", outer(1), EMPTY, norms(1, 4)),
)  # fmt: skip

ERRORS = (
    ErrorCase("dp.norm_sq-dtype", lambda x: en.NormSq(x, W), (tensor("f32[4]"),), "f64[N]"),
    ErrorCase("dp.gram_norm_sq-rank", gram(1), (tensor("f32[4,3,2]"), tensor("f32[4,3]")), "[N, T, d]"),
    ErrorCase("dp.gram_norm_sq-tokens", gram(1), (tensor("f32[4,2,2]"), tensor("f32[4,3,2]")), "[N, T, d]"),
    ErrorCase("dp.gram_norm_sq-left", gram(1), (tensor("bool[4,3]"), tensor("f32[4,3,2]")), "integers"),
    ErrorCase("dp.gram_norm_sq-symbol", gram(1), (tensor("f32[4,T,2]"), tensor("f32[4,T,2]")), "only the batch"),
    ErrorCase("dp.gram_norm_sq-extents", gram(2), tuple(map(tensor, ("f32[4,3,2]", "f32[4,3,5]", "f32[4,3,2]",
              "f32[4,3,2]"))), "one matrix"),
    ErrorCase("dp.gram_norm_sq-blocks", gram(2), (tensor("f32[4,3,2]"),) * 3, "2 left and 1 right"),
    ErrorCase("dp.outer_norm_sq-ids", outer(1), (tensor("i64[4,3]"), tensor("f32[4,3,2]")), "dense blocks"),
)  # fmt: skip
