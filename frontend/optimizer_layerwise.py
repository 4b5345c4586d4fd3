"""Rules that choose the rate of a parameter by its norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .backward import NameOrVariable
from .clip import GradientClipBase
from .framework import AttrValue
from .optimizer_base import Accumulator, Optimizer, Rate, decaying
from .regularizer import WeightDecayRegularizer
from .variable import Parameter


class LarsMomentumOptimizer(Optimizer):
    """Momentum with a rate of its own per parameter (You et al., arXiv 1708.03888).

    ``rate = lr * coeff * |w| / (|g| + decay * |w|)``; ``v = momentum * v + rate * (g + decay * w)``; ``w -= v``.
    """

    op_type = "lars_momentum"

    def __init__(
        self,
        learning_rate: Rate,
        momentum: float,
        lars_coeff: float = 0.001,
        lars_weight_decay: float = 0.0005,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._momentum = float(momentum)
        self._coeff = float(lars_coeff)
        self._weight_decay = float(lars_weight_decay)

    def _state(self) -> tuple[Accumulator, ...]:
        return (Accumulator("velocity", "Velocity", "VelocityOut"),)

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {"mu": self._momentum, "lars_coeff": self._coeff, "lars_weight_decay": self._weight_decay}


class LambOptimizer(Optimizer):
    """LAMB (You et al., ICLR'20) as fluid 1.8 computes it: without bias correction.

    ``r = m1 / (sqrt(m2) + epsilon) + decay * w``; ``w -= lr * |w| / |r| * r``.

    Args:
        learning_rate: As for every optimizer.
        lamb_weight_decay: ``decay``.
        beta1: Of the mean m1 of gradients.
        beta2: Of the mean m2 of squared gradients.
        epsilon: Added to the root of m2.
        parameter_list: As for every optimizer, like what follows.
        regularization: Decay through the gradient, beside ``decay``.
        grad_clip: Clip of the gradients.
        exclude_from_weight_decay_fn: Parameters for which this function is true have no ``decay``.
        name: Prefix of the accumulators' names.
    """

    op_type = "lamb"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        lamb_weight_decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-06,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        exclude_from_weight_decay_fn: Callable[[Parameter], bool] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._weight_decay = float(lamb_weight_decay)
        self._beta1 = decaying("Lamb", "beta1", beta1)
        self._beta2 = decaying("Lamb", "beta2", beta2)
        self._epsilon = float(epsilon)
        self._excluded = exclude_from_weight_decay_fn

    def _state(self) -> tuple[Accumulator, ...]:
        # The powers belong to files that Paddle writes; no rule reads or changes them.
        return (
            Accumulator("moment1", "Moment1", "Moment1Out"),
            Accumulator("moment2", "Moment2", "Moment2Out"),
            Accumulator("beta1_pow_acc", "Beta1Pow", None, self._beta1, single=True),
            Accumulator("beta2_pow_acc", "Beta2Pow", None, self._beta2, single=True),
        )

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        excluded = self._excluded is not None and self._excluded(param)
        return {
            "beta1": self._beta1,
            "beta2": self._beta2,
            "epsilon": self._epsilon,
            "weight_decay": 0.0 if excluded else self._weight_decay,
        }
