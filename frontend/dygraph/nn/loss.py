"""Losses of a prediction and its target, reduced to their mean or sum of shape [1], or not at all."""

from __future__ import annotations

from ...errors import invalid, wrong_type
from ...layers import ops
from ...layers.arrange import reshape
from ...layers.loss import bce_loss_op, nll_loss_op
from ...layers.math import elementwise_mul, elementwise_sub, reduce_mean, reduce_sum
from ...variable import Variable
from ..layers import Layer


class _Loss(Layer):
    """A loss with a ``reduction``."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        if reduction not in ("sum", "mean", "none"):
            raise invalid(f"{type(self).__name__}: reduction is {reduction!r}", "use 'sum', 'mean' or 'none'")
        self.reduction = reduction

    def _reduced(self, losses: Variable) -> Variable:
        if self.reduction == "none":
            return losses
        return (reduce_mean if self.reduction == "mean" else reduce_sum)(losses)


def _check_weight(layer: Layer, weight: object) -> None:
    if not (weight is None or isinstance(weight, Variable)):
        raise wrong_type(
            f"{type(layer).__name__}: weight is {type(weight).__name__}",
            "give a Variable: fluid.dygraph.to_variable(array)",
        )


class MSELoss(_Loss):
    """``(input - label) ** 2``, element by element.

    Args:
        reduction: ``'mean'``, ``'sum'`` or ``'none'``.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Variable, label: Variable) -> Variable:
        return self._reduced(ops.square(elementwise_sub(input, label)))


class L1Loss(_Loss):
    """``abs(input - label)``, element by element.

    Args:
        reduction: ``'mean'``, ``'sum'`` or ``'none'``.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Variable, label: Variable) -> Variable:
        return self._reduced(elementwise_sub(input, label, act="abs"))


class BCELoss(_Loss):
    """``-label log(input) - (1 - label) log(1 - input)`` of probabilities, element by element.

    Args:
        weight: Factors of the elements, broadcast to them.
        reduction: ``'mean'``, ``'sum'`` or ``'none'``.
    """

    def __init__(self, weight: Variable | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        _check_weight(self, weight)
        self.weight = weight

    def forward(self, input: Variable, label: Variable) -> Variable:
        losses = bce_loss_op(self._helper, input, label)
        return self._reduced(losses if self.weight is None else elementwise_mul(losses, self.weight, axis=-1))


class NLLLoss(_Loss):
    """``-weight[label] * input[label]`` of log-probabilities ``[N, C, ...]`` and int64 labels ``[N, ...]``.

    The mean is over the weights of the labels.

    Args:
        weight: One factor per class, [C].
        reduction: ``'mean'``, ``'sum'`` or ``'none'``.
        ignore_index: A label that counts nothing.
    """

    def __init__(self, weight: Variable | None = None, reduction: str = "mean", ignore_index: int = -100) -> None:
        super().__init__(reduction)
        _check_weight(self, weight)
        self.weight = weight
        self.ignore_index = ignore_index

    def forward(self, input: Variable, label: Variable) -> Variable:
        options = self.weight, self.reduction, self.ignore_index
        if len(input.shape) < 2 or len(input.shape) in (2, 4):
            return nll_loss_op(self._helper, input, label, *options)
        # The op has matrices and images; other data become images of height 1.
        n, c, *rest = input.shape
        rows = nll_loss_op(self._helper, reshape(input, [n, c, 1, -1]), reshape(label, [n, 1, -1]), *options)
        return reshape(rows, [n, *rest]) if self.reduction == "none" else rows
