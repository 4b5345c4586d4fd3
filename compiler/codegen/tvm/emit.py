"""The emitter that op rules are written against: builds tensor definitions, emits nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from ...ir.location import UNKNOWN, Loc
from ...ir.types import Dim, DType, Shape, Sym, dim_mul, numel
from ...ops.emit import ConvGeometry, Expr, Function1, ReduceKind, Scalar, Tensor
from . import conv
from .expr import (
    Atom,
    Call,
    Cast,
    Extent,
    Index,
    IsFinite,
    Load,
    Node,
    Reinterpret,
    as_node,
    binary,
    const,
    expr,
    index,
    loop_index,
    select,
)
from .graph import (
    Allocate,
    Compute,
    Contract,
    Keystream,
    Loop,
    Placeholder,
    Program,
    ProgramOutput,
    Reduce,
    Statement,
    Store,
    TensorDef,
    When,
)

FEW_ROWS = 4

T = TypeVar("T", bound=TensorDef)


class Emitter:
    """Implements ``ops.emit.TvmEmitter``.

    ``tensors`` lists every definition, operands before readers; those in ``keep`` are to be stored.
    """

    def __init__(self, *, many_threads: bool = False) -> None:
        self.many_threads = many_threads
        self.tensors: list[TensorDef] = []
        self.keep: set[TensorDef] = set()
        self._name = "t"
        self._loc: Loc = UNKNOWN

    @contextmanager
    def op(self, name: str, loc: Loc) -> Generator[None]:
        """Within the block, new definitions carry the op's name and place."""
        outer = self._name, self._loc
        self._name, self._loc = name, loc
        try:
            yield
        finally:
            self._name, self._loc = outer

    def define(self, tensor: T) -> T:
        """Register a definition."""
        tensor.serial = len(self.tensors)
        tensor.name, tensor.loc = self._name, self._loc
        self.tensors.append(tensor)
        return tensor

    # One element --------------------------------------------------------------------------------------
    def const(self, value: float | bool, dtype: DType) -> Expr:
        return expr(const(value, dtype))

    def extent(self, dim: Dim) -> Expr:
        return expr(_extent(dim))

    def cast(self, x: Scalar, dtype: DType) -> Expr:
        if not isinstance(x, Node):
            return expr(const(cast("float", x), dtype))
        return expr(x if x.dtype is dtype else Cast(dtype, (x,)))

    def reinterpret(self, x: Expr, dtype: DType) -> Expr:
        node = _node(x)
        if node.dtype.itemsize != dtype.itemsize:
            raise TypeError(f"{node.dtype.value} and {dtype.value} have different widths")
        return expr(node if node.dtype is dtype else Reinterpret(dtype, (node,)))

    def select(self, condition: Expr, then: Scalar, otherwise: Scalar) -> Expr:
        return expr(select(_node(condition), *_pair(then, otherwise)))

    def minimum(self, x: Scalar, y: Scalar) -> Expr:
        return expr(binary("min", *_pair(x, y)))

    def maximum(self, x: Scalar, y: Scalar) -> Expr:
        return expr(binary("max", *_pair(x, y)))

    def call(self, function: Function1, x: Expr) -> Expr:
        node = _node(x)
        return expr(Call(node.dtype, (node,), function))

    def pow(self, x: Expr, y: Expr) -> Expr:
        return expr(binary("pow", *_pair(x, y)))

    def isfinite(self, x: Expr) -> Expr:
        return expr(IsFinite(DType.BOOL, (_node(x),)))

    # Tensors ------------------------------------------------------------------------------------------
    def compute(self, shape: Shape, dtype: DType, element: Callable[..., Scalar]) -> Tensor:
        indices = tuple(loop_index(dim) for dim in shape)
        body = as_node(element(*map(expr, indices)), dtype)
        if body.dtype is not dtype:
            raise TypeError(f"the element is {body.dtype.value}, the tensor {dtype.value}")
        return self.define(Compute(dtype, shape, indices, body=body))

    def pointwise(self, element: Callable[..., Scalar], *operands: Tensor, dtype: DType | None = None) -> Tensor:
        shape = _broadcast([operand.shape for operand in operands])
        indices = tuple(loop_index(dim) for dim in shape)

        def at(operand: Tensor) -> Expr:
            own = indices[len(shape) - len(operand.shape) :]
            zero = const(0, DType.I64)
            aligned = tuple(i if dim != 1 else zero for i, dim in zip(own, operand.shape, strict=True))
            return operand[tuple(map(expr, aligned))]

        result = element(*map(at, operands))
        kind = dtype or (result.dtype if isinstance(result, Node) else operands[0].dtype)
        body = as_node(result, kind)
        if body.dtype is not kind:
            raise TypeError(f"the element is {body.dtype.value}, the tensor {kind.value}")
        return self.define(Compute(kind, shape, indices, body=body))

    def reduce(
        self,
        kind: ReduceKind,
        shape: Shape,
        extents: Shape,
        element: Callable[..., Scalar],
        dtype: DType,
        accumulate: DType | None = None,
    ) -> Tensor:
        if not extents:
            return self.compute(shape, dtype, element)
        indices = tuple(loop_index(dim) for dim in shape)
        reduced = tuple(index(dim) for dim in extents)
        total = accumulate or dtype
        body = as_node(element(*map(expr, indices), *map(expr, reduced)), dtype)
        if total is dtype:
            return self.define(Reduce(dtype, shape, indices, reduced, kind, total, body=body))
        body = body if body.dtype is total else Cast(total, (body,))
        wide = self.define(Reduce(total, shape, indices, reduced, kind, total, body=body))

        def narrowed(x: Expr) -> Expr:
            return self.cast(x, dtype)

        return self.pointwise(narrowed, wide)

    def matmul(self, a: Tensor, b: Tensor, ta: bool, tb: bool) -> Tensor:
        *batch_a, rows, inner = a.shape
        *batch_b, depth, columns = b.shape
        if ta:
            rows, inner = inner, rows
        if tb:
            depth, columns = columns, depth
        if inner != depth or a.dtype is not b.dtype:
            raise TypeError(f"matmul of {a.dtype.value}{a.shape} and {b.dtype.value}{b.shape}")
        batch = _broadcast([tuple(batch_a), tuple(batch_b)])
        shape = (*batch, rows, columns)
        if isinstance(rows, int) and rows <= FEW_ROWS:
            return self._dot_products(a, b, ta, tb, shape, inner)
        if not batch_b and batch_a and not ta:
            return self._folded(a, b, tb, shape, inner)
        over = tuple(loop_index(dim) for dim in batch)
        row, column, k = index(rows), index(columns), index(inner)

        def aligned(operand: Shape) -> tuple[Node, ...]:
            own = over[len(over) - len(operand) :]
            return tuple(i if dim != 1 else const(0, DType.I64) for i, dim in zip(own, operand, strict=True))

        left = a[tuple(map(expr, (*aligned(tuple(batch_a)), *((k, row) if ta else (row, k)))))]
        right = b[tuple(map(expr, (*aligned(tuple(batch_b)), *((column, k) if tb else (k, column)))))]
        where = (*over, *(i if dim != 1 else const(0, DType.I64) for i, dim in ((row, rows), (column, columns))))
        return self._product(a.dtype, shape, over, row, (column,), (k,), left, right, where)

    def _dot_products(self, a: Tensor, b: Tensor, ta: bool, tb: bool, shape: Shape, inner: Dim) -> Tensor:
        """Few rows: each element of ``b`` is used so seldom that packing it would cost more than the product."""

        def at(operand: Tensor, batch: Sequence[Expr], i: Expr, j: Expr) -> Expr:
            own = operand.shape[:-2]
            lead = batch[len(batch) - len(own) :]
            zero = self.const(0, DType.I64)
            aligned = [x if dim != 1 else zero for x, dim in zip(lead, own, strict=True)]
            return operand[(*aligned, i, j)]

        def term(*indices: Expr) -> Expr:
            *batch, i, j, k = indices
            left = at(a, batch, *((k, i) if ta else (i, k)))
            right = at(b, batch, *((j, k) if tb else (k, j)))
            return left * right

        half = a.dtype in (DType.F16, DType.BF16)
        return self.reduce("sum", shape, (inner,), term, a.dtype, DType.F32 if half else None)

    def _folded(self, a: Tensor, b: Tensor, tb: bool, shape: Shape, inner: Dim) -> Tensor:
        """Leading axes of ``a`` alone are rows of one larger product."""
        leading = shape[:-1]
        row, column, k = index(numel(leading)), index(shape[-1]), index(inner)
        lead = _unravel(row, leading)
        left = a[tuple(map(expr, (*lead, k)))]
        right = b[tuple(map(expr, (column, k) if tb else (k, column)))]
        where = (*lead, column if shape[-1] != 1 else const(0, DType.I64))
        return self._product(a.dtype, shape, (), row, (column,), (k,), left, right, where)

    def _product(
        self,
        dtype: DType,
        shape: Shape,
        batch: tuple[Node, ...],
        row: Index,
        columns: tuple[Index, ...],
        inner: tuple[Index, ...],
        left: Expr,
        right: Expr,
        where: tuple[Node, ...],
    ) -> Tensor:
        read = _node(left)
        assert isinstance(read, Load)
        over = tuple(i for i in batch if isinstance(i, Index))
        return self.define(
            Contract(
                dtype,
                shape,
                batch=over,
                rows=(row,),
                columns=columns,
                inner=inner,
                left=read,
                right=_node(right),
                where=where,
            )
        )

    def conv2d(self, x: Tensor, w: Tensor, out: Shape, geometry: ConvGeometry) -> Tensor:
        return conv.forward(self, x, w, out, geometry)

    def conv2d_input_grad(self, w: Tensor, ct: Tensor, x_shape: Shape, geometry: ConvGeometry) -> Tensor:
        return conv.input_grad(self, w, ct, x_shape, geometry)

    def conv2d_filter_grad(self, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
        return conv.filter_grad(self, x, ct, w_shape, geometry)

    def conv2d_example_filter_grad(self, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
        return conv.example_filter_grad(self, x, ct, w_shape, geometry)

    def loops(self, outputs: Sequence[tuple[Shape, DType]], body: Callable[..., None]) -> tuple[Tensor, ...]:
        program = Program()
        made = tuple(self.define(ProgramOutput(dtype, shape, program=program)) for shape, dtype in outputs)
        program.outputs = made
        tracer = LoopTracer()
        body(tracer, *made)
        program.statements = tracer.finish()
        return made

    def chacha_normals(
        self, key: Tensor, draw: Tensor, tensor: int, domain: int, count: Dim, first: Tensor | None = None
    ) -> Tensor:
        return self._stream(DType.F32, key, draw, tensor, domain, count, first)

    def chacha_words(
        self, key: Tensor, draw: Tensor, tensor: int, domain: int, blocks: Dim, first: Tensor | None = None
    ) -> Tensor:
        return self._stream(DType.U32, key, draw, tensor, domain, dim_mul(blocks, 16), first)

    def _stream(
        self, dtype: DType, key: Tensor, draw: Tensor, tensor: int, domain: int, count: Dim, first: Tensor | None
    ) -> Tensor:
        start = None if first is None else _tensor(first)
        made = Keystream(
            dtype, (count,), key=_tensor(key), draw=_tensor(draw), first=start, tensor=tensor, domain=domain
        )
        return self.define(made)


class LoopTracer:
    """Implements ``ops.emit.Loops``: records statements."""

    def __init__(self) -> None:
        self._stack: list[list[Statement]] = [[]]

    def finish(self) -> tuple[Statement, ...]:
        (statements,) = self._stack
        return tuple(statements)

    def serial(self, extent: Dim | Expr, body: Callable[[Expr], None], *, independent: bool = False) -> None:
        self._loop(extent, body, parallel=False, independent=independent)

    def parallel(self, extent: Dim | Expr, body: Callable[[Expr], None]) -> None:
        self._loop(extent, body, parallel=True, independent=True)

    def _loop(self, extent: Dim | Expr, body: Callable[[Expr], None], *, parallel: bool, independent: bool) -> None:
        fixed = extent if isinstance(extent, int | Sym) else None
        count = _extent(fixed) if fixed is not None else _node(extent)
        variable = index(fixed)
        inside = self._body(lambda: body(expr(variable)))
        self._stack[-1].append(Loop(variable, count, parallel, independent, inside))

    def when(self, condition: Expr, then: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        taken = self._body(then)
        other = self._body(otherwise) if otherwise is not None else ()
        self._stack[-1].append(When(_node(condition), taken, other))

    def _body(self, fill: Callable[[], None]) -> tuple[Statement, ...]:
        self._stack.append([])
        fill()
        return tuple(self._stack.pop())

    def store(self, target: Tensor, index: Atom | tuple[Atom, ...], value: Scalar) -> None:
        position = index if isinstance(index, tuple) else (index,)
        indices = tuple(as_node(i, DType.I64) for i in position)
        node = as_node(value, target.dtype)
        if node.dtype is not target.dtype:
            raise TypeError(f"a {node.dtype.value} cannot be stored in a tensor of {target.dtype.value}")
        self._stack[-1].append(Store(_tensor(target), indices, node))

    def local(self, dtype: DType, shape: Sequence[int] = (1,)) -> Tensor:
        tensor = Placeholder(dtype, tuple(shape), name="local")
        self._stack[-1].append(Allocate(tensor))
        return tensor


def _node(value: object) -> Node:
    if isinstance(value, Node):
        return value
    raise TypeError(f"an expression is expected, not {type(value).__name__}")


def _tensor(value: object) -> TensorDef:
    if isinstance(value, TensorDef):
        return value
    raise TypeError(f"a tensor is expected, not {type(value).__name__}")


def _pair(x: Scalar, y: Scalar) -> tuple[Node, Node]:
    """Two operands of one dtype; at least one is an expression."""
    if isinstance(x, Node):
        return x, as_node(y, x.dtype)
    other = _node(y)
    return as_node(x, other.dtype), other


def _extent(dim: Dim) -> Node:
    return const(dim, DType.I64) if isinstance(dim, int) else Extent(DType.I64, (), dim)


def _unravel(flat: Node, shape: Shape) -> tuple[Node, ...]:
    """Indices of element ``flat`` of a row-major ``shape``."""
    found: list[Node] = []
    rest = flat
    for dim in reversed(shape[1:]):
        found.append(const(0, DType.I64) if dim == 1 else binary("%", rest, _extent(dim)))
        rest = binary("//", rest, _extent(dim))
    return (const(0, DType.I64) if shape[0] == 1 else rest, *reversed(found))


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """The broadcast, by numpy's rule, of shapes that are known to fit."""
    rank = max((len(shape) for shape in shapes), default=0)
    out: list[Dim] = []
    for axis in range(rank):
        extents = [s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0]
        out.append(next((dim for dim in extents if dim != 1), 1))
    return tuple(out)
