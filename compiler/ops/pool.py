"""2-D pooling over NCHW, forward and backward.

A window may reach into the padding (and, with ``ceil_mode``, past it); what lies outside the image never
wins a maximum and, with ``exclusive``, does not count in a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, Shape, TensorType, static_shape
from .base import Array, Op, OpBuilder, same_dtype
from .emit import Expr, Index, Loops, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import Kind
from .onnx_pool import MaxNodes, MeanNodes
from .pool_base import Pooling, both, grid, image

UNROLLED = 25
"""Windows of up to this many elements are handled in straight-line code, lanes along whatever lies side by side."""


# Maximum ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Maximum(Pooling):
    """Base of max pooling; ``x`` are the images."""

    onnx_dtypes: ClassVar[tuple[DType, ...]] = (DType.F32, DType.F64)

    x: Value

    def spread(self, b: OpBuilder, ct: Value) -> Value:
        """``ct`` added where each window has its first largest element."""
        return b(
            MaxPool2dGrad(
                self.x, ct, kernel=self.kernel, strides=self.strides, pads=self.pads, ceil_mode=self.ceil_mode
            )
        )

    def picked(self, b: OpBuilder, values: Value) -> Value:
        """``values`` where each window has its first largest element."""
        return b(
            MaxPool2dPick(
                self.x, values, kernel=self.kernel, strides=self.strides, pads=self.pads, ceil_mode=self.ceil_mode
            )
        )

    def onnx(self, o: OnnxEmitter) -> MaxNodes:
        """What writes the nodes of this geometry."""
        x = self.x.tensor
        return MaxNodes(o, x.shape, x.dtype, self.side(x, 0), self.side(x, 1))

    def tap(
        self, t: TvmEmitter, x: Tensor, n: Index, c: Index, p: Index, q: Index, i: Index, j: Index
    ) -> tuple[Expr, Expr | None]:
        """What window (p, q) sees at (i, j), -inf outside the image, and whether the image has it (None: it does)."""
        height, width = image(self.x.tensor.shape)
        row, row_inside = self.seen(t, p, i, 0, height)
        column, column_inside = self.seen(t, q, j, 1, width)
        value = x[n, c, row, column]
        inside = both(row_inside, column_inside)
        return (value if inside is None else t.select(inside, value, t.const(float("-inf"), x.dtype))), inside

    def largest(self, t: TvmEmitter, x: Tensor, out: Shape) -> Tensor:
        """The largest element of every window."""
        if self.taps > UNROLLED:
            return t.reduce("max", out, self.kernel, lambda *at: self.tap(t, x, *at)[0], x.dtype)

        def element(n: Index, c: Index, p: Index, q: Index) -> Scalar:
            taps = [self.tap(t, x, n, c, p, q, i, j)[0] for i, j in np.ndindex(*self.kernel)]
            return reduce(lambda best, value: t.maximum(value, best), taps)

        return t.compute(out, x.dtype, element)

    def first(self, t: TvmEmitter, x: Tensor, n: Index, c: Index, p: Index, q: Index) -> Expr:
        """Which tap of window (p, q), counted row by row, holds its first largest element: i32."""
        taps = [self.tap(t, x, n, c, p, q, i, j) for i, j in np.ndindex(*self.kernel)]
        best: Expr = reduce(lambda best, value: t.maximum(value, best), [value for value, _ in taps])
        numbers: list[Expr] = []
        for number, (value, inside) in enumerate(taps):
            # If the maximum is NaN, the first NaN is it.
            hit = value.eq(best) | value.ne(value)
            own = t.const(number, DType.I32)
            numbers.append(t.select(hit if inside is None else hit & inside, own, self.taps))
        return reduce(t.minimum, numbers)

    def positions(self, x: Array) -> Array:
        """i64 [N, C, OH, OW]: where in its plane (row-major) the first largest element of each window lies."""
        out = static_shape(self.out_type(self.x.tensor).shape)
        found = np.empty(out, np.int64)
        width = x.shape[3]
        for p, q, rows, columns in self.windows(x.shape, out):
            part = x[:, :, rows, columns].reshape(*x.shape[:2], -1)
            at = part.argmax(axis=2)
            across = columns.stop - columns.start
            found[:, :, p, q] = (rows.start + at // across) * width + columns.start + at % across
        return found

    @property
    def frame(self) -> Shape:
        """The shape of the images with all that any window sees around them."""
        n, c, *_ = self.x.tensor.shape
        sizes, out = image(self.x.tensor.shape), image(self.out_type(self.x.tensor).shape)
        reach = [(out[axis] - 1) * self.strides[axis] + self.kernel[axis] for axis in (0, 1)]
        return (n, c, *(max(self.pads[axis] + sizes[axis], reach[axis]) for axis in (0, 1)))

    def framed(self, t: TvmEmitter, x: Tensor, fill: float) -> Tensor:
        """``x`` in its frame: windows then need no test of bounds."""
        if self.frame == x.shape:
            return x
        height, width = image(self.x.tensor.shape)

        def element(n: Index, c: Index, i: Index, j: Index) -> Scalar:
            row, column = t.cast(i, DType.I64) - self.pads[0], t.cast(j, DType.I64) - self.pads[1]
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            first = t.const(0, DType.I64)
            value = x[n, c, t.select(inside, row, first), t.select(inside, column, first)]
            return t.select(inside, value, t.const(fill, x.dtype))

        return t.compute(self.frame, x.dtype, element)

    def each_first(
        self,
        t: TvmEmitter,
        loops: Loops,
        framed: Tensor,
        n: Index,
        c: Index,
        visit: Callable[[Expr, Expr, Expr, Expr], None],
    ) -> None:
        """``visit(p, q, row, column)`` for every window: the place of its first largest element in the frame.

        Where all that a window sees of the image is -inf, that may be a place in the padding.
        """
        place, best = loops.local(DType.I64, (2,)), loops.local(framed.dtype)

        def window(p: Expr, q: Expr) -> None:
            loops.store(place, 0, t.const(-1, DType.I64))
            loops.store(best, 0, t.const(0.0, framed.dtype))

            def tap(i: Expr, j: Expr) -> None:
                row = t.cast(p, DType.I64) * self.strides[0] + t.cast(i, DType.I64)
                column = t.cast(q, DType.I64) * self.strides[1] + t.cast(j, DType.I64)
                value = framed[n, c, row, column]
                better = (value > best[0]) | (value.ne(value) & best[0].eq(best[0]))

                def take() -> None:
                    loops.store(best, 0, value)
                    loops.store(place, 0, row)
                    loops.store(place, 1, column)

                loops.when((place[0] < 0) | better, take)

            grid(loops, *self.kernel, tap)
            visit(p, q, place[0], place[1])

        grid(loops, *image(self.out_type(self.x.tensor).shape), window)


@dataclass(frozen=True, eq=False)
class MaxPool2d(Maximum):
    """The largest element of every window."""

    name: ClassVar[str] = "pool.max2d"

    def infer(self) -> TensorType:
        return self.out_type(self.x.tensor)

    def evaluate(self, x: Array) -> Array:
        out = np.empty(static_shape(self.result.tensor.shape), x.dtype)
        for p, q, rows, columns in self.windows(x.shape, out.shape):
            out[:, :, p, q] = x[:, :, rows, columns].max(axis=(2, 3))
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None else self.spread(b, ct),)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.along(kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        return self.largest(t, x, self.result.tensor.shape)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        return self.onnx(o).largest(x)


@dataclass(frozen=True, eq=False)
class MaxPool2dGrad(Maximum):
    """The transpose of max pooling: every ``ct`` is added where its window of ``x`` has its first largest element."""

    name: ClassVar[str] = "pool.max2d_grad"

    ct: Value

    def infer(self) -> TensorType:
        same_dtype(self, self.x, self.ct)
        if self.ct.type != self.out_type(self.x.tensor):
            raise self.fail(f"{self.x.type} pools to {self.out_type(self.x.tensor)}, the cotangent is {self.ct.type}")
        return self.x.tensor

    def evaluate(self, x: Array, ct: Array) -> Array:
        n, c, height, width = x.shape
        starts = range(0, n * c * height * width, height * width)
        places = self.positions(x) + np.array(starts, np.int64).reshape(n, c, 1, 1)
        sums = np.bincount(places.ravel(), weights=ct.ravel(), minlength=x.size)
        return sums.astype(x.dtype).reshape(x.shape)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (up,) = cts
        return None, None if up is None or not needs[1] else self.picked(b, up)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.along(kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor, ct: Tensor) -> Tensor:
        if self.taps > UNROLLED:
            return self._by_window(t, x, ct)

        # Which tap of each window is the first largest; then every element collects from the windows that see it.
        def first(n: Index, c: Index, p: Index, q: Index) -> Scalar:
            return self.first(t, x, n, c, p, q)

        chosen = t.compute(ct.shape, DType.I32, first)

        def collect(n: Index, c: Index, p: Expr, q: Expr, i: Expr, j: Expr) -> Expr:
            mine = chosen[n, c, p, q].eq(t.cast(i * self.kernel[1] + j, DType.I32))
            return t.select(mine, ct[n, c, p, q], t.const(0.0, ct.dtype))

        return self.collected(t, x.shape, ct.dtype, collect)

    def to_onnx(self, o: OnnxEmitter, x: str, ct: str) -> str:
        return self.onnx(o).spread(x, ct)

    def _by_window(self, t: TvmEmitter, x: Tensor, ct: Tensor) -> Tensor:
        framed, frame = self.framed(t, x, float("-inf")), self.frame

        def body(loops: Loops, out: Tensor, n: Index, c: Index) -> None:
            def clear(i: Expr, j: Expr) -> None:
                loops.store(out, (n, c, i, j), t.const(0.0, x.dtype))

            def add(p: Expr, q: Expr, row: Expr, column: Expr) -> None:
                loops.store(out, (n, c, row, column), out[n, c, row, column] + ct[n, c, p, q])

            grid(loops, *image(frame), clear)
            self.each_first(t, loops, framed, n, c, add)

        spread = self.over_planes(t, frame, body, x.dtype)
        if frame == x.shape:
            return spread

        def element(n: Index, c: Index, i: Index, j: Index) -> Scalar:
            return spread[n, c, t.cast(i, DType.I64) + self.pads[0], t.cast(j, DType.I64) + self.pads[1]]

        return t.compute(x.shape, x.dtype, element)


@dataclass(frozen=True, eq=False)
class MaxPool2dPick(Maximum):
    """``values`` (of the images' type) where the windows of ``x`` have their first largest element."""

    name: ClassVar[str] = "pool.max2d_pick"

    values: Value

    def infer(self) -> TensorType:
        if self.values.type != self.x.type:
            raise self.fail(f"values have the type of the images {self.x.type}, not {self.values.type}")
        return self.out_type(self.x.tensor)

    def evaluate(self, x: Array, values: Array) -> Array:
        at = self.positions(x)
        planes = values.reshape(*values.shape[:2], -1)
        return np.take_along_axis(planes, at.reshape(*at.shape[:2], -1), axis=2).reshape(at.shape)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return None, None if ct is None or not needs[1] else self.spread(b, ct)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.along(kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor, values: Tensor) -> Tensor:
        out, size = self.result.tensor.shape, image(self.x.tensor.shape)

        def element(n: Index, c: Index, p: Index, q: Index) -> Scalar:
            chosen, found = self.first(t, x, n, c, p, q), t.const(0.0, x.dtype)
            for number, (i, j) in enumerate(np.ndindex(*self.kernel)):
                row, _ = self.seen(t, p, i, 0, size[0])
                column, _ = self.seen(t, q, j, 1, size[1])
                found = t.select(chosen.eq(number), values[n, c, row, column], found)
            return found

        if self.taps <= UNROLLED:
            return t.compute(out, x.dtype, element)
        framed, held = self.framed(t, x, float("-inf")), self.framed(t, values, 0.0)

        def body(loops: Loops, out: Tensor, n: Index, c: Index) -> None:
            def put(p: Expr, q: Expr, row: Expr, column: Expr) -> None:
                loops.store(out, (n, c, p, q), held[n, c, row, column])

            self.each_first(t, loops, framed, n, c, put)

        return self.over_planes(t, out, body, x.dtype)

    def to_onnx(self, o: OnnxEmitter, x: str, values: str) -> str:
        return self.onnx(o).picked(x, values)


# Mean ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Mean(Pooling):
    """Base of average pooling; with ``exclusive`` a window's mean counts only what lies in the image."""

    onnx_dtypes: ClassVar[tuple[DType, ...]] = (DType.F32,)

    exclusive: bool = field(default=True, kw_only=True)

    def onnx(self, o: OnnxEmitter, x: TensorType) -> MeanNodes:
        """What writes the nodes for images of a type."""
        return MeanNodes(o, x.shape, self.side(x, 0), self.side(x, 1), self.exclusive)

    def share(self, rows: slice, columns: slice) -> float:
        """One over what a window's sum is divided by."""
        if self.exclusive:
            return 1.0 / ((rows.stop - rows.start) * (columns.stop - columns.start))
        return 1.0 / (self.kernel[0] * self.kernel[1])

    def divisor(self, t: TvmEmitter, p: Index, q: Index, size: tuple[int, int], dtype: DType) -> Expr:
        """What the sum of window (p, q) is divided by."""
        if not self.exclusive:
            return t.const(float(self.kernel[0] * self.kernel[1]), dtype)
        sides: list[Expr] = []
        for axis, out in enumerate((p, q)):
            start = t.cast(out, DType.I64) * self.strides[axis] - self.pads[axis]
            stop = t.minimum(start + self.kernel[axis], size[axis])
            sides.append(t.cast(stop - t.maximum(start, 0), dtype))
        return sides[0] * sides[1]


@dataclass(frozen=True, eq=False)
class AvgPool2d(Mean):
    """The mean of every window."""

    name: ClassVar[str] = "pool.avg2d"

    x: Value

    def infer(self) -> TensorType:
        return self.out_type(self.x.tensor)

    def evaluate(self, x: Array) -> Array:
        out = np.empty(static_shape(self.result.tensor.shape), x.dtype)
        for p, q, rows, columns in self.windows(x.shape, out.shape):
            out[:, :, p, q] = x[:, :, rows, columns].sum(axis=(2, 3)) * x.dtype.type(self.share(rows, columns))
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return (None,)
        return (
            b(
                AvgPool2dGrad(
                    ct,
                    self.x.tensor.shape,
                    kernel=self.kernel,
                    strides=self.strides,
                    pads=self.pads,
                    ceil_mode=self.ceil_mode,
                    exclusive=self.exclusive,
                )
            ),
        )

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.along(kinds)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        shape = self.result.tensor.shape
        height, width = image(self.x.tensor.shape)

        def tap(n: Index, c: Index, p: Index, q: Index, i: Index, j: Index) -> Expr:
            row, row_inside = self.seen(t, p, i, 0, height)
            column, column_inside = self.seen(t, q, j, 1, width)
            inside = both(row_inside, column_inside)
            value = x[n, c, row, column]
            return value if inside is None else t.select(inside, value, t.const(0.0, x.dtype))

        def unrolled(n: Index, c: Index, p: Index, q: Index) -> Scalar:
            return reduce(add, [tap(n, c, p, q, i, j) for i, j in np.ndindex(*self.kernel)])

        def divided(n: Index, c: Index, p: Index, q: Index) -> Scalar:
            total = unrolled(n, c, p, q) if sums is None else sums[n, c, p, q]
            return total / self.divisor(t, p, q, (height, width), x.dtype)

        sums = None if self.taps <= UNROLLED else t.reduce("sum", shape, self.kernel, tap, x.dtype)
        return t.compute(shape, x.dtype, divided)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        return self.onnx(o, self.x.tensor).mean(x)


@dataclass(frozen=True, eq=False)
class AvgPool2dGrad(Mean):
    """The transpose of average pooling: every ``ct`` is shared out over its window; the images have ``x_shape``."""

    name: ClassVar[str] = "pool.avg2d_grad"

    ct: Value
    x_shape: Shape

    def infer(self) -> TensorType:
        kind = self.ct.tensor.with_shape(self.x_shape)
        if self.ct.type != self.out_type(kind):
            raise self.fail(f"{kind} pools to {self.out_type(kind)}, the cotangent is {self.ct.type}")
        return kind

    def evaluate(self, ct: Array) -> Array:
        out = np.zeros(static_shape(self.x_shape), ct.dtype)
        for p, q, rows, columns in self.windows(out.shape, ct.shape):
            share = ct.dtype.type(self.share(rows, columns))
            out[:, :, rows, columns] += ct[:, :, p, q, None, None] * share
        return out

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (up,) = cts
        if up is None:
            return (None,)
        return (
            b(
                AvgPool2d(
                    up,
                    kernel=self.kernel,
                    strides=self.strides,
                    pads=self.pads,
                    ceil_mode=self.ceil_mode,
                    exclusive=self.exclusive,
                )
            ),
        )

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.along(kinds)

    def to_tvm(self, t: TvmEmitter, ct: Tensor) -> Tensor:
        size = image(self.x_shape)

        def share(n: Index, c: Index, p: Index, q: Index) -> Scalar:
            return ct[n, c, p, q] / self.divisor(t, p, q, size, ct.dtype)

        shares = t.compute(ct.shape, ct.dtype, share)

        def collect(n: Index, c: Index, p: Expr, q: Expr, i: Expr, j: Expr) -> Expr:
            return shares[n, c, p, q]

        return self.collected(t, self.x_shape, ct.dtype, collect)

    def to_onnx(self, o: OnnxEmitter, ct: str) -> str:
        return self.onnx(o, self.result.tensor).spread(ct)


OPS: tuple[type[Op], ...] = (MaxPool2d, MaxPool2dGrad, MaxPool2dPick, AvgPool2d, AvgPool2dGrad)
