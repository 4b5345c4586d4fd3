"""Numbers that a script changes from call to call: they are fed, so that one compiled function serves them all.

``loss * weight`` with a Python number is one record with the number as an attribute, which lets the compiler fold it.
A line that was seen with several numbers gets them as inputs instead.
"""

from __future__ import annotations

import numpy as np

from ..framework import AttrValue
from ..source import SourceLocation
from ..vartype import VarType, convert_dtype
from .graph import Fed, Node, Slots, aligned_copy_of

MOST_NUMBERS = 2
"""Different numbers at one line that stay attributes."""

# Op type to its attributes that may be fed, with the slot that takes each.
NUMBERS = {
    "scale": (("scale", "ScaleTensor", 1.0), ("bias", "BiasTensor", 0.0)),
    "fill_constant": (("value", "ValueTensor", 0.0),),
    "pow": (("factor", "FactorTensor", 1.0),),
}


class Varying:
    """Which lines call with which numbers."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, int, str], set[tuple[float, ...]]] = {}

    def fed(self, type: str, loc: SourceLocation, attrs: dict[str, AttrValue], read: Slots) -> Slots:
        """The inputs that take the place of ``attrs``' numbers, which are then removed; none where they stay."""
        slots = NUMBERS[type]
        dtype: VarType | None = attrs["dtype"] if type == "fill_constant" else read[0][1][0].dtype
        if (
            dtype is None
            or not dtype.is_float
            or any(slot == taken for _, slot, _ in slots for taken, nodes in read if nodes)
        ):
            return ()
        numbers = tuple([float(attrs.get(name, default)) for name, _, default in slots])
        seen = self._seen.setdefault((type, loc.file, loc.line, loc.layer), set())
        if len(seen) <= MOST_NUMBERS:
            seen.add(numbers)
            if len(seen) <= MOST_NUMBERS:
                return ()
        kind = np.dtype(dtype.numpy)
        found: list[tuple[str, tuple[Node, ...]]] = []
        for (name, slot, _), number in zip(slots, numbers, strict=True):
            attrs.pop(name, None)
            value = aligned_copy_of(np.array([number], kind))
            fed = Fed(number=number)
            found.append((slot, (Node((1,), convert_dtype(kind), value=value, fed=fed),)))
        return found
