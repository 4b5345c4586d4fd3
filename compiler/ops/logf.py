"""The C library's ``logf``, bit for bit: libstdc++'s normals, and so Paddle's initial parameters, go through it.

It is not the nearest float32: one result in three hundred differs.  glibc, from 2.28 on, writes x = 2^k z with z in
[0.7, 1.4), multiplies z by one of sixteen reciprocals c, and adds up k log 2 - log c and a polynomial in cz - 1, all
in float64.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_LEAST_Z = 0x3F330000
"""The bits of the float32 where z begins."""
_RECIPROCALS = np.array(
    [
        1.398907162146528, 1.3403141896637998, 1.286432210124115, 1.2367150214269895,
        1.1906977166711752, 1.1479821020556429, 1.1082251448272158, 1.0711297413057381,
        1.036437278977283, 1.0, 0.9492859795739057, 0.8951049428609004,
        0.8476821620351103, 0.8050314851692001, 0.7664671008843108, 0.731428603316328,
    ]
)  # fmt: skip
_LOGS = np.array([-math.log(c) for c in _RECIPROCALS])
_POLYNOMIAL = (-0.25089342214237154, 0.333456765744066, -0.4999997485802103)


def logf(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Elementwise natural logarithm of normal positive numbers."""
    bits = x.view(np.int32)
    above = bits - np.int32(_LEAST_Z)
    part = above >> 19 & 15
    z = (bits - (above >> 23 << 23)).view(np.float32).astype(np.float64)
    r = z * _RECIPROCALS[part] - 1.0
    start = _LOGS[part] + (above >> 23) * math.log(2.0)
    fourth, third, second = _POLYNOMIAL
    square = r * r
    return ((fourth * square + (third * r + second)) * square + (start + r)).astype(np.float32)
