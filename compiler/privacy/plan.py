"""From the arguments of ``Dpsgd`` to the public constants of a private run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from ..errors import PrivacyError
from .accounting import Run, check_delta
from .accounting import epsilon as epsilon_of
from .cache import Cache, Key, Numbers, user_cache
from .calibrate import check_finite_bits, sigma_for, steps_for
from .mechanism import (
    INCLUSION_BITS,
    Adjacency,
    Mechanism,
    Sampler,
    inclusion_threshold,
    parse_adjacency,
    parse_sampler,
    steps_per_epoch,
)
from .phases import PhasePlan, PhaseRequest, check_bits, phased_table, runs_key
from .table import EpsilonTable, epsilon_table, mechanism_key

FLOAT32_SLACK = 2.0**-10
"""Share by which float32 sums of clipped gradients may exceed the clipping bound."""

DEFAULT_SIGMA = 1e-8  # fluid's documented default: no noise to speak of
DEFAULT_LOT = 0.999  # fluid's documented default of batch_size

WEAK_EPSILON = 20.0
"""From here on a budget is told to say little: one example may change the odds of an outcome 5e8-fold."""

_STATED_TWICE = 0.1  # tolerated relative difference of sample_rate and batch_size / dataset_size


@dataclass(frozen=True)
class Budget:
    """The accounted promise: (ε, δ) after max_steps steps of a mechanism.

    Attributes:
        mechanism: One step (in phases, of the first); its noise is σ' = σ/(1+slack).
        delta: δ of the promise.
        max_steps: T_max; the runtime refuses further steps.
        epsilon: ε(δ) after T_max steps, an upper bound at the reporting interval.
        delta_bits: Part of δ that the finite-bit noise may cost, at most δ/100.
        phases: The mechanism and the number of steps of each phase; empty where all steps are alike.
    """

    mechanism: Mechanism
    delta: float
    max_steps: int
    epsilon: float
    delta_bits: float
    phases: tuple[Run, ...] = ()

    @property
    def max_epochs(self) -> int | None:
        """How often one example may appear; None for poisson, which counts steps."""
        return None if self.mechanism.sampler == "poisson" else self.mechanism.releases(self.max_steps)

    def table(self, cache: Cache | None = None) -> EpsilonTable:
        """Return the ε table that goes into the artifact (seconds, unless cached)."""
        if self.phases:
            return phased_table(self.phases, self.delta, cache)
        return epsilon_table(self.mechanism, self.max_steps, self.delta, cache)


@dataclass(frozen=True)
class PrivacyPlan:
    """The resolved constants of a private run; all of them are public.

    Attributes:
        clip: C, the bound on every example's gradient norm.
        lot: L, the divisor of the noisy sum.
        sigma: σ; the noise on the sum has standard deviation σ·C.
        slack: Share by which float sums may exceed C; the accountant takes σ/(1+slack).
        sampler: How lots are drawn.
        adjacency: Which data sets are neighbours.
        q_num: Sampling rate times 2^32, rounded up; None when it is not stated.
        max_steps: T_max; None when steps are not limited.
        budget: The accounted promise; None when there is none.
        reason: Why there is none; empty with a budget.
        warnings: What the user should be told, one sentence each.
        joint: ε at the same δ of all steps together with those of earlier runs; None where none were given.
        phases: The constants of each phase; ``lot``, ``sigma`` and ``q_num`` are the first's. Empty where all steps
            are alike.
    """

    clip: float
    lot: float
    sigma: float
    slack: float
    sampler: Sampler
    adjacency: Adjacency
    q_num: int | None
    max_steps: int | None
    budget: Budget | None
    reason: str
    warnings: tuple[str, ...]
    joint: float | None = None
    phases: tuple[PhasePlan, ...] = ()


def resolve(
    *,
    clip: float,
    lot: float,
    sigma: float | None = None,
    dataset_size: int | None = None,
    sample_rate: float | None = None,
    delta: float | None = None,
    max_steps: int | None = None,
    epsilon: float | None = None,
    sampler: str = "poisson",
    adjacency: str | None = None,
    slack: float = FLOAT32_SLACK,
    where: str | None = None,
    cache: Cache | None = None,
    prior: Sequence[Run] = (),
    phases: Sequence[PhaseRequest] = (),
) -> PrivacyPlan:
    """Return the plan for ``Dpsgd``'s arguments; fluid's ``batch_size`` is ``lot``.

    With q (``sample_rate``, or lot/dataset_size) and ``delta``, two of ``sigma``, ``max_steps``, ``epsilon`` give
    the third; all three are checked against each other. Without q, δ or T there is no accounting, and the plan
    says why; asking for an ``epsilon`` that can then not be kept is an error.

    Args:
        clip: C > 0.
        lot: L > 0; a whole number for ``shuffle`` and ``sequential``.
        sigma: σ ≥ 0, or None when it was left out.
        dataset_size: Public number of examples, ≥ 1.
        sample_rate: q in (0, 1].
        delta: δ in [1e-12, 1).
        max_steps: T_max ≥ 1.
        epsilon: ε > 0.
        sampler: poisson, balls, shuffle or sequential.
        adjacency: add-remove, replace-one, zero-out; None is the sampler's own.
        slack: ≥ 0; 0 for the integer mechanism.
        where: The user's line, for errors.
        cache: Where answers are kept; None is the user's cache directory.
        prior: Earlier runs on the same data. ``epsilon`` is then that of all runs together; the budget of the plan
            stays that of this run alone.
        phases: Steps with constants of their own, in the order they are taken; ``max_steps`` is their number.

    Raises:
        PrivacyError: An argument out of range, an invalid pair of sampler and adjacency, a promise that the
            arguments do not keep, or noise so small that its finite bits show.
    """
    _check_number("clip", clip, where)
    _check_number("batch_size", lot, where)
    _check_number("sigma", sigma, where, zero=True)
    _check_number("epsilon", epsilon, where)
    _check_number("slack", slack, where, zero=True)
    max_steps = _whole("max_steps", max_steps, where)
    dataset_size = _whole("dataset_size", dataset_size, where)
    drawn = parse_sampler(sampler, where)
    relation = parse_adjacency(adjacency, drawn, where)
    if drawn in ("shuffle", "sequential") and lot != int(lot):
        raise PrivacyError(
            f"sampler={sampler!r} cuts slices of batch_size={lot:g} examples, which is not a whole number",
            where=where,
            hint="state a whole batch_size, or use sampler='poisson'",
        )
    if phases:
        planned = _planned(phases, lot, sigma, dataset_size, sample_rate, max_steps, epsilon, drawn, where)
        lot, sigma, max_steps = planned[0].lot, planned[0].sigma, sum(phase.steps for phase in planned)
        rate = None if planned[0].q_num is None else planned[0].q_num / 2**INCLUSION_BITS
    else:
        planned, rate = (), _rate(lot, dataset_size, sample_rate, where)
    if delta is not None:
        check_delta(delta, where)

    plan = PrivacyPlan(
        clip=clip,
        lot=lot,
        sigma=DEFAULT_SIGMA if sigma is None else sigma,
        slack=slack,
        sampler=drawn,
        adjacency=relation,
        q_num=None if rate is None else inclusion_threshold(rate),
        max_steps=max_steps,
        budget=None,
        reason="",
        warnings=_warnings(lot, delta, dataset_size),
        phases=planned,
    )
    missing = [
        name
        for name, given in (
            ("dataset_size", rate is not None),
            ("delta", delta is not None),
            ("max_steps", max_steps is not None or (sigma is not None and epsilon is not None)),
        )
        if not given
    ]
    if plan.q_num is None or rate is None or delta is None or missing:
        return _unaccounted(plan, missing, sigma, epsilon, where)
    if sigma is None and epsilon is None:
        raise PrivacyError(
            "neither sigma nor epsilon is stated: there is nothing to account for",
            where=where,
            hint="state epsilon, and sigma is calibrated to it; or state sigma",
        )

    per_epoch = 1 if drawn == "poisson" else steps_per_epoch(rate)
    noise = 1.0 if sigma is None else sigma / (1.0 + slack)
    if noise == 0.0 or any(phase.sigma == 0.0 for phase in planned):
        raise PrivacyError(
            "sigma=0 adds no noise: no epsilon can be promised",
            where=where,
            hint="leave sigma out and state epsilon: sigma is then calibrated",
        )
    mechanism = Mechanism(drawn, relation, plan.q_num, noise, per_epoch)
    if planned:
        plan = _accounted(plan, mechanism, delta, where, cache, tuple(prior))
    else:
        plan = _solve(plan, mechanism, sigma, max_steps, epsilon, delta, where, cache, tuple(prior))
    budget = plan.budget
    assert budget is not None
    if budget.epsilon > WEAK_EPSILON:
        plan = replace(plan, warnings=(*plan.warnings, _weak(budget)))
    cost = budget.epsilon if plan.joint is None else plan.joint
    if epsilon is not None and cost > epsilon:
        together = "" if plan.joint is None else " with the earlier runs"
        spread = "these phases cost" if planned else f"sigma={plan.sigma:g} over max_steps={max_steps} costs"
        raise PrivacyError(
            f"{spread} epsilon={cost:.4g}{together} at delta={delta:g}, more than epsilon={epsilon:g}",
            where=where,
            hint="raise the sigmas, or take fewer steps"
            if planned
            else "leave one of the three out: it is then computed from the other two",
        )
    return plan


def _solve(
    plan: PrivacyPlan,
    mechanism: Mechanism,
    sigma: float | None,
    max_steps: int | None,
    target: float | None,
    delta: float,
    where: str | None,
    cache: Cache | None,
    prior: tuple[Run, ...],
) -> PrivacyPlan:
    """Return ``plan`` with σ, T, the budget and the joint cost filled in."""

    def compute() -> Numbers:
        solved, steps = sigma, max_steps
        if solved is None:
            assert steps is not None
            assert target is not None
            solved = sigma_for(mechanism, steps, target, delta, plan.slack, where, prior)
        step = replace(mechanism, noise=solved / (1.0 + plan.slack))
        if steps is None:
            assert target is not None
            steps = steps_for(step, target, delta, where, prior)
        # Without slack noise is integer, and drawn with as many bits as it takes.
        bits = check_finite_bits(step, steps, delta, where) if plan.slack else 0.0
        joint = [epsilon_of([*prior, (step, steps)], delta)] if prior else []
        return [[solved, steps, epsilon_of([(step, steps)], delta), bits, *joint]]

    given = None if sigma is not None and max_steps is not None else target
    before = [part for run, count in prior for part in (*mechanism_key(run), run.noise, count)]
    key: Key = ("plan", *mechanism_key(mechanism), plan.slack, sigma, max_steps, given, delta, *before)
    store = user_cache() if cache is None else cache
    [[solved, steps, bound, bits, *joint]] = store.get(key, compute)
    step = replace(mechanism, noise=solved / (1.0 + plan.slack))
    budget = Budget(step, delta, int(steps), bound, bits)
    return replace(plan, sigma=solved, max_steps=int(steps), budget=budget, joint=joint[0] if joint else None)


def _planned(
    phases: Sequence[PhaseRequest],
    lot: float,
    sigma: float | None,
    dataset_size: int | None,
    sample_rate: float | None,
    max_steps: int | None,
    target: float | None,
    sampler: Sampler,
    where: str | None,
) -> tuple[PhasePlan, ...]:
    """The constants of every phase, what is left out taken from those of the run."""

    def refuse(what: str, hint: str) -> NoReturn:
        raise PrivacyError(what, where=where, hint=hint)

    if sampler != "poisson":
        refuse(f"phases do not go with sampler={sampler!r}", "leave sampler out: phases need poisson")
    found: list[PhasePlan] = []
    for number, phase in enumerate(phases, 1):
        _check_number("batch_size", phase.lot, where)
        _check_number("sigma", phase.sigma, where, zero=True)
        steps = _whole("steps", phase.steps, where)
        assert steps is not None
        own = sigma if phase.sigma is None else phase.sigma
        if own is None:
            hint = "state sigma for every phase, or for the optimizer"
            if target is not None:
                hint += ": it is not calibrated to epsilon where there are phases"
            refuse(f"phase {number} has no sigma", hint)
        if phase.lot is not None and phase.sample_rate is None and dataset_size is None and sample_rate is not None:
            refuse(
                f"phase {number} states batch_size, and the sample_rate of the run is that of another one",
                "state sample_rate in the phase too, or dataset_size in place of sample_rate",
            )
        # The rate of the run is that of its own lot size.
        stated = sample_rate if phase.sample_rate is None and phase.lot is None else phase.sample_rate
        rate = _rate(lot if phase.lot is None else phase.lot, dataset_size, stated, where)
        q_num = None if rate is None else inclusion_threshold(rate)
        found.append(PhasePlan(steps, own, lot if phase.lot is None else phase.lot, q_num))
    if len({phase.q_num is None for phase in found}) > 1:
        refuse("some phases state a sample_rate and some have none", "state dataset_size, or a rate for all")
    total = sum(phase.steps for phase in found)
    if max_steps not in (None, total):
        refuse(f"max_steps={max_steps}, but the phases take {total} steps", "leave max_steps out")
    return tuple(found)


def _accounted(
    plan: PrivacyPlan,
    mechanism: Mechanism,
    delta: float,
    where: str | None,
    cache: Cache | None,
    prior: tuple[Run, ...],
) -> PrivacyPlan:
    """``plan`` of several phases with the budget and the joint cost filled in."""
    runs: list[Run] = []
    for phase in plan.phases:
        assert phase.q_num is not None
        runs.append((replace(mechanism, q_num=phase.q_num, noise=phase.sigma / (1.0 + plan.slack)), phase.steps))

    def compute() -> Numbers:
        bits = check_bits(runs, delta, where)
        joint = [epsilon_of([*prior, *runs], delta)] if prior else []
        return [[epsilon_of(runs, delta), bits, *joint]]

    store = user_cache() if cache is None else cache
    key: Key = ("phases of a plan", *runs_key(runs), delta, "after", *runs_key(prior))
    [[bound, bits, *joint]] = store.get(key, compute)
    budget = Budget(runs[0][0], delta, sum(steps for _, steps in runs), bound, bits, tuple(runs))
    return replace(plan, budget=budget, joint=joint[0] if joint else None)


def _unaccounted(
    plan: PrivacyPlan, missing: list[str], sigma: float | None, epsilon: float | None, where: str | None
) -> PrivacyPlan:
    names = " and ".join(filter(None, (", ".join(missing[:-1]), missing[-1])))
    if epsilon is not None:
        raise PrivacyError(
            f"epsilon={epsilon:g} was asked for, but {names} {'is' if len(missing) == 1 else 'are'} not stated",
            where=where,
            hint="state dataset_size (or sample_rate), delta, and sigma or max_steps",
        )
    warnings = plan.warnings
    if sigma is None:
        warnings = (
            *warnings,
            f"sigma was left out and nothing says what to calibrate it to: the default sigma={DEFAULT_SIGMA:g} "
            "adds practically no noise, and this run is not private.",
        )
    return replace(plan, reason=f"unknown: {names} not stated", warnings=warnings)


def _weak(budget: Budget) -> str:
    return (
        f"epsilon={budget.epsilon:.4g} says little: one example may change the odds of what is published by a factor "
        f"of e^{budget.epsilon:.0f}. More noise (sigma), fewer steps or a smaller sample_rate lower it."
    )


def _warnings(lot: float, delta: float | None, dataset_size: int | None) -> tuple[str, ...]:
    found: list[str] = []
    if lot == DEFAULT_LOT:
        found.append(
            f"batch_size={DEFAULT_LOT} is fluid's documented default and divides the noisy gradient by less than "
            "one example: state the lot size that is meant."
        )
    if delta is not None and dataset_size is not None and delta >= 1.0 / dataset_size:
        found.append(
            f"delta={delta:g} is not below 1/dataset_size={1 / dataset_size:.3g}: publishing one random example "
            "in full would satisfy it."
        )
    return tuple(found)


def _rate(lot: float, dataset_size: int | None, sample_rate: float | None, where: str | None) -> float | None:
    """Return q: ``sample_rate`` if stated, else lot/dataset_size."""
    if sample_rate is not None and not 0 < sample_rate <= 1:
        raise PrivacyError(
            f"sample_rate={sample_rate!r} is not in (0, 1]",
            where=where,
            hint="it is the probability of one example to be in a lot",
        )
    if dataset_size is None:
        return sample_rate
    if lot > dataset_size:
        raise PrivacyError(
            f"batch_size={lot:g} is larger than dataset_size={dataset_size}",
            where=where,
            hint="dataset_size is the public number of training examples",
        )
    if sample_rate is None:
        return lot / dataset_size
    if abs(sample_rate * dataset_size - lot) > _STATED_TWICE * lot:
        raise PrivacyError(
            f"sample_rate={sample_rate:g} of dataset_size={dataset_size} makes lots of about "
            f"{sample_rate * dataset_size:.4g} examples, but batch_size={lot:g}",
            where=where,
            hint="state one of sample_rate and dataset_size, or make them agree",
        )
    return sample_rate


def _check_number(name: str, value: float | None, where: str | None, *, zero: bool = False) -> None:
    if value is None or (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        return
    raise PrivacyError(
        f"{name}={value!r} is not a {'number of at least 0' if zero else 'positive number'}",
        where=where,
        hint=f"state {name} as a finite number {'≥' if zero else '>'} 0",
    )


def _whole(name: str, value: float | None, where: str | None) -> int | None:
    if value is None:
        return None
    if not (math.isfinite(value) and value >= 1 and value == int(value)):
        raise PrivacyError(
            f"{name}={value!r} is not a whole number of at least 1",
            where=where,
            hint=f"state {name} as a public integer, not computed from the data",
        )
    return int(value)
