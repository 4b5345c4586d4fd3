"""Paddle 1.8's random numbers, in numpy and on ONNX: ``std::minstd_rand`` and what libstdc++ makes of it, bit for bit.

The engine is x <- 48271 x mod (2^31 - 1), started anew from the seed by every op.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ir.types import Dim, DType
from .emit import OnnxEmitter
from .logf import logf

MULTIPLIER = 48271
MODULUS = 2**31 - 1
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))

CDF_LOW = float(np.float32(0.02275013194817921))
"""The normal distribution function at -2, and the mass between -2 and 2, as float32."""
CDF_MASS = float(np.float32(0.9772498680518208) - np.float32(CDF_LOW))


def start(seed: int) -> int:
    """The engine's state after seeding: a seed is read as 32 bits, and 0 is not a state."""
    return (seed % 2**32) % MODULUS or 1


def states(seed: int, count: int) -> NDArray[np.uint64]:
    """The first ``count`` draws, u64[count], each in [1, 2^31 - 2]."""
    out = np.empty(max(count, 1), np.uint64)
    out[0] = start(seed) * MULTIPLIER % MODULUS
    done, leap = 1, MULTIPLIER
    while done < count:
        # ``leap`` is the multiplier to the power ``done``: the block known so far, moved on by its length.
        size = min(done, count - done)
        out[done : done + size] = out[:size] * np.uint64(leap) % np.uint64(MODULUS)
        done, leap = done + size, leap * leap % MODULUS
    return out[:count]


def uniforms(seed: int, count: int) -> NDArray[np.float32]:
    """``generate_canonical<float, 24>``: f32[count] in [0, 1), one draw each.

    The divisor 2147483646 becomes 2^31 in float32.
    """
    u = (states(seed, count) - np.uint64(1)).astype(np.float32) * np.float32(2.0**-31)
    return np.minimum(u, np.float32(BELOW_ONE))


def normals(seed: int, count: int) -> NDArray[np.float32]:
    """``normal_distribution<float>``: the polar method, f32[count].

    A pair (x, y) of the square is kept when it lies in the unit disc; it gives y's normal first, then x's.
    """
    pairs = (count + 1) // 2
    drawn = int(pairs * 1.3) + 64
    while True:
        square = np.float32(2) * uniforms(seed, 2 * drawn).reshape(-1, 2) - np.float32(1)
        r2 = square[:, 0] * square[:, 0] + square[:, 1] * square[:, 1]
        kept = np.flatnonzero((r2 <= 1) & (r2 != 0))[:pairs]
        if len(kept) == pairs:
            break
        drawn *= 2
    factor = np.sqrt(np.float32(-2) * logf(r2[kept]) / r2[kept])
    return (square[kept, ::-1] * factor[:, None]).reshape(-1)[:count]


