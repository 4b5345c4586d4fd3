"""Shapes, bounds and counts that a layer takes as numbers, as Variables, or as both mixed.

The lowering resolves Variables from constants and from extents of `shape`; what only data decides it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, wrong_type
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType


class Stated:
    """What a layer was given.

    Attributes:
        numbers: The numbers, -1 where a Variable stands; as many -1 as its elements for a Variable of them all.
        inputs: The op's slot that holds Variables; empty if there is none.
        open: Positions whose number is not known when the program is built.
    """

    def __init__(self, numbers: list[int], inputs: dict[str, list[Variable]], open: frozenset[int]) -> None:
        self.numbers = numbers
        self.inputs = inputs
        self.open = open


def stated(layer: str, argument: str, values: object, whole: str, each: str) -> Stated:
    """Numbers and Variables for the slots ``whole`` (one Variable of them all) and ``each`` (one each).

    Raises:
        ProgramError: A Variable has not one axis of known extent, or in a list not one element.
        ArgumentTypeError: A value is neither an integer nor an integer Variable.
    """
    if isinstance(values, int):
        return Stated([values], {}, frozenset())
    if isinstance(values, Variable):
        _check(layer, argument, values)
        if len(values.shape) != 1 or values.shape[0] < 1:
            raise invalid(
                f"{layer}: {argument} is {values.name} of shape {list(values.shape)}", "give a vector of known length"
            )
        count = values.shape[0]
        return Stated([-1] * count, {whole: [values]}, frozenset(range(count)))
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise wrong_type(f"{layer}: {argument} is {type(values).__name__}", "give integers, or a Variable of them")
    given = list(values)
    open = frozenset(i for i, v in enumerate(given) if isinstance(v, Variable))
    numbers = [-1 if i in open else int(v) for i, v in enumerate(given)]
    if not open:
        return Stated(numbers, {}, open)
    held: list[Variable] = []
    for value in given:
        if isinstance(value, Variable):
            _check(layer, argument, value)
            if value.shape not in ((1,), ()):
                raise invalid(
                    f"{layer}: {argument} holds {value.name} of shape {list(value.shape)}", "give one element each"
                )
            held.append(value)
        else:
            held.append(_constant(int(value)))
    return Stated(numbers, {each: held}, open)


def _check(layer: str, argument: str, value: Variable) -> None:
    if value.dtype not in (VarType.INT32, VarType.INT64):
        raise wrong_type(
            f"{layer}: {argument} holds {value.name} of {value.dtype.numpy.name}",
            "cast it: fluid.layers.cast(x, 'int32')",
        )


def _constant(value: int) -> Variable:
    """A number beside Variables, as fluid records it."""
    helper = LayerHelper("fill_constant")
    out = helper.temporary(VarType.INT32, [1], stop_gradient=True)
    attrs = {"shape": [1], "dtype": VarType.INT32, "value": float(value), "force_cpu": True}
    helper.op("fill_constant", {}, {"Out": [out]}, attrs)
    return out
