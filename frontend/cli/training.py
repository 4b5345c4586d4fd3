"""How a model that is imported gets trained: a loss and an optimizer, as the command line states them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click

from .. import layers, optimizer
from ..optimizer_base import Optimizer
from ..variable import Variable
from .call_spec import CallSpec, check_arguments, find

OF_CLASSES: Mapping[str, Callable[..., Variable]] = {
    "softmax_with_cross_entropy": layers.softmax_with_cross_entropy,
    "cross_entropy": layers.cross_entropy,
}
OF_VALUES: Mapping[str, Callable[..., Variable]] = {
    "sigmoid_cross_entropy_with_logits": layers.sigmoid_cross_entropy_with_logits,
    "square_error_cost": layers.square_error_cost,
    "mse_loss": layers.mse_loss,
    "huber_loss": layers.huber_loss,
    "smooth_l1": layers.smooth_l1,
    "log_loss": layers.log_loss,
    "kldiv_loss": layers.kldiv_loss,
}
LOSSES: Mapping[str, Callable[..., Variable]] = {**OF_CLASSES, **OF_VALUES}
"""Losses of a prediction and a label: of classes (int64, one number in place of the scores) or of values."""

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    name: getattr(optimizer, name)
    for name in (
        "SGD",
        "Momentum",
        "LarsMomentum",
        "Adagrad",
        "DecayedAdagrad",
        "Adadelta",
        "Adam",
        "Adamax",
        "Lamb",
        "RMSProp",
        "Ftrl",
        "Dpsgd",
    )
}

_GIVEN = ("input", "logits", "x", "label", "y", "target", "return_softmax", "inside_weight", "outside_weight", "name")
"""Parameters of losses that are Variables, or change what the loss returns."""


@dataclass(frozen=True)
class Training:
    """How an imported model is trained, as the command line states it.

    Attributes:
        loss: Of the model's first output and a label; None to compile the model as it is.
        optimizer: None where it is not trained.
        trainable: Globs of the parameters that are; all if empty.
    """

    loss: CallSpec | None = None
    optimizer: CallSpec | None = None
    trainable: tuple[str, ...] = ()

    @property
    def stated(self) -> str | None:
        """An option of these that was given, or None."""
        given = (("--loss", self.loss), ("--optimizer", self.optimizer), ("--trainable", self.trainable))
        return next((option for option, value in given if value), None)


def check_training(training: Training) -> None:
    """Refuse losses and optimizers that do not exist, before anything is loaded.

    Raises:
        click.BadParameter: An unknown name or argument, or an optimizer without a loss.
    """
    if training.optimizer is not None and training.loss is None:
        raise click.BadParameter("an optimizer needs what it minimises: --loss NAME", param_hint="--optimizer")
    if training.loss is not None:
        check_arguments(training.loss, find(training.loss, LOSSES, "--loss"), "--loss", _GIVEN)
    if training.optimizer is not None:
        made = find(training.optimizer, OPTIMIZERS, "--optimizer")
        check_arguments(training.optimizer, made, "--optimizer")
