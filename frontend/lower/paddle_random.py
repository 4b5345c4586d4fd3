"""Whole numbers that Paddle 1.8.5 draws under a seed: every run draws them anew, so they are constants of a program."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...compiler.ops import minstd

_SPAN = minstd.MODULUS - 2
"""The largest draw of the engine, less its smallest."""


def integers(seed: int, count: int, low: int, high: int) -> NDArray[np.int64]:
    """``uniform_int_distribution`` of libstdc++ on [low, high): i64[count]; at most 2^31 - 2 numbers are possible."""
    wanted = high - low
    width = _SPAN // wanted
    drawn = count + 64
    while True:
        draws = minstd.states(seed, drawn).astype(np.int64) - 1
        kept = draws[draws < wanted * width][:count]
        if len(kept) == count:
            return low + kept // width
        drawn *= 2


def permutation(seed: int, count: int) -> NDArray[np.int64]:
    """``srand`` and ``random_shuffle`` of libstdc++: i64[count]."""
    order = list(range(count))
    for place, draw in zip(range(1, count), _rand(seed, count - 1)):
        other = draw % (place + 1)
        order[place], order[other] = order[other], order[place]
    return np.array(order, np.int64)


def _rand(seed: int, count: int) -> list[int]:
    """The first numbers of the GNU C library's ``rand``: an additive feedback generator of 31 words."""
    words = [seed % 2**32 or 1]
    for _ in range(30):
        # Schrage's form on a signed word, as the library fills its table.
        last = words[-1] - 2**32 if words[-1] >= 2**31 else words[-1]
        words.append((16807 * last) % minstd.MODULUS)
    words += words[:3]
    for place in range(34, 344 + count):
        words.append((words[place - 31] + words[place - 3]) % 2**32)
    return [word >> 1 for word in words[344 : 344 + count]]
