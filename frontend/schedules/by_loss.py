"""A learning rate that falls when a loss stands still."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import invalid, wrong_type
from ..variable import Variable
from .base import LearningRateDecay
from .numbers import number_of, scaled, shrinking


class ReduceLROnPlateau(LearningRateDecay):
    """A rate that is multiplied by ``decay_rate`` when a watched loss has stopped falling.

    Args:
        learning_rate: The rate to begin with, a number or a Variable of shape [1].
        mode: ``min``: the loss should fall; ``max``: it should rise.
        decay_rate: Factor, below 1.
        patience: How many calls of `step` in a row may see no better loss.
        verbose: Print each change.
        threshold: By how much a loss must be better: by this share of the best (``threshold_mode="rel"``), or by
            this much (``abs``).
        threshold_mode: ``rel`` or ``abs``.
        cooldown: For how many calls after a change losses are not looked at.
        min_lr: The rate falls no further.
        eps: A change by no more than this is not made.
        dtype: Element type of the rate, float32 or float64.

    Under Dpsgd it is refused: losses are private, and so is a rate that follows them.
    """

    state_keys: ClassVar[tuple[str, ...]] = (
        "cooldown_counter",
        "best_loss",
        "num_bad_epochs",
        "epoch_num",
        "learning_rate",
    )

    def __init__(
        self,
        learning_rate: float | Variable,
        mode: str = "min",
        decay_rate: float = 0.1,
        patience: int = 10,
        verbose: bool = False,
        threshold: float = 0.0001,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0,
        eps: float = 1e-08,
        dtype: str = "float32",
    ) -> None:
        super().__init__(dtype=dtype)
        owner = "ReduceLROnPlateau"
        for argument, value, known in (
            ("mode", mode, ("min", "max")),
            ("threshold_mode", threshold_mode, ("rel", "abs")),
        ):
            if not isinstance(value, str) or value.lower() not in known:
                raise invalid(f"{owner}: {argument} is {value!r}", f"give {known[0]!r} or {known[1]!r}")
        self.mode = mode.lower()
        self.threshold_mode = threshold_mode.lower()
        self.decay_rate = shrinking(owner, decay_rate)
        self.learning_rate = number_of(owner, "learning_rate", learning_rate)
        self.patience = patience
        self.verbose = verbose
        self.threshold = number_of(owner, "threshold", threshold)
        self.cooldown = cooldown
        self.min_lr = number_of(owner, "min_lr", min_lr)
        self.eps = number_of(owner, "eps", eps)
        self.cooldown_counter = 0
        self.best_loss: float | None = None
        self.num_bad_epochs = 0
        self.epoch_num = 0

    @property
    def follows_loss(self) -> bool:
        """True."""
        return True

    def rate(self) -> float:
        """The rate as the losses so far left it."""
        return self.learning_rate

    def advance(self) -> None:
        """Steps of the optimizer change nothing."""

    def step(self, loss: Variable) -> None:  # type: ignore[override]
        """Look at the loss of an epoch; the next ``minimize`` uses the rate that follows.

        Args:
            loss: One element that has a value, such as the mean of an epoch's losses.
        """
        if not isinstance(loss, Variable):
            raise wrong_type(f"ReduceLROnPlateau.step: loss is {type(loss).__name__}", "give a Variable of shape [1]")
        current = np.dtype(self.dtype).type(number_of("ReduceLROnPlateau.step", "loss", loss))
        self.epoch_num += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            return
        if self._is_better(current):
            self.best_loss = float(current)
            self.num_bad_epochs = 0
            return
        self.num_bad_epochs += 1
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
            self._reduce()

    def _reduce(self) -> None:
        number = np.dtype(self.dtype).type
        old = number(self.learning_rate)
        new = max(old * number(self.decay_rate), number(self.min_lr))
        if old - new > number(self.eps):
            if self.verbose:
                print(f"Epoch {self.epoch_num}: reducing learning rate from {old} to {new}.")
            self.learning_rate = float(new)

    def _is_better(self, current: Any) -> bool:
        if self.best_loss is None:
            return True
        number = np.dtype(self.dtype).type
        best = number(self.best_loss)
        margin = scaled(best, self.threshold) if self.threshold_mode == "rel" else number(self.threshold)
        return bool(current < best - margin if self.mode == "min" else current > best + margin)

    def _converted(self, key: str, value: object) -> Any:
        if key == "best_loss" and value is None:
            return None
        if key in ("best_loss", "learning_rate"):
            return number_of("ReduceLROnPlateau", f"{key} of the state", value)
        return super()._converted(key, value)
