"""Optimizers: each records one update op per parameter; the arithmetic is the compiler's."""

from __future__ import annotations

from collections.abc import Sequence

from .averages import ExponentialMovingAverage, ModelAverage
from .backward import NameOrVariable
from .clip import GradientClipBase, GradientClipByNorm
from .dpsgd import Dpsgd, DpsgdOptimizer
from .errors import invalid, unsupported, warn, wrong_type
from .framework import AttrValue
from .missing import MissingName, missing_name
from .optimizer_adaptive import (
    AdadeltaOptimizer,
    AdamaxOptimizer,
    DecayedAdagradOptimizer,
    FtrlOptimizer,
    RMSPropOptimizer,
)
from .optimizer_base import Accumulator, Optimizer, Rate, decaying
from .optimizer_layerwise import LambOptimizer, LarsMomentumOptimizer
from .optimizer_wrappers import (
    LookaheadOptimizer,
    PipelineOptimizer,
    RecomputeOptimizer,
)
from .private_optimizer import DpOptimizer
from .regularizer import WeightDecayRegularizer
from .variable import Parameter


class SGDOptimizer(Optimizer):
    """``w -= lr * g``."""

    op_type = "sgd"


class MomentumOptimizer(Optimizer):
    """``v = mu * v + g``; ``w -= lr * v``, or with Nesterov ``w -= lr * (g + mu * v)``."""

    op_type = "momentum"

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float,
        parameter_list: Sequence[NameOrVariable] | None = None,
        use_nesterov: bool = False,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._momentum = float(momentum)
        self._use_nesterov = use_nesterov

    def _state(self) -> tuple[Accumulator, ...]:
        return (Accumulator("velocity", "Velocity", "VelocityOut"),)

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {"mu": self._momentum, "use_nesterov": self._use_nesterov}


class DGCMomentumOptimizer(MomentumOptimizer):
    """Momentum whose gradients fluid compresses between GPUs (Lin et al., ICLR 2018); one device sends none.

    Args:
        learning_rate, momentum, parameter_list, use_nesterov, regularization, name: As in `MomentumOptimizer`.
        rampup_begin_step, rampup_step, sparsity: When fluid begins to compress, and how much; without effect.
        num_trainers: 1 or None.
        grad_clip: A `GradientClipByNorm`, with num_trainers, or None.

    Warns:
        UserWarning: Nothing is compressed.
    """

    op_type = "momentum"

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float,
        rampup_begin_step: int,
        rampup_step: int = 1,
        sparsity: Sequence[float] = (0.999,),
        parameter_list: Sequence[NameOrVariable] | None = None,
        use_nesterov: bool = False,
        num_trainers: int | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        del rampup_step, sparsity
        if rampup_begin_step < 0:
            raise invalid(f"DGCMomentum: rampup_begin_step is {rampup_begin_step}", "give 0 or more")
        if num_trainers not in (None, 1):
            raise unsupported(f"DGCMomentum: num_trainers is {num_trainers}", "there is one trainer; use Momentum")
        if grad_clip is not None and not isinstance(grad_clip, GradientClipByNorm):
            raise wrong_type(
                f"DGCMomentum: grad_clip is {type(grad_clip).__name__}", "give a fluid.clip.GradientClipByNorm, or None"
            )
        super().__init__(learning_rate, momentum, parameter_list, use_nesterov, regularization, grad_clip, name)
        warn("DGCMomentum: there is one device, and no gradient is compressed; it trains as Momentum does")


class AdagradOptimizer(Optimizer):
    """``m += g * g``; ``w -= lr * g / (sqrt(m) + epsilon)`` (Duchi et al., JMLR 2011)."""

    op_type = "adagrad"

    def __init__(
        self,
        learning_rate: Rate,
        epsilon: float = 1e-06,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
        initial_accumulator_value: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._epsilon = float(epsilon)
        self._initial = float(initial_accumulator_value)

    def _state(self) -> tuple[Accumulator, ...]:
        return (Accumulator("moment", "Moment", "MomentOut", self._initial),)

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {"epsilon": self._epsilon}


class AdamOptimizer(Optimizer):
    """Adam (Kingma and Ba, 2015): ``w -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)``.

    Epsilon is added to sqrt(v) as it is, not rescaled by the bias correction.
    """

    op_type = "adam"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-08,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
        lazy_mode: bool = False,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._beta1, self._beta2 = decaying("Adam", "beta1", beta1), decaying("Adam", "beta2", beta2)
        self._epsilon = float(epsilon)
        self._lazy_mode = lazy_mode

    def _state(self) -> tuple[Accumulator, ...]:
        return (
            Accumulator("moment1", "Moment1", "Moment1Out"),
            Accumulator("moment2", "Moment2", "Moment2Out"),
            Accumulator("beta1_pow_acc", "Beta1Pow", "Beta1PowOut", self._beta1, single=True),
            Accumulator("beta2_pow_acc", "Beta2Pow", "Beta2PowOut", self._beta2, single=True),
        )

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {
            "beta1": self._beta1,
            "beta2": self._beta2,
            "epsilon": self._epsilon,
            "lazy_mode": self._lazy_mode,
        }


SGD = SGDOptimizer
Momentum = MomentumOptimizer
Adagrad = AdagradOptimizer
Adam = AdamOptimizer
DecayedAdagrad = DecayedAdagradOptimizer
Adadelta = AdadeltaOptimizer
Adamax = AdamaxOptimizer
RMSProp = RMSPropOptimizer
Ftrl = FtrlOptimizer
LarsMomentum = LarsMomentumOptimizer
Lamb = LambOptimizer


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.optimizer", name, {}, "use SGD, Momentum, Adam or another rule of fluid.optimizer")


__all__ = [
    "SGD",
    "Adadelta",
    "AdadeltaOptimizer",
    "Adagrad",
    "AdagradOptimizer",
    "Adam",
    "AdamOptimizer",
    "Adamax",
    "AdamaxOptimizer",
    "DGCMomentumOptimizer",
    "DecayedAdagrad",
    "DecayedAdagradOptimizer",
    "DpOptimizer",
    "Dpsgd",
    "DpsgdOptimizer",
    "ExponentialMovingAverage",
    "Ftrl",
    "FtrlOptimizer",
    "Lamb",
    "LambOptimizer",
    "LarsMomentum",
    "LarsMomentumOptimizer",
    "LookaheadOptimizer",
    "ModelAverage",
    "Momentum",
    "MomentumOptimizer",
    "Optimizer",
    "PipelineOptimizer",
    "RMSProp",
    "RMSPropOptimizer",
    "RecomputeOptimizer",
    "SGDOptimizer",
]
