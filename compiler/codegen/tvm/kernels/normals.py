"""The Box-Muller transform: standard normals of 96 random bits, with a 64-bit radius.

As ``runtime/keystream.py`` specifies it, to 1e-6 on every machine; values are scalars or vectors of any width.
"""

from __future__ import annotations

import math

from ....ir.types import DType
from ..kit import Block, Value, const, convert, lanes_of, reinterpret
from ..tvm_api import tirx
from ..vmath import polynomial, sine_cosine, split

_LOG = (
    -0.1866062730550766, 0.29483142495155334, -0.2974740266799927, 0.3298744559288025, -0.39919161796569824,
    0.500121533870697, -0.6666823029518127, 0.9999983310699463, -2.0,
)  # fmt: skip
"""-2 log(1 + m) / m for 1 + m in [sqrt(1/2), sqrt(2)), to 1.8e-8 of itself; highest power first."""

F32, U32, I32 = DType.F32, DType.U32, DType.I32


def radius(block: Block, hi: Value, lo: Value) -> Value:
    """sqrt(-2 ln U) for U = (hi 2^32 + lo + 1/2) 2^-64, to 2e-7 of itself at both ends.

    t = min(U, 1 - U) is exact to float32's last bit, so near U = 1 the logarithm is taken of 1 - t as
    log1p(-t), without rounding 1 - t first.
    """
    lanes = lanes_of(hi)
    signed = block.let(reinterpret(I32, hi), I32)
    up = tirx.LT(signed, const(0, I32, lanes))
    sign = block.let(tirx.shift_right(signed, const(31, I32, lanes)), I32)
    high = convert(F32, tirx.bitwise_xor(signed, sign))
    low = convert(F32, tirx.bitwise_xor(lo, reinterpret(U32, sign)))
    low = block.let(low * const(2.0**-64, F32, lanes) + const(2.0**-65, F32, lanes), F32)
    t = block.let(high * const(2.0**-32, F32, lanes) + low, F32)
    x = block.let(tirx.Select(up, const(1.0, F32, lanes) - t, t), F32)
    m, exponent = split(block, x)
    near_one = tirx.And(up, tirx.EQ(exponent, const(0.0, F32, lanes)))
    m = block.let(tirx.Select(near_one, const(0.0, F32, lanes) - t, m), F32)
    series = polynomial(m, _LOG)
    square = exponent * const(-2 * math.log(2), F32, lanes) + m * series
    return block.let(tirx.sqrt(block.let(square, F32)), F32)


def direction(block: Block, angle: Value) -> tuple[Value, Value]:
    """A point on the unit circle: the low 30 bits give the angle within a quadrant, the top two turn it."""
    lanes = lanes_of(angle)
    # Twice the odd number that the specification takes: the scale makes up for it, so the bits are the same.
    odd = tirx.bitwise_xor(tirx.shift_left(angle, const(2, U32, lanes)), const(0x8000_0002, U32, lanes))
    k = block.let(convert(F32, reinterpret(I32, odd)), F32)
    sine, cosine = sine_cosine(block, block.let(k * const(math.pi / 4 * 2.0**-31, F32, lanes), F32))
    quadrant = block.let(tirx.shift_right(angle, const(30, U32, lanes)), U32)
    swap = tirx.NE(tirx.bitwise_and(quadrant, const(1, U32, lanes)), const(0, U32, lanes))
    x = tirx.Select(swap, sine, cosine)
    y = tirx.Select(swap, cosine, sine)
    # x is negated in quadrants 1 and 2 (bit 1 of quadrant + 1), y in quadrants 2 and 3 (bit 1 of quadrant).
    turned = quadrant + const(1, U32, lanes)
    return _flip(block, x, turned), _flip(block, y, quadrant)


def _flip(block: Block, value: Value, quadrant: Value) -> Value:
    lanes = lanes_of(value)
    sign = tirx.shift_left(tirx.bitwise_and(quadrant, const(2, U32, lanes)), const(30, U32, lanes))
    bits = tirx.bitwise_xor(reinterpret(U32, block.let(value, F32)), sign)
    return block.let(reinterpret(F32, bits), F32)
