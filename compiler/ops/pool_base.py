"""The geometry of 2-D pooling, and the loops that its ops share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar

import numpy as np

from ..ir.types import DType, Shape, TensorType, dim_mul, static_shape
from .base import Op
from .emit import Expr, Index, Loops, Scalar, Tensor, TvmEmitter
from .kinds import Kind, MixedKind, aligned_kind, rowwise_kind
from .onnx_pool import Side


@dataclass(frozen=True, eq=False)
class Pooling(Op):
    """Base: the static numbers.  ``pads`` are (top, left, bottom, right)."""

    onnx_dtypes: ClassVar[tuple[DType, ...]]  # of images that ONNX Runtime pools

    kernel: tuple[int, int] = field(kw_only=True)
    strides: tuple[int, int] = field(default=(1, 1), kw_only=True)
    pads: tuple[int, int, int, int] = field(default=(0, 0, 0, 0), kw_only=True)
    ceil_mode: bool = field(default=False, kw_only=True)

    def out_type(self, x: TensorType) -> TensorType:
        """Type of pooled ``x``; raises VerifyError for a geometry with a window that sees padding only."""
        if x.rank != 4 or not x.dtype.is_float:
            raise self.fail(f"takes images [N, C, H, W] of floating-point numbers, not {x}")
        if min(*self.kernel, *self.strides) < 1 or min(self.pads) < 0:
            raise self.fail(
                f"window {self.kernel} and strides {self.strides} are at least 1, pads {self.pads} at least 0"
            )
        return x.with_shape((*x.shape[:2], self._extent(x, 0), self._extent(x, 1)))

    def _extent(self, x: TensorType, axis: int) -> int:
        size, before, after = x.shape[2 + axis], self.pads[axis], self.pads[2 + axis]
        kernel, stride = self.kernel[axis], self.strides[axis]
        if not isinstance(size, int):
            raise self.fail(f"image sizes are fixed numbers, in {x}")
        room = size + before + after - kernel
        if room < 0:
            raise self.fail(f"a window of {kernel} does not fit into {size} with {before} + {after} of padding")
        count = self._count(size, axis)
        if before >= kernel or (count - 1) * stride - before >= size:
            raise self.fail(
                f"a window of {kernel} with stride {stride} lies in the padding {before} + {after} altogether"
            )
        return count

    def _count(self, size: int, axis: int) -> int:
        """Windows along rows (axis 0) or columns of an image."""
        room = size + self.pads[axis] + self.pads[2 + axis] - self.kernel[axis]
        stride = self.strides[axis]
        return (room + (stride - 1 if self.ceil_mode else 0)) // stride + 1

    def along(self, kinds: Sequence[Kind]) -> Kind:
        """Images and cotangents of one batch, pooled example by example."""
        for kind in kinds:
            checked = rowwise_kind(self, kind, (2, 3), "pooling")
            if isinstance(checked, MixedKind):
                return checked
        # Batch and channels come first in all of them; the sizes of images play no part.
        rows = [value.tensor.shape[:2] for value in self.operands]
        return aligned_kind(self, kinds, rows, rows[0], linear=False)

    def windows(self, shape: Sequence[int], out: Sequence[int]) -> Iterator[tuple[int, int, slice, slice]]:
        """Every window: its place (p, q) in the result, and the rows and columns of the image it covers."""
        for p, q in np.ndindex(out[2], out[3]):
            top, left = p * self.strides[0] - self.pads[0], q * self.strides[1] - self.pads[1]
            rows = slice(max(top, 0), min(top + self.kernel[0], shape[2]))
            yield p, q, rows, slice(max(left, 0), min(left + self.kernel[1], shape[3]))

    def side(self, x: TensorType, axis: int) -> Side:
        """The windows along rows (axis 0) or columns of images, to write nodes of; raises MissingRule where ONNX
        Runtime has no kernels."""
        if x.dtype not in self.onnx_dtypes:
            known = " and ".join(dtype.numpy.name for dtype in self.onnx_dtypes)
            raise self.missing("to_onnx", f"ONNX Runtime pools {known} images, not {x}")
        size = image(x.shape)[axis]
        return Side(axis + 2, self.kernel[axis], self.strides[axis], self.pads[axis], size, self._count(size, axis))

    @property
    def taps(self) -> int:
        """Elements of a window."""
        return self.kernel[0] * self.kernel[1]

    def seen(self, t: TvmEmitter, out: Index, tap: Index, axis: int, size: int) -> tuple[Expr, Expr | None]:
        """Row (axis 0) or column (axis 1) that tap ``tap`` of window ``out`` sees, and whether the image has it.

        Outside the image, read it in the branch of a choice only.  None: every window lies inside.
        """
        at = t.cast(out, DType.I64) * self.strides[axis] + t.cast(tap, DType.I64) - self.pads[axis]
        reach = (self._count(size, axis) - 1) * self.strides[axis] - self.pads[axis] + self.kernel[axis]
        conditions: list[Expr] = []
        if self.pads[axis]:
            conditions.append(at >= 0)
        if reach > size:
            conditions.append(at < size)
        return at, reduce(both, conditions, None)

    def covering(self, t: TvmEmitter, at: Index, axis: int, size: int) -> Iterator[tuple[Expr, Expr, Expr | None]]:
        """The windows that may see row (axis 0) or column ``at``: which window, its tap, and whether it does."""
        kernel, stride, pad, count = self.kernel[axis], self.strides[axis], self.pads[axis], self._count(size, axis)
        place = t.cast(at, DType.I64) + pad
        last, rest = place // stride, place % stride
        for back in range(-(-kernel // stride)):
            out, tap = last - back, rest + stride * back
            conditions: list[Expr] = []
            if pad // stride < back:
                conditions.append(out >= 0)
            if (size - 1 + pad) // stride - back >= count:
                conditions.append(out < count)
            if stride * back + stride > kernel:
                conditions.append(tap < kernel)
            yield out, tap, reduce(both, conditions, None)

    def collected(self, t: TvmEmitter, shape: Shape, dtype: DType, part: Callable[..., Expr]) -> Tensor:
        """The images to which every window gives ``part(n, c, p, q, i, j)`` at its tap (i, j)."""
        height, width = image(shape)

        def element(n: Index, c: Index, row: Index, column: Index) -> Scalar:
            total: Expr | None = None
            for p, i, row_seen in self.covering(t, row, 0, height):
                for q, j, column_seen in self.covering(t, column, 1, width):
                    value, seen = part(n, c, p, q, i, j), both(row_seen, column_seen)
                    value = value if seen is None else t.select(seen, value, t.const(0.0, dtype))
                    total = value if total is None else total + value
            assert total is not None
            return total

        return t.compute(shape, dtype, element)

    def over_planes(
        self, t: TvmEmitter, shape: Shape, body: Callable[[Loops, Tensor, Index, Index], None], dtype: DType
    ) -> Tensor:
        """A tensor of ``shape``; ``body(loops, out, n, c)`` writes the plane of one channel of one example."""

        def planes(loops: Loops, out: Tensor) -> None:
            def plane(k: Expr) -> None:
                number = t.cast(k, DType.I64)
                body(loops, out, number // t.extent(shape[1]), number % t.extent(shape[1]))

            loops.parallel(dim_mul(shape[0], shape[1]), plane)

        (out,) = t.loops([(shape, dtype)], planes)
        return out


def image(shape: Shape) -> tuple[int, int]:
    """Rows and columns of images whose sizes ``infer`` has checked."""
    rows, columns = static_shape(shape[2:])
    return rows, columns


def both(x: Expr | None, y: Expr | None) -> Expr | None:
    """The conjunction, where None is true."""
    if x is None or y is None:
        return y if x is None else x
    return x & y


def grid(loops: Loops, rows: int, columns: int, body: Callable[[Expr, Expr], None]) -> None:
    """``body(i, j)`` for every place, row by row."""
    loops.serial(rows, lambda i: loops.serial(columns, lambda j: body(i, j)))
