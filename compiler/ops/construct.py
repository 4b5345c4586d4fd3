"""The builder that rules, passes and the lowering use: one method per op that others need."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir.builder import Builder
from ..ir.core import Value
from ..ir.types import Dim, DType, RaggedType, Shape, TensorType, dim_mul
from . import elementwise, embedding, indexing, linear, ragged, reduce, unary
from . import shape as shape_ops
from .control import map_over


class OpBuilder(Builder):
    """Appends ops through typed constructors; implements ``ops.base.OpBuilder``.

    Constructors that would do nothing (a reshape to the same shape, a cast to the same type, a reduction over
    no axes) return their operand.  Axes may be counted from the end.
    """

    def nested(self) -> OpBuilder:
        """A builder for the body of a region, at the same source location."""
        inner = OpBuilder()
        inner._loc = self._loc
        return inner

    # Constants and elementwise ------------------------------------------------------------------------

    def fill(self, shape: Shape, dtype: DType, value: float | bool) -> Value:
        return self(elementwise.Fill(value, TensorType(dtype, tuple(shape))))

    def zeros_like(self, x: Value) -> Value:
        if isinstance(x.type, RaggedType):
            return self(ragged.Like(self.fill(x.type.data.shape, x.type.dtype, 0.0), x))
        return self.fill(x.tensor.shape, x.tensor.dtype, 0.0)

    def tokens(self, x: Value) -> Value:
        return self(ragged.Data(x)) if isinstance(x.type, RaggedType) else x

    def as_rows(self, x: Value, like: Value) -> Value:
        return self(ragged.Like(x, like)) if isinstance(like.type, RaggedType) else x

    def ones_like(self, x: Value) -> Value:
        return self.fill(x.tensor.shape, x.tensor.dtype, 1.0)

    def add(self, x: Value, y: Value) -> Value:
        """``x + y``; two ragged values have the same rows."""
        if isinstance(x.type, RaggedType):
            return self(ragged.Like(self.add(self(ragged.Data(x)), self(ragged.Data(y))), x))
        return self(elementwise.Add(x, y))

    def sub(self, x: Value, y: Value) -> Value:
        return self(elementwise.Sub(x, y))

    def mul(self, x: Value, y: Value) -> Value:
        return self(elementwise.Mul(x, y))

    def div(self, x: Value, y: Value) -> Value:
        return self(elementwise.Div(x, y))

    def maximum(self, x: Value, y: Value) -> Value:
        return self(elementwise.Maximum(x, y))

    def minimum(self, x: Value, y: Value) -> Value:
        return self(elementwise.Minimum(x, y))

    def pow(self, x: Value, y: Value) -> Value:
        return self(elementwise.Pow(x, y))

    def where(self, condition: Value, x: Value, y: Value) -> Value:
        return self(elementwise.Where(condition, x, y))

    def equal(self, x: Value, y: Value) -> Value:
        return self(elementwise.Equal(x, y))

    def not_equal(self, x: Value, y: Value) -> Value:
        return self(elementwise.NotEqual(x, y))

    def less(self, x: Value, y: Value) -> Value:
        return self(elementwise.Less(x, y))

    def less_equal(self, x: Value, y: Value) -> Value:
        return self(elementwise.LessEqual(x, y))

    def logical_and(self, x: Value, y: Value) -> Value:
        return self(elementwise.And(x, y))

    def logical_or(self, x: Value, y: Value) -> Value:
        return self(elementwise.Or(x, y))

    def logical_not(self, x: Value) -> Value:
        return self(unary.Not(x))

    def cast(self, x: Value, dtype: DType) -> Value:
        return x if x.tensor.dtype is dtype else self(elementwise.Cast(x, dtype))

    # Functions of one element -------------------------------------------------------------------------

    def neg(self, x: Value) -> Value:
        return self(unary.Neg(x))

    def scale(self, x: Value, factor: float, bias: float = 0.0) -> Value:
        return self(unary.Scale(x, float(factor), float(bias)))

    def exp(self, x: Value) -> Value:
        return self(unary.Exp(x))

    def log(self, x: Value) -> Value:
        return self(unary.Log(x))

    def sqrt(self, x: Value) -> Value:
        return self(unary.Sqrt(x))

    def rsqrt(self, x: Value) -> Value:
        return self(unary.Rsqrt(x))

    def square(self, x: Value) -> Value:
        return self(unary.Square(x))

    def reciprocal(self, x: Value) -> Value:
        return self(unary.Reciprocal(x))

    def sin(self, x: Value) -> Value:
        return self(unary.Sin(x))

    def cos(self, x: Value) -> Value:
        return self(unary.Cos(x))

    def tanh(self, x: Value) -> Value:
        return self(unary.Tanh(x))

    def sigmoid(self, x: Value) -> Value:
        return self(unary.Sigmoid(x))

    def erf(self, x: Value) -> Value:
        return self(unary.Erf(x))

    def relu(self, x: Value) -> Value:
        return self(unary.Relu(x))

    def softplus(self, x: Value) -> Value:
        return self(unary.Softplus(x))

    def sign(self, x: Value) -> Value:
        return self(unary.Sign(x))

    def abs(self, x: Value) -> Value:
        return self(unary.Abs(x))

    def floor(self, x: Value) -> Value:
        return self(unary.Floor(x))

    def clip(self, x: Value, low: float, high: float) -> Value:
        return self(unary.Clip(x, low, high))

    # Reductions ---------------------------------------------------------------------------------------

    def reduce_sum(self, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
        return self(reduce.Sum(x, _axes(x, axes), keepdims)) if axes else x

    def reduce_mean(self, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
        return self(reduce.Mean(x, _axes(x, axes), keepdims)) if axes else x

    def reduce_max(self, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
        return self(reduce.Max(x, _axes(x, axes), keepdims)) if axes else x

    def reduce_min(self, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
        return self(reduce.Min(x, _axes(x, axes), keepdims)) if axes else x

    def argmax(self, x: Value, axis: int, keepdims: bool = False) -> Value:
        return self(reduce.Argmax(x, axis % x.tensor.rank, keepdims))

    # Shapes -------------------------------------------------------------------------------------------

    def reshape(self, x: Value, shape: Shape) -> Value:
        return x if x.tensor.shape == tuple(shape) else self(shape_ops.Reshape(x, tuple(shape)))

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        return x if list(perm) == list(range(x.tensor.rank)) else self(shape_ops.Transpose(x, tuple(perm)))

    def broadcast(self, x: Value, shape: Shape) -> Value:
        return x if x.tensor.shape == tuple(shape) else self(shape_ops.Broadcast(x, tuple(shape)))

    def unbroadcast(self, x: Value, shape: Shape) -> Value:
        """Sum ``x`` down to ``shape``: the transpose of ``broadcast``."""
        extra = x.tensor.rank - len(shape)
        stretched = [i + extra for i, d in enumerate(shape) if d == 1 and x.tensor.shape[i + extra] != 1]
        return self.reshape(self.reduce_sum(x, [*range(extra), *stretched]), shape)

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        return xs[0] if len(xs) == 1 else self(shape_ops.Concat(tuple(xs), axis % xs[0].tensor.rank))

    def stack(self, xs: Sequence[Value], axis: int) -> Value:
        """``xs`` (equal types) along a new axis ``axis`` of the result."""
        at = axis % (xs[0].tensor.rank + 1)
        rows = [self.reshape(x, (*x.tensor.shape[:at], 1, *x.tensor.shape[at:])) for x in xs]
        return self.concat(rows, at)

    def split(self, x: Value, axis: int, sections: Sequence[int]) -> tuple[Value, ...]:
        """Consecutive pieces of ``x`` along ``axis``, of the extents ``sections``."""
        at, start = axis % x.tensor.rank, 0
        pieces: list[Value] = []
        for extent in sections:
            pieces.append(self.slice(x, at, start, start + extent))
            start += extent
        return tuple(pieces)

    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value:
        at = axis % x.tensor.rank
        whole = (start, stop, step) == (0, x.tensor.shape[at], 1)
        return x if whole else self(shape_ops.Slice(x, at, start, stop, step))

    def pad(
        self, x: Value, low: Sequence[Dim], high: Sequence[Dim], value: float = 0.0, interior: Sequence[int] = ()
    ) -> Value:
        gaps = tuple(interior) if any(interior) else ()
        nothing = not gaps and all(p == 0 for p in (*low, *high))
        return x if nothing else self(shape_ops.Pad(x, tuple(low), tuple(high), float(value), gaps))

    def reverse(self, x: Value, axes: Sequence[int]) -> Value:
        return self(shape_ops.Reverse(x, _axes(x, axes)))

    def tile(self, x: Value, repeats: Sequence[int]) -> Value:
        """``x`` repeated ``repeats[i]`` times along axis ``i``, as a whole (fluid's ``expand``)."""
        between: list[Dim] = []
        spread: list[Dim] = []
        for dim, times in zip(x.tensor.shape, repeats, strict=True):
            between += [1, dim] if times != 1 else [dim]
            spread += [times, dim] if times != 1 else [dim]
        tiled = tuple(dim_mul(dim, times) for dim, times in zip(x.tensor.shape, repeats, strict=True))
        return self.reshape(self.broadcast(self.reshape(x, tuple(between)), tuple(spread)), tiled)

    def iota(self, shape: Shape, axis: int, dtype: DType) -> Value:
        return self(shape_ops.Iota(axis % len(shape), TensorType(dtype, tuple(shape))))

    def extent(self, dim: Dim, dtype: DType) -> Value:
        return self(shape_ops.Extent(dim, dtype))

    # Products, indexing, control ----------------------------------------------------------------------

    def matmul(self, x: Value, w: Value, ta: bool = False, tb: bool = False) -> Value:
        return self(linear.MatMul(x, w, ta, tb))

    def lookup(self, table: Value, ids: Value, padding_idx: int | None = None) -> Value:
        return self(embedding.Lookup(table, ids, padding_idx))

    def one_hot(self, ids: Value, depth: int, dtype: DType) -> Value:
        return self(embedding.OneHot(ids, depth, dtype))

    def gather(self, x: Value, index: Value, axis: int) -> Value:
        return self(indexing.Gather(x, index, axis % x.tensor.rank))

    def scatter_add(self, x: Value, index: Value, updates: Value, axis: int) -> Value:
        return self(indexing.ScatterAdd(x, index, updates, axis % x.tensor.rank))

    def take_along(self, x: Value, index: Value, axis: int) -> Value:
        return self(indexing.TakeAlong(x, index, axis % x.tensor.rank))

    def cumsum(self, x: Value, axis: int, exclusive: bool = False, reverse: bool = False) -> Value:
        return self(indexing.Cumsum(x, axis % x.tensor.rank, exclusive, reverse))

    def map(
        self, operands: Sequence[Value], axes: Sequence[int], trip: Dim, body: Callable[..., Sequence[Value]]
    ) -> tuple[Value, ...]:
        """``body(b, *slices)`` for every index below ``trip``; a mapped operand's slice keeps its axis, with the
        extent divided by ``trip``.  Axis -1 passes the operand whole.  Results stack on a new axis 0."""
        return map_over(self, tuple(operands), tuple(axes), trip, body)


def _axes(x: Value, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted({axis % max(x.tensor.rank, 1) for axis in axes}))
