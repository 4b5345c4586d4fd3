"""What one private step is to the accountant: which sampler, which neighbours, how much noise.

An accountant that is given the wrong pair of sampler and adjacency prints a number that means nothing, so every
:class:`Mechanism` is checked against the table of valid pairs.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, get_args

from ...runtime.limits import ADJACENCIES, Adjacency
from ...runtime.limits import SamplerKind as Sampler
from ..errors import PrivacyError

SAMPLERS: tuple[Sampler, ...] = tuple(ADJACENCIES)
RELATIONS: tuple[Adjacency, ...] = get_args(Adjacency)

ADJACENCY_TEXT: dict[Adjacency, str] = {
    "add-remove": "add/remove: neighbouring data sets differ by one example more or less",
    "replace-one": "replace-one: neighbouring data sets have the same size and differ in one example",
    "zero-out": "zero-out: in the neighbouring data set one example is replaced by one with zero gradient; "
    "the number of examples is public",
}

# Poisson inclusion compares a 32-bit word of the keystream with q_num.
INCLUSION_BITS = 32

# The smallest uniform of the 64-bit radius is 2^-65, so no pair of normals leaves the disc of radius
# sqrt(130 ln 2) = 9.4926. Its square is rounded down, which over-states the cost.
_MAX_RADIUS_SQUARED = 90.109


def default_adjacency(sampler: Sampler) -> Adjacency:
    """Return the adjacency that ``sampler`` is accounted under when the user states none."""
    return ADJACENCIES[sampler][0]


def parse_sampler(text: str, where: str | None = None) -> Sampler:
    """Return ``text`` as a :data:`Sampler`; PrivacyError naming the four when it is none of them."""
    for sampler in SAMPLERS:
        if text == sampler:
            return sampler
    raise PrivacyError(f"sampler={text!r} does not exist", where=where, hint=f"use one of: {', '.join(SAMPLERS)}")


def parse_adjacency(text: str | None, sampler: Sampler, where: str | None = None) -> Adjacency:
    """Return the adjacency named by ``text``, or the sampler's own for None.

    Raises:
        PrivacyError: Unknown name, or a pair that no theorem covers.
    """
    if text is None:
        return default_adjacency(sampler)
    for adjacency in RELATIONS:
        if text == adjacency:
            check_pair(sampler, adjacency, where)
            return adjacency
    raise PrivacyError(f"adjacency={text!r} does not exist", where=where, hint=f"use one of: {', '.join(RELATIONS)}")


def check_pair(sampler: Sampler, adjacency: Adjacency, where: str | None = None) -> None:
    """Raise PrivacyError unless ``sampler`` is private under ``adjacency``."""
    valid = ADJACENCIES[sampler]
    if adjacency in valid:
        return
    takers = [s for s in SAMPLERS if adjacency in ADJACENCIES[s]]
    raise PrivacyError(
        f"sampler={sampler!r} cannot be accounted under adjacency={adjacency!r}",
        where=where,
        hint=f"{sampler} goes with {' or '.join(valid)}; {adjacency} goes with {' or '.join(takers)}",
    )


def inclusion_threshold(sample_rate: float) -> int:
    """Return q_num = ceil(q·2^32): an example is in a Poisson lot iff its 32-bit word is below it.

    The accounted rate is q_num/2^32, so rounding up never under-states the cost.

    >>> inclusion_threshold(0.5) == 2**31, inclusion_threshold(1.0) == 2**32
    (True, True)
    """
    return math.ceil(math.ldexp(sample_rate, INCLUSION_BITS))


def steps_per_epoch(sample_rate: float) -> int:
    """Return the whole lots of an epoch: rounded down, so that no epoch is counted too late.

    >>> steps_per_epoch(0.1), steps_per_epoch(1 / 3), steps_per_epoch(64 / 1437), steps_per_epoch(1.0)
    (10, 3, 22, 1)
    """
    return int(1 / Fraction(sample_rate).limit_denominator(1 << INCLUSION_BITS))


@dataclass(frozen=True)
class Mechanism:
    """One step of a subsampled Gaussian mechanism of sensitivity 1.

    Attributes:
        sampler: How lots are drawn.
        adjacency: Which data sets are neighbours.
        q_num: Inclusion threshold, 1…2^32; the sampling rate is ``q_num / 2^32``.
        noise: Accounted noise multiplier σ' = σ/(1+slack), standard deviation over clipping bound.
        steps_per_epoch: Steps in which every example appears at most once. The sampler must cut its epochs
            there. Irrelevant to ``poisson``, whose lots are independent.
    """

    sampler: Sampler
    adjacency: Adjacency
    q_num: int
    noise: float
    steps_per_epoch: int = 1

    def __post_init__(self) -> None:
        check_pair(self.sampler, self.adjacency)
        if not 1 <= self.q_num <= 1 << INCLUSION_BITS:
            raise ValueError(f"q_num={self.q_num} outside 1…2^{INCLUSION_BITS}")
        if not (math.isfinite(self.noise) and self.noise > 0):
            raise ValueError(f"noise={self.noise} is not a positive number")
        if self.steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch={self.steps_per_epoch} is below 1")

    @property
    def q(self) -> float:
        """The accounted sampling rate, q_num/2^32, exact in float64."""
        return math.ldexp(self.q_num, -INCLUSION_BITS)

    @property
    def is_gaussian(self) -> bool:
        """Whether every release is a plain Gaussian: no amplification by sampling, closed form for ε."""
        return self.sampler != "poisson" or self.q_num == 1 << INCLUSION_BITS

    @property
    def sensitivity(self) -> float:
        """L2 change of a clipped sum between neighbours, in units of the clipping bound."""
        return 2.0 if self.adjacency == "replace-one" else 1.0

    def releases(self, steps: int) -> int:
        """Return how many mechanisms ``steps`` steps compose: steps for poisson, begun epochs otherwise."""
        return steps if self.sampler == "poisson" else -(-steps // self.steps_per_epoch)

    def finite_bit_delta(self, steps: int) -> float:
        """Return the δ lost because the noise is made from finitely many bits.

        In real arithmetic the truncated pair differs from a Gaussian one only where the shifted pair leaves
        the disc of radius 9.4926; δ_bits ≤ T·Q₁(Δ/σ', 9.4926) with Marcum's Q₁ and Δ the sensitivity.
        """
        stats: Any = importlib.import_module("scipy.stats")  # untyped, and slow to import
        return steps * float(stats.ncx2.sf(_MAX_RADIUS_SQUARED, 2, (self.sensitivity / self.noise) ** 2))
