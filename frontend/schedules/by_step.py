"""Learning rates that change with the step, with the numbers that fluid 1.8 computes in dygraph.

`fluid.layers.noam_decay` and its like are the same schedules as ops of a Program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import invalid, warn
from ..variable import Variable
from .base import LearningRateDecay
from .numbers import Number, above, number_of, power, rounded, scaled, shifted


class PiecewiseDecay(LearningRateDecay):
    """``values[i]`` up to (not including) step ``boundaries[i]``, the last value after that."""

    def __init__(
        self, boundaries: Sequence[float], values: Sequence[float], begin: int, step: int = 1, dtype: str = "float32"
    ) -> None:
        super().__init__(begin, step, dtype)
        if len(values) - len(boundaries) != 1:
            raise invalid(
                f"PiecewiseDecay: {len(boundaries)} boundaries and {len(values)} values",
                "give one more value than boundaries",
            )
        self.boundaries = list(boundaries)
        self.values = [number_of("PiecewiseDecay", "values", value) for value in values]

    def step(self) -> float:
        """The value between the boundaries around this step."""
        for boundary, value in zip(self.boundaries, self.values):
            if self.step_num < boundary:
                return value
        return self.values[-1]


class _Scheduled(LearningRateDecay):
    """Base of the rates that start at ``learning_rate`` and fall by a formula."""

    def __init__(self, learning_rate: float | Variable, begin: int, step: int, dtype: str) -> None:
        super().__init__(begin, step, dtype)
        self.learning_rate = learning_rate

    def _start(self) -> float:
        return number_of(type(self).__name__, "learning_rate", self.learning_rate)

    def _number(self, value: float) -> Number:
        """A number as a tensor of the schedule's element type holds it."""
        return np.dtype(self.dtype).type(value)


