"""Types of IR values: element types, dimensions (fixed or symbolic), tensors and ragged tensors."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from .core import Value


class DType(enum.Enum):
    """Element type of a tensor; the member's value is its spelling in IR text."""

    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    F64 = "f64"
    I8 = "i8"
    I32 = "i32"
    I64 = "i64"
    U8 = "u8"
    U32 = "u32"
    U64 = "u64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self in (DType.F16, DType.BF16, DType.F32, DType.F64)

    @property
    def is_integer(self) -> bool:
        return not self.is_float and self is not DType.BOOL

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @staticmethod
    def of(dtype: np.dtype[np.generic] | type[np.generic] | str) -> DType:
        """The IR element type of a numpy dtype; raises KeyError for dtypes the IR does not have."""
        return _FROM_NUMPY[np.dtype(dtype)]


_NUMPY: Mapping[DType, np.dtype[np.generic]] = {
    DType.F16: np.dtype(np.float16),
    DType.BF16: np.dtype(ml_dtypes.bfloat16),
    DType.F32: np.dtype(np.float32),
    DType.F64: np.dtype(np.float64),
    DType.I8: np.dtype(np.int8),
    DType.I32: np.dtype(np.int32),
    DType.I64: np.dtype(np.int64),
    DType.U8: np.dtype(np.uint8),
    DType.U32: np.dtype(np.uint32),
    DType.U64: np.dtype(np.uint64),
    DType.BOOL: np.dtype(np.bool_),
}
_FROM_NUMPY = {numpy: dtype for dtype, numpy in _NUMPY.items()}


@dataclass(frozen=True, order=True)
class Sym:
    """A symbolic extent ``scale * name``, for example ``N`` (the batch) or ``8*N`` (batch times time).

    The name of a product of open extents lists them, sorted: ``N*S``.

    >>> print(TensorType(DType.F32, (Sym("N", 8), 16)))
    f32[8*N,16]
    """

    name: str
    scale: int = 1

    @property
    def factors(self) -> tuple[str, ...]:
        """The symbols whose product the name is."""
        return (self.name,) if "+" in self.name else tuple(self.name.split("*"))

    @staticmethod
    def product(factors: Iterable[str], scale: int = 1) -> Dim:
        """``scale`` times the symbols ``factors``; a number without any, or for a scale of 0."""
        name = "*".join(sorted(factors))
        return Sym(name, scale) if name and scale else scale

    def __str__(self) -> str:
        return self.name if self.scale == 1 else f"{self.scale}*{self.name}"


Dim: TypeAlias = int | Sym
Shape: TypeAlias = tuple[Dim, ...]


def dim_mul(a: Dim, b: Dim) -> Dim:
    """``a * b``.

    >>> print(dim_mul(Sym("N", 2), Sym("S", 3)))
    6*N*S
    """
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    (one, more), (other, further) = _parts(a), _parts(b)
    return Sym.product((*more, *further), one * other)


