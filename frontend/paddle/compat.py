"""``paddle.compat``: texts, bytes and numbers as Python 2 and 3 both had them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

long_type = int
int_type = int


def _converted(obj: Any, one: Callable[[Any], Any], inplace: bool) -> Any:
    """``obj``, or what is in it, converted; lists, sets and (of `to_text`) dicts can be changed in place."""
    if isinstance(obj, list):
        found: Any = [_converted(item, one, inplace) for item in obj]
        if inplace:
            obj[:] = found
        return obj if inplace else found
    if isinstance(obj, set):
        found = {_converted(item, one, inplace) for item in obj}
        if inplace:
            obj.clear()
            obj.update(found)
        return obj if inplace else found
    return one(obj)


def to_text(obj: Any, encoding: str = "utf-8", inplace: bool = False) -> Any:
    """Bytes, and bytes in lists, sets and dicts, decoded; other things as they are.

    >>> to_text([b"a", "b", 3])
    ['a', 'b', 3]
    """

    def one(item: Any) -> Any:
        if isinstance(item, dict):
            found = {one(key): one(value) for key, value in item.items()}
            if inplace:
                item.clear()
                item.update(found)
            return item if inplace else found
        return item.decode(encoding) if isinstance(item, bytes) else item

    return _converted(obj, one, inplace)


def to_bytes(obj: Any, encoding: str = "utf-8", inplace: bool = False) -> Any:
    """Texts, and texts in lists and sets, encoded; other things as they are.

    >>> to_bytes("a")
    b'a'
    """
    return _converted(obj, lambda item: item.encode(encoding) if isinstance(item, str) else item, inplace)


def round(x: float, d: int = 0) -> float:
    """Rounded as by Python 2: halves away from zero.

    >>> round(0.5), round(-1.5)
    (1.0, -2.0)
    """
    if x == 0.0 or not math.isfinite(x):
        return math.copysign(0.0, x) if x == 0.0 else x
    power = 10**d
    nearest = math.floor if x > 0 else math.ceil
    return float(nearest(x * power + math.copysign(0.5, x))) / power


def floor_division(x: Any, y: Any) -> Any:
    """``x // y``."""
    return x // y


def get_exception_message(exc: BaseException) -> str:
    """The text of an exception."""
    return str(exc)
