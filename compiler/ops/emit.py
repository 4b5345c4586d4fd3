"""What a code generator hands to an op's lowering rule.  Protocols only: op families import no target.

``to_tvm`` is written in a small loop language.  A tensor is defined by the expression of one element
(``compute``), by a reduction (``reduce``), by a kernel (``matmul``, ``conv2d``), or by explicit loops
(``loops``) where order matters.  The generator decides what is materialised, fused, vectorised and run
in parallel; rules say only what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from ..ir.types import Dim, DType, Shape

ReduceKind = Literal["sum", "prod", "max", "min", "any", "all"]


class Expr(Protocol):
    """A scalar at one index.  Arithmetic needs equal dtypes (a Python number takes the other side's);
    comparisons and logic give BOOL; ``//`` and ``%`` on integers round down.  u32/u64 arithmetic wraps."""

    @property
    def dtype(self) -> DType: ...
    def __add__(self, other: Scalar) -> Expr: ...
    def __radd__(self, other: Scalar) -> Expr: ...
    def __sub__(self, other: Scalar) -> Expr: ...
    def __rsub__(self, other: Scalar) -> Expr: ...
    def __mul__(self, other: Scalar) -> Expr: ...
    def __rmul__(self, other: Scalar) -> Expr: ...
    def __truediv__(self, other: Scalar) -> Expr: ...
    def __rtruediv__(self, other: Scalar) -> Expr: ...
    def __floordiv__(self, other: Scalar) -> Expr: ...
    def __mod__(self, other: Scalar) -> Expr: ...
    def __neg__(self) -> Expr: ...
    def __lt__(self, other: Scalar) -> Expr: ...
    def __le__(self, other: Scalar) -> Expr: ...
    def __gt__(self, other: Scalar) -> Expr: ...
    def __ge__(self, other: Scalar) -> Expr: ...
    def __and__(self, other: Scalar) -> Expr: ...
    def __or__(self, other: Scalar) -> Expr: ...
    def __xor__(self, other: Scalar) -> Expr: ...
    def __invert__(self) -> Expr: ...
    def __lshift__(self, other: Scalar) -> Expr: ...
    def __rshift__(self, other: Scalar) -> Expr: ...
    def eq(self, other: Scalar) -> Expr: ...
    def ne(self, other: Scalar) -> Expr: ...


Scalar: TypeAlias = Expr | int | float | bool
Index: TypeAlias = Expr | int


class Tensor(Protocol):
    """A tensor a rule may read: ``x[i, j]`` is the scalar at an index (``x[()]`` for rank 0)."""

    @property
    def dtype(self) -> DType: ...
    @property
    def shape(self) -> Shape: ...
    def __getitem__(self, index: Index | tuple[Index, ...]) -> Expr: ...


class RaggedTensor(Protocol):
    """A ragged value: tokens of all rows, and where each row starts (``offsets``: i64[count + 1])."""

    @property
    def data(self) -> Tensor: ...
    @property
    def offsets(self) -> Tensor: ...


class Loops(Protocol):
    """Explicit loops inside ``TvmEmitter.loops``; bodies run in program order."""

    def serial(self, extent: Dim | Expr, body: Callable[[Expr], None]) -> None:
        """``for i in range(extent): body(i)``."""
        ...

    def parallel(self, extent: Dim | Expr, body: Callable[[Expr], None]) -> None:
        """As ``serial``, for iterations that touch disjoint memory; may run on several threads."""
        ...

    def when(self, condition: Expr, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None: ...

    def store(self, target: Tensor, index: Index | tuple[Index, ...], value: Scalar) -> None: ...

    def local(self, dtype: DType, shape: Sequence[int] = (1,)) -> Tensor:
        """Scratch memory of this iteration, uninitialised."""
        ...


class TvmEmitter(Protocol):
    """Builds the loops of one op."""

    # One element --------------------------------------------------------------------------------------
    def const(self, value: float | bool, dtype: DType) -> Expr: ...
    def extent(self, dim: Dim) -> Expr:
        """The run-time size of an extent, i64."""
        ...

    def cast(self, x: Scalar, dtype: DType) -> Expr: ...
    def reinterpret(self, x: Expr, dtype: DType) -> Expr:
        """The same bits as another type of the same width."""
        ...

    def select(self, condition: Expr, then: Scalar, otherwise: Scalar) -> Expr:
        """Both branches may be evaluated; a NaN in the branch not taken does not spread."""
        ...

    def minimum(self, x: Scalar, y: Scalar) -> Expr:
        """NaN if either is NaN (numpy's rule); ``maximum`` likewise."""
        ...

    def maximum(self, x: Scalar, y: Scalar) -> Expr: ...
    def call(self, function: Function1, x: Expr) -> Expr:
        """An elementary function, to about 2 ulp in float32."""
        ...

    def pow(self, x: Expr, y: Expr) -> Expr: ...
    def isfinite(self, x: Expr) -> Expr: ...

    # Tensors ------------------------------------------------------------------------------------------
    def compute(self, shape: Shape, dtype: DType, element: Callable[..., Scalar]) -> Tensor:
        """``out[i, j, …] = element(i, j, …)``.  Cheap definitions are recomputed at their readers."""
        ...

    def pointwise(self, element: Callable[..., Scalar], *operands: Tensor, dtype: DType | None = None) -> Tensor:
        """``element`` of the operands' scalars, broadcast as numpy does.  Fuses into neighbours."""
        ...

    def reduce(
        self,
        kind: ReduceKind,
        shape: Shape,
        extents: Shape,
        element: Callable[..., Scalar],
        dtype: DType,
        accumulate: DType | None = None,
    ) -> Tensor:
        """``out[i…] = kind over r… of element(i…, r…)``; sums run in ``accumulate`` (default ``dtype``)."""
        ...

    def matmul(self, a: Tensor, b: Tensor, ta: bool, tb: bool) -> Tensor:
        """``a @ b`` over the last two axes, leading axes broadcast; ``ta``/``tb`` read them transposed."""
        ...

    def conv2d(self, x: Tensor, w: Tensor, out: Shape, geometry: ConvGeometry) -> Tensor:
        """NCHW convolution, ``w``: [O, C/groups, KH, KW]."""
        ...

    def conv2d_input_grad(self, w: Tensor, ct: Tensor, x_shape: Shape, geometry: ConvGeometry) -> Tensor: ...
    def conv2d_filter_grad(self, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor: ...
    def conv2d_example_filter_grad(self, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
        """The filter gradient of every example, ``[N, *w_shape]``."""
        ...

    def loops(
        self,
        outputs: Sequence[tuple[Shape, DType]],
        body: Callable[..., None],
    ) -> tuple[Tensor, ...]:
        """Explicit loops: ``body(loops, *outputs)`` stores every element of the outputs it is given."""
        ...

    def chacha_normals(
        self, key: Tensor, draw: Tensor, tensor: int, domain: int, count: Dim, first: Tensor | None = None
    ) -> Tensor:
        """``count`` standard normals of one keystream, f32[count] (privacy documentation: noise).

        ``first``, i64[], is the block they begin with, a multiple of 16; 0 if None.
        """
        ...

    def chacha_words(
        self, key: Tensor, draw: Tensor, tensor: int, domain: int, blocks: Dim, first: Tensor | None = None
    ) -> Tensor:
        """The keystream itself, u32[16 * blocks], from block ``first`` i64[] on (0 if None)."""
        ...


Function1 = Literal[
    "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "erfinv", "sin", "cos", "tan",
    "asin", "acos", "atan", "sinh", "cosh", "floor", "ceil", "round", "abs", "sign", "rounded",
]  # fmt: skip
"""``rounded`` is its argument, rounded to its type before anything is done with it: no fused product and sum."""


class ConvGeometry(Protocol):
    """Static numbers of a 2-D convolution; pads are (top, left, bottom, right)."""

    @property
    def strides(self) -> tuple[int, int]: ...
    @property
    def pads(self) -> tuple[int, int, int, int]: ...
    @property
    def dilations(self) -> tuple[int, int]: ...
    @property
    def groups(self) -> int: ...


class OnnxEmitter(Protocol):
    """Builds ONNX nodes; values are names."""

    def node(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: object) -> str: ...
