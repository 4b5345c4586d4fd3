"""The generator of C++'s ``std::minstd_rand`` (Park, Miller and Stockmeyer, CACM 36(7), 1993)."""

from __future__ import annotations

from typing import Any

import numpy as np


class Minstd:
    """x ← 48271 x mod (2^31 - 1), from a seed.

    >>> Minstd(1).next()
    48271
    """

    def __init__(self, seed: int) -> None:
        self._state = seed % 2147483647 or 1

    def next(self) -> int:
        """The next number, from 1 to 2^31 - 2."""
        self._state = self._state * 48271 % 2147483647
        return self._state

    def uniform(self, low: float, high: float, kind: type[np.floating[Any]]) -> np.floating[Any]:
        """A number in [low, high), as libstdc++'s std::uniform_real_distribution makes it.

        A float takes one draw; a double two, of which the first counts least.
        """
        span = kind(2147483646)
        share = kind(self.next() - 1) / span
        if kind is np.float64:
            share = (share + kind(self.next() - 1)) / span
        return share * kind(high - low) + kind(low)
