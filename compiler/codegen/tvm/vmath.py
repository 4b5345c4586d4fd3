"""Elementary functions on vectors of float32, as polynomials.

Every function keeps NaN, infinities, signed zeros and denormals; errors are stated in ulp against float64.  The
minimax coefficients are those of the Cephes library (Moshier) where nothing else is said.  TIR rewrites that would
break the tricks used here are kept away by ``Block.let``: stored values are not folded, so ``(x + c) - c`` survives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ...ir.types import DType
from ...ops.emit import Function1
from .kit import Block, Value, broadcast, const, convert, integer, lanes_of, reinterpret
from .tvm_api import tirx

Function: TypeAlias = Callable[[Block, Value], Value]

F32, F64, I32, I64, U32 = DType.F32, DType.F64, DType.I32, DType.I64, DType.U32
INFINITY = math.inf
ROUND_F32 = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, whose bits are then the low ones
ROUND_F64 = 6755399441055744.0  # 1.5 * 2^52
SMALLEST_NORMAL = 2.0**-126
MAGNITUDE_BITS = 0x7FFF_FFFF
SQRT_HALF_BITS = 0x3F35_04F3


def _c(value: float, like: Value, dtype: DType = F32) -> Value:
    return const(value, dtype, lanes_of(like))


def polynomial(x: Value, coefficients: Sequence[float], dtype: DType = F32) -> Value:
    """Horner's scheme, highest power first; ``x`` must be a stored value."""
    result = _c(coefficients[0], x, dtype)
    for coefficient in coefficients[1:]:
        result = result * x + _c(coefficient, x, dtype)
    return result


def _bits(x: Value) -> Value:
    return reinterpret(I32, x)


def _magnitude(block: Block, x: Value) -> Value:
    return block.let(reinterpret(F32, tirx.bitwise_and(_bits(x), _c(MAGNITUDE_BITS, x, I32))), F32)


def _sign_of(x: Value) -> Value:
    return tirx.bitwise_and(reinterpret(U32, x), _c(0x8000_0000, x, U32))


def _with_sign(magnitude: Value, x: Value) -> Value:
    """``magnitude`` (not negative) with the sign of ``x``."""
    return reinterpret(F32, tirx.bitwise_or(reinterpret(U32, magnitude), _sign_of(x)))


def _power_of_two(n: Value) -> Value:
    """2^n for n in [-126, 127]."""
    return reinterpret(F32, tirx.shift_left(n + _c(127, n, I32), _c(23, n, I32)))


def exp(block: Block, x: Value) -> Value:
    """e^x, 1.0 ulp: x = n ln 2 + r, polynomial in r, two exponent factors (so denormal results are right)."""
    high, low = _c(89.0, x), _c(-104.0, x)
    y = block.let(tirx.Select(x > high, high, x), F32)
    y = block.let(tirx.Select(y < low, low, y), F32)
    shifted = block.let(y * _c(1.4426950408889634, x) + _c(ROUND_F32, x), F32)
    n = block.let(shifted - _c(ROUND_F32, x), F32)
    exponent = block.let(_bits(shifted) - _c(0x4B40_0000, x, I32), I32)
    r = block.let(y - n * _c(0.693145751953125, x), F32)
    r = block.let(r - n * _c(1.42860682030941723212e-6, x), F32)
    p = polynomial(r, [1.98756915e-4, 1.39819995e-3, 8.33345191e-3, 4.16657959e-2, 1.66666654e-1, 5.00000012e-1])
    p = block.let(p * r * r + r + _c(1.0, x), F32)
    half = block.let(tirx.shift_right(exponent, _c(1, x, I32)), I32)
    return p * _power_of_two(half) * _power_of_two(exponent - half)


def expm1(block: Block, x: Value) -> Value:
    """e^x - 1, 1.5 ulp: x = n ln 2 + r, then 2^n (e^r - 1) + (2^n - 1), whose terms do not cancel."""
    far = _magnitude(block, x) > _c(25.0, x)
    y = block.let(tirx.Select(far, _c(0.0, x), x), F32)
    shifted = block.let(y * _c(1.4426950408889634, x) + _c(ROUND_F32, x), F32)
    n = block.let(shifted - _c(ROUND_F32, x), F32)
    r = block.let(y - n * _c(0.693145751953125, x), F32)
    r = block.let(r - n * _c(1.42860682030941723212e-6, x), F32)
    series = polynomial(r, [1 / math.factorial(k) for k in range(8, 1, -1)])
    fraction = block.let(series * r * r + r, F32)
    scale = block.let(_power_of_two(_bits(shifted) - _c(0x4B40_0000, x, I32)), F32)
    near = block.let(scale * fraction + (scale - _c(1.0, x)), F32)
    near = tirx.Select(tirx.EQ(x, _c(0.0, x)), x, near)  # keeps -0
    return tirx.Select(far, exp(block, x) - _c(1.0, x), near)


