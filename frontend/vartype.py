"""Element and container types of Variables, with Paddle's numbers."""

from __future__ import annotations

import enum

import numpy as np

from .api import similar
from .errors import wrong_type


class VarType(enum.IntEnum):
    """Paddle's ``VarDesc.VarType``: element types (0 to 6, 20, 21) and kinds of variables (7 to 18)."""

    BOOL = 0
    INT16 = 1
    INT32 = 2
    INT64 = 3
    FP16 = 4
    FP32 = 5
    FP64 = 6
    LOD_TENSOR = 7
    SELECTED_ROWS = 8
    FEED_MINIBATCH = 9
    FETCH_LIST = 10
    STEP_SCOPES = 11
    LOD_RANK_TABLE = 12
    LOD_TENSOR_ARRAY = 13
    PLACE_LIST = 14
    READER = 15
    RAW = 17
    UINT8 = 20
    INT8 = 21

    def __str__(self) -> str:
        return f"VarType.{self.name}"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype of an element type; raises KeyError for kinds of variables."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self in (VarType.FP16, VarType.FP32, VarType.FP64)

    @property
    def is_integer(self) -> bool:
        return self in (VarType.INT16, VarType.INT32, VarType.INT64, VarType.UINT8, VarType.INT8)


_NUMPY: dict[VarType, np.dtype[np.generic]] = {
    VarType.BOOL: np.dtype(np.bool_),
    VarType.INT16: np.dtype(np.int16),
    VarType.INT32: np.dtype(np.int32),
    VarType.INT64: np.dtype(np.int64),
    VarType.FP16: np.dtype(np.float16),
    VarType.FP32: np.dtype(np.float32),
    VarType.FP64: np.dtype(np.float64),
    VarType.UINT8: np.dtype(np.uint8),
    VarType.INT8: np.dtype(np.int8),
}
_OF_NUMPY = {dtype: kind for kind, dtype in _NUMPY.items()}

DTypeLike = VarType | str | type[np.generic] | type[bool] | type[int] | type[float] | np.dtype[np.generic]


def convert_dtype(dtype: DTypeLike) -> VarType:
    """``'float32'``, ``numpy.float32`` or ``VarType.FP32`` as a `VarType`.

    Raises:
        ArgumentTypeError: Not one of fluid's element types.
    """
    if isinstance(dtype, VarType):
        if dtype in _NUMPY:
            return dtype
    else:
        try:
            return _OF_NUMPY[np.dtype(dtype)]
        except (TypeError, KeyError):
            pass
    names = ", ".join(d.name for d in _OF_NUMPY)
    near = similar(str(dtype), [d.name for d in _OF_NUMPY])
    meant = f"; did you mean {near!r}?" if near else ""
    raise wrong_type(f"{dtype!r} is not an element type of fluid{meant}", f"use one of {names}")
