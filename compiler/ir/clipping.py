"""Clip groups, and the noise that each clipping mode asks for (privacy documentation: clipping).

flat        one group, c = min(1, C/n)
per-group   K groups with bounds C_k, each with noise sigma C_k sqrt(K): sum_k (C_k / s_k)^2 = 1 / sigma^2
automatic   one group, c = C / (n + gamma): its rows are shorter than C as well
quantile    one group, whose bound C_t follows a quantile of the norms.  The count of the norms below C_t is
            released with noise of its own, so the gradient takes a little more noise than sigma:
            sigma_g = (sigma^-2 - (2 sigma_b)^-2)^(-1/2)   (Andrew et al., NeurIPS'21, Theorem 1)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import PrivacyError
from .core import PrivacyConfig

COUNT_BOUND = 0.5
"""How much one example changes the count of quantile clipping."""


@dataclass(frozen=True)
class ClipGroup:
    """Parameters whose gradients are clipped by one norm, and the bound on it."""

    clip: float
    params: tuple[str, ...]


def clip_groups(config: PrivacyConfig, trainable: Iterable[str]) -> tuple[ClipGroup, ...]:
    """The clip groups over the trainable parameters.

    Raises:
        PrivacyError: The constants contradict each other, or a parameter is in no group, or in several.
    """
    names = tuple(sorted(trainable))
    _check(config)
    if config.clipping != "per-group":
        return (ClipGroup(config.clip, names),)
    if config.clip != joint_clip(config.clips):
        raise _refusal(f"clip={config.clip:g}, but the bounds of the groups make {joint_clip(config.clips):g}")
    groups = tuple(ClipGroup(c, tuple(map(str, g))) for c, g in zip(config.clips, config.groups, strict=True))
    placed = [name for group in groups for name in group.params]
    for name in placed:
        if placed.count(name) > 1:
            raise PrivacyError(f"parameter {name!r} is in {placed.count(name)} clip groups", hint=_ONE_GROUP)
        if name not in names:
            raise PrivacyError(f"clip group member {name!r} is not a trainable parameter", hint=_ONE_GROUP)
    for name in names:
        if name not in placed:
            raise PrivacyError(f"parameter {name!r} is in no clip group", hint=_ONE_GROUP)
    return groups


def joint_clip(bounds: Iterable[float]) -> float:
    """The bound on one example's gradient over all groups: sqrt(sum C_k^2).

    >>> joint_clip([3.0, 4.0])
    5.0
    """
    return math.hypot(*bounds)


def gradient_sigma(config: PrivacyConfig) -> float:
    """Noise multiplier of the gradient; with the count's noise it costs what ``config.sigma`` alone would.

    >>> from fluidc.compiler.ir.core import PrivacyConfig
    >>> round(gradient_sigma(PrivacyConfig(1.0, 256.0, 1.0, clipping="quantile", sigma_b=12.8)), 7)
    1.0007638
    """
    if config.clipping != "quantile":
        return config.sigma
    return quantile_sigma(config.sigma, config.sigma_b)


def quantile_sigma(sigma: float, sigma_b: float) -> float:
    """sigma_g of quantile clipping.  Raises PrivacyError unless ``sigma_b > sigma / 2``; sigma 0 stays 0."""
    if not sigma_b > sigma / 2:
        raise PrivacyError(
            f"sigma_b={sigma_b:g} of quantile clipping is not above sigma/2 = {sigma / 2:g}: the noisy count alone "
            f"would cost more than sigma={sigma:g} promises",
            hint="state a larger sigma_b in clipping_options, such as sigma; its default is batch_size/20",
        )
    # 1 / sqrt(sigma^-2 - (2 sigma_b)^-2), also for sigma = 0
    return sigma / math.sqrt(1.0 - (sigma / (2.0 * sigma_b)) ** 2)


_ONE_GROUP = "every trainable parameter must be in exactly one clip group"


def _check(config: PrivacyConfig) -> None:
    """Refuse constants that do not go together."""
    mode = config.clipping
    grouped, automatic, quantile = mode == "per-group", mode == "automatic", mode == "quantile"
    if mode not in ("flat", "per-group", "automatic", "quantile"):
        raise _refusal(f"unknown clipping {mode!r}")
    if grouped != bool(config.groups) or len(config.groups) != len(config.clips):
        raise _refusal(f"clipping {mode!r} with {len(config.groups)} groups and {len(config.clips)} bounds")
    if not all(c > 0 and math.isfinite(c) for c in (config.clip, *config.clips)):
        raise _refusal("a clip bound is not positive and finite")
    _check_phases(config)
    if automatic != (config.gamma != 0) or not (config.gamma >= 0 and math.isfinite(config.gamma)):
        raise _refusal(f"clipping {mode!r} with gamma={config.gamma:g}")
    if quantile != bool(config.bound):
        raise _refusal(f"clipping {mode!r} with the bound's state {config.bound!r}")
    if quantile:
        if not 0 < config.c_min <= config.clip <= config.c_max < math.inf:
            raise _refusal(f"c_min={config.c_min:g}, clip={config.clip:g}, c_max={config.c_max:g} are not ordered")
        if not (0 < config.quantile < 1 and 0 < config.eta < math.inf and 0 < config.sigma_b < math.inf):
            raise _refusal(f"quantile={config.quantile:g}, eta={config.eta:g}, sigma_b={config.sigma_b:g}")
        gradient_sigma(config)


def _check_phases(config: PrivacyConfig) -> None:
    if not config.phases:
        return
    if config.mechanism != "gaussian" or config.clipping == "quantile":
        raise _refusal(f"phases with mechanism {config.mechanism!r}, clipping {config.clipping!r}")
    for steps, sigma, lot in config.phases:
        if not (steps >= 1 and 0 <= sigma < math.inf and 0 < lot < math.inf):
            raise _refusal(f"a phase of {steps} steps with sigma={sigma:g}, lot={lot:g}")
    if (config.sigma, config.lot) != (config.sigmas[0], config.lots[0]):
        raise _refusal(f"sigma={config.sigma:g}, lot={config.lot:g} are not those of the first phase")


def _refusal(what: str) -> PrivacyError:
    return PrivacyError(
        f"the privacy constants contradict each other: {what}", hint="see privacy documentation: clipping"
    )