def log_of_fraction(block: Block, m: Value, exponent: Value) -> Value:
    """log(1 + m) + exponent * ln 2 for 1 + m in [sqrt(1/2), sqrt(2))."""
    z = block.let(m * m, F32)
    p = polynomial(
        m,
        [7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
         -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1],
    )  # fmt: skip
    p = block.let(p * m * z, F32)
    p = block.let(p + exponent * _c(-2.12194440e-4, m), F32)
    p = block.let(p - z * _c(0.5, m), F32)
    return block.let(m + p, F32) + exponent * _c(0.693359375, m)


def split(block: Block, x: Value) -> tuple[Value, Value]:
    """A positive normal x as 2^e (1 + m), 1 + m in [sqrt(1/2), sqrt(2)): (m, e as float32)."""
    offset = block.let(_bits(x) - _c(SQRT_HALF_BITS, x, I32), I32)
    exponent = block.let(convert(F32, tirx.shift_right(offset, _c(23, x, I32))), F32)
    fraction = tirx.bitwise_and(offset, _c(0x007F_FFFF, x, I32)) + _c(SQRT_HALF_BITS, x, I32)
    return block.let(reinterpret(F32, fraction) - _c(1.0, x), F32), exponent


def log(block: Block, x: Value) -> Value:
    """The natural logarithm, 0.8 ulp; -inf at 0, NaN below."""
    small = x < _c(SMALLEST_NORMAL, x)
    y = block.let(tirx.Select(small, x * _c(2.0**23, x), x), F32)
    m, exponent = split(block, y)
    exponent = block.let(exponent - tirx.Select(small, _c(23.0, x), _c(0.0, x)), F32)
    result = block.let(log_of_fraction(block, m, exponent), F32)
    result = block.let(tirx.Select(x < _c(INFINITY, x), result, x), F32)  # +inf and NaN pass
    outside = tirx.Select(tirx.EQ(x, _c(0.0, x)), _c(-INFINITY, x), _c(math.nan, x))
    # For NaN "x <= 0" is false, so the NaN that has already passed stays.
    return tirx.Select(x <= _c(0.0, x), outside, result)


def log1p(block: Block, x: Value) -> Value:
    """ln(1 + x): the logarithm of the rounded sum, corrected by what the rounding lost."""
    one = _c(1.0, x)
    total = block.let(one + x, F32)
    lost = block.let(block.let(total - one, F32) - x, F32)  # (1 + x) rounded, minus the true 1 + x
    plain = block.let(log(block, total), F32)
    corrected = block.let(plain - lost / total, F32)
    result = block.let(tirx.Select(tirx.EQ(total, one), x, corrected), F32)
    finite = tirx.And(total > _c(0.0, x), total < _c(INFINITY, x))
    return tirx.Select(finite, result, plain)


def tanh(block: Block, x: Value) -> Value:
    """1.3 ulp: odd polynomial below 0.625, else 1 - 2 / (e^(2|x|) + 1)."""
    magnitude = _magnitude(block, x)
    z = block.let(x * x, F32)
    p = polynomial(z, [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1])
    near = block.let(p * z * magnitude + magnitude, F32)
    e = exp(block, block.let(magnitude + magnitude, F32))
    far = block.let(_c(1.0, x) - _c(2.0, x) / (e + _c(1.0, x)), F32)
    return _with_sign(block.let(tirx.Select(magnitude < _c(0.625, x), near, far), F32), x)


def sigmoid(block: Block, x: Value) -> Value:
    """1 / (1 + e^-x), 2.4 ulp, from e^-|x| so that neither end overflows."""
    negative = reinterpret(F32, tirx.bitwise_or(reinterpret(U32, x), _c(0x8000_0000, x, U32)))
    e = block.let(exp(block, block.let(negative, F32)), F32)
    return tirx.Select(x < _c(0.0, x), e, _c(1.0, x)) / (e + _c(1.0, x))


def erf(block: Block, x: Value) -> Value:
    """1.5 ulp: odd polynomial up to 1, beyond it 1 - P(|x| - 2.46), which is 1 from 3.92 on.

    The minimax coefficients were fitted to this split, which takes neither an exponential nor a division.
    """
    magnitude = _magnitude(block, x)
    square = block.let(x * x, F32)
    t = block.let(tirx.Select(magnitude > _c(3.92, x), _c(3.92, x), magnitude) - _c(2.46, x), F32)
    tail = polynomial(
        t,
        [9.12923082e-06, -2.54148929e-05, -5.16906176e-05, 0.000301646334, -0.000391085439, -0.000462112903,
         0.00296347095, -0.00679769687, 0.00990483912, -0.00983298043, 0.0065357608, -0.00265619408,
         0.000503326692],
    )  # fmt: skip
    q = polynomial(
        square,
        [7.8538531e-05, -0.000801019113, 0.0051883274, -0.0268538118, 0.112835851, -0.376126258,
         0.128379166],
    )  # fmt: skip
    near = block.let(q * x + x, F32)
    far = _with_sign(block.let(_c(1.0, x) - tail, F32), x)
    return tirx.Select(magnitude > _c(1.0, x), far, near)


