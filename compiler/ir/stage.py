"""The stages a module passes through; each op class states at which it may occur."""

from __future__ import annotations

import enum


class Stage(enum.IntEnum):
    """Ordered stages of lowering.  A module only ever moves forward.

    ``captured``  what the user wrote: composite layers, ``grad.backward`` requests, update rules
    ``core``      composite layers decomposed into core ops
    ``grad``      backward pass written out; contributions to parameters still unexpanded (``grad.use``)
    ``private``   contributions expanded: plain weight gradients, or clipped sums and noise
    ``update``    gradient clipping, regularisation and update rules written out
    ``target``    simplified, ready for a code generator
    """

    CAPTURED = 0
    CORE = 1
    GRAD = 2
    PRIVATE = 3
    UPDATE = 4
    TARGET = 5

    def __str__(self) -> str:
        return self.name.lower()

    @staticmethod
    def parse(text: str) -> Stage:
        """The stage named ``text``; raises KeyError for an unknown name."""
        return Stage[text.upper()]
