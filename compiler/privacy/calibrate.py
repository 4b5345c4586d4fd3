"""From a target ε to the noise, or to the number of steps, that keeps it.

ε falls with σ and grows with T, so both are bracketed searches: at the coarse interval, which is pessimistic
and hence safe, then, where that left a visible gap, at the reporting interval. What is returned is always the
feasible end of the bracket, and its ε at the reporting interval is checked to be within the target.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from ..errors import PrivacyError
from .accounting import REPORT_INTERVAL, SEARCH_INTERVAL, Run, epsilon
from .mechanism import Mechanism

FINITE_BIT_SHARE = 0.01
"""The largest part of δ that the finite-bit noise may cost."""

MAX_STEPS = 10_000_000
MAX_NOISE = 1e6

# A search ends when ε is within this relative distance below the target.
_NEAR_COARSE = 1e-3
_NEAR = 1e-4
_SIGMA_DIGITS = 6

Cost = Callable[[float], float]


def sigma_for(
    mechanism: Mechanism,
    steps: int,
    target: float,
    delta: float,
    slack: float,
    where: str | None = None,
    prior: Sequence[Run] = (),
) -> float:
    """Return the least σ, to about 1e-4, with ε(δ) ≤ ``target`` after ``steps`` steps, and after ``prior``.

    Args:
        mechanism: Sampler, rate and adjacency; its own noise is ignored.
        steps: T ≥ 1.
        target: ε > 0 to stay within.
        delta: δ of the promise.
        slack: The accountant's σ' is σ/(1+slack).
        where: The user's line, for errors.
        prior: Earlier runs on the same data, which the target covers too.

    Returns:
        σ, rounded up to 6 significant digits; its finite-bit cost is below δ/100.

    Raises:
        PrivacyError: No σ up to 1e6 reaches the target, or the earlier runs have used it up.
    """
    _check_prior(prior, target, delta, where)

    def cost_at(interval: float) -> Cost:
        def cost(sigma: float) -> float:
            return epsilon([*prior, (replace(mechanism, noise=sigma / (1.0 + slack)), steps)], delta, interval)

        return cache(cost)

    floor = _round_up(_finite_bit_floor(mechanism, steps, delta) * (1.0 + slack))
    guess = _central_limit_noise(mechanism, steps, target, delta) * (1.0 + slack)
    coarse, fine = cost_at(_first_interval(target)), cost_at(REPORT_INTERVAL)
    growth, least_slope = (2.0, 0.02) if prior else (1.01, 1.0)
    sigma = _least_noise(max(floor, _round_up(guess)), floor, target, coarse, _NEAR_COARSE, 1.0, growth)
    if sigma <= MAX_NOISE:
        here, above = coarse(sigma), coarse(sigma * 1.01)
        # A target near 0 may be met by an epsilon of 0, which has no slope.
        slope = max(least_slope, math.log(here / above) / math.log(1.01)) if here > 0 and above > 0 else least_slope
        sigma = _least_noise(sigma, floor, target, fine, _NEAR, slope, growth)
    if sigma > MAX_NOISE:
        after = " after the earlier runs" if prior else ""
        raise PrivacyError(
            f"epsilon={target:g} cannot be reached in max_steps={steps} at delta={delta:g}{after}",
            where=where,
            hint="ask for a larger epsilon, fewer steps, or smaller lots",
        )
    assert fine(sigma) <= target, (sigma, target)
    return sigma


def steps_for(
    mechanism: Mechanism, target: float, delta: float, where: str | None = None, prior: Sequence[Run] = ()
) -> int:
    """Return the most steps, to about 1e-4 in ε, with ε(δ) ≤ ``target`` and a finite-bit cost below δ/100.

    ``prior`` are earlier runs on the same data, which the target covers too. Samplers that go by epochs get whole
    epochs. At most 10,000,000 steps.

    Raises:
        PrivacyError: Not even one step (or epoch) stays within the target.
    """
    _check_prior(prior, target, delta, where)
    unit = 1 if mechanism.sampler == "poisson" else mechanism.steps_per_epoch
    bits = mechanism.finite_bit_delta(unit)
    most = MAX_STEPS // unit if bits == 0 else min(MAX_STEPS // unit, int(FINITE_BIT_SHARE * delta / bits))

    def cost_at(interval: float) -> Cost:
        def cost(count: float) -> float:
            return epsilon([*prior, (mechanism, int(count) * unit)], delta, interval)

        return cache(cost)

    if most < 1:
        raise finite_bit_error(mechanism, unit, delta, where)
    coarse, fine = cost_at(_first_interval(target)), cost_at(REPORT_INTERVAL)
    first = fine(1)
    if first > target:
        raise PrivacyError(
            f"one {'step' if mechanism.sampler == 'poisson' else 'epoch'} at this sigma costs "
            f"epsilon={first:.4g}{' with the earlier runs' if prior else ''}, more than epsilon={target:g}",
            where=where,
            hint="raise sigma, or leave it out and state max_steps: sigma is then calibrated",
        )
    growth = 2.0 if prior else 1.0
    count = _most_counts(1, most, target, coarse, _NEAR_COARSE, growth) if coarse(1) <= target else 1
    count = _most_counts(count, most, target, fine, _NEAR, growth)
    assert fine(count) <= target, (count, target)
    return count * unit


def check_finite_bits(mechanism: Mechanism, steps: int, delta: float, where: str | None = None) -> float:
    """Return δ_bits of ``steps`` steps; PrivacyError when it is above δ/100."""
    cost = mechanism.finite_bit_delta(steps)
    if cost > FINITE_BIT_SHARE * delta:
        raise finite_bit_error(mechanism, steps, delta, where)
    return cost


def finite_bit_error(mechanism: Mechanism, steps: int, delta: float, where: str | None) -> PrivacyError:
    """Return the error for noise so small that its finite bits show."""
    return PrivacyError(
        f"sigma is so small (accounted {mechanism.noise:.4g}) that the 64-bit noise alone costs "
        f"delta={mechanism.finite_bit_delta(steps):.2g} in {steps} steps, above 1/100 of delta={delta:g}",
        where=where,
        hint=f"use sigma of at least {_finite_bit_floor(mechanism, steps, delta) * 1.01:.3g}",
    )


def _check_prior(prior: Sequence[Run], target: float, delta: float, where: str | None) -> None:
    """Raise PrivacyError where the earlier runs leave nothing of ``target``."""
    spent = epsilon(prior, delta)
    if spent >= target:
        raise PrivacyError(
            f"the earlier runs alone cost epsilon={spent:.4g} at delta={delta:g}: nothing is left of "
            f"epsilon={target:g}",
            where=where,
            hint="state a larger epsilon, which is then that of all runs together, or stop here",
        )


def _least_noise(
    start: float, floor: float, target: float, cost: Cost, near: float, slope: float, growth: float
) -> float:
    """Return a feasible σ ≥ ``floor`` with ε near the target; one above MAX_NOISE where there is none.

    ``slope`` estimates −d log ε / d log σ, which is at least about 1 where there are no earlier runs; ``growth`` is
    the least factor of a step upwards.
    """
    feasible, infeasible = start, 0.0
    while cost(feasible) > target and feasible <= MAX_NOISE:
        infeasible = feasible
        feasible = _round_up(feasible * _within(cost(feasible) / target, growth, 2.0))
    while not infeasible and feasible > floor and cost(feasible) < target * (1.0 - near):
        step = (cost(feasible) / (target * (1.0 - near / 2))) ** (1.0 / slope)
        lower = max(floor, _round_up(feasible * _within(step, 0.5, 1.0)))
        if lower >= feasible:
            break
        if cost(lower) > target:
            infeasible = lower
        else:
            feasible = lower
    return _close_in(feasible, infeasible, target, cost, near, _round_up) if infeasible else feasible


def _most_counts(feasible: int, most: int, target: float, cost: Cost, near: float, growth: float) -> int:
    """Return a feasible count ≤ ``most`` with ε near the target, going up from a feasible one.

    ``growth`` is the least factor of a step upwards.
    """
    while feasible < most and cost(feasible) < target * (1.0 - near):
        # ε grows about like √T; the factor is kept within bounds where that law is far off.
        factor = _within((target / max(cost(feasible), 1e-9)) ** 2, growth, 8.0)
        higher = min(most, max(feasible + 1, math.ceil(feasible * factor)))
        if cost(higher) > target:
            return int(_close_in(feasible, higher, target, cost, near, math.floor))
        feasible = higher
    return feasible


def _close_in(
    feasible: float, infeasible: float, target: float, cost: Cost, near: float, snap: Callable[[float], float]
) -> float:
    """Return a feasible point whose cost is within ``near`` of the target, or next to an infeasible one.

    log ε is nearly a line in log σ and in log T, so regula falsi with the Illinois correction (halve the
    residual of an end that stays twice) needs few evaluations. ``snap`` puts a point on the grid.
    """
    value = low = _residual(cost(feasible), target)
    high = _residual(cost(infeasible), target)
    moved = ""
    while value < -near:
        share = _within((-near / 2 - low) / (high - low), 0.02, 0.98)
        middle = snap(feasible * (infeasible / feasible) ** share)
        if middle in (feasible, infeasible):
            middle = snap((feasible + infeasible) / 2)
            if middle in (feasible, infeasible):
                break
        at_middle = _residual(cost(middle), target)
        if at_middle <= 0:
            high = high / 2 if moved == "feasible" else high
            feasible, value, low, moved = middle, at_middle, at_middle, "feasible"
        else:
            low = low / 2 if moved == "infeasible" else low
            infeasible, high, moved = middle, at_middle, "infeasible"
    return feasible


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _first_interval(target: float) -> float:
    """Return the interval to search with: the coarse one over-states small ε by so much that it misleads."""
    return SEARCH_INTERVAL if target >= 1.0 else REPORT_INTERVAL


def _residual(cost: float, target: float) -> float:
    return math.log(max(cost, 1e-300) / target)


def _central_limit_noise(mechanism: Mechanism, steps: int, target: float, delta: float) -> float:
    """Return a first guess at σ': μ = q·√(T(e^(1/σ²) − 1)) of the central limit theorem.

    Source: Bu, Dong, Long, Su, "Deep Learning with Gaussian Differential Privacy", 2020. A guess only: the
    approximation may under-state ε, which is why it decides nothing.
    """
    dp: Any = importlib.import_module("dp_accounting")
    mu = 1.0 / float(dp.get_sigma_gaussian(target, delta))
    root = math.sqrt(mechanism.releases(steps))
    if mechanism.is_gaussian:
        return mechanism.sensitivity * root / mu
    return mechanism.sensitivity / math.sqrt(math.log1p((mu / (mechanism.q * root)) ** 2))


def _finite_bit_floor(mechanism: Mechanism, steps: int, delta: float) -> float:
    """Return the least σ' with a finite-bit cost of at most δ/100, by bisection to 1e-3."""
    low, high = 1e-3, 64.0
    while high > low * 1.001:
        middle = math.sqrt(low * high)
        if replace(mechanism, noise=middle).finite_bit_delta(steps) <= FINITE_BIT_SHARE * delta:
            high = middle
        else:
            low = middle
    return high


def _round_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - _SIGMA_DIGITS + 1)
    # float() of the decimal text: the shortest number that prints as those digits.
    return float(f"{math.ceil(value / unit * (1.0 - 1e-13)) * unit:.{_SIGMA_DIGITS}g}")