def dim_div(a: Dim, b: Dim) -> Dim | None:
    """``a / b`` when it is a whole extent for every value of the symbols, else None.

    >>> dim_div(Sym("N", 6), 3), dim_div(Sym("N", 6), Sym("N")), dim_div(Sym("N"), 2)
    (Sym(name='N', scale=2), 6, None)
    """
    if a == b:
        return 1
    (over, above), (under, below) = (_parts(d) for d in (a, b))
    left = list(above)
    for name in below:
        if name not in left:
            return None
        left.remove(name)
    return Sym.product(left, over // under) if under and over % under == 0 else None


def _parts(dim: Dim) -> tuple[int, tuple[str, ...]]:
    """The number and the symbols that an extent is the product of."""
    return (dim, ()) if isinstance(dim, int) else (dim.scale, dim.factors)


def dim_add(a: Dim, b: Dim) -> Dim:
    """``a + b``; raises ValueError for a sum that is not one term (``N + 3``)."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0 or b == 0:
        return b if a == 0 else a
    if isinstance(a, Sym) and isinstance(b, Sym) and a.name == b.name:
        return Sym(a.name, a.scale + b.scale)
    raise ValueError(f"sum of extents {a} and {b} is neither fixed nor one symbol")


def numel(shape: Iterable[Dim]) -> Dim:
    """Number of elements of ``shape``."""
    total: Dim = 1
    for dim in shape:
        total = dim_mul(total, dim)
    return total


def static_shape(shape: Shape) -> tuple[int, ...]:
    """``shape`` when every extent is an int; raises ValueError otherwise."""
    fixed = tuple(d for d in shape if isinstance(d, int))
    if len(fixed) != len(shape):
        raise ValueError(f"shape [{', '.join(map(str, shape))}] is not fixed")
    return fixed


def bind_dim(dim: Dim, sizes: Mapping[str, int]) -> Dim:
    """``dim`` with the symbols named in ``sizes`` replaced by their values."""
    if isinstance(dim, int) or not any(name in sizes for name in dim.factors):
        return dim
    scale = math.prod((sizes[name] for name in dim.factors if name in sizes), start=dim.scale)
    return Sym.product((name for name in dim.factors if name not in sizes), scale)


@dataclass(frozen=True)
class TensorType:
    """A dense array: element type and extents, printed ``f32[N,784]``."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Dim:
        return numel(self.shape)

    def with_shape(self, shape: Iterable[Dim]) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def bind(self, sizes: Mapping[str, int]) -> TensorType:
        return TensorType(self.dtype, tuple(bind_dim(d, sizes) for d in self.shape))

    def nbytes(self) -> int | None:
        """Bytes of the dense buffer, or None while an extent is symbolic."""
        try:
            return math.prod(static_shape(self.shape)) * self.dtype.itemsize
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.dtype.value}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class RaggedType:
    """Rows of different lengths: ``data`` holds all tokens, ``count`` rows; printed ``ragged<f32[T,D], N>``.

    The value is a pair of buffers: ``data`` (axis 0 runs over the tokens of all rows) and ``offsets``
    (``i64[count + 1]``, row ``i`` owns tokens ``offsets[i] : offsets[i + 1]``).
    """

    data: TensorType
    count: Dim

    @property
    def dtype(self) -> DType:
        return self.data.dtype

    @property
    def offsets(self) -> TensorType:
        """The type of the offsets; their number is no extent of the IR where ``count`` is open: it is called ``N+1``,
        which code generators read as one more than ``N``."""
        return TensorType(DType.I64, (self.count + 1 if isinstance(self.count, int) else Sym(f"{self.count}+1"),))

    def bind(self, sizes: Mapping[str, int]) -> RaggedType:
        return RaggedType(self.data.bind(sizes), bind_dim(self.count, sizes))

    def __str__(self) -> str:
        return f"ragged<{self.data}, {self.count}>"


Type: TypeAlias = TensorType | RaggedType


@dataclass(frozen=True)
class Example:
    """Label of a value whose rows belong to single examples: raw, never to be released."""

    def __str__(self) -> str:
        return "example"


@dataclass(frozen=True)
class Scaled:
    """Label of an ``example`` value whose row i has been multiplied by the clip factor ``factor[i]``."""

    factor: Value

    def __str__(self) -> str:
        return f"scaled<{self.factor}>"


@dataclass(frozen=True)
class Clipped:
    """Label of a sum over examples, each weighted by the clip factor ``factor``: bounded sensitivity, no noise yet."""

    factor: Value

    def __str__(self) -> str:
        return f"clipped<{self.factor}>"


@dataclass(frozen=True)
class Public:
    """Label of a value that may be released: independent of the data, or privatised."""

    def __str__(self) -> str:
        return "public"


@dataclass(frozen=True)
class Mixed:
    """Label of a value that depends on several examples in an unbounded way."""

    def __str__(self) -> str:
        return "mixed"


Label: TypeAlias = Example | Scaled | Clipped | Public | Mixed
