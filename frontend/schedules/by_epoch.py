"""Learning rates that change with the epoch, which the script counts."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import invalid, wrong_type
from ..variable import Variable
from .base import LearningRateDecay
from .numbers import float_type, number_of, power, scaled, shrinking


class LearningRateEpochDecay(LearningRateDecay):
    """Base of the rates that change with the epoch, which `epoch` counts.

    ``learning_rate`` is the rate of this epoch, ``base_lr`` that of the first one.
    """

    state_keys: ClassVar[tuple[str, ...]] = ("epoch_num", "learning_rate")
    counts_steps: ClassVar[bool] = False

    def __init__(self, learning_rate: float, dtype: str | None = None) -> None:
        owner = type(self).__name__
        if isinstance(learning_rate, Variable):
            raise wrong_type(f"{owner}: learning_rate is a Variable", "give a number")
        self.base_lr = number_of(owner, "learning_rate", learning_rate)
        if self.base_lr < 0:
            raise invalid(f"{owner}: learning_rate is {learning_rate}", "give a number that is not negative")
        self.dtype = float_type(owner, dtype or "float32")
        self.epoch_num = -1
        self.learning_rate = self.base_lr
        self.epoch()

    def rate(self) -> float:
        """The rate of this epoch."""
        return self.learning_rate

    def advance(self) -> None:
        """Steps change nothing."""

    def epoch(self, epoch: int | None = None) -> None:
        """Go to the next epoch, or to that number."""
        self.epoch_num = self.epoch_num + 1 if epoch is None else epoch
        self.learning_rate = self.get_lr()

    @abstractmethod
    def get_lr(self) -> float:
        """The rate of epoch ``epoch_num``."""

    def _after(self, times: int, decay_rate: float) -> float:
        """``base_lr * decay_rate ** times``."""
        number = np.dtype(self.dtype).type
        return float(scaled(power(number(decay_rate), number(times)), self.base_lr))

    def _converted(self, key: str, value: object) -> Any:
        if key == "learning_rate":
            return number_of(type(self).__name__, "learning_rate of the state", value)
        return super()._converted(key, value)


class StepDecay(LearningRateEpochDecay):
    """``learning_rate * decay_rate ** (epoch // step_size)``."""

    def __init__(self, learning_rate: float, step_size: int, decay_rate: float = 0.1) -> None:
        if isinstance(step_size, bool) or not isinstance(step_size, int):
            raise wrong_type(f"StepDecay: step_size is {type(step_size).__name__}", "give a whole number of epochs")
        if step_size < 1:
            raise invalid(f"StepDecay: step_size is {step_size}", "give 1 epoch or more")
        self.step_size = step_size
        self.decay_rate = shrinking("StepDecay", decay_rate)
        super().__init__(learning_rate)

    def get_lr(self) -> float:
        """The rate of this epoch."""
        return self._after(self.epoch_num // self.step_size, self.decay_rate)


class MultiStepDecay(LearningRateEpochDecay):
    """``learning_rate`` times ``decay_rate`` for each of the milestones that the epoch has reached."""

    def __init__(self, learning_rate: float, milestones: Sequence[int], decay_rate: float = 0.1) -> None:
        if not isinstance(milestones, tuple | list):
            raise wrong_type(f"MultiStepDecay: milestones is {type(milestones).__name__}", "give a list of epochs")
        if any(not a < b for a, b in itertools.pairwise(milestones)):
            raise invalid(f"MultiStepDecay: the milestones {list(milestones)} do not rise", "sort them")
        self.milestones = milestones
        self.decay_rate = shrinking("MultiStepDecay", decay_rate)
        super().__init__(learning_rate)

    def get_lr(self) -> float:
        """The rate of this epoch."""
        return self._after(sum(epoch <= self.epoch_num for epoch in self.milestones), self.decay_rate)


class LambdaDecay(LearningRateEpochDecay):
    """``learning_rate * lr_lambda(epoch)``."""

    def __init__(self, learning_rate: float, lr_lambda: Callable[[int], float]) -> None:
        if not callable(lr_lambda):
            raise wrong_type(f"LambdaDecay: lr_lambda is {type(lr_lambda).__name__}", "give a function of the epoch")
        self.lr_lambda = lr_lambda
        super().__init__(learning_rate)

    def get_lr(self) -> float:
        """The rate of this epoch."""
        return self.base_lr * number_of("LambdaDecay", "what lr_lambda returned", self.lr_lambda(self.epoch_num))
