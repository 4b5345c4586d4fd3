"""``fluid.average``: a running mean on the host."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .errors import invalid, wrong_type


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.shape == (1,))


class WeightedAverage:
    """The weighted mean of numbers, or of arrays of one shape.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     average = WeightedAverage()
    >>> average.add(2.0, weight=1)
    >>> average.add(5.0, weight=2)
    >>> average.eval()
    4.0

    Warns:
        DeprecationWarning: As fluid does; `fluid.metrics` has what took its place.
    """

    def __init__(self) -> None:
        warnings.warn(
            "fluid.average.WeightedAverage is deprecated; fluid.metrics has accumulators",
            DeprecationWarning,
            stacklevel=2,
        )
        self.reset()

    def reset(self) -> None:
        """Forget what was added."""
        self.numerator: Any = None
        self.denominator: Any = None

    def add(self, value: Any, weight: Any) -> None:
        """Add ``value`` with a weight.  Raises ArgumentTypeError for what is no number or array."""
        if not (_is_number(value) or isinstance(value, np.ndarray)):
            raise wrong_type(f"WeightedAverage.add: value is {type(value).__name__}", "give a number or an array")
        if not _is_number(weight):
            raise wrong_type(f"WeightedAverage.add: weight is {type(weight).__name__}", "give a number")
        if self.numerator is None or self.denominator is None:
            self.numerator, self.denominator = value * weight, weight
        else:
            self.numerator = self.numerator + value * weight
            self.denominator = self.denominator + weight

    def eval(self) -> Any:
        """The mean.  Raises ProgramError if nothing was added."""
        if self.numerator is None or self.denominator is None:
            raise invalid("WeightedAverage.eval: nothing was added", "call add(value, weight) first")
        return self.numerator / self.denominator


__all__ = ["WeightedAverage"]
