"""What can be said about a table of epsilons without an accountant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from ..privacy import PrivacySpec
from .report import Check, Contradiction

_TOLERANCE = 1e-3  # of what the accountant's own discretisation may lose


def check_table(spec: PrivacySpec) -> Check:
    """Hold the table against what any correct one fulfils. Raises Contradiction.

    Epsilon rises with the count and falls with delta; it is at least that of one release (of each phase that began),
    and where nothing is subsampled, that of ``count`` Gaussian releases, whose exact delta is known (Balle and Wang,
    ICML'18, theorem 8).
    """
    if spec.accounting == "none":
        return Check("epsilon", f"none is promised: {spec.reason}")
    cells = {(entry.count, entry.delta): entry.epsilon for entry in spec.table}
    counts, deltas = sorted({c for c, _ in cells}), sorted({d for _, d in cells})
    for delta in deltas:
        for a, b in pairwise(counts):
            if cells[a, delta] > cells[b, delta]:
                raise _refusal(f"epsilon falls from {a} to {b} {spec.unit}s at delta {delta:g}")
    for count in counts:
        for a, b in pairwise(deltas):
            if cells[count, a] < cells[count, b]:
                raise _refusal(f"epsilon rises with delta, from {a:g} to {b:g}, after {count} {spec.unit}s")
    for (count, delta), epsilon in cells.items():
        if _least_delta(spec, count, epsilon) > delta * (1 + _TOLERANCE) + 1e-15:
            raise _refusal(f"epsilon {epsilon:g} at delta {delta:g} after {count} {spec.unit}s is too small to be true")
    exact = _whole(spec)
    how = "not below the closed form" if exact else "rising with steps, falling with delta, not below one step's"
    return Check("epsilon", f"{len(cells)} entries, {how}")


def _whole(spec: PrivacySpec) -> bool:
    """Whether nothing is subsampled, so that a count is that many Gaussian releases."""
    return spec.unit == "epoch" or all(phase.sample_rate == 1.0 for phase in spec.phases or (spec,))


def _least_delta(spec: PrivacySpec, count: int, epsilon: float) -> float:
    """A delta that the mechanism cannot be below at ``epsilon``: exact without subsampling, that of one step with."""
    begun = list(_begun(spec, count))
    if any(sigma == 0 for _, sigma, _ in begun):
        return 1.0
    if _whole(spec):
        sensitivity = (1 + spec.slack) * (2 if spec.adjacency == "replace-one" else 1)
        return _gaussian_delta(sensitivity * math.sqrt(sum(n / (sigma * sigma) for n, sigma, _ in begun)), epsilon)
    return max(_one_step(spec, sigma, rate, epsilon) for _, sigma, rate in begun)


def _begun(spec: PrivacySpec, count: int) -> Iterator[tuple[int, float, float]]:
    """Steps taken (of samplers that go by epochs: releases), sigma and rate of each phase that began."""
    if not spec.phases:
        rate = 1.0 if spec.sample_rate is None or spec.unit == "epoch" else spec.sample_rate
        yield count, spec.sigma, rate
    for phase in spec.phases:
        if count > 0:
            yield min(count, phase.steps), phase.sigma, 1.0 if phase.sample_rate is None else phase.sample_rate
        count -= phase.steps


def _one_step(spec: PrivacySpec, sigma: float, rate: float, epsilon: float) -> float:
    """The delta of one Poisson-subsampled step, seen from the data set with the record."""
    if rate == 1.0:
        return _gaussian_delta((1 + spec.slack) * (2 if spec.adjacency == "replace-one" else 1) / sigma, epsilon)
    # q d(log(1 + (e^epsilon - 1) / q))
    inner = epsilon - math.log(rate) if epsilon > 30 else math.log1p(math.expm1(epsilon) / rate)
    return rate * _gaussian_delta((1 + spec.slack) / sigma, inner)


def _gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta of a Gaussian release with sensitivity over noise ``mu``."""
    upper = _cdf(mu / 2 - epsilon / mu)
    lower = _cdf(-mu / 2 - epsilon / mu)
    return upper - (math.exp(epsilon) * lower if lower > 0 and epsilon < 700 else 0.0)


def _cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _refusal(what: str) -> Contradiction:
    return Contradiction("3b.v", what, "manifest.json")
