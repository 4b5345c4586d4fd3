"""Weight decay, added to a parameter's gradient before the update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .variable import Parameter, Variable

if TYPE_CHECKING:
    from .framework import Block


class WeightDecayRegularizer(ABC):
    """``regularization_coeff`` times a derivative of the parameter."""

    def __init__(self, regularization_coeff: float = 0.0) -> None:
        self.coeff = float(regularization_coeff)

    @abstractmethod
    def decay(self, param: Variable, block: Block) -> Variable:
        """Record what is added to the gradient, of the parameter's shape."""

    def _scale(self, source: Variable, out: Variable, block: Block) -> Variable:
        attrs = {"scale": self.coeff, "bias": 0.0, "bias_after_scale": True}
        block.append_op("scale", {"X": [source]}, {"Out": [out]}, attrs)
        return out


class L2DecayRegularizer(WeightDecayRegularizer):
    """Adds ``coeff * w`` (fluid's definition has no factor 1/2)."""

    def decay(self, param: Variable, block: Block) -> Variable:
        return self._scale(param, block.create_var(dtype=param.dtype, shape=param.shape), block)

    def __str__(self) -> str:
        return f"L2Decay, regularization_coeff={self.coeff:f}"


class L1DecayRegularizer(WeightDecayRegularizer):
    """Adds ``coeff * sign(w)``."""

    def decay(self, param: Variable, block: Block) -> Variable:
        sign = block.create_var(dtype=param.dtype, shape=param.shape)
        block.append_op("sign", {"X": [param]}, {"Out": [sign]})
        return self._scale(sign, sign, block)

    def __str__(self) -> str:
        return f"L1Decay, regularization_coeff={self.coeff:f}"


L1Decay = L1DecayRegularizer
L2Decay = L2DecayRegularizer


def append_regularization_ops(
    params_grads: Sequence[tuple[Parameter, Variable]], regularization: WeightDecayRegularizer | None = None
) -> list[tuple[Parameter, Variable]]:
    """Add each parameter's decay to its gradient; a parameter's own regularizer comes first.

    In a Program the sum takes the gradient's place; in dygraph `gradient()` stays what `backward` left.
    """
    decayed: list[tuple[Parameter, Variable]] = []
    for param, grad in params_grads:
        regularizer = param.regularizer or regularization
        out = grad
        if regularizer is not None:
            block = grad.block
            decay = regularizer.decay(param, block)
            if block.program.is_eager:
                out = block.create_var(dtype=grad.dtype, shape=grad.shape)
            block.append_op("sum", {"X": [grad, decay]}, {"Out": [out]})
        decayed.append((param, out))
    return decayed
