"""What ``layers.Print`` writes to standard output, in the format of Paddle 1.8.5."""

from __future__ import annotations

import sys
import time

import numpy as np

from ..framework import Operator
from ..variable import GRAD_SUFFIX
from .call import HostCall
from .values import Value

_LETTERS = {"float32": "f", "float64": "d", "int32": "i", "int64": "l", "bool": "b", "int8": "a", "uint8": "h"}
"""What Paddle calls element types: the compiler's names."""


class Printer:
    """Counts what one run of a program has printed."""

    def __init__(self) -> None:
        self._shown: dict[tuple[int, bool], int] = {}

    def show(self, op: Operator, name: str, value: Value) -> None:
        """Print what passed a ``print`` op: its value, or the gradient of its result (``name`` tells which)."""
        gradient = name.endswith(GRAD_SUFFIX)
        key = (id(op), gradient)
        self._shown[key] = self._shown.get(key, 0) + 1
        first = op.attrs.get("first_n", -1)
        if 0 < first < self._shown[key]:
            return
        sys.stdout.write(text(op, name if gradient else op.input("In")[0], value))
        sys.stdout.flush()

    def call(self, o: HostCall) -> None:
        """Run a ``print`` op between other host ops."""
        found = o.x("In")
        o.set(found.array, "Out", found.lod)
        if str(o.attr("print_phase")).lower() in ("forward", "both"):
            self.show(o.op, o.op.input("In")[0], found)


def text(op: Operator, name: str, value: Value) -> str:
    """The lines for one tensor.

    What is not wanted is left out; unlike in Paddle, numbers are printed without their element type too.
    """
    array = value.array
    lines = [f"{int(time.time())}\t{op.attrs.get('message') or ''}\tThe place is:CPUPlace"]
    if op.attrs.get("print_tensor_name", True):
        lines.append(f"Tensor[{name}]")
    if op.attrs.get("print_tensor_shape", True):
        lines.append(f"\tshape: [{''.join(f'{d},' for d in array.shape)}]")
    if op.attrs.get("print_tensor_type", True):
        lines.append(f"\tdtype: {_LETTERS.get(array.dtype.name, array.dtype.name)}")
    if op.attrs.get("print_tensor_lod", True) and value.lod:
        levels = "".join(f"[ {''.join(f'{o},' for o in level)} ]" for level in value.lod)
        lines.append(f"\tLoD: [{levels}]")
    wanted = op.attrs.get("summarize", 20)
    flat = array.reshape(-1)
    shown = flat if wanted < 0 else flat[:wanted]
    lines.append(f"\tdata: {''.join(f'{_number(x)},' for x in shown)}")
    return "\n".join(lines) + "\n"


def _number(x: np.generic) -> str:
    return f"{float(x):g}" if isinstance(x, np.floating) else str(int(x))
