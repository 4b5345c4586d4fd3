"""Differentially private SGD (Abadi et al., CCS'16, Algorithm 1): the optimizer as a script states it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

from ..compiler.errors import PrivacyError
from ..runtime.errors import PrivacyWarning
from .backward import NameOrVariable, append_backward
from .clip import GradientClipBase, ParamsGrads
from .framework import Operator
from .optimizer_base import Optimizer
from .privacy_spec import PrivacySpec
from .reach import producers
from .source import user_location
from .variable import Parameter, Variable


class _Documented(float):
    """A default that Paddle documents; knows that the script did not state it."""


_CLIP, _BATCH_SIZE, _SIGMA = _Documented(0.9), _Documented(0.999), _Documented(1e-08)

# Which relations between data sets a sampler has a valid accounting for; the first is its own.
ADJACENCY: Mapping[str, tuple[str, ...]] = {
    "poisson": ("add-remove", "replace-one"),
    "balls": ("add-remove",),
    "shuffle": ("zero-out", "replace-one"),
    "sequential": ("zero-out", "replace-one"),
}
_CLIPPING = ("flat", "per-group", "automatic", "quantile")
_MECHANISMS = ("gaussian", "discrete", "paddle")


def _refuse(what: str, hint: str) -> PrivacyError:
    return PrivacyError(f"Dpsgd: {what}", where=user_location().place, hint=hint)


def _number(name: str, value: object, *, low: float, exclusive: bool, high: float = math.inf) -> None:
    """Refuse anything but a finite number above ``low`` (or equal to it) and up to ``high``."""
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > low if exclusive else value >= low)
        and value <= high
    )
    if not fits:
        bound = f"{'greater than' if exclusive else 'at least'} {low:g}"
        if high < math.inf:
            bound += f" and at most {high:g}"
        raise _refuse(f"{name} is {value!r}", f"give a finite number {bound}")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise _refuse(f"unknown {name} {value!r}", f"use one of {', '.join(allowed)}")


class DpsgdOptimizer(Optimizer):
    """SGD whose gradient is private: per-example clipping, a sum over the lot, Gaussian noise.

    ``g = (1/L) (sum_i g_i min(1, C / |g_i|) + N(0, sigma^2 C^2 I))``; ``w -= lr * g``, where ``g_i`` is the
    gradient of example i over all parameters together.

    Args:
        learning_rate: A number or a Variable of shape [1].
        clip: C, the bound on one example's gradient norm.
        batch_size: L, the expected lot size: a public constant, whatever the size of the batch that is fed.
        sigma: Noise multiplier; counts as not given when it is None or left out, and then follows from
            ``epsilon`` and ``max_steps``.
        parameter_list: Parameters or names; all trainable ones if None. Others get neither update nor noise.
        dataset_size: Public number of examples n, for the sampling rate q = L / n.
        sample_rate: q itself. Without q no privacy loss is ever reported.
        delta: Failure probability of the guarantee.
        max_steps: Number of steps the guarantee covers; the runtime refuses more.
        epsilon: The budget. With q and delta, two of sigma, max_steps and epsilon give the third.
        sampler: poisson, balls, shuffle or sequential.
        adjacency: add-remove, replace-one or zero-out; None is the sampler's own.
        clipping: flat, per-group, automatic or quantile.
        clipping_options: Numbers of that mode.
        mechanism: gaussian; discrete; or paddle, which reproduces Paddle 1.8.5's kernel and is not private.

    Raises:
        PrivacyError: A parameter that cannot be part of a guarantee, such as ``batch_size <= 0``.

    Warns:
        PrivacyWarning: Once, naming the arguments left at Paddle's documented defaults.
    """

    def __init__(
        self,
        learning_rate: float | Variable = 0.001,
        clip: float = _CLIP,
        batch_size: float = _BATCH_SIZE,
        sigma: float | None = _SIGMA,
        parameter_list: Sequence[NameOrVariable] | None = None,
        *,
        dataset_size: int | None = None,
        sample_rate: float | None = None,
        delta: float | None = None,
        max_steps: int | None = None,
        epsilon: float | None = None,
        sampler: str = "poisson",
        adjacency: str | None = None,
        clipping: str = "flat",
        clipping_options: Mapping[str, float] | None = None,
        mechanism: str = "gaussian",
    ) -> None:
        super().__init__(learning_rate, parameter_list)
        _number("clip", clip, low=0, exclusive=True)
        _number("batch_size", batch_size, low=0, exclusive=True)
        if sigma is not None:
            _number("sigma", sigma, low=0, exclusive=False)
        _one_of("sampler", sampler, tuple(ADJACENCY))
        _one_of("clipping", clipping, _CLIPPING)
        _one_of("mechanism", mechanism, _MECHANISMS)
        if adjacency is not None and adjacency not in ADJACENCY[sampler]:
            raise _refuse(
                f"adjacency {adjacency!r} does not go with the sampler {sampler!r}",
                f"use one of {', '.join(ADJACENCY[sampler])}",
            )
        if mechanism == "paddle" and (epsilon is not None or clipping != "flat"):
            asked = f"epsilon={epsilon!r}" if epsilon is not None else f"clipping={clipping!r}"
            raise _refuse(
                f"{asked} is stated for mechanism='paddle', Paddle's own kernel, which is not private",
                "leave mechanism out: the default has the noise that is accounted for",
            )
        _check_budget(batch_size, dataset_size, sample_rate, delta, max_steps, epsilon)
        given = None if isinstance(sigma, _Documented) else sigma
        stated = [("clip", clip), ("batch_size", batch_size)]
        defaults = tuple(name for name, value in stated if isinstance(value, _Documented))
        if given is None and epsilon is None:
            defaults += ("sigma",)
        if defaults:
            _warn_defaults(defaults)
        self.privacy = PrivacySpec(
            clip=float(clip),
            lot=float(batch_size),
            sigma=None if given is None else float(given),
            dataset_size=dataset_size,
            sample_rate=sample_rate,
            delta=delta,
            max_steps=max_steps,
            epsilon=epsilon,
            sampler=sampler,
            adjacency=adjacency,
            clipping=clipping,
            clipping_options=None if clipping_options is None else dict(clipping_options),
            mechanism=mechanism,
            documented_defaults=defaults,
        )
        self._seed: int | None = None  # fluid's private attribute: seeds the kernel of mechanism="paddle"
        if mechanism == "paddle":
            warnings.warn(
                'Dpsgd(mechanism="paddle") reproduces Paddle\'s kernel, which clips whole batch gradients and adds '
                "one scalar draw: it gives no differential privacy",
                PrivacyWarning,
                stacklevel=2,
            )

    def _no_plateau(self) -> PrivacyError:
        return _refuse(
            "ReduceLROnPlateau chooses the learning rate by losses, which are not private",
            "schedules by step are public: use fluid.layers.*_decay, or set a value between steps by hand from public "
            "information",
        )

    def _gradients(
        self,
        loss: Variable,
        parameter_list: Sequence[NameOrVariable] | None,
        no_grad_set: Iterable[NameOrVariable] | None,
    ) -> ParamsGrads:
        spec = None if self.privacy.mechanism == "paddle" else self.privacy
        return append_backward(loss, parameter_list, no_grad_set, privacy=spec)

    def _apply(self, params_grads: ParamsGrads, grad_clip: GradientClipBase | None) -> list[Operator]:
        if self.privacy.mechanism != "paddle":
            for param, grad in params_grads:
                self._check_private(param, grad)
        return super()._apply(params_grads, grad_clip)

    def _check_private(self, param: Parameter, grad: Variable) -> None:
        """Refuse a gradient that does not come from this optimizer's own backward."""
        program = param.block.program
        sources = [op for op in producers(program, grad.name) if op.type == "backward"]
        if not sources or any(op.attr("privacy") is not self.privacy for op in sources):
            raise _refuse(
                f"the gradient {grad.name} of {param.name} does not come from Dpsgd.backward, so it is not private",
                "pass on what this optimizer's backward() returned",
            )

    def _create_accumulators(self, param: Parameter) -> None:
        pass

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        inputs = {"Param": [param], "Grad": [grad], "LearningRate": [rate]}
        if self.privacy.mechanism != "paddle":
            # What is private is the gradient; the update itself is plain SGD.
            return param.block.append_op("sgd", inputs, {"ParamOut": [param]})
        spec = self.privacy
        sigma = float(_SIGMA) if spec.sigma is None else spec.sigma
        attrs = {"clip": spec.clip, "batch_size": spec.lot, "sigma": sigma, "seed": self._seed or 0}
        return param.block.append_op("dpsgd", inputs, {"ParamOut": [param]}, attrs)


