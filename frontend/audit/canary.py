"""A white-box audit with one canary: how well its presence can be told from what is released.

Source: Nasr et al., "Tight Auditing of Differentially Private Machine Learning", USENIX Security 2023
(arXiv:2302.07956), as a Gaussian bound.  The observer knows everything but the noise: the other rows' sums, the
canary's clipped gradient v, and the released value.  The score is the projection on v, the threshold is half its
length, fixed in advance.  With upper bounds (Clopper and Pearson) on both error rates, μ is at least
Φ⁻¹(1 − FPR) − Φ⁻¹(FNR), and must not exceed the 1/σ' that the accountant took.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...runtime.keystream import fresh_key
from .checks import Check, Effort, judged, unmeasured
from .mechanism import Arrays, Mechanism
from .neighbours import distance
from .noise import Response
from .rows import Rows

ALPHA = 1e-6
"""Chance that the bound on μ is wrong, both error rates together."""

_THRESHOLD = 0.5
_NAME = "canary"
_CANDIDATES = 8
_FACTORS = (1.0, 1e1, 1e2, 1e3, 1e4, 1e6)


def canary_check(
    mechanism: Mechanism,
    rows: Rows,
    found: Mapping[str, Response | None],
    effort: Effort,
    random: np.random.Generator,
) -> Iterator[Check]:
    """The lower bound on μ, and the least noise that it would have let pass."""
    sigma = mechanism.spec.sigma / (1 + mechanism.spec.slack)
    limit = math.inf if sigma == 0 else 1 / sigma
    bound = f"≤ 1/σ' = {limit:.4g}"
    seen = {name: response for name, response in found.items() if response is not None and response.std > 0}
    if not seen:
        yield unmeasured(_NAME, "no state answers linearly to the clipped sums", bound)
        return
    chosen = _canary(mechanism, rows, random)
    if chosen is None:
        yield unmeasured(_NAME, "the sums of every candidate overflow", bound)
        return
    with_it, without = chosen
    # Weights of the likelihood ratio: groups may have noise of different size.
    shift = {
        name: (with_it[name].astype(np.float64) - without[name]).reshape(-1) / response.std
        for name, response in seen.items()
    }
    length = math.sqrt(sum(float(np.dot(v, v)) for v in shift.values()))
    strength = length * mechanism.spec.sigma  # 1 for a canary at the clipping bound
    if not (math.isfinite(length) and strength > 1e-3):
        yield unmeasured(_NAME, "no row's gradient reaches the sums: give real rows by --data", bound)
        return

    def scores(sums: Arrays) -> np.ndarray[Any, np.dtype[np.float64]]:
        made = np.empty(effort.trials)
        for trial in range(effort.trials):
            written = mechanism.release(sums, fresh_key(), trial)
            # What is left of the release once the other rows are taken off: noise, and the canary or not.
            left = sum(float(np.dot(r.noise(written, without), shift[name])) for name, r in seen.items())
            made[trial] = left / (length * length)
        return made

    false_alarms = int(np.sum(~(scores(without) <= _THRESHOLD)))
    misses = int(np.sum(~(scores(with_it) > _THRESHOLD)))
    lower = mu_bound(false_alarms, misses, effort.trials)
    passes = least_noise(sigma, strength, effort.trials)
    told = f"noise below {passes:.0%} of the stated would show" if passes > 0 else "it would pass without noise"
    yield judged(
        _NAME,
        f"μ ≥ {max(lower, 0):.4g} by {effort.trials}+{effort.trials} releases, canary at {strength:.3f} C; {told}",
        bound,
        lower <= limit,
        mu=lower,
        bound=limit,
        trials=effort.trials,
        strength=strength,
        detectable=passes,
    )


def mu_bound(false_alarms: int, misses: int, trials: int) -> float:
    """Lower bound on μ of a Gaussian mechanism, wrong with probability at most `ALPHA`.

    Args:
        false_alarms: releases without the canary that were taken for ones with it, of ``trials``.
        misses: releases with it that were taken for ones without, of ``trials``.
    """
    stats: Any = importlib.import_module("scipy.stats")

    def upper(errors: int) -> float:
        return 1.0 if errors == trials else float(stats.beta.ppf(1 - ALPHA / 2, errors + 1, trials - errors))

    first = float(stats.norm.ppf(1 - upper(false_alarms)))
    second = float(stats.norm.ppf(upper(misses)))
    return first - second


def least_noise(sigma: float, strength: float, trials: int) -> float:
    """The share of the stated noise below which half of all audits would fail."""
    stats: Any = importlib.import_module("scipy.stats")

    def caught(share: float) -> bool:
        errors = round(trials * float(stats.norm.cdf(-strength / (2 * sigma * share))))
        return mu_bound(errors, errors, trials) > 1 / sigma

    low, high = 0.0, 1.0
    if not caught(1e-6):
        return 0.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if caught(middle) else (low, middle)
    return low


def _canary(mechanism: Mechanism, rows: Rows, random: np.random.Generator) -> tuple[Arrays, Arrays] | None:
    """Sums of a lot with and without the row whose clipped gradient is longest among the candidates."""
    best: tuple[float, Arrays, Arrays] | None = None
    noisy = [group for group in mechanism.groups if group.std > 0]
    for number in range(_CANDIDATES):
        feeds = rows.draw()
        row = int(random.integers(mechanism.batch))
        mask = random.random(mechanism.batch) < 0.5
        for factor in _FACTORS if rows.scalable else (1.0,):
            changed = rows.changed(feeds, row, factor)
            mask[row] = True
            with_it = mechanism.sums(changed, mask)
            mask[row] = False
            without = mechanism.sums(changed, mask)
            length = math.hypot(*(distance(with_it, without, group) / group.std for group in noisy))
            if math.isfinite(length) and (best is None or length > best[0] * 1.01):
                best = length, with_it, without
        if best is not None and number and best[0] * mechanism.spec.sigma > 0.999:
            break
    return None if best is None else best[1:]
