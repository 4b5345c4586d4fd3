"""Gaussian noise rounded to integers, exactly: ``Y = round(scale * Z)`` with Z standard normal.

A pair of normals is Box and Muller's transform of two uniforms U and A of unboundedly many random bits:
``scale * sqrt(-2 ln U)`` times the cosine and the sine of ``2 pi (A - 1/8)``. Words of the keystream of one (domain,
tensor, draw) hold the bits: pair p takes words ``4 (p mod 4) .. + 3`` of block ``p // 4``, 64 bits of U (high word
first) and 64 of A. Elements 2p and 2p + 1 are the cosine's and the sine's. The next 64 bits of both, where they are
needed, are at the same place ``2^28`` blocks on; there are sixteen such levels.

float64 decides all but a few elements: the value of 64 bits is off by at most ``_margin``, and if no half-integer is
that near, the rounded value is that of the real number. Otherwise more bits are read and `decimal` decides with as many
digits as it takes, so the result does not depend on the machine, nor on the accuracy of its sines.

Elements that take the long way are chosen by the noise alone: no data are touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Context, Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from .keystream import Domain, Key, fast_words
from .limits import MAX_SCALE

MAX_COUNT = 1 << 31
LEVEL_BLOCKS = 1 << 28
LEVELS = 16

_PAIRS_PER_BLOCK = 4
_CHUNK = 1 << 14  # pairs: their arrays stay in the second-level cache
_FRACTION = (1 << 62) - 1

_RELATIVE = 2.0**-48
"""Bound on float64's relative error: 2^-48.7 if each elementary function is off by four ulp and each other operation by
half an ulp. The angle is at most pi/4 before it is turned, so a sine near zero is as accurate as any other."""


def rounded_gaussian(
    key: Key,
    *,
    tensor: int,
    draw: int,
    scale: float,
    count: int,
    rank: int = 0,
    domain: Domain = Domain.GRADIENT,
    exact: bool = False,
) -> NDArray[np.int64]:
    """``count`` independent draws of ``round(scale * Z)``, i64[count].

    Args:
        key: 32 bytes or u32[8], used for one step only.
        tensor: index in the manifest's parameter list, < 2^24.
        draw: number of the noise draw, < 2^48.
        scale: standard deviation before rounding, in [0, 2^40].
        count: at most 2^31.
        rank: worker, < 2^16.
        domain: use of the stream.
        exact: decide every element in multiprecision: the same integers, 100 µs and more for each.

    Raises ValueError for a field out of range.
    """
    if not 0 <= scale <= MAX_SCALE:
        raise ValueError(f"scale = {scale} is outside [0, 2^40]")
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"count = {count} is outside [0, 2^31]")
    out = np.empty(count, np.int64)

    def bits(first_pair: int, pairs: int, level: int) -> NDArray[np.uint64]:
        """u64[pairs, 2]: 64 bits of U and of A each; ``first_pair`` begins a block."""
        first = level * LEVEL_BLOCKS + first_pair // _PAIRS_PER_BLOCK
        blocks = -(-pairs // _PAIRS_PER_BLOCK)
        words = fast_words(
            key, domain=domain, tensor=tensor, draw=draw, rank=rank, count_blocks=blocks, first_block=first
        )
        halves = words.reshape(-1, 2, 2).astype(np.uint64)
        return (halves[:, :, 0] << np.uint64(32) | halves[:, :, 1])[:pairs]

    for start in range(0, (count + 1) // 2, _CHUNK):
        pairs = min(_CHUNK, (count + 1) // 2 - start)
        drawn = bits(start, pairs, 0)
        values, unsure = _rounded(drawn[:, 0], drawn[:, 1], scale)
        for index in np.flatnonzero(unsure | exact).tolist():
            pair = start + index // 2
            block = pair - pair % _PAIRS_PER_BLOCK
            values[index] = _decided(
                scale, index % 2, ((u, a) for u, a in (_pair(bits(block, 4, n), pair) for n in range(LEVELS)))
            )
        part = out[2 * start : 2 * (start + pairs)]
        part[...] = values[: len(part)]
    return out


def _pair(bits: NDArray[np.uint64], pair: int) -> tuple[int, int]:
    u, a = bits[pair % _PAIRS_PER_BLOCK].tolist()
    return u, a


def _rounded(u: NDArray[np.uint64], a: NDArray[np.uint64], scale: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """What float64 makes of pairs, i64[2 * pairs], and where it cannot be sure."""
    upper = (u >> np.uint64(63)).astype(np.bool_)
    # t is U or 1 - U, whichever is at most a half, in the middle of the interval that further bits would choose from.
    t = (np.where(upper, ~u, u).astype(np.float64) + 0.5) * 2.0**-64
    radius = np.sqrt(-2.0 * np.where(upper, np.log1p(-t), np.log(t)))
    residue = (2 * (a & np.uint64(_FRACTION)) + np.uint64(1)).view(np.int64) - np.int64(1 << 62)
    angle = residue.astype(np.float64) * (math.pi / 4 * 2.0**-62)
    cosine, sine = np.cos(angle), np.sin(angle)
    quadrant = (a >> np.uint64(62)).astype(np.int64)
    swap = (quadrant & 1).astype(np.bool_)
    x, y = np.where(swap, sine, cosine), np.where(swap, cosine, sine)
    np.negative(x, out=x, where=(quadrant == 1) | (quadrant == 2))
    np.negative(y, out=y, where=quadrant >= 2)
    value = np.stack([radius * x, radius * y], axis=1) * scale
    nearest = np.rint(value)
    # Distance to the nearest half-integer, exact; noise below 2^-49 units has none near it.
    distance = 0.5 - np.abs(value - nearest)
    return nearest.astype(np.int64).reshape(-1), (distance <= _margin(value, t, upper, radius, scale)).reshape(-1)


def _margin(
    value: NDArray[np.float64],
    t: NDArray[np.float64],
    upper: NDArray[np.bool_],
    radius: NDArray[np.float64],
    scale: float,
) -> NDArray[np.float64]:
    """By how much ``value`` may be off: float64's error, and what the unread bits of both uniforms can change.

    The radius changes by ``dU / (U radius)`` (twice that covers the interval, as t is at least a few of its lengths),
    the angle by ``2 pi dA``; dU = dA = 2^-65, half of an interval. Where t is so small that the derivative no longer
    tells, the margin is infinite.
    """
    uniform = np.where(upper, 1.0 - t, t)
    bits = 2.0**-64 / (uniform * radius) + radius * (2 * math.pi * 2.0**-65)
    bits[t < 2.0**-60] = np.inf
    return np.maximum(np.abs(value), scale) * _RELATIVE + (bits * scale)[:, None]


# Multiprecision ------------------------------------------------------------------------------------------------------


def _decided(scale: float, which: int, levels: Iterator[tuple[int, int]]) -> int:
    """The rounded value of the pair's cosine (0) or sine (1), from as many levels of bits as it takes."""
    u = a = count = 0
    for more_u, more_a in levels:
        u, a, count = u << 64 | more_u, a << 64 | more_a, count + 64
        found = _enclosed(scale, which, u, a, count)
        if found is not None:
            return found
    raise ArithmeticError(f"{count} random bits leave a half-integer undecided; this happens once in 2^900 draws")