def _check_budget(
    lot: float,
    dataset_size: int | None,
    sample_rate: float | None,
    delta: float | None,
    max_steps: int | None,
    epsilon: float | None,
) -> None:
    for name, count in (("dataset_size", dataset_size), ("max_steps", max_steps)):
        if count is not None:
            _number(name, count, low=0, exclusive=True)
            if count != int(count):
                raise _refuse(f"{name} is {count!r}", "give a whole number")
    if dataset_size is not None and lot > dataset_size:
        raise _refuse(f"batch_size {lot:g} exceeds dataset_size {dataset_size}", "a lot is a part of the data")
    if sample_rate is not None:
        _number("sample_rate", sample_rate, low=0, exclusive=True, high=1)
    if delta is not None:
        _number("delta", delta, low=0, exclusive=True, high=1)
    if epsilon is not None:
        _number("epsilon", epsilon, low=0, exclusive=True)


def _warn_defaults(names: Sequence[str]) -> None:
    shown = {"clip": "clip=0.9", "batch_size": "batch_size=0.999", "sigma": "sigma=1e-08"}
    stated = ", ".join(shown[name] for name in names)
    warnings.warn(
        f"Dpsgd is left at Paddle's documented defaults {stated}. They are another optimizer's constants: "
        "sigma=1e-08 is no noise at all, and batch_size must be the real expected lot size. "
        "State clip, batch_size and sigma (or epsilon, delta, max_steps and dataset_size).",
        PrivacyWarning,
        stacklevel=3,
    )


Dpsgd = DpsgdOptimizer
