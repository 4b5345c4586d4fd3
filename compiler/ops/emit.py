"""What a code generator hands to an op's lowering rule.  Protocols only: op families import no target.

``to_onnx`` emits the nodes of a graph.  ``to_tvm`` is written in a small loop language.  A tensor is defined by the
expression of one element (``compute``), by a reduction (``reduce``), by a kernel (``matmul``, ``conv2d``), or by
explicit loops (``loops``) where order matters.  The generator decides what is materialised, fused, vectorised and run
in parallel; rules say only what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from numpy.typing import NDArray

from ..ir.core import Region
from ..ir.types import Dim, DType, Shape, TensorType

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

    def serial(self, extent: Dim | Expr, body: Callable[[Expr], None], *, independent: bool = False) -> None:
        """``for i in range(extent): body(i)``; ``independent`` says that iterations touch disjoint memory, which a
        target of many threads makes use of."""
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

    @property
    def many_threads(self) -> bool:
        """Whether the target runs thousands of threads at a time: parts of an example are then worth one each."""
        ...

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
    "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin", "cos", "tan",
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


@dataclass(frozen=True)
class Window:
    """Which part of a stream an op reads in a private step: block ``row * part // group * per`` is the first.

    Attributes:
        row: Index in the lot of the batch's first row, i64[].
        part: Elements of one example.
        group: Elements that ``per`` blocks make.
        per: Blocks of a group.
    """

    row: str
    part: int
    group: int
    per: int


class OnnxGraph(Protocol):
    """The body of a loop or branch, to be given to a node as an attribute."""


OnnxRagged: TypeAlias = tuple[str, str]
"""A ragged value: the names of its data and of its offsets (``i64[count + 1]``)."""

OnnxValue: TypeAlias = "str | OnnxRagged"


class OnnxEmitter(Protocol):
    """Builds the ONNX nodes of one op (ai.onnx, opset 20).  A tensor is the name of a value in the graph.

    A rule gets one name per operand field (None for an absent optional operand, a tuple for a variadic one) and returns
    the name of its result, or a tuple of names for several results; a ragged value is an `OnnxRagged`.  Element types
    and shapes are those of the op's own values (``self.x.tensor``).  Only what ONNX Runtime has CPU kernels for may be
    emitted: it adds i32, i64, f16, f32 and f64, shifts u8, u32 and u64, and multiplies no u32.
    """

    @property
    def ort_training(self) -> bool:
        """Whether nodes of onnxruntime-training (domain ``com.microsoft``) may be emitted where they are faster."""
        ...

    # Nodes --------------------------------------------------------------------------------------------
    def node(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output.  An absent optional input is ``""``; attributes that are None are left out."""
        ...

    def many(
        self, op_type: str, outputs: int, *inputs: str, domain: str = "", unused: Sequence[int] = (), **attributes: Any
    ) -> tuple[str, ...]:
        """A node with several outputs; those numbered in ``unused`` are left out, and ``""`` in the result."""
        ...

    def typed(self, name: str, kind: TensorType) -> str:
        """``name``, its type noted in the file.  Results of ops are noted anyway; only nodes for which ONNX has no
        shape inference need it (those of ``com.microsoft``: their kernels read the noted shape)."""
        ...

    # Constants ----------------------------------------------------------------------------------------
    def array(self, value: NDArray[Any]) -> str:
        """A constant array; equal ones are stored once."""
        ...

    def scalar(self, value: float | bool, dtype: DType) -> str:
        """A constant of rank 0."""
        ...

    def ints(self, *values: int) -> str:
        """A constant i64[n]: axes, starts, a fixed shape."""
        ...

    # Shapes -------------------------------------------------------------------------------------------
    def extent(self, dim: Dim) -> str:
        """The run-time size of an extent, i64[]."""
        ...

    def shape(self, shape: Shape) -> str:
        """A shape as i64[rank]; a constant if it is fixed."""
        ...

    def reshape(self, x: str, shape: Shape) -> str: ...
    def expand(self, x: str, shape: Shape) -> str:
        """``x`` broadcast to ``shape``, right-aligned as in numpy."""
        ...

    def cast(self, x: str, dtype: DType) -> str: ...
    def full(self, shape: Shape, value: float | bool, dtype: DType) -> str:
        """A tensor whose elements are all ``value``."""
        ...

    # Regions ------------------------------------------------------------------------------------------
    def graph(
        self,
        parameters: Sequence[tuple[str, TensorType]],
        results: Sequence[TensorType],
        body: Callable[..., Sequence[str]],
    ) -> OnnxGraph:
        """A nested graph: ``body(*names)`` emits its nodes and returns its results.

        Args:
            parameters: Name hint and type of each input.
            results: The types of its outputs.
            body: Called once, with the names of the parameters.  It may read values of the graphs around it.
        """
        ...

    def inline(self, region: Region, arguments: Sequence[OnnxValue]) -> tuple[OnnxValue, ...]:
        """The nodes of a region's ops, on ``arguments``; returns what it yields."""
        ...

    # Random bits --------------------------------------------------------------------------------------
    def keystream(
        self, key: str, draw: str, *, domain: int, tensor: int, blocks: Dim, window: Window | None = None
    ) -> str:
        """ChaCha20 words, u32[16 * blocks], of one stream (`runtime.keystream.words`).

        An input of the graph that the runtime fills, or, in a self-contained file, nodes that make it of ``key``
        (u32[8]) and ``draw`` (u64[]).
        """
        ...

    def normals(self, words: str, count: Dim) -> str:
        """The first ``count`` standard normals, f32[count], of keystream words (`keystream.normals_from_words`)."""
        ...
