"""Products in numpy whose every row is computed alike, wherever in the batch it stands.

A blocked product adds up the last rows of a batch in another order than the first ones.  On an integer grid that would
move an example's integers with its place in the lot, so programs of the discrete mechanism take their products row by
row.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from .base import Array

_APART: ContextVar[bool] = ContextVar("rows apart", default=False)


@contextmanager
def rows_apart(apart: bool) -> Generator[None]:
    """Within it `product` and `contracted` compute every row by itself, if ``apart``."""
    token = _APART.set(apart)
    try:
        yield
    finally:
        _APART.reset(token)


def product(x: Array, w: Array) -> Array:
    """``x @ w``."""
    if _APART.get() and x.ndim == 2 and w.ndim == 2:
        return np.matmul(x[:, None, :], w)[:, 0, :]
    return np.matmul(x, w)


def contracted(a: Array, b: Array, axes: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    """``np.tensordot``; axis 0 of ``b`` is the batch, and stays."""
    if not _APART.get():
        return np.tensordot(a, b, axes)
    rows = [np.tensordot(a, b[i : i + 1], axes) for i in range(len(b))]
    return np.concatenate(rows, axis=a.ndim - len(axes[0])) if rows else np.tensordot(a, b, axes)
