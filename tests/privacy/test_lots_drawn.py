"""Poisson lots follow their law: who is in them, which two together, and how large they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from private_runs import MASTER
from scipy import stats

from fluidc.runtime.keystream import fresh_key
from fluidc.runtime.sampler import PoissonSampler

EXAMPLES, RATE = 120, 0.08


def lots(fresh: bool, steps: int) -> np.ndarray:
    """bool[steps, EXAMPLES]: who is in which lot."""
    key = fresh_key() if fresh else MASTER
    print(f"sampler key {key.hex()}")
    sampler = PoissonSampler(EXAMPLES, math.ceil(RATE * 2**32), key)
    found = np.zeros((steps, EXAMPLES), np.bool_)
    for step in range(steps):
        found[step, sampler.next_lot()] = True
    return found


def check(found: np.ndarray) -> None:
    steps, n = found.shape
    inclusion = found.sum(axis=0)
    scores = (inclusion - steps * RATE) / math.sqrt(steps * RATE * (1 - RATE))
    p = 2 * min(stats.chi2.cdf(np.sum(scores**2), n), stats.chi2.sf(np.sum(scores**2), n))
    assert p > 1e-9, f"inclusion: p = {p:.2g}"
    pairs = (found.astype(np.float32).T @ found.astype(np.float32))[np.triu_indices(n, 1)]
    far = float(np.max(np.abs(pairs - steps * RATE**2)) / math.sqrt(steps * RATE**2 * (1 - RATE**2)))
    # Counts of rare pairs are wider than normal: by the Poisson law their bound is taken, at 1e-9 for all pairs.
    low, high = stats.binom.ppf([5e-10 / len(pairs), 1 - 5e-10 / len(pairs)], steps, RATE**2)
    assert low <= pairs.min() <= pairs.max() <= high, f"pairs: {far:.1f} deviations"
    sizes = found.sum(axis=1)
    share = float(np.var(sizes)) / (n * RATE * (1 - RATE))
    assert abs(share - 1) < 6.2 * math.sqrt((2 + (1 - 6 * RATE * (1 - RATE)) / (n * RATE * (1 - RATE))) / steps)
    one_by_one = np.corrcoef(sizes[:-1], sizes[1:])[0, 1]
    assert abs(one_by_one) < 6.5 / math.sqrt(steps)


@pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_poisson_lots(fresh: bool) -> None:
    check(lots(fresh, 200_000 if fresh else 20_000))


def test_lots_of_one_size_are_noticed() -> None:
    found = lots(False, 20_000)
    order = np.argsort(np.random.default_rng(0).random(found.shape), axis=1)
    fixed = order < round(EXAMPLES * RATE)
    with pytest.raises(AssertionError):
        check(fixed)
