"""The arguments that state a private training: checked one by one, at the user's line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

import numpy as np

from ..compiler.errors import PrivacyError
from ..runtime.limits import ADJACENCIES, DEFAULT_GRID_BITS, MAX_GRID_BITS
from .privacy_spec import Phase, PrivacySpec
from .source import user_location

Clip: TypeAlias = float | Mapping[str, float] | Sequence[float]

_CLIPPING = ("flat", "per-group", "automatic", "quantile")
_MECHANISMS = ("gaussian", "discrete", "paddle")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "automatic": ("gamma",),
    "quantile": ("quantile", "eta", "sigma_b", "c_min", "c_max"),
}


class Arguments:
    """Checks the arguments of one optimizer, whose name begins every refusal."""

    def __init__(self, optimizer: str) -> None:
        self.optimizer = optimizer

    def refusal(self, what: str, hint: str) -> PrivacyError:
        """The error at the user's line."""
        return PrivacyError(f"{self.optimizer}: {what}", where=user_location().place, hint=hint)

    def refuse(self, what: str, hint: str) -> NoReturn:
        """Raise PrivacyError at the user's line."""
        raise self.refusal(what, hint)

    def number(
        self, name: str, value: object, *, low: float = 0.0, exclusive: bool = True, high: float = math.inf
    ) -> float:
        """``value`` as a float; refused unless it is a finite number above ``low`` (or equal to it), up to ``high``."""
        fits = (
            isinstance(value, int | float | np.integer | np.floating)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (value > low if exclusive else value >= low)
            and value <= high
        )
        if not fits:
            bound = f"{'greater than' if exclusive else 'at least'} {low:g}"
            if high < math.inf:
                bound += f" and at most {high:g}"
            self.refuse(f"{name} is {value!r}", f"give a finite number {bound}")
        assert isinstance(value, int | float | np.integer | np.floating)
        return float(value)

    def one_of(self, name: str, value: str, allowed: Sequence[str]) -> None:
        """Refuse anything but one of ``allowed``."""
        if value not in allowed:
            self.refuse(f"unknown {name} {value!r}", f"use one of {', '.join(allowed)}")

    def spec(
        self,
        clip: Clip,
        batch_size: float,
        sigma: float | None,
        *,
        dataset_size: int | None,
        sample_rate: float | None,
        delta: float | None,
        max_steps: int | None,
        epsilon: float | None,
        sampler: str,
        adjacency: str | None,
        clipping: str,
        clipping_options: Mapping[str, float] | None,
        mechanism: str,
        phases: Sequence[Phase] | None = None,
        documented_defaults: tuple[str, ...] = (),
    ) -> PrivacySpec:
        """What the arguments state; they are those of `Dpsgd`.

        Raises:
            PrivacyError: One that cannot be part of a guarantee, or that does not go with the others.
        """
        self.one_of("clipping", clipping, _CLIPPING)
        bounds = self._clip(clip, clipping)
        lot = self.number("batch_size", batch_size)
        if sigma is not None:
            sigma = self.number("sigma", sigma, exclusive=False)
        self.one_of("sampler", sampler, tuple(ADJACENCIES))
        self.one_of("mechanism", mechanism, _MECHANISMS)
        if mechanism == "paddle" and (epsilon is not None or clipping != "flat"):
            asked = f"epsilon={epsilon!r}" if epsilon is not None else f"clipping={clipping!r}"
            self.refuse(
                f"{asked} is stated for mechanism='paddle', Paddle's own kernel, which is not private",
                "leave mechanism out: the default has the noise that is accounted for",
            )
        if mechanism != "gaussian" and clipping != "flat":
            self.refuse(f"mechanism {mechanism!r} does not go with clipping {clipping!r}", "use clipping='flat'")
        if clipping_options is not None and not isinstance(clipping_options, Mapping):
            self.refuse(f"clipping_options is {clipping_options!r}", "give a dict of option name to number")
        if mechanism == "discrete":
            options = self._grid(clipping_options or {})
        else:
            options = self._options(clipping, bounds, sigma, clipping_options)
        fitting = next(relations for name, relations in ADJACENCIES.items() if name == sampler)
        if adjacency is not None and adjacency not in fitting:
            self.refuse(
                f"adjacency {adjacency!r} does not go with the sampler {sampler!r}",
                f"use one of {', '.join(fitting)}",
            )
        stated = self._phases(phases, sampler, clipping, mechanism, max_steps)
        self._budget(lot, dataset_size, sample_rate, delta, max_steps, epsilon)
        return PrivacySpec(
            clip=bounds,
            lot=lot,
            sigma=sigma,
            dataset_size=dataset_size,
            sample_rate=sample_rate,
            delta=delta,
            max_steps=max_steps,
            epsilon=epsilon,
            sampler=sampler,
            adjacency=adjacency,
            clipping=clipping,
            clipping_options=options,
            mechanism=mechanism,
            documented_defaults=documented_defaults,
            phases=stated,
        )

    def _phases(
        self, phases: Sequence[Phase] | None, sampler: str, clipping: str, mechanism: str, max_steps: int | None
    ) -> tuple[Phase, ...]:
        """The phases, each number of them checked; what they leave out is resolved with the rest."""
        if phases is None:
            return ()
        wanted = "give a list of fluid.privacy.Phase(steps=..., sigma=..., batch_size=...)"
        if not isinstance(phases, list | tuple) or not phases:
            self.refuse(f"phases is {phases!r}", wanted)
        for name, value, known in (("sampler", sampler, "poisson"), ("mechanism", mechanism, "gaussian")):
            if value != known:
                self.refuse(f"phases do not go with {name}={value!r}", f"only {name}={known!r} trains in phases")
        if clipping == "quantile":
            self.refuse(
                "phases do not go with clipping='quantile', whose count has a noise of its own",
                "use flat, per-group or automatic clipping",
            )
        found: list[Phase] = []
        for number, phase in enumerate(phases, 1):
            if not isinstance(phase, Phase):
                self.refuse(f"phase {number} is {phase!r}", wanted)
            name = f"steps of phase {number}"
            if self.number(name, phase.steps) != int(phase.steps):
                self.refuse(f"{name} is {phase.steps!r}", "give a whole number")
            if phase.sigma is not None:
                self.number(f"sigma of phase {number}", phase.sigma, exclusive=False)
            if phase.batch_size is not None:
                self.number(f"batch_size of phase {number}", phase.batch_size)
            if phase.sample_rate is not None:
                self.number(f"sample_rate of phase {number}", phase.sample_rate, high=1)
            found.append(phase)
        total = sum(int(phase.steps) for phase in found)
        if max_steps not in (None, total):
            self.refuse(f"max_steps is {max_steps}, but the phases take {total} steps", "leave max_steps out")
        return tuple(found)

    def _clip(self, clip: object, clipping: str) -> float | tuple[float, ...] | dict[str, float]:
        grouped = clipping == "per-group"
        if isinstance(clip, Mapping | list | tuple) != grouped:
            self.refuse(
                f"clip is {clip!r} with clipping={clipping!r}",
                "give a dict of parameter name to bound or a list of bounds, or leave clipping out for one bound"
                if grouped
                else "give one number, or say clipping='per-group' for a dict of name to bound or a list of bounds",
            )
        if isinstance(clip, Mapping):
            bounds = {str(name): self.number(f"clip[{name!r}]", bound) for name, bound in clip.items()}
        elif isinstance(clip, list | tuple):
            bounds = tuple(self.number(f"clip[{i}]", bound) for i, bound in enumerate(clip))
        else:
            return self.number("clip", clip)
        if not bounds:
            self.refuse("clip is empty", "give a bound for every parameter")
        return bounds

    def _grid(self, options: Mapping[str, float]) -> dict[str, float]:
        """The options of the integer grid."""
        for name in options:
            if name != "grid_bits":
                self.refuse(f"mechanism 'discrete' has no option {name!r}", "its only one is grid_bits")
        bits = options.get("grid_bits", DEFAULT_GRID_BITS)
        if isinstance(bits, bool) or bits not in range(1, MAX_GRID_BITS + 1):
            hint = f"give a whole number from 1 to {MAX_GRID_BITS}; {DEFAULT_GRID_BITS} is the default"
            self.refuse(f"clipping_options grid_bits is {bits!r}", hint)
        return dict(options)

    def _options(
        self, clipping: str, clip: object, sigma: float | None, given: Mapping[str, float] | None
    ) -> dict[str, float]:
        """The options as stated, or {}."""
        stated = dict(given or {})
        known = _OPTIONS.get(clipping, ())
        for name, value in stated.items():
            if name not in known:
                self.refuse(
                    f"clipping {clipping!r} has no option {name!r}",
                    f"its options are {', '.join(known)}" if known else "leave clipping_options out",
                )
            if name == "quantile" and value == 1:
                self.refuse("clipping_options quantile is 1", "give a share between 0 and 1")
            stated[name] = self.number(f"clipping_options {name}", value, high=1 if name == "quantile" else math.inf)
        if clipping == "quantile":
            assert isinstance(clip, float)
            low, high = stated.get("c_min", 0.0), stated.get("c_max", math.inf)
            if not low <= clip <= high:
                self.refuse(f"clip is {clip:g}, outside [{low:g}, {high:g}]", "start between c_min and c_max")
            if sigma is not None and "sigma_b" in stated and not stated["sigma_b"] > sigma / 2:
                self.refuse(
                    f"clipping_options sigma_b is {stated['sigma_b']:g}, not above sigma/2 = {sigma / 2:g}",
                    "the count's own noise must cost less than sigma promises; batch_size/20 is usual",
                )
        return stated

    def _budget(
        self,
        lot: float,
        dataset_size: int | None,
        sample_rate: float | None,
        delta: float | None,
        max_steps: int | None,
        epsilon: float | None,
    ) -> None:
        for name, count in (("dataset_size", dataset_size), ("max_steps", max_steps)):
            if count is not None:
                self.number(name, count)
                if count != int(count):
                    self.refuse(f"{name} is {count!r}", "give a whole number")
        if dataset_size is not None and lot > dataset_size:
            self.refuse(f"batch_size {lot:g} exceeds dataset_size {dataset_size}", "a lot is a part of the data")
        if sample_rate is not None:
            self.number("sample_rate", sample_rate, high=1)
        if delta is not None:
            self.number("delta", delta, high=1)
        if epsilon is not None:
            self.number("epsilon", epsilon)
