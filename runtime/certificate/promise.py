"""What the manifest's privacy block promises, in the terms of the IR text; and whether a text states the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from ..manifest import Manifest
from ..privacy import AutomaticOptions, PrivacySpec, QuantileOptions
from .report import Contradiction
from .text import Text

LOT = "lot/"
FLOAT32_SLACK = 2.0**-10
COUNT_BOUND = 0.5
"""How much one example changes the count of norms below the bound (quantile clipping)."""


@dataclass(frozen=True)
class ClipGroup:
    """Parameters that are clipped by one norm, and the bound on it."""

    clip: float
    params: tuple[str, ...]


@dataclass(frozen=True)
class Promise:
    """The constants and names that every function of the program must keep to.

    Attributes:
        clip: C of the privacy block, the joint one of clip groups.
        groups: the clip groups, and what their factors clip to.
        grid_bits: of the discrete mechanism's grid, else 0.
        sigma: noise multiplier of the gradient, per unit of a group's bound times the root of their number.
        lot: the divisor.
        sigmas: of training in phases the noise multiplier of each phase, else empty; ``sigma`` is the first's.
        lots: the divisor of each phase.
        gamma: of automatic clipping, else 0.
        bound: state that holds the bound of quantile clipping, else empty.
        count_sigma: noise multiplier of quantile clipping's count, per unit of `COUNT_BOUND`.
        parameters: names of the trained parameters, sorted: the position is the keystream of the noise.
        public_feeds: feeds declared public.
        batch_axes: feed -> its batch axis and how many rows per example lie on it; None for no batch axis.
    """

    clip: float
    groups: tuple[ClipGroup, ...]
    grid_bits: int
    sigma: float
    lot: float
    sigmas: tuple[float, ...]
    lots: tuple[float, ...]
    gamma: float
    bound: str
    count_sigma: float
    parameters: tuple[str, ...]
    public_feeds: frozenset[str]
    batch_axes: Mapping[str, tuple[int, int] | None]

    def group(self, param: str) -> ClipGroup:
        """The clip group of a trained parameter. Raises KeyError."""
        for group in self.groups:
            if param in group.params:
                return group
        raise KeyError(param)

    @property
    def noised(self) -> frozenset[str]:
        """What gets noise in every step: the parameters, and the count of quantile clipping."""
        return frozenset((*self.parameters, *((self.bound,) if self.bound else ())))


def promise_of(manifest: Manifest, spec: PrivacySpec) -> Promise:
    """The promise of a private artifact. Raises Contradiction for a mechanism that has no rules here."""
    if spec.mechanism not in ("gaussian", "discrete"):
        raise differ(f"mechanism {spec.mechanism!r} has no rules here")
    discrete = spec.mechanism == "discrete"
    if spec.slack < FLOAT32_SLACK and not discrete:
        raise Contradiction(
            "3b.v",
            f"slack {spec.slack!r} is smaller than the rounding of float32 sums needs, {FLOAT32_SLACK!r}",
            "manifest.json",
        )
    groups = tuple(ClipGroup(clip, group) for clip, group in zip(spec.clips, spec.groups, strict=False))
    options, sigma = spec.clipping_options, spec.sigma
    if isinstance(options, QuantileOptions):
        # The count is released too: the gradient takes the rest of what sigma pays for (Andrew et al., theorem 1).
        sigma /= math.sqrt(1.0 - (sigma / (2.0 * options.sigma_b)) ** 2)
    axes: dict[str, tuple[int, int] | None] = {}
    for feed in manifest.feeds:
        found = [(axis, rows_of(dim)) for axis, dim in enumerate(feed.shape) if not isinstance(dim, int)]
        axes[feed.name] = found[0] if len(found) == 1 else None
    # On the grid floats are clipped a little closer, so that none misses it for their rounding.
    flat = ClipGroup(spec.clips[0] * (1 - FLOAT32_SLACK if discrete else 1), spec.parameters)
    return Promise(
        clip=math.sqrt(sum(clip * clip for clip in spec.clips)) if groups else spec.clips[0],
        groups=groups or (flat,),
        grid_bits=spec.grid_bits or 0,
        sigma=sigma,
        lot=spec.lot,
        sigmas=tuple(phase.sigma for phase in spec.phases),
        lots=tuple(phase.lot for phase in spec.phases),
        gamma=options.gamma if isinstance(options, AutomaticOptions) else 0.0,
        bound=options.state if isinstance(options, QuantileOptions) else "",
        count_sigma=options.sigma_b / COUNT_BOUND if isinstance(options, QuantileOptions) else 0.0,
        parameters=spec.parameters,
        public_feeds=frozenset(feed.name for feed in manifest.feeds if feed.role == "public"),
        batch_axes=axes,
    )


def rows_of(dim: str) -> int:
    """Rows per example of a symbolic extent: 5 of ``5*N``."""
    count, star, _ = dim.partition("*")
    return int(count) if star and count.isdigit() else 1


def check_module(text: Text, manifest: Manifest, spec: PrivacySpec) -> None:
    """The constants and the state of one text are the manifest's. Raises Contradiction."""
    member = f"ir/{text.stage}.ir"
    if text.privacy is None:
        raise differ("the text states no privacy constants", member)
    stated = dict(_stated(spec))
    for name, value in stated.items():
        found = text.privacy.get(name, _DEFAULTS.get(name))
        if not _equal(found, value):
            raise Contradiction("3b.v", f"{name} is {found!r}, the manifest says {value!r}", member)
    public = sorted(feed.name for feed in manifest.feeds if feed.role == "public")
    declared = text.privacy.get("public_feeds", ())
    if not isinstance(declared, tuple) or sorted(cast("tuple[str, ...]", declared)) != public:
        raise differ(f"public feeds are {declared!r}, the manifest says {public!r}", member)
    unknown = sorted(set(text.privacy) - {*stated, "public_feeds"})
    if unknown:
        raise differ(f"there is no rule for the constant {unknown[0]!r}", member)
    _check_state(text, manifest, spec, member)


