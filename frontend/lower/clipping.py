"""From the clipping that a script states to the constants of a private module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ...compiler.errors import PrivacyError
from ...compiler.ir.clipping import joint_clip, quantile_sigma
from ...compiler.ir.core import PrivacyConfig, StateName
from ..privacy_spec import PrivacySpec

GAMMA = 0.01
"""Default of automatic clipping (Bu et al., NeurIPS'23)."""

QUANTILE, ETA, LOT_SHARE = 0.5, 0.2, 1 / 20
"""Defaults of quantile clipping (Andrew et al., NeurIPS'21); the count's noise is this share of the lot size."""

RANGE = 1000.0
"""Unless stated, the bound of quantile clipping moves within this factor of where it starts."""

Groups = tuple[tuple[tuple[StateName, ...], float], ...]


def clip_of(spec: PrivacySpec, parameters: Sequence[str], where: str | None) -> tuple[float, Groups]:
    """The bound on one example's whole gradient, and the clip groups of per-group clipping with theirs.

    Args:
        spec: What the script states.
        parameters: The trainable parameters, in the order of the list form of ``clip``.
        where: The user's line, for errors.

    Raises:
        PrivacyError: A parameter in no group or in several, or a name that matches none.
    """
    clip = spec.clip
    if not isinstance(clip, tuple | Mapping):
        return clip, ()
    found = _listed(clip, parameters) if isinstance(clip, tuple) else _matched(clip, parameters)
    if isinstance(found, str):
        raise PrivacyError(
            f"per-group clipping: {found}",
            where=where,
            hint=f"every trainable parameter must be in exactly one group; they are {', '.join(parameters)}",
        )
    return joint_clip(bound for _, bound in found), found


def with_clipping(
    config: PrivacyConfig, spec: PrivacySpec, groups: Groups, state: str, where: str | None
) -> PrivacyConfig:
    """``config``, whose sigma is final, with the constants of the clipping mode.

    Args:
        config: Its other constants.
        spec: What the script states.
        groups: From `clip_of`.
        state: The variable that holds the bound of quantile clipping, or "".
        where: The user's line, for errors.

    Raises:
        PrivacyError: The noise of quantile clipping's count alone would cost more than sigma promises.
    """
    config = replace(config, clipping=spec.clipping)
    options = spec.clipping_options
    if spec.clipping == "per-group":
        return replace(config, groups=tuple(names for names, _ in groups), clips=tuple(bound for _, bound in groups))
    if spec.clipping == "automatic":
        return replace(config, gamma=options.get("gamma", GAMMA))
    if spec.clipping != "quantile":
        return config
    sigma_b = options.get("sigma_b", config.lot * LOT_SHARE)
    try:
        quantile_sigma(config.sigma, sigma_b)
    except PrivacyError as error:
        raise PrivacyError(error.what, where=where, hint=error.hint) from None
    return replace(
        config,
        bound=StateName(state),
        quantile=options.get("quantile", QUANTILE),
        eta=options.get("eta", ETA),
        sigma_b=sigma_b,
        c_min=options.get("c_min", config.clip / RANGE),
        c_max=options.get("c_max", config.clip * RANGE),
    )


def _listed(bounds: tuple[float, ...], parameters: Sequence[str]) -> Groups | str:
    if len(bounds) != len(parameters):
        return f"{len(bounds)} bounds are listed for {len(parameters)} parameters"
    return tuple(((StateName(name),), bound) for name, bound in zip(parameters, bounds))


def _matched(bounds: Mapping[str, float], parameters: Sequence[str]) -> Groups | str:
    """Groups by name, layer prefix or glob, or what is wrong with them."""
    groups: list[tuple[tuple[StateName, ...], float]] = []
    placed: dict[str, str] = {}
    for pattern, bound in bounds.items():
        names = [name for name in parameters if _matches(pattern, name)]
        if not names:
            return f"{pattern!r} matches no trainable parameter"
        for name in names:
            if name in placed:
                return f"{name} is matched by {placed[name]!r} and by {pattern!r}"
            placed[name] = pattern
        groups.append((tuple(map(StateName, names)), bound))
    left = [name for name in parameters if name not in placed]
    return f"{left[0]} is in no group" if left else tuple(groups)


def _matches(pattern: str, name: str) -> bool:
    """Whether ``pattern`` is the name, a layer's prefix of it (``fc_0`` of ``fc_0.w_0``), or a glob for it."""
    return name == pattern or name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)