def sin(block: Block, x: Value) -> Value:
    """Sine, 1.5 ulp over the full range."""
    return _sine(block, x, cosine=False)


def cos(block: Block, x: Value) -> Value:
    """Cosine, 1.5 ulp over the full range."""
    return _sine(block, x, cosine=True)


def sine_cosine(block: Block, r: Value) -> tuple[Value, Value]:
    """The sine and cosine of ``r``, |r| <= pi/4, 0.6 ulp."""
    z = block.let(r * r, F32)
    sine = polynomial(z, [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1])
    cosine = polynomial(z, [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2, -0.5, 1.0])
    return block.let(block.let(z * r, F32) * sine + r, F32), block.let(cosine, F32)


def _sine(block: Block, x: Value, *, cosine: bool) -> Value:
    """1.5 ulp; the argument is reduced in float64, and beyond 2^20 libm is called: a multiple
    of the leading part of pi/2 (33 bits) is then no longer exact without a fused multiply-add."""
    wide = block.let(convert(F64, x), F64)
    shifted = block.let(wide * _c(2 / math.pi, wide, F64) + _c(ROUND_F64, wide, F64), F64)
    n = block.let(shifted - _c(ROUND_F64, wide, F64), F64)
    quadrant = block.let(convert(I32, tirx.bitwise_and(reinterpret(I64, shifted), _c(3, wide, I64))), I32)
    r = block.let(wide - n * _c(1.5707963267341256, wide, F64), F64)
    r = block.let(convert(F32, r - n * _c(6.0771005065061922e-11, wide, F64)), F32)
    near_sine, near_cosine = sine_cosine(block, r)
    if cosine:
        quadrant = block.let(quadrant + _c(1, x, I32), I32)
    odd = tirx.NE(tirx.bitwise_and(quadrant, _c(1, x, I32)), _c(0, x, I32))
    value = tirx.Select(odd, near_cosine, near_sine)
    flip = tirx.shift_left(convert(U32, tirx.bitwise_and(quadrant, _c(2, x, I32))), _c(30, x, U32))
    value = reinterpret(F32, tirx.bitwise_xor(reinterpret(U32, value), flip))
    if not cosine:
        value = tirx.Select(tirx.EQ(x, _c(0.0, x)), x, value)  # keeps -0
    value = block.let(value, F32)
    return _replace_lanes(block, x, value, 0x4980_0000, "cosf" if cosine else "sinf")


def _replace_lanes(block: Block, x: Value, value: Value, limit: int, libm: str) -> Value:
    """``value``, but in lanes where |x| has bits above ``limit`` the result of a libm function."""
    lanes = lanes_of(x)
    kept = block.scratch(F32, lanes, "kept")
    block.write(kept, integer(0), value)
    magnitude = tirx.bitwise_and(_bits(x), _c(MAGNITUDE_BITS, x, I32))
    largest = tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.umax", magnitude) if lanes > 1 else magnitude
    with block.when(largest > const(limit, I32)):
        source = block.scratch(F32, lanes, "source")
        block.write(source, integer(0), x)
        with block.loop(lanes, "lane") as lane:
            one = block.let(block.read(source, lane), F32)
            with block.when(tirx.bitwise_and(_bits(one), const(MAGNITUDE_BITS, I32)) > const(limit, I32)):
                block.write(kept, lane, tirx.call_pure_extern("float32", libm, one))
    return block.let(block.read(kept, integer(0), lanes), F32)


def _each_lane(block: Block, x: Value, function: Callable[[Value], Value], dtype: DType = F32) -> Value:
    """A scalar function applied lane by lane, for functions that are rarely used."""
    lanes = lanes_of(x)
    if lanes == 1:
        return function(x)
    buffer = block.scratch(dtype, lanes, "lanes")
    block.write(buffer, integer(0), x)
    with block.loop(lanes, "lane") as lane:
        block.write(buffer, lane, function(block.let(block.read(buffer, lane), dtype)))
    return block.let(block.read(buffer, integer(0), lanes), dtype)


def libm(block: Block, x: Value, name: str, dtype: DType) -> Value:
    """A function of the C library, lane by lane."""
    symbol = f"{name}f" if dtype is F32 else name
    result = "float32" if dtype is F32 else "float64"
    return _each_lane(block, x, lambda one: tirx.call_pure_extern(result, symbol, one), dtype)


