"""Numbers of schedules: fluid's ops on tensors of one element, as rounded numpy numbers; and checks of arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ..errors import invalid, wrong_type
from ..variable import Variable
from ..vartype import convert_dtype

Number: TypeAlias = Any
"""A numpy number of the schedule's element type."""

_NUMBERS = (int, float, np.integer, np.floating)


def number_of(owner: str, argument: str, value: object) -> float:
    """A number, or the one element of an array or of a Variable that has a value.

    Raises:
        ArgumentTypeError: It is neither.
        ProgramError: A Variable of a Program.
    """
    if isinstance(value, Variable):
        if not value.block.program.is_eager:
            raise invalid(f"{owner}: {argument} is {value.name} of a Program", "it has no value there; give a number")
        return float(value)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, _NUMBERS):
        raise wrong_type(f"{owner}: {argument} is {_named(value)}", "give a number")
    return float(value)


def _named(value: object) -> str:
    return f"an array {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def scaled(x: Number, factor: float) -> Number:
    """``x`` through fluid's scale op, whose factor is a float32."""
    return x * x.dtype.type(np.float32(factor))


def shifted(x: Number, bias: float) -> Number:
    """``x`` plus the scale op's bias, a float32 likewise."""
    return x + x.dtype.type(np.float32(bias))


def rounded(x: Number, function: Callable[[float], float]) -> Number:
    """``function(x)``, rounded once: what a good float32 library gives."""
    return x.dtype.type(function(float(x)))


def power(base: Number, exponent: Number) -> Number:
    """``base ** exponent``."""
    return rounded(base, lambda x: math.pow(x, float(exponent)))


def count_of(owner: str, argument: str, value: object) -> int:
    """A whole number; raises what `number_of` raises, and ProgramError."""
    count = number_of(owner, argument, value)
    if count != int(count):
        raise invalid(f"{owner}: {argument} is {count}", "give a whole number")
    return int(count)


def float_type(owner: str, dtype: str) -> str:
    """The name of a floating-point element type; ProgramError for another."""
    kind = convert_dtype(dtype)
    if kind.numpy not in (np.float32, np.float64):
        raise invalid(f"{owner}: dtype is {kind.numpy.name}", "a learning rate is float32 or float64")
    return kind.numpy.name


def above(owner: str, argument: str, value: float, bound: float = 0.0) -> float:
    """``value``; ProgramError unless it lies above ``bound``."""
    if not number_of(owner, argument, value) > bound:
        raise invalid(f"{owner}: {argument} is {value}", f"give a number above {bound:g}")
    return value


def shrinking(owner: str, decay_rate: float) -> float:
    """``decay_rate``; ProgramError unless it is below 1."""
    if not number_of(owner, "decay_rate", decay_rate) < 1.0:
        raise invalid(f"{owner}: decay_rate is {decay_rate}", "the rate is multiplied by it: give a number below 1")
    return decay_rate
