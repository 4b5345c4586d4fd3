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
    factor = np.sqrt(np.float32(-2) * logf(r2[kept].astype(np.float32)) / r2[kept])
    return (square[kept, ::-1] * factor[:, None]).reshape(-1)[:count]


def truncated_normals(u: NDArray[np.float32], mean: float, std: float) -> NDArray[np.float32]:
    """Normals conditioned on two deviations either side of the mean, one per uniform, as Paddle computes them.

    The distribution function is inverted by the rational form for the centre, in float32 but for its argument.
    """
    p = np.float32(CDF_LOW) + np.float32(CDF_MASS) * u
    x = np.float32(2) * p - np.float32(1)
    r = (0.180625 - 0.25 * x.astype(np.float64) * x).astype(np.float32)
    e = x * _polynomial(ERFINV[0], r) / _polynomial(ERFINV[1], r)
    scaled = np.float64(2.0**0.5) * e * np.float64(np.float32(std)) + np.float64(np.float32(mean))
    return scaled.astype(np.float32)


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Horner's scheme in x's type, the highest power first."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + x.dtype.type(coefficient)
    return value


# Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988), its centre: erfinv(x) / x in 0.180625 - (x / 2)^2.
# Paddle uses it for all x, where near the ends it is right to 4e-6 only.
ERFINV = (
    (887.09406962545514830200, 11819.493347062294404278, 23782.041382114385731252, 16235.862515167575384252,
     4854.8868893843886794648, 697.06266534389598238465, 47.072688112383978012285, 1.1975323115670912564578),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip


# Float64: each uniform takes two draws.  Nothing but first values and constants of programs is drawn so.
def doubles(seed: int, count: int) -> NDArray[np.float64]:
    """``generate_canonical<double, 53>``: f64[count] in [0, 1)."""
    drawn = (states(seed, 2 * count) - np.uint64(1)).astype(np.float64).reshape(-1, 2)
    span = float(MODULUS - 1)
    return np.minimum((drawn[:, 0] + drawn[:, 1] * span) / (span * span), np.nextafter(1.0, 0.0))


def double_normals(seed: int, count: int) -> NDArray[np.float64]:
    """``normal_distribution<double>``, f64[count]: see `normals`."""
    pairs = (count + 1) // 2
    drawn = int(pairs * 1.3) + 64
    while True:
        square = 2.0 * doubles(seed, 2 * drawn).reshape(-1, 2) - 1.0
        r2 = square[:, 0] * square[:, 0] + square[:, 1] * square[:, 1]
        kept = np.flatnonzero((r2 <= 1) & (r2 != 0))[:pairs]
        if len(kept) == pairs:
            break
        drawn *= 2
    factor = np.sqrt(-2.0 * np.log(r2[kept]) / r2[kept])
    return (square[kept, ::-1] * factor[:, None]).reshape(-1)[:count]


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
    """As `truncated_normals` of mean 0 and deviation 1."""

    def constant(value: float, dtype: DType = DType.F32) -> str:
        return o.scalar(value, dtype)

    p = o.node("Add", o.node("Mul", u, constant(CDF_MASS)), constant(CDF_LOW))
    x = o.node("Sub", o.node("Add", p, p), constant(1.0))
    wide = o.cast(x, DType.F64)
    square = o.node("Mul", o.node("Mul", wide, constant(0.25, DType.F64)), wide)
    r = o.cast(o.node("Sub", constant(0.180625, DType.F64), square), DType.F32)
    over, under = (_polynomial_onnx(o, coefficients, r) for coefficients in ERFINV)
    return o.node("Mul", o.node("Div", o.node("Mul", x, over), under), constant(2.0**0.5))


def _polynomial_onnx(o: OnnxEmitter, coefficients: tuple[float, ...], x: str) -> str:
    value = o.scalar(coefficients[0], DType.F32)
    for coefficient in coefficients[1:]:
        value = o.node("Add", o.node("Mul", value, x), o.scalar(coefficient, DType.F32))
    return value


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