def pow(block: Block, x: Value, y: Value) -> Value:
    """x^y in float32, 0.51 ulp: float64 inside (log2 by an atanh series, exp2 by Taylor), IEEE special cases."""
    lanes = max(lanes_of(x), lanes_of(y))
    x, y = block.let(broadcast(x, lanes), F32), block.let(broadcast(y, lanes), F32)
    zero, one, infinity = _c(0.0, x), _c(1.0, x), _c(INFINITY, x)
    a, b = _magnitude(block, x), _magnitude(block, y)
    raised = block.let(_exp2_wide(block, _log2_wide(block, a) * convert(F64, y)), F32)

    at_zero = tirx.Select(y > zero, zero, infinity)
    at_infinity = tirx.Select(y > zero, infinity, zero)
    result = block.let(tirx.Select(tirx.EQ(a, zero), at_zero, raised), F32)
    result = block.let(tirx.Select(tirx.EQ(a, infinity), at_infinity, result), F32)
    huge_power = tirx.Select(tirx.EQ(a, one), one, tirx.Select(a > one, at_infinity, at_zero))
    result = block.let(tirx.Select(tirx.EQ(b, infinity), huge_power, result), F32)

    # A negative base: odd integer powers are negative, fractional ones undefined.
    rounded = block.let(block.let(b + _c(2.0**23, x), F32) - _c(2.0**23, x), F32)
    whole = tirx.Or(b >= _c(2.0**23, x), tirx.EQ(rounded, b))
    low_bit = tirx.Select(b >= _c(2.0**23, x), _bits(b), _bits(block.let(b + _c(2.0**23, x), F32)))
    odd = tirx.NE(tirx.bitwise_and(low_bit, _c(1, x, I32)), _c(0, x, I32))
    is_odd = tirx.And(tirx.And(whole, odd), b < _c(2.0**24, x))
    result = block.let(tirx.Select(is_odd, _with_sign(result, x), result), F32)
    undefined = tirx.And(tirx.And(x < zero, a < infinity), tirx.Not(whole))
    result = block.let(tirx.Select(undefined, _c(math.nan, x), result), F32)

    total = block.let(x + y, F32)
    result = block.let(
        tirx.Select(block.machine.is_nan(total, F32), tirx.Select(_both_numbers(block, x, y), result, total), result),
        F32,
    )
    result = block.let(tirx.Select(tirx.EQ(y, zero), one, result), F32)
    return tirx.Select(tirx.EQ(x, one), one, result)


def _both_numbers(block: Block, x: Value, y: Value) -> Value:
    """Neither is NaN (inf - inf is NaN as well, so a NaN sum alone says nothing)."""
    return tirx.And(tirx.Not(block.machine.is_nan(x, F32)), tirx.Not(block.machine.is_nan(y, F32)))


def _log2_wide(block: Block, a: Value) -> Value:
    """log2 of a non-negative float32, in float64."""
    small = a < _c(SMALLEST_NORMAL, a)
    scaled = block.let(tirx.Select(small, a * _c(2.0**23, a), a), F32)
    m, exponent = split(block, scaled)
    exponent = block.let(exponent - tirx.Select(small, _c(23.0, a), _c(0.0, a)), F32)
    wide = block.let(convert(F64, m), F64)
    s = block.let(wide / (wide + _c(2.0, wide, F64)), F64)
    z = block.let(s * s, F64)
    series = polynomial(z, [2 / k for k in (13, 11, 9, 7, 5, 3, 1)], F64)
    return block.let(series * s * _c(1 / math.log(2), wide, F64) + convert(F64, exponent), F64)


def _exp2_wide(block: Block, x: Value) -> Value:
    """2^x for a float64 x, as float32."""
    limit = _c(200.0, x, F64)
    x = block.let(x, F64)
    x = block.let(tirx.Select(x > limit, limit, x), F64)
    x = block.let(tirx.Select(x < -limit, -limit, x), F64)
    shifted = block.let(x + _c(ROUND_F64, x, F64), F64)
    n = block.let(shifted - _c(ROUND_F64, x, F64), F64)
    f = block.let((x - n) * _c(math.log(2), x, F64), F64)
    fraction = polynomial(f, [1 / math.factorial(k) for k in range(9, -1, -1)], F64)
    # Adding the bias before masking keeps the sign of n out of the exponent field.
    exponent = tirx.bitwise_and(reinterpret(I64, shifted) + _c(1023, x, I64), _c(0x7FF, x, I64))
    return convert(F32, fraction * reinterpret(F64, tirx.shift_left(exponent, _c(52, x, I64))))


VECTOR: dict[Function1, Function] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "erf": erf,
    "sin": sin,
    "cos": cos,
}
"""Functions with a float32 vector form; ``lower.py`` knows the others."""
