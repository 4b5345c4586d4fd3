"""The gradient of a matrix, example by example, as sums of outer products."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.core import Value
from ..ir.types import Dim


@dataclass(frozen=True)
class Factors:
    """``g_i = sum_t left[i, t] ⊗ right[i, t]``, a matrix ``[rows, columns]`` for every example i.

    Flattened by rows, the matrices of an example's ``groups`` are its gradient of the parameter, flattened.

    Args:
        left: ``f32[groups * N, T, rows]``; or integers ``[N, T]``, which stand for unit vectors (a table's rows).
        right: ``f32[groups * N, T, columns]``.  Row ``i * groups + k`` is group k of example i.
        rows: Extent of the vectors of ``left``.
        groups: Matrices per example.
        padding: The id whose outer products are left out; -1 for none.
    """

    left: Value
    right: Value
    rows: int
    groups: int = 1
    padding: int = -1

    @property
    def dense(self) -> bool:
        return self.left.tensor.rank == 3

    @property
    def tokens(self) -> int:
        """T: outer products per matrix."""
        return fixed(self.right.tensor.shape[1])

    @property
    def columns(self) -> int:
        return fixed(self.right.tensor.shape[2])

    @property
    def matrices(self) -> tuple[int, int, int]:
        """What the factors of two reads of a parameter must have in common."""
        return self.groups, self.rows, self.columns


def fixed(dim: Dim) -> int:
    """An extent that is known to be a number."""
    assert isinstance(dim, int)
    return dim
