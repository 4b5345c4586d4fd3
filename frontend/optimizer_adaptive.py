"""Rules with a rate of its own for each element, beyond Adagrad and Adam."""

from __future__ import annotations

from collections.abc import Sequence

from .backward import NameOrVariable
from .clip import GradientClipBase
from .errors import warn
from .framework import AttrValue
from .optimizer_base import Accumulator, Optimizer, Rate, decaying
from .regularizer import WeightDecayRegularizer
from .variable import Parameter


class DecayedAdagradOptimizer(Optimizer):
    """``m = decay * m + (1 - decay) * g * g``; ``w -= lr * g / (sqrt(m) + epsilon)``."""

    op_type = "decayed_adagrad"

    def __init__(
        self,
        learning_rate: Rate,
        decay: float = 0.95,
        epsilon: float = 1e-06,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._decay = decaying("DecayedAdagrad", "decay", decay)
        self._epsilon = float(epsilon)

    def _state(self) -> tuple[Accumulator, ...]:
        return (Accumulator("moment", "Moment", "MomentOut"),)

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {"epsilon": self._epsilon, "decay": self._decay}


class AdadeltaOptimizer(Optimizer):
    """Adadelta (Zeiler, arXiv 1212.5701) as fluid 1.8 computes it; ``learning_rate`` has no effect.

    ``s = rho * s + (1 - rho) * g * g``; ``u = rho * u + (1 - rho) * step * step`` with the paper's step
    ``sqrt((u + epsilon) / (s + epsilon)) * g``; fluid's own step then reads the new u where the paper reads the old.
    """

    op_type = "adadelta"
    reads_rate = False

    def __init__(
        self,
        learning_rate: Rate,
        epsilon: float = 1e-06,
        rho: float = 0.95,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._epsilon = float(epsilon)
        self._rho = decaying("Adadelta", "rho", rho)

    def _state(self) -> tuple[Accumulator, ...]:
        return (
            Accumulator("_avg_squared_grad", "AvgSquaredGrad", "AvgSquaredGradOut"),
            Accumulator("_avg_squared_update", "AvgSquaredUpdate", "AvgSquaredUpdateOut"),
        )

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {"epsilon": self._epsilon, "rho": self._rho}


class AdamaxOptimizer(Optimizer):
    """Adam with the infinity norm: ``u = max(|g|, beta2 * u + epsilon)``; ``w -= lr / (1 - beta1^t) * m / u``."""

    op_type = "adamax"

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
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._beta1 = decaying("Adamax", "beta1", beta1)
        self._beta2 = decaying("Adamax", "beta2", beta2)
        self._epsilon = float(epsilon)

    def _state(self) -> tuple[Accumulator, ...]:
        return (
            Accumulator("moment", "Moment", "MomentOut"),
            Accumulator("inf_norm", "InfNorm", "InfNormOut"),
            Accumulator("beta1_pow_acc", "Beta1Pow", None, self._beta1, single=True),
        )

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {"beta1": self._beta1, "beta2": self._beta2, "epsilon": self._epsilon}

    def _finish(self, params: Sequence[Parameter]) -> None:
        for param in params:
            power = self._accumulators["beta1_pow_acc"][param.name]
            attrs = {"scale": self._beta1, "bias": 0.0, "bias_after_scale": True}
            param.block.append_op("scale", {"X": [power]}, {"Out": [power]}, attrs)


class RMSPropOptimizer(Optimizer):
    """``s = rho * s + (1 - rho) * g * g``; ``v = momentum * v + lr * g / sqrt(s + epsilon)``; ``w -= v``.

    With ``centered`` the root is of ``s - mean * mean + epsilon``, mean being the decaying mean of the gradient.
    """

    op_type = "rmsprop"

    def __init__(
        self,
        learning_rate: Rate,
        rho: float = 0.95,
        epsilon: float = 1e-06,
        momentum: float = 0.0,
        centered: bool = False,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        self._rho = decaying("RMSProp", "rho", rho)
        self._epsilon = float(epsilon)
        self._momentum = float(momentum)
        self._centered = bool(centered)

    def _state(self) -> tuple[Accumulator, ...]:
        return (
            Accumulator("momentum", "Moment", "MomentOut"),
            Accumulator("mean_square", "MeanSquare", "MeanSquareOut"),
            Accumulator("mean_grad", "MeanGrad", "MeanGradOut"),
        )

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {
            "epsilon": self._epsilon,
            "decay": self._rho,
            "momentum": self._momentum,
            "centered": self._centered,
        }


class FtrlOptimizer(Optimizer):
    """FTRL-Proximal (McMahan et al., KDD'13) as fluid 1.8 computes it: ``l1`` stands for ``l2`` as well.

    Warns:
        UserWarning: ``l2`` is given and is not ``l1``.
    """

    op_type = "ftrl"

    def __init__(
        self,
        learning_rate: Rate,
        l1: float = 0.0,
        l2: float = 0.0,
        lr_power: float = -0.5,
        parameter_list: Sequence[NameOrVariable] | None = None,
        regularization: WeightDecayRegularizer | None = None,
        grad_clip: GradientClipBase | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameter_list, regularization, grad_clip, name)
        if l2 not in (0.0, l1):
            warn(f"Ftrl: l2={l2} has no effect: Paddle 1.8.5 uses l1={l1} in its place, and so does fluidc")
        self._l1 = float(l1)
        self._lr_power = float(lr_power)

    def _state(self) -> tuple[Accumulator, ...]:
        return (
            Accumulator("squared", "SquaredAccumulator", "SquaredAccumOut"),
            Accumulator("linear", "LinearAccumulator", "LinearAccumOut"),
        )

    def _attrs(self, param: Parameter) -> dict[str, AttrValue]:
        return {"l1": self._l1, "l2": self._l1, "lr_power": self._lr_power}