class _ByPeriods(_Scheduled):
    """Base of the rates that fall with ``step_num / decay_steps``, in steps of whole periods if ``staircase``."""

    def __init__(
        self,
        learning_rate: float | Variable,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        begin: int = 0,
        step: int = 1,
        dtype: str = "float32",
    ) -> None:
        super().__init__(learning_rate, begin, step, dtype)
        self.decay_steps = above(type(self).__name__, "decay_steps", decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase

    def _periods(self) -> Number:
        passed = self._number(self.step_num / self.decay_steps)
        return np.floor(passed) if self.staircase else passed


class NaturalExpDecay(_ByPeriods):
    """``learning_rate * e ** (-decay_rate * step / decay_steps)``."""

    def step(self) -> float:
        """The rate after the periods so far."""
        return float(scaled(rounded(scaled(self._periods(), -self.decay_rate), math.exp), self._start()))


class ExponentialDecay(_ByPeriods):
    """``learning_rate * decay_rate ** (step / decay_steps)``."""

    def step(self) -> float:
        """The rate after the periods so far."""
        return float(scaled(power(self._number(self.decay_rate), self._periods()), self._start()))


class InverseTimeDecay(_ByPeriods):
    """``learning_rate / (1 + decay_rate * step / decay_steps)``."""

    def step(self) -> float:
        """The rate after the periods so far."""
        return float(self._number(self._start()) / shifted(scaled(self._periods(), self.decay_rate), 1.0))


class PolynomialDecay(_Scheduled):
    """``(learning_rate - end) * (1 - step / decay_steps) ** power + end``, ``end`` after ``decay_steps`` steps.

    With ``cycle`` the period grows by ``decay_steps`` whenever it is over, and the rate rises again.
    """

    def __init__(
        self,
        learning_rate: float | Variable,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        begin: int = 0,
        step: int = 1,
        dtype: str = "float32",
    ) -> None:
        super().__init__(learning_rate, begin, step, dtype)
        self.decay_steps = above("PolynomialDecay", "decay_steps", decay_steps)
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle

    def step(self) -> float:
        """The rate of this step of the present period."""
        if self.cycle:
            periods = np.ceil(self._number(self.step_num / self.decay_steps)) if self.step_num else self._number(1.0)
            passed = self._number(self.step_num) / scaled(periods, self.decay_steps)
        else:
            passed = scaled(self._number(min(self.step_num, self.decay_steps)), 1.0 / self.decay_steps)
        left = power(shifted(-passed, 1.0), self._number(self.power))
        return float(shifted(scaled(left, self._start() - self.end_learning_rate), self.end_learning_rate))


class CosineDecay(_Scheduled):
    """``learning_rate / 2 * (cos(pi * epoch / epochs) + 1)`` for ``epoch = floor(step / step_each_epoch)``."""

    def __init__(
        self,
        learning_rate: float | Variable,
        step_each_epoch: float,
        epochs: float,
        begin: int = 0,
        step: int = 1,
        dtype: str = "float32",
    ) -> None:
        super().__init__(learning_rate, begin, step, dtype)
        self.step_each_epoch = above("CosineDecay", "step_each_epoch", step_each_epoch)
        self.epochs = above("CosineDecay", "epochs", epochs)

    def step(self) -> float:
        """The rate of this step's epoch."""
        epoch = np.floor(self._number(self.step_num / self.step_each_epoch))
        turned = rounded(scaled(scaled(epoch, math.pi), 1.0 / self.epochs), math.cos)
        return float(scaled(shifted(turned, 1.0), self._start() * 0.5))


class NoamDecay(_Scheduled):
    """``learning_rate * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)`` (Vaswani et al., 2017)."""

    def __init__(
        self,
        d_model: float,
        warmup_steps: float,
        begin: int = 1,
        step: int = 1,
        dtype: str = "float32",
        learning_rate: float | Variable = 1.0,
    ) -> None:
        super().__init__(learning_rate, begin, step, dtype)
        self.d_model = above("NoamDecay", "d_model", d_model)
        self.warmup_steps = above("NoamDecay", "warmup_steps", warmup_steps)

    def step(self) -> float:
        """The rate of this step, which is 1 or later."""
        above("NoamDecay", "step_num", self.step_num)
        falling = self._number(self.step_num**-0.5)
        rising = self._number(self.warmup_steps**-1.5 * self.step_num)
        return float(scaled(min(falling, rising), self._start() * self.d_model**-0.5))


class LinearLrWarmup(LearningRateDecay):
    """``(end_lr - start_lr) / warmup_steps * step`` for the first ``warmup_steps`` steps, then ``learning_rate``.

    As in fluid 1.8 the rise begins at 0, not at ``start_lr`` (`fluid.layers.linear_lr_warmup` in a Program begins
    at ``start_lr``), and a schedule inside counts the steps of the warm-up too.

    The state is the number of the step.  `set_dict` moves a schedule by steps inside to the same step; one by epochs
    or by losses is to be saved and restored on its own, and a warning says so.
    """

    def __init__(
        self,
        learning_rate: float | Variable | LearningRateDecay,
        warmup_steps: float,
        start_lr: float,
        end_lr: float,
        begin: int = 1,
        step: int = 1,
        dtype: str = "float32",
    ) -> None:
        super().__init__(begin, step, dtype)
        if not isinstance(learning_rate, LearningRateDecay):
            number_of("LinearLrWarmup", "learning_rate", learning_rate)
        if not end_lr > start_lr:
            raise invalid(f"LinearLrWarmup: end_lr {end_lr} is not above start_lr {start_lr}", "warm up upwards")
        self.learning_rate = learning_rate
        self.warmup_steps = above("LinearLrWarmup", "warmup_steps", warmup_steps)
        self.lr_ratio_before_warmup = (float(end_lr) - float(start_lr)) / float(warmup_steps)

    @property
    def follows_loss(self) -> bool:
        """Whether the schedule inside does."""
        return isinstance(self.learning_rate, LearningRateDecay) and self.learning_rate.follows_loss

    def step(self) -> float | Variable:
        """The rate of this step."""
        if self.step_num < self.warmup_steps:
            return self.lr_ratio_before_warmup * self.step_num
        inside = self.learning_rate
        if isinstance(inside, LearningRateDecay):
            return inside.rate()
        return number_of("LinearLrWarmup", "learning_rate", inside)

    def advance(self) -> None:
        """Move on to the next step; the schedule inside moves on as well."""
        super().advance()
        if isinstance(self.learning_rate, LearningRateDecay):
            self.learning_rate.advance()

    def restore(self, values: Mapping[str, Any]) -> None:
        """Take over what `checked` gave, and move a schedule by steps inside as far."""
        before = self.step_num
        super().restore(values)
        inside = self.learning_rate
        if not isinstance(inside, LearningRateDecay):
            return
        if "step_num" not in inside.state_keys:
            warn(
                f"LinearLrWarmup.set_dict: the state does not hold that of the {type(inside).__name__} inside; "
                "restore it by its own set_dict"
            )
            return
        calls = (self.step_num - before) // self.step_size
        inside.restore({"step_num": inside.step_num + calls * inside.step_size})
