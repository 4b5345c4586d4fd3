"""Optimizers: each records one update op per parameter; the arithmetic is the compiler's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from .backward import NameOrVariable
from .clip import GradientClipBase
from .dpsgd import Dpsgd, DpsgdOptimizer
from .errors import invalid, unsupported
from .framework import Operator
from .optimizer_base import Optimizer
from .private_optimizer import DpOptimizer
from .regularizer import WeightDecayRegularizer
from .variable import Parameter, Variable


class SGDOptimizer(Optimizer):
    """``w -= lr * g``."""

    def _create_accumulators(self, param: Parameter) -> None:
        pass

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        return param.block.append_op(
            "sgd", {"Param": [param], "Grad": [grad], "LearningRate": [rate]}, {"ParamOut": [param]}
        )


class MomentumOptimizer(Optimizer):
    """``v = mu * v + g``; ``w -= lr * v``, or with Nesterov ``w -= lr * (g + mu * v)``."""

    def __init__(
        self,
        learning_rate: float | Variable,
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

    def _create_accumulators(self, param: Parameter) -> None:
        self._add_accumulator("velocity", param)

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        velocity = self._accumulator("velocity", param)
        return param.block.append_op(
            "momentum",
            {"Param": [param], "Grad": [grad], "Velocity": [velocity], "LearningRate": [rate]},
            {"ParamOut": [param], "VelocityOut": [velocity]},
            {"mu": self._momentum, "use_nesterov": self._use_nesterov},
        )


class AdagradOptimizer(Optimizer):
    """``m += g * g``; ``w -= lr * g / (sqrt(m) + epsilon)`` (Duchi et al., JMLR 2011)."""

    def __init__(
        self,
        learning_rate: float | Variable,
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

    def _create_accumulators(self, param: Parameter) -> None:
        self._add_accumulator("moment", param, self._initial)

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        moment = self._accumulator("moment", param)
        return param.block.append_op(
            "adagrad",
            {"Param": [param], "Grad": [grad], "Moment": [moment], "LearningRate": [rate]},
            {"ParamOut": [param], "MomentOut": [moment]},
            {"epsilon": self._epsilon},
        )


class AdamOptimizer(Optimizer):
    """Adam (Kingma and Ba, 2015): ``w -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)``.

    Epsilon is added to sqrt(v) as it is, not rescaled by the bias correction.
    """

    def __init__(
        self,
        learning_rate: float | Variable = 0.001,
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
        for argument, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0.0 <= beta < 1.0:
                raise invalid(f"Adam: {argument} is {beta}", "give a number from 0 to 1, 1 excluded")
        self._beta1, self._beta2, self._epsilon = float(beta1), float(beta2), float(epsilon)
        self._lazy_mode = lazy_mode

    def _create_accumulators(self, param: Parameter) -> None:
        self._add_accumulator("moment1", param)
        self._add_accumulator("moment2", param)
        self._add_accumulator("beta1_pow_acc", param, self._beta1, [1])
        self._add_accumulator("beta2_pow_acc", param, self._beta2, [1])

    def _append_update(self, param: Parameter, grad: Variable, rate: Variable) -> Operator:
        moment1, moment2 = self._accumulator("moment1", param), self._accumulator("moment2", param)
        power1, power2 = self._accumulator("beta1_pow_acc", param), self._accumulator("beta2_pow_acc", param)
        return param.block.append_op(
            "adam",
            {
                "Param": [param],
                "Grad": [grad],
                "LearningRate": [rate],
                "Moment1": [moment1],
                "Moment2": [moment2],
                "Beta1Pow": [power1],
                "Beta2Pow": [power2],
            },
            {
                "ParamOut": [param],
                "Moment1Out": [moment1],
                "Moment2Out": [moment2],
                "Beta1PowOut": [power1],
                "Beta2PowOut": [power2],
            },
            {
                "beta1": self._beta1,
                "beta2": self._beta2,
                "epsilon": self._epsilon,
                "lazy_mode": self._lazy_mode,
            },
        )


SGD = SGDOptimizer
Momentum = MomentumOptimizer
Adagrad = AdagradOptimizer
Adam = AdamOptimizer

_MISSING = frozenset(
    [
        "Adadelta",
        "Adamax",
        "DecayedAdagrad",
        "DGCMomentum",
        "Ftrl",
        "Lamb",
        "LarsMomentum",
        "Lookahead",
        "Pipeline",
        "RMSProp",
        "Recompute",
    ]
)
_HELPERS = frozenset(("ExponentialMovingAverage", "ModelAverage"))


def __getattr__(name: str) -> NoReturn:
    if name.removesuffix("Optimizer") in _MISSING or name in _HELPERS:
        raise unsupported(
            f"fluid.optimizer.{name} is not implemented", "use SGD, Momentum, Adagrad, Adam, Dpsgd or DpOptimizer"
        )
    raise AttributeError(f"module {__name__} has no attribute {name}")


__all__ = [
    "SGD",
    "Adagrad",
    "AdagradOptimizer",
    "Adam",
    "AdamOptimizer",
    "DpOptimizer",
    "Dpsgd",
    "DpsgdOptimizer",
    "Momentum",
    "MomentumOptimizer",
    "Optimizer",
    "SGDOptimizer",
]
