"""What a script states about differential privacy, as the backward record carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Phase:
    """Some steps of a private training in a row, with constants of their own: an item of ``phases`` of `Dpsgd`.

    Phases are public and fixed before the first step: which steps have which noise must not depend on results.

    Args:
        steps: How many.
        sigma: Their noise multiplier; None is the optimizer's.
        batch_size: L, their expected lot size; None is the optimizer's.
        sample_rate: q; None is batch_size / dataset_size, or the optimizer's.
    """

    steps: int
    sigma: float | None = None
    batch_size: float | None = None
    sample_rate: float | None = None


@dataclass(frozen=True)
class PrivacySpec:
    """The arguments of `Dpsgd` and `DpOptimizer`, checked one by one but not yet completed.

    Attributes:
        clip: C, the bound on the L2 norm of one example's gradient over all parameters; per-group: a bound per name,
            prefix or glob, or one per parameter.
        lot: L, the public constant by which the noisy sum is divided.
        sigma: Noise multiplier; the noise has standard deviation sigma * C. None: not given, so it follows from the
            budget, or is Paddle's documented default.
        dataset_size: Public number of examples, for q = lot / dataset_size.
        sample_rate: q itself.
        delta: Failure probability of the guarantee.
        max_steps: Number of steps the budget must last for.
        epsilon: The budget.
        sampler: How lots are drawn: poisson, balls, shuffle or sequential.
        adjacency: Which data sets count as neighbours; None is the sampler's own relation.
        clipping: flat, per-group, automatic or quantile.
        clipping_options: Options of that mode that are stated, name to number.
        mechanism: gaussian, discrete, or paddle (not private, for comparison).
        documented_defaults: Names of the arguments left at Paddle's documented defaults.
        phases: Steps with constants of their own, in their order; empty where all steps are alike.
    """

    clip: float | tuple[float, ...] | Mapping[str, float]
    lot: float
    sigma: float | None
    dataset_size: int | None = None
    sample_rate: float | None = None
    delta: float | None = None
    max_steps: int | None = None
    epsilon: float | None = None
    sampler: str = "poisson"
    adjacency: str | None = None
    clipping: str = "flat"
    clipping_options: Mapping[str, float] = field(default_factory=dict[str, float])
    mechanism: str = "gaussian"
    documented_defaults: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
