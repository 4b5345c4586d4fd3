"""What two records have in common: equal numbers for equal types, slots and attributes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np

from ..framework import AttrValue
from .graph import Slots

COUNTER = "Counter"
"""Slot of a random op that holds the number of its draw, int64[1]."""

RANDOM = frozenset(
    (
        "uniform_random",
        "gaussian_random",
        "truncated_gaussian_random",
        "uniform_random_batch_size_like",
        "gaussian_random_batch_size_like",
        "dropout",
    )
)


def draws(type: str, attrs: Mapping[str, AttrValue]) -> bool:
    """Whether an op of a random type draws anything: not under a seed, and dropout only in training."""
    if type == "dropout":
        return not attrs.get("is_test") and not attrs.get("fix_seed")
    return not attrs.get("seed")


class Signatures:
    """Numbers records by what they are, whatever they read and write."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def of(self, type: str, inputs: Slots, outputs: Slots, attrs: Mapping[str, AttrValue]) -> int:
        """The number of a record."""
        key = (
            type,
            tuple([(slot, len(nodes)) for slot, nodes in inputs]),
            tuple([(slot, len(nodes)) for slot, nodes in outputs]),
            tuple([(name, frozen(value)) for name, value in attrs.items()]),
        )
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
        return number


def frozen(value: AttrValue) -> Hashable:
    """An attribute as something to compare by."""
    if isinstance(value, list | tuple):
        return tuple([frozen(item) for item in value])
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    # 1, 1.0 and True are equal, but not the same attribute.
    return value if isinstance(value, str) or value is None else (value.__class__, value)
