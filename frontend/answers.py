"""The arrays that a script gets as values of variables: numpy's own, unless somebody states another kind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_kind: Callable[[NDArray[Any]], NDArray[Any]] | None = None


def answer(value: Any) -> Any:
    """An array as the script is to see it; what is no array stays what it is."""
    return _kind(value) if _kind is not None and isinstance(value, np.ndarray) else value


@contextlib.contextmanager
def answering(kind: Callable[[NDArray[Any]], NDArray[Any]]) -> Iterator[None]:
    """Inside the ``with`` block, scripts get what ``kind`` makes of each array."""
    global _kind
    before, _kind = _kind, kind
    try:
        yield
    finally:
        _kind = before
