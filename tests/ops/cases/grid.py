"""Integers of the discrete mechanism, against rational arithmetic."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from cases import Case, ErrorCase, floats, tensor

from fluidc.compiler.ir.core import StateName
from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops.grid import GridLive, GridMean, GridNormSq, GridSum
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind

ROWS = ExampleKind(0)
W = StateName("w")
CLIP, BITS = 0.7, 12
K = 2**BITS

G = np.array([[0.1, -0.2, 0.3], [1.0, -0.5, 0.25], [9, 9, 9], [np.nan, 0, 0], [np.inf, 1, -1], [0, -0.0, 1e-30],
              [CLIP / K * 2.999, -CLIP / K * 2.999, CLIP], [-CLIP * 1.0004, 0, 0]], np.float32)  # fmt: skip
C = np.array([1, 0.6, 0.04, 1, 0, 1, 1, 1], np.float32)


def integers(g, c, clip=CLIP, bits=BITS):
    """Rows of exact integers, None where a number is beyond the grid or is no number."""
    unit = Fraction(clip) / 2**bits
    rows = []
    for row, factor in zip(g.reshape(len(g), -1).tolist(), c.tolist(), strict=True):
        made = [math.trunc(Fraction(x) * Fraction(factor) / unit) if math.isfinite(x) else None for x in row]
        rows.append([None if t is None or abs(t) > 2**bits else t for t in made])
    return rows


def norms(g, c, clip=CLIP, bits=BITS):
    return np.array(
        [sum(4**bits + 1 if t is None else t * t for t in row) for row in integers(g, c, clip, bits)], np.int64
    )


def total(g, c, clip=CLIP, bits=BITS):
    columns = zip(*integers(g, c, clip, bits), strict=True)
    return np.array([sum(t or 0 for t in column) for column in columns], np.int64).reshape(g.shape[1:])


def on_grid(op, clip=CLIP, bits=BITS):
    return lambda g, c: op(g, c, clip, bits)


def live(bits=BITS):
    return lambda c, *terms: GridLive(terms, c, bits, tuple(map(StateName, "uvw"[: len(terms)])))


def mean(**more):
    return lambda s, y: GridMean(s, None, y, CLIP, BITS, 64.0, W, **more)


FINE = floats(5, 4, 6, low=-3e-4, high=3e-4)
ONES = np.ones(5, np.float32)
TERMS = np.array([[0, K * K, K * K - 5, 5, 4 * K * K, 7], [0, 0, 5, K * K - 4, 1, 0]], np.int64)
FACTORS = np.array([1, 0.5, 1, 1, 1, 0], np.float32)
SUM = np.array([[0, -3, 2**61], [-(2**61), 17, 1]], np.int64)
NOISE = np.array([[5, 3, 2**40], [-(2**40), -18, 2**30]], np.int64)


def decoded(s, y, dtype: type = np.float32):
    unit = Fraction(CLIP) / K / 64
    return np.array([[float((a + b) * unit) for a, b in zip(*row, strict=True)]
                     for row in zip(s.tolist(), y.tolist(), strict=True)], dtype)  # fmt: skip


COMPUTED = [
    Case("dp.grid_norm_sq", on_grid(GridNormSq), (G, C), norms, kinds=(ROWS, ROWS), kind=ROWS),
    Case("dp.grid_norm_sq-fine", on_grid(GridNormSq, 1.0, 30), (FINE, ONES), lambda g, c: norms(g, c, 1.0, 30),
         kinds=(ROWS, ROWS), kind=ROWS),
    Case("dp.grid_norm_sq-f64", on_grid(GridNormSq), (G[:3].astype(np.float64), C[:3]), norms),
    Case("dp.grid_norm_sq-mixed", on_grid(GridNormSq), (G, C), norms, kinds=(PUBLIC, TotalKind("sum")),
         kind="mixed"),
    Case("dp.grid_sum", on_grid(GridSum), (G, C), total, kinds=(ROWS, ROWS), kind=TotalKind("sum")),
    Case("dp.grid_sum-fine", on_grid(GridSum, 1.0, 30), (FINE, ONES), lambda g, c: total(g, c, 1.0, 30)),
    Case("dp.grid_sum-scalar", on_grid(GridSum), (G[:, 0], C), total),
    Case("dp.grid_live", live(), (FACTORS, *TERMS), lambda c, *_: np.array([1, 0.5, 1, 0, 0, 0], np.float32),
         kinds=(ROWS,) * 3, kind=ROWS),
    Case("dp.grid_mean", mean(), (SUM, NOISE), decoded, kinds=(TotalKind("sum"), PUBLIC), kind=PUBLIC),
    Case("dp.grid_mean-f64", mean(dtype=DType.F64), (SUM, NOISE), lambda s, y: decoded(s, y, np.float64), rtol=1e-15),
]  # fmt: skip

CASES = [replace(case, onnx="the target refuses the mechanism discrete") for case in COMPUTED]

TWO = (tensor("f32[N,3]"), tensor("f32[N]"))
ERRORS = [
    ErrorCase("dp.grid_norm_sq-rows", on_grid(GridNormSq), (tensor("f32[4,3]"), tensor("f32[N]")),
              "f32[4,3] has not one row for each factor of f32[N]"),
    ErrorCase("dp.grid_norm_sq-ids", on_grid(GridNormSq), (tensor("i64[N,3]"), tensor("f32[N]")),
              "gradients are f32 or f64, not i64[N,3]"),
    ErrorCase("dp.grid_sum-factor", on_grid(GridSum), (tensor("f32[N,3]"), tensor("f64[N]")),
              "clip factors are f32[N], not f64[N]"),
    ErrorCase("dp.grid_sum-clip", on_grid(GridSum, clip=0.0), TWO, "clip is 0.0; it must be positive and finite"),
    ErrorCase("dp.grid_sum-bits", on_grid(GridSum, bits=31), TWO, "a grid of 2^31 steps is outside 2^1 ... 2^30"),
    ErrorCase("dp.grid_live-terms", live(), (tensor("f32[N]"), tensor("i64[M]")),
              "a squared norm is i64[N], not i64[M]"),
    ErrorCase("dp.grid_live-none", live(), (tensor("f32[N]"),), "0 squared norms for 0 parameters"),
    ErrorCase("dp.grid_live-factor", live(), (tensor("f32[N,1]"), tensor("i64[N]")),
              "clip factors are f32[N], not f32[N,1]"),
    ErrorCase("dp.grid_mean-float", mean(), (tensor("f32[3]"), tensor("i64[3]")),
              "sum and noise are i64 of one shape, not f32[3] and i64[3]"),
    ErrorCase("dp.grid_mean-shape", mean(), (tensor("i64[3]"), tensor("i64[4]")),
              "sum and noise are i64 of one shape, not i64[3] and i64[4]"),
    ErrorCase("dp.grid_mean-dtype", mean(dtype=DType.F16), (tensor("i64[3]"), tensor("i64[3]")),
              "the mean is f32 or f64, not f16"),
]  # fmt: skip