_DEFAULTS: Mapping[str, object] = {
    "slack": FLOAT32_SLACK, "mechanism": "gaussian", "clipping": "flat", "groups": (), "clips": (), "gamma": 0.0,
    "grid_bits": 0, "bound": "", "quantile": 0.0, "eta": 0.0, "sigma_b": 0.0, "c_min": 0.0, "c_max": 0.0,
    "phases": (),
}  # fmt: skip


def _stated(spec: PrivacySpec) -> Iterator[tuple[str, object]]:
    """The constants that a text of this privacy block states."""
    grouped, options = spec.clipping == "per-group", spec.clipping_options
    yield "clip", math.sqrt(sum(clip * clip for clip in spec.clips)) if grouped else spec.clips[0]
    yield from (("lot", spec.lot), ("sigma", spec.sigma), ("slack", spec.slack))
    yield from (("mechanism", spec.mechanism), ("clipping", spec.clipping), ("grid_bits", spec.grid_bits or 0))
    yield "phases", tuple((phase.steps, phase.sigma, phase.lot) for phase in spec.phases)
    yield from (("groups", spec.groups), ("clips", spec.clips if grouped else ()))
    yield "gamma", options.gamma if isinstance(options, AutomaticOptions) else 0.0
    quantile = options if isinstance(options, QuantileOptions) else None
    yield "bound", quantile.state if quantile else ""
    for name in ("quantile", "eta", "sigma_b", "c_min", "c_max"):
        yield name, getattr(quantile, name) if quantile else 0.0


def _equal(a: object, b: object) -> bool:
    """Equal, numbers up to the last digit: a joint bound is the root of a sum."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-14)
    return a == b


def _check_state(text: Text, manifest: Manifest, spec: PrivacySpec, member: str) -> None:
    trained = sorted(state.name for state in text.state.values() if state.trainable)
    if trained != list(spec.parameters):
        raise differ(f"the trained parameters are {trained}, the manifest says {list(spec.parameters)}", member)
    described = {state.name: state for state in manifest.state if state.kind != "lot" or text.stage == "target"}
    if set(described) != set(text.state):
        odd = sorted(set(described) ^ set(text.state))[0]
        raise differ(f"state {odd!r} is not in both text and manifest", member)
    options = spec.clipping_options
    summed = {*spec.parameters, *((options.state,) if isinstance(options, QuantileOptions) else ())}
    for name, state in text.state.items():
        other = described[name]
        if (state.type.dtype, state.type.shape, state.kind, state.trainable) != (
            other.dtype, other.shape, other.kind, other.trainable,
        ):  # fmt: skip
            raise differ(f"state {name!r} is not what the manifest says", member)
        if state.kind == "lot" and name.removeprefix(LOT) not in summed:
            raise differ(f"state {name!r} is no sum of a trained parameter", member)


def differ(what: str, member: str = "manifest.json") -> Contradiction:
    """The contradiction of manifest and text."""
    return Contradiction("manifest", what, member)