def truncated_normals(u: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard normals conditioned on [-2, 2], one per uniform, by inverting the distribution function."""
    p = np.float32(CDF_LOW) + np.float32(CDF_MASS) * u
    return _inverse_cdf(np.float32(2) * p - np.float32(1)).astype(np.float32)


# Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988): highest power first.
_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip

# Giles, Approximating the erfinv function, GPU Computing Gems (2011): erfinv(x) / x in -log(1 - x^2) - 2.5, below 5.
ERFINV_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
    -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip


def _inverse_cdf(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The normal quantile of ``(1 + x) / 2`` for ``|x| <= 1 - 2e-11``, to 16 digits."""
    q = 0.5 * x.astype(np.float64)
    r = 0.180625 - q * q
    centre = q * np.polyval(_CENTRE[0], r) / np.polyval(_CENTRE[1], r)
    far = np.sqrt(-np.log(np.minimum(0.5 - np.abs(q), 0.5))) - 1.6
    tail = np.copysign(np.polyval(_TAIL[0], far) / np.polyval(_TAIL[1], far), q)
    return np.where(np.abs(q) <= 0.425, centre, tail)


# On ONNX draw k is start * a^(k + 1): the product of a^(1024^l * d) over the digits d of k to base 1024.
_BASE = 1024
_OPEN_DIGITS = 3
"""Of a count known at run time: it is below 2^30."""


def uniforms_onnx(o: OnnxEmitter, seed: int, count: Dim) -> str:
    """As `uniforms`, f32[count]."""
    return _uniforms_onnx(o, seed, o.shape((count,)), _digits(count) if isinstance(count, int) else _OPEN_DIGITS)


def normals_onnx(o: OnnxEmitter, seed: int, count: Dim) -> str:
    """As `normals`, f32[count], of 128 pairs more than twice those wanted.

    Too few of them are kept with a probability below 1e-50; the graph cannot be run then.
    """
    size = o.shape((count,))
    pairs = o.node("Div", o.node("Add", size, o.ints(1)), o.ints(2))
    draws = o.node("Add", o.node("Mul", pairs, o.ints(4)), o.ints(256))
    digits = _digits(4 * ((count + 1) // 2) + 256) if isinstance(count, int) else _OPEN_DIGITS
    one, two = o.scalar(1.0, DType.F32), o.scalar(2.0, DType.F32)
    u = o.node("Reshape", _uniforms_onnx(o, seed, draws, digits), o.ints(-1, 2))
    x, y = o.many("Split", 2, o.node("Sub", o.node("Mul", u, two), one), axis=1, num_outputs=2)
    r2 = o.node("Add", o.node("Mul", x, x), o.node("Mul", y, y))
    inside = o.node("And", o.node("LessOrEqual", r2, one), o.node("Greater", r2, o.scalar(0.0, DType.F32)))
    found = o.node("Compress", o.node("Concat", y, x, r2, axis=1), o.node("Reshape", inside, o.ints(-1)), axis=0)
    yx, r2 = o.many("Split", 2, o.node("Slice", found, o.ints(0), pairs), o.ints(2, 1), axis=1)
    factor = o.node("Sqrt", o.node("Div", o.node("Mul", o.node("Log", r2), o.scalar(-2.0, DType.F32)), r2))
    return o.node("Slice", o.node("Reshape", o.node("Mul", yx, factor), o.ints(-1)), o.ints(0), size)


def truncated_normals_onnx(o: OnnxEmitter, u: str) -> str:
    """As `truncated_normals`, to 1e-6."""

    def constant(value: float) -> str:
        return o.scalar(value, DType.F32)

    p = o.node("Add", o.node("Mul", u, constant(CDF_MASS)), constant(CDF_LOW))
    x = o.node("Sub", o.node("Add", p, p), constant(1.0))
    log = o.node("Log", o.node("Sub", constant(1.0), o.node("Mul", x, x)))
    near = o.node("Sub", constant(-2.5), log)
    value = constant(ERFINV_CENTRE[0])
    for coefficient in ERFINV_CENTRE[1:]:
        value = o.node("Add", o.node("Mul", value, near), constant(coefficient))
    return o.node("Mul", o.node("Mul", value, x), constant(2.0**0.5))


def _digits(count: int) -> int:
    return next(digits for digits in range(1, 8) if count <= _BASE**digits)


def _uniforms_onnx(o: OnnxEmitter, seed: int, size: str, digits: int) -> str:
    draws = o.cast(o.node("Sub", _states_onnx(o, seed, size, digits), o.ints(1)), DType.F32)
    return o.node("Min", o.node("Mul", draws, o.scalar(2.0**-31, DType.F32)), o.scalar(BELOW_ONE, DType.F32))


def _states_onnx(o: OnnxEmitter, seed: int, size: str, digits: int) -> str:
    """As `states`; their number is i64[1], at most 1024^digits."""
    sizes = [size]
    for _ in range(digits - 1):
        sizes.append(o.node("Div", o.node("Add", sizes[-1], o.ints(_BASE - 1)), o.ints(_BASE)))
    found = o.ints(start(seed) * MULTIPLIER % MODULUS)
    for digit in reversed(range(digits)):
        base = pow(MULTIPLIER, _BASE**digit, MODULUS)
        powers = o.array(np.array([pow(base, d, MODULUS) for d in range(_BASE)], np.int32))
        products = o.node("Mul", o.node("Unsqueeze", found, o.ints(1)), o.cast(powers, DType.I64))
        each = o.node("Reshape", o.node("Mod", products, o.scalar(MODULUS, DType.I64)), o.ints(-1))
        found = o.node("Slice", each, o.ints(0), sizes[digit])
    return found
