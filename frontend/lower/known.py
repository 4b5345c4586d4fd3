"""Values that are known while a program is lowered: numbers, and the extents of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler.ir.types import Dim, DType, Sym


@dataclass(frozen=True, eq=False)
class Known:
    """An array whose elements are known: no op computes it unless somebody needs it at run time.

    Attributes:
        array: Of ``dtype``'s numpy type; or, of integers only, of objects that are int or ``Sym`` (``[N, 128]``).
        dtype: The element type.
    """

    array: NDArray[Any]
    dtype: DType

    @staticmethod
    def of(array: NDArray[Any]) -> Known:
        """Numbers under their own element type; KeyError for one that the IR does not have."""
        return Known(array, DType.of(array.dtype))

    @staticmethod
    def dims(dims: NDArray[Any] | Sequence[Dim], dtype: DType = DType.I64) -> Known:
        """Extents; plain numbers where none of them is symbolic."""
        array = np.empty(dims.shape if isinstance(dims, np.ndarray) else len(dims), object)
        array[...] = dims
        if any(isinstance(d, Sym) for d in array.flat):
            return Known(array, dtype)
        return Known(array.astype(dtype.numpy), dtype)

    @property
    def symbolic(self) -> bool:
        """Whether an element depends on the batch or another open extent."""
        return self.array.dtype == object

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape
