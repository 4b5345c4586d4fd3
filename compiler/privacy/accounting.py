"""ε of composed mechanisms, by dp-accounting.

Privacy loss distributions (PLD, Koskela et al., AISTATS'20; Doroshenko et al., PoPETs'22) give the reported
value; they are pessimistic at every discretisation, so a coarse interval serves for searching. Runs without
amplification are one Gaussian mechanism, whose ε has a closed form (Balle & Wang, ICML'18). Rényi accounting
(Mironov, CSF'17) is an independent and looser cross-check.

dp_accounting and scipy take seconds to import and are loaded on first use.
"""

from __future__ import annotations

import importlib
import logging
import math
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

from ..errors import PrivacyError
from .mechanism import ADJACENCY_TEXT, Adjacency, Mechanism

SEARCH_INTERVAL = 1e-3  # discretisation of the privacy loss while searching
REPORT_INTERVAL = 1e-4  # and for every number that is reported or promised
MIN_DELTA = 1e-12  # below, rounding in the FFT of a PLD is no longer negligible

# The root finder of the closed form stops within 1e-12 on either side; this keeps the result an upper bound.
_CLOSED_FORM_GUARD = 1e-9

Run = tuple[Mechanism, int]
"""A mechanism and the number of its steps."""


class _Pld(Protocol):
    """The part of dp_accounting's PrivacyLossDistribution that is used here."""

    def compose(self, pld: _Pld) -> _Pld: ...
    def self_compose(self, num_times: int) -> _Pld: ...
    def get_epsilon_for_delta(self, delta: float) -> float: ...


def epsilon(runs: Sequence[Run], delta: float, interval: float = REPORT_INTERVAL) -> float:
    """Return an upper bound of ε(δ) of all ``runs`` together.

    Args:
        runs: Mechanisms with their step counts, all of one adjacency.
        delta: Target δ, at least 1e-12.
        interval: Discretisation of the privacy loss; smaller is tighter and slower.

    Raises:
        PrivacyError: δ out of range, or runs of different adjacencies (see :func:`compose`).
    """
    check_delta(delta)
    _check_one_adjacency(runs)
    runs = [run for run in runs if run[1] > 0]
    if not runs:
        return 0.0
    if all(mechanism.is_gaussian for mechanism, _ in runs):
        return _gaussian_epsilon(_joint_sigma(runs), delta)
    total: _Pld | None = None
    for mechanism, steps in runs:
        part = composed_pld(mechanism, steps, interval)
        total = part if total is None else total.compose(part)
    assert total is not None
    return float(total.get_epsilon_for_delta(delta))


def compose(runs: Sequence[Run], delta: float, adjacency: Adjacency | None = None) -> float:
    """Return the joint ε(δ) of several runs on the same data.

    Args:
        runs: Mechanisms with the steps that each really counted.
        delta: The joint δ.
        adjacency: Account every run under this relation; None keeps the one they share.

    Raises:
        PrivacyError: The runs share no adjacency, or a sampler is not valid under the one asked for.
    """
    if adjacency is not None:
        runs = [(replace(mechanism, adjacency=adjacency), steps) for mechanism, steps in runs]
    return epsilon(runs, delta)


def rdp_epsilon(runs: Sequence[Run], delta: float) -> float | None:
    """Return ε(δ) by Rényi accounting, or None where it does not apply (Poisson under replace-one)."""
    check_delta(delta)
    _check_one_adjacency(runs)
    if any(not m.is_gaussian and m.adjacency == "replace-one" for m, _ in runs):
        return None
    with _quiet_absl():
        dp = _dp_accounting()
        # The Rényi accountant takes a Gaussian event relative to the sensitivity, whatever the relation says:
        # the factor 2 of replace-one is ours to apply.
        accountant = dp.rdp.RdpAccountant(neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
        for mechanism, steps in runs:
            event = dp.GaussianDpEvent(mechanism.noise / mechanism.sensitivity)
            if not mechanism.is_gaussian:
                event = dp.PoissonSampledDpEvent(mechanism.q, event)
            accountant.compose(dp.SelfComposedDpEvent(event, mechanism.releases(steps)))
        return float(accountant.get_epsilon(delta))


def check_delta(delta: float, where: str | None = None) -> None:
    """Raise PrivacyError unless 1e-12 ≤ ``delta`` < 1."""
    if not MIN_DELTA <= delta < 1:
        raise PrivacyError(
            f"delta={delta!r} is outside the range that can be accounted",
            where=where,
            hint=f"choose delta below 1/dataset_size, at least {MIN_DELTA:g}",
        )


@lru_cache(maxsize=4)
def step_pld(mechanism: Mechanism, interval: float) -> _Pld:
    """Return the PLD of one Poisson step; kept for the few mechanisms last used, as it is the costly part."""
    with _quiet_absl():
        dp = _dp_accounting()
        relation = {
            "add-remove": dp.NeighboringRelation.ADD_OR_REMOVE_ONE,
            "replace-one": dp.NeighboringRelation.REPLACE_ONE,
            "zero-out": dp.NeighboringRelation.REPLACE_SPECIAL,
        }[mechanism.adjacency]
        return dp.pld.privacy_loss_distribution.from_gaussian_mechanism(
            standard_deviation=mechanism.noise,
            value_discretization_interval=interval,
            sampling_prob=mechanism.q if mechanism.sampler == "poisson" else 1.0,
            neighboring_relation=relation,
        )


@lru_cache(maxsize=8)
def composed_pld(mechanism: Mechanism, steps: int, interval: float) -> _Pld:
    """Return the PLD of ``steps`` ≥ 1 steps."""
    if mechanism.is_gaussian:
        noise = mechanism.noise / math.sqrt(mechanism.releases(steps))
        return step_pld(replace(mechanism, noise=noise), interval)
    return step_pld(mechanism, interval).self_compose(steps)


def _joint_sigma(runs: Sequence[Run]) -> float:
    """Composed Gaussians are one Gaussian: 1/σ² adds up."""
    precision = sum(m.releases(steps) * (m.sensitivity / m.noise) ** 2 for m, steps in runs)
    return 1.0 / math.sqrt(precision)


def _gaussian_epsilon(sigma: float, delta: float) -> float:
    return float(_dp_accounting().get_epsilon_gaussian(sigma, delta)) * (1.0 + _CLOSED_FORM_GUARD)


def _dp_accounting() -> Any:
    """Import dp_accounting: untyped, and slow, so not at the top."""
    return importlib.import_module("dp_accounting")


def _check_one_adjacency(runs: Sequence[Run]) -> None:
    used = sorted({mechanism.adjacency for mechanism, _ in runs})
    if len(used) > 1:
        raise PrivacyError(
            "these runs are private under different adjacencies: " + ", ".join(used),
            hint="compose them under one that fits all of them; poisson, shuffle and sequential runs share "
            f"replace-one ({ADJACENCY_TEXT['replace-one'].split(': ')[1]})",
        )


@contextmanager
def _quiet_absl() -> Generator[None]:
    """Drop absl's warnings about Rényi orders that do not converge, on this thread and only here."""
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno > logging.WARNING

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
