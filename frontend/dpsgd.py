"""Differentially private SGD (Abadi et al., CCS'16, Algorithm 1): the optimizer as a script states it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from ..runtime.errors import PrivacyWarning
from .backward import NameOrVariable
from .framework import Operator
from .optimizer_base import Rate
from .privacy_spec import Phase
from .private_arguments import Arguments, Clip
from .private_optimizer import PrivateOptimizer
from .variable import Parameter, Variable


class _Documented(float):
    """A default that Paddle documents; knows that the script did not state it."""


_CLIP, _BATCH_SIZE, _SIGMA = _Documented(0.9), _Documented(0.999), _Documented(1e-08)


class DpsgdOptimizer(PrivateOptimizer):
    """SGD whose gradient is private: per-example clipping, a sum over the lot, Gaussian noise.

    ``g = (1/L) (sum_i g_i min(1, C / |g_i|) + N(0, sigma^2 C^2 I))``; ``w -= lr * g``, where ``g_i`` is the
    gradient of example i over all parameters together. `DpOptimizer` applies the same g by other rules.

    Args:
        learning_rate: A number or a Variable of shape [1].
        clip: C, the bound on one example's gradient norm. For ``clipping="per-group"`` a dict of parameter name, layer
            prefix or glob to the bound of the parameters that it matches together, or a list with a bound for each
            parameter, in the order of their creation.
        batch_size: L, the expected lot size: a public constant, whatever the size of the batch that is fed.
        sigma: Noise multiplier; counts as not given when it is None or left out, and then follows from
            ``epsilon`` and ``max_steps``.
        parameter_list: Parameters or names; all trainable ones if None. Others get neither update nor noise. In dygraph
            it makes ``loss.backward()`` private for them from now on.
        dataset_size: Public number of examples n, for the sampling rate q = L / n.
        sample_rate: q itself. Without q no privacy loss is ever reported.
        delta: Failure probability of the guarantee.
        max_steps: Number of steps the guarantee covers; the runtime refuses more.
        epsilon: The budget. With q and delta, two of sigma, max_steps and epsilon give the third.
        sampler: poisson, balls, shuffle or sequential.
        adjacency: add-remove, replace-one or zero-out; None is the sampler's own.
        clipping: flat, per-group, automatic or quantile.
        clipping_options: Numbers of that mode: ``gamma`` (0.01) of automatic; ``quantile`` (0.5), ``eta`` (0.2),
            ``sigma_b`` (batch_size/20), ``c_min`` (clip/1000) and ``c_max`` (1000 clip) of quantile.
        mechanism: gaussian; discrete; or paddle, which reproduces Paddle 1.8.5's kernel and is not private.
        phases: Steps with constants of their own, in their order (`fluid.privacy.Phase`); ``sigma``, ``batch_size`` and
            ``sample_rate`` then stand for what a phase leaves out, and max_steps is the number of all their steps.

    Raises:
        PrivacyError: A parameter that cannot be part of a guarantee, such as ``batch_size <= 0``.

    Warns:
        PrivacyWarning: Once, naming the arguments left at Paddle's documented defaults.
    """

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        clip: Clip = _CLIP,
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
        phases: Sequence[Phase] | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list)
        given = None if isinstance(sigma, _Documented) else sigma
        stated = [("clip", clip)]
        # What every phase states itself is not left at a default.
        own = [phase for phase in phases or () if isinstance(phase, Phase)]
        if not own or any(phase.batch_size is None for phase in own):
            stated.append(("batch_size", batch_size))
        defaults = tuple(name for name, value in stated if isinstance(value, _Documented))
        if given is None and epsilon is None and (not own or any(phase.sigma is None for phase in own)):
            defaults += ("sigma",)
        self.privacy = Arguments("Dpsgd").spec(
            clip,
            batch_size,
            given,
            dataset_size=dataset_size,
            sample_rate=sample_rate,
            delta=delta,
            max_steps=max_steps,
            epsilon=epsilon,
            sampler=sampler,
            adjacency=adjacency,
            clipping=clipping,
            clipping_options=clipping_options,
            mechanism=mechanism,
            phases=phases,
            documented_defaults=defaults,
        )
        self._begin()
        self._seed: int | None = None  # fluid's private attribute: seeds the kernel of mechanism="paddle"
        if defaults:
            _warn_defaults(defaults, sigma)
        if mechanism == "paddle":
            warnings.warn(
                'Dpsgd(mechanism="paddle") reproduces Paddle\'s kernel, which clips whole batch gradients and adds '
                "one scalar draw: it gives no differential privacy",
                PrivacyWarning,
                stacklevel=2,
            )

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        inputs = {"Param": [param], "Grad": [grad], "LearningRate": [rate]}
        if self.privacy.mechanism != "paddle":
            # What is private is the gradient; the update itself is plain SGD.
            return param.block.append_op("sgd", inputs, {"ParamOut": [param]})
        spec = self.privacy
        sigma = float(_SIGMA) if spec.sigma is None else spec.sigma
        attrs = {"clip": spec.clip, "batch_size": spec.lot, "sigma": sigma, "seed": self._seed or 0}
        return param.block.append_op("dpsgd", inputs, {"ParamOut": [param]}, attrs)


def _warn_defaults(names: Sequence[str], sigma: float | None) -> None:
    told = "sigma=1e-08" if sigma is not None else "sigma=1e-08 (sigma=None, and no epsilon that it could follow from)"
    shown = {"clip": "clip=0.9", "batch_size": "batch_size=0.999", "sigma": told}
    stated = ", ".join(shown[name] for name in names)
    warnings.warn(
        f"Dpsgd is left at Paddle's documented defaults {stated}. They are another optimizer's constants: "
        "sigma=1e-08 is no noise at all, and batch_size must be the real expected lot size. "
        "State clip, batch_size and sigma (or epsilon, delta, max_steps and dataset_size).",
        PrivacyWarning,
        stacklevel=3,
    )


Dpsgd = DpsgdOptimizer
