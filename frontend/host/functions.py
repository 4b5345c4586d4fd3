"""The functions of ``py_func``: op records name them by number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_functions: list[Callable[..., Any]] = []


def register(function: Callable[..., Any]) -> int:
    """The number of a function, by which op records name it."""
    _functions.append(function)
    return len(_functions) - 1


def registered(number: int) -> Callable[..., Any]:
    """The function of that number."""
    return _functions[number]
