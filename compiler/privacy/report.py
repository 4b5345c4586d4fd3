"""What ``fluidc privacy epsilon`` prints: ε, its cross-check, and what they are statements about."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PrivacyError
from .accounting import REPORT_INTERVAL, check_delta, epsilon, rdp_epsilon
from .calibrate import check_finite_bits
from .mechanism import (
    ADJACENCY_TEXT,
    Mechanism,
    inclusion_threshold,
    parse_adjacency,
    parse_sampler,
    steps_per_epoch,
)

_CROSS_CHECK = 1e-3  # RDP is an upper bound as PLD is, so it can be lower only by PLD's discretisation


@dataclass(frozen=True)
class EpsilonReport:
    """ε of ``steps`` steps at ``delta``.

    Attributes:
        mechanism: One step; its noise is σ' = σ/(1+slack).
        steps: T.
        delta: δ.
        epsilon: By privacy loss distributions, or in closed form where there is no amplification.
        rdp: By Rényi accounting; None where it does not apply.
        delta_bits: Part of δ that the finite-bit noise may cost.
    """

    mechanism: Mechanism
    steps: int
    delta: float
    epsilon: float
    rdp: float | None
    delta_bits: float

    def __str__(self) -> str:
        step = self.mechanism
        method = "closed form" if step.is_gaussian else f"PLD, interval {REPORT_INTERVAL:g}"
        if step.sampler == "poisson":
            what = f"{self.steps} steps, each example in a lot with probability {step.q:.6g}"
        else:
            what = f"{self.steps} steps in {step.releases(self.steps)} epochs, no amplification"
        return "\n".join(
            (
                f"epsilon      {self.epsilon:.5f} at delta {self.delta:g} ({method})",
                "cross-check  none: Rényi accounting does not cover this case"
                if self.rdp is None
                else f"cross-check  {self.rdp:.5f} (Rényi accounting, an upper bound too)",
                f"adjacency    {ADJACENCY_TEXT[step.adjacency]}",
                f"sampler      {step.sampler}: {what}",
                f"noise        accounted multiplier {step.noise:.6g}; finite bits cost {self.delta_bits:.1g} of delta",
            )
        )


def epsilon_report(
    *,
    sample_rate: float,
    sigma: float,
    steps: int,
    delta: float,
    slack: float = 0.0,
    sampler: str = "poisson",
    adjacency: str | None = None,
) -> EpsilonReport:
    """Return ε with its cross-check.

    Raises:
        PrivacyError: An argument out of range, an invalid pair of sampler and adjacency, noise so small that its
            finite bits show, or two accountants that contradict each other.
    """
    drawn = parse_sampler(sampler)
    relation = parse_adjacency(adjacency, drawn)
    check_delta(delta)
    if not 0 < sample_rate <= 1:
        raise PrivacyError(f"the sample rate {sample_rate!r} is not in (0, 1]", hint="state a probability")
    if not (0 < sigma < float("inf")) or steps < 1 or not 0 <= slack < float("inf"):
        raise PrivacyError(
            f"no epsilon for sigma {sigma!r}, {steps!r} steps and slack {slack!r}",
            hint="sigma must be positive, steps at least 1, slack at least 0",
        )
    per_epoch = 1 if drawn == "poisson" else steps_per_epoch(sample_rate)
    mechanism = Mechanism(drawn, relation, inclusion_threshold(sample_rate), sigma / (1.0 + slack), per_epoch)
    bits = check_finite_bits(mechanism, steps, delta)
    bound = epsilon([(mechanism, steps)], delta)
    rdp = rdp_epsilon([(mechanism, steps)], delta)
    if rdp is not None and rdp < bound - _CROSS_CHECK:
        raise PrivacyError(
            f"the accountants contradict each other: {bound:.6g} by privacy loss distributions, {rdp:.6g} by RDP",
            hint="do not rely on either; please report these parameters",
        )
    return EpsilonReport(mechanism, steps, delta, bound, rdp, bits)