def _enclosed(scale: float, which: int, u: int, a: int, bits: int) -> int | None:
    """The integer that every value of further bits is rounded to, or None where there are two."""
    if scale == 0:
        return 0
    if u == 0:
        return None  # the radius has no bound yet
    # Values have at most 14 digits before the point; log and cosine lose a few.
    with localcontext(Context(prec=math.ceil(bits * math.log10(2)) + 40)) as context:
        unit = Decimal(2) ** -bits
        low, high = _radius((u + 1) * unit, context), _radius(u * unit, context)
        quadrant, fraction = a >> (bits - 2), a & ((1 << (bits - 2)) - 1)
        step = Decimal(2) ** (2 - bits)
        pi = _pi(context)
        angle = ((2 * fraction + 1) * step - 1) * pi / 4
        cosine, sine = _cosine(angle, context), _sine(angle, context)
        # Quarter turns of (cosine, sine).
        turned = ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[quadrant][which]
        middle = (low + high) / 2 * turned
        away = (high - low) / 2 + high * step * pi / 4 + Decimal(10) ** (20 - context.prec)
        factor = Decimal(scale)
        first, last = ((middle + sign * away) * factor for sign in (-1, 1))
        ends = {int((end + Decimal("0.5")).to_integral_value("ROUND_FLOOR")) for end in (first, last)}
        return ends.pop() if len(ends) == 1 else None


def _radius(u: Decimal, context: Context) -> Decimal:
    return (-2 * u.ln(context)).sqrt(context) if u < 1 else Decimal(0)


def _pi(context: Context) -> Decimal:
    """Machin: pi = 16 arctan(1/5) - 4 arctan(1/239)."""

    def arctan_inverse(x: int) -> Decimal:
        power = Decimal(1) / x
        total, n, square = power, 1, x * x
        while abs(power) > Decimal(10) ** -(context.prec + 2):
            power /= -square
            n += 2
            total += power / n
        return total

    return 16 * arctan_inverse(5) - 4 * arctan_inverse(239)


def _cosine(x: Decimal, context: Context) -> Decimal:
    return _series(Decimal(1), 0, x, context)


def _sine(x: Decimal, context: Context) -> Decimal:
    return _series(x, 1, x, context)


def _series(term: Decimal, n: int, x: Decimal, context: Context) -> Decimal:
    """Taylor's series of cosine or sine from its first term on, for ``|x| <= pi/4``."""
    total, square = term, x * x
    while abs(term) > Decimal(10) ** -(context.prec + 2):
        term = -term * square / ((n + 1) * (n + 2))
        n += 2
        total += term
    return total
