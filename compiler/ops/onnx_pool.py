"""Pooling as ONNX nodes.

`MaxPool` of ONNX Runtime forgets NaN, takes -inf for the least finite number, and is slow where it also tells which
element won.  So a maximum is taken along columns and then along rows, as `Max` of shifted copies; which tap of a window
wins is a comparison with the largest one behind it, and the forward pass shares its nodes with the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..ir.types import DType, Shape, TensorType, dim_mul, numel, static_shape
from .emit import OnnxEmitter
from .onnx_forms import if_finite

MOST_TAPS = 8
"""Windows longer than this along an axis are left to `MaxPool`: copies would be many."""


@dataclass(frozen=True)
class Side:
    """How windows lie along one axis of [N, C, H, W].

    Attributes:
        axis: 2 (rows) or 3 (columns).
        kernel: Extent of a window.
        stride: From one window to the next.
        pad: Padding before the image.
        size: Extent of the image.
        out: Number of windows.
    """

    axis: int
    kernel: int
    stride: int
    pad: int
    size: int
    out: int

    @property
    def pace(self) -> int:
        """The stride; of a single window, its extent: nothing else is met."""
        return self.kernel if self.out == 1 else self.stride

    @property
    def reach(self) -> int:
        """Extent of what the windows see."""
        return (self.out - 1) * self.stride + self.kernel

    @property
    def frame(self) -> int:
        """Extent of the image with the padding that any window sees."""
        return max(self.pad + self.size, self.reach)

    @property
    def after(self) -> int:
        """Padding behind the image that any window sees."""
        return max(self.reach - self.pad - self.size, 0)

    @property
    def unseen(self) -> int:
        """Extent of what no window sees at the image's end."""
        return max(self.pad + self.size - self.reach, 0)

    @property
    def sliding(self) -> bool:
        """Whether windows start at every element: then taps are shifts of the whole tensor, and what is computed
        behind the last window is of no consequence."""
        return self.pace == 1

    @property
    def length(self) -> int:
        """Extent along the axis of what is computed per window."""
        return self.frame if self.sliding else self.out

    def seen(self, tap: int) -> np.ndarray:
        """bool[out]: whether a window's tap lies in the image."""
        place = np.arange(self.out) * self.stride + tap - self.pad
        return (place >= 0) & (place < self.size)


Share = Callable[[str, str], tuple[str, str]]


@dataclass(frozen=True)
class MaxNodes:
    """Writes the nodes of max pooling.

    Attributes:
        o: Where nodes go.
        x_shape: Of the images, [N, C, H, W]; all but N and C is fixed.
        dtype: Their element type.
        rows: Windows along axis 2.
        columns: Windows along axis 3.
    """

    o: OnnxEmitter
    x_shape: Shape
    dtype: DType
    rows: Side
    columns: Side

    @cached_property
    def _framed_shape(self) -> Shape:
        return (*self.x_shape[:2], self.rows.frame, self.columns.frame)

    @cached_property
    def _rows_shape(self) -> Shape:
        """Of the maxima along columns."""
        return (*self.x_shape[:2], self.rows.frame, self.columns.length)

    @cached_property
    def _full_shape(self) -> Shape:
        """Of the maxima, with what is computed behind the last windows."""
        return (*self.x_shape[:2], self.rows.length, self.columns.length)

    @cached_property
    def _out_shape(self) -> Shape:
        """Of the maxima."""
        return (*self.x_shape[:2], self.rows.out, self.columns.out)

    @property
    def _few(self) -> bool:
        return max(self.rows.kernel, self.columns.kernel) <= MOST_TAPS

    def largest(self, x: str) -> str:
        """The largest element of every window."""
        if not self._few:
            return self._at(x, self._positions(x))
        across = _largest_behind(self.o, self._column_taps(x))[0]
        return self._cropped(_largest_behind(self.o, self._row_taps(across))[0])

    def picked(self, x: str, values: str) -> str:
        """``values`` where each window has its first largest element."""
        if not self._few:
            return self._at(values, self._positions(x))
        taps = self._column_taps(x)
        largest = _largest_behind(self.o, taps)
        across = self._chosen(self._hits(self.columns, taps, largest[1:]), self._column_taps(values))
        taps = self._row_taps(largest[0])
        hits = self._hits(self.rows, taps, _largest_behind(self.o, taps[1:]))
        return self._cropped(self._chosen(hits, self._row_taps(across)))

    def spread(self, x: str, ct: str) -> str:
        """``ct`` added where each window has its first largest element."""
        o = self.o
        if not self._few:
            return self._scattered(self._positions(x), ct)
        taps = self._column_taps(x)
        largest = _largest_behind(o, taps)
        columns = self._hits(self.columns, taps, largest[1:])
        taps = self._row_taps(largest[0])
        rows = self._hits(self.rows, taps, _largest_behind(o, taps[1:]))
        return if_finite(
            o,
            ct,
            TensorType(self.dtype, self._out_shape),
            lambda: self._spread(ct, rows, columns, self._by_product),
            lambda: self._spread(ct, rows, columns, self._by_selection),
            result=TensorType(self.dtype, self.x_shape),
        )

    def _spread(self, ct: str, rows: Sequence[str], columns: Sequence[str], share: Share) -> str:
        behind = self.rows.length - self.rows.out, self.columns.length - self.columns.out
        ct = self._resized(ct, self._out_shape, (0, 0), behind)
        parts = self._shared(ct, rows, self.rows, share)
        ct = self._returned(self.rows, parts, self._full_shape, self._rows_shape)
        parts = self._shared(ct, columns, self.columns, share)
        ct = self._returned(self.columns, parts, self._rows_shape, self._framed_shape)
        ends = [side.pad + side.size - side.frame for side in (self.rows, self.columns)]
        return self._resized(ct, self._framed_shape, (-self.rows.pad, -self.columns.pad), ends)

    def _by_product(self, hit: str, rest: str) -> tuple[str, str]:
        """What of ``rest``, all finite, is hit, and what is left."""
        found = self.o.node("Mul", rest, self.o.cast(hit, self.dtype))
        return found, self.o.node("Sub", rest, found)

    def _by_selection(self, hit: str, rest: str) -> tuple[str, str]:
        """The same of whatever ``rest`` is."""
        zero = self.o.scalar(0, self.dtype)
        return self.o.node("Where", hit, rest, zero), self.o.node("Where", hit, zero, rest)

    def _resized(self, x: str, shape: Shape, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> str:
        return _resized(self.o, x, TensorType(self.dtype, shape), before, after, value)

    # One axis -----------------------------------------------------------------------------------------

    def _column_taps(self, x: str) -> list[str]:
        sides = (self.rows, self.columns)
        after = [side.frame - side.pad - side.size for side in sides]
        framed = self._resized(x, self.x_shape, [side.pad for side in sides], after, -np.inf)
        return self._taps(self.columns, framed, self._framed_shape)

    def _row_taps(self, across: str) -> list[str]:
        return self._taps(self.rows, self.o.reshape(across, self._rows_shape), self._rows_shape)

    def _taps(self, side: Side, x: str, shape: Shape) -> list[str]:
        """What each tap of the windows sees: tensors of rank 1 where windows slide."""
        o = self.o
        if side.kernel <= side.pace and side.frame == side.out * side.pace:
            # Windows side by side: splitting an axis is faster than steps along it.
            split = (*shape[: side.axis], side.out, side.pace, *shape[side.axis + 1 :])
            parts = o.many("Split", side.pace, o.reshape(x, split), axis=side.axis + 1, num_outputs=side.pace)
            seen = (*shape[: side.axis], side.out, *shape[side.axis + 1 :])
            return [o.reshape(part, seen) for part in parts[: side.kernel]]
        if not side.sliding:
            last = (side.out - 1) * side.pace + 1
            return [
                o.node("Slice", x, o.ints(tap), o.ints(tap + last), o.ints(side.axis), o.ints(side.pace))
                for tap in range(side.kernel)
            ]
        flat, step = o.reshape(x, (numel(shape),)), _step(side, shape)
        return [flat, *(_shifted(o, flat, -tap * step) for tap in range(1, side.kernel))]

    def _hits(self, side: Side, taps: Sequence[str], behind: Sequence[str]) -> list[str]:
        """bool, for all taps but the last: whether it is the window's first largest element, if none before it is.

        ``behind`` are the largest behind each.
        """
        o, found = self.o, list[str]()
        for tap, (value, later) in enumerate(zip(taps, behind, strict=False)):
            hit = o.node("Or", o.node("GreaterOrEqual", value, later), o.node("IsNaN", value))
            found.append(self._in_image(side, tap, hit))
        return found

    def _in_image(self, side: Side, tap: int, hit: str) -> str:
        """Padding is -inf, as images may be, but never wins."""
        seen = side.seen(tap)
        if seen.all():
            return hit
        inside = np.concatenate([seen, np.ones(side.length - side.out, np.bool_)])
        o, shape = self.o, self._full_shape if side.axis == 2 else self._rows_shape
        plane = np.broadcast_to(inside[:, None] if side.axis == 2 else inside, static_shape(shape[2:]))
        hit = o.node("And", o.reshape(hit, shape), o.array(plane))
        return o.reshape(hit, (numel(shape),)) if side.sliding else hit

    def _chosen(self, hits: Sequence[str], taps: Sequence[str]) -> str:
        found = taps[-1]
        for hit, tap in zip(reversed(hits), reversed(taps[:-1]), strict=True):
            found = self.o.node("Where", hit, tap, found)
        return found

    def _shared(self, ct: str, hits: Sequence[str], side: Side, share: Share) -> list[str]:
        """What of ``ct`` goes to each tap."""
        o, found = self.o, list[str]()
        shape = self._full_shape if side.axis == 2 else self._rows_shape
        rest = o.reshape(ct, (numel(shape),)) if side.sliding else ct
        for hit in hits:
            part, rest = share(hit, rest)
            found.append(part)
        return [*found, rest]

    def _returned(self, side: Side, parts: Sequence[str], shape: Shape, target: Shape) -> str:
        """The transpose of `_taps`: ``parts`` of ``shape`` added up where the taps see ``target``."""
        o = self.o
        if side.sliding:
            step = _step(side, target)
            total = parts[0]
            for tap, part in enumerate(parts[1:], 1):
                total = o.node("Add", total, _shifted(o, part, tap * step))
            return o.reshape(total, target)
        # Elements are met in turn by the taps of each remainder; a window's later taps of one remainder are shifts.
        rounds = -(-side.kernel // side.pace)
        length = side.out + rounds - 1
        column = (*shape[: side.axis], length, 1, *shape[side.axis + 1 :])
        phases: list[str] = []
        for phase in range(side.pace):
            total = ""
            for late, tap in enumerate(range(phase, side.kernel, side.pace)):
                part = self._resized(parts[tap], shape, _on(side, late), _on(side, rounds - 1 - late))
                total = o.node("Add", total, part) if total else part
            phases.append(o.reshape(total, column) if total else o.full(column, 0.0, self.dtype))
        woven = phases[0] if len(phases) == 1 else o.node("Concat", *phases, axis=side.axis + 1)
        met = (*shape[: side.axis], length * side.pace, *shape[side.axis + 1 :])
        return self._resized(o.reshape(woven, met), met, (0, 0), _on(side, side.frame - length * side.pace))

    def _cropped(self, x: str) -> str:
        x = self.o.reshape(x, self._full_shape)
        ends = self.rows.out - self.rows.length, self.columns.out - self.columns.length
        return self._resized(x, self._full_shape, (0, 0), ends)

    # Long windows -------------------------------------------------------------------------------------

    def _positions(self, x: str) -> str:
        """i64 [N * C * OH * OW]: where, in all images, the first largest element of each window lies.

        The kernel compares with the least finite number and knows no NaN: infinities count as the outermost finite
        numbers, NaN as more than all others.
        """
        o, dtype = self.o, self.dtype.numpy
        most = np.finfo(np.float64 if self.dtype is DType.F64 else np.float32).max
        least = np.nextafter(np.array(-most, dtype), np.array(0, dtype))
        finite = o.node("Clip", x, o.array(least), o.scalar(float(most), self.dtype))
        x = o.node("Where", o.node("IsNaN", x), o.scalar(np.inf, self.dtype), finite)
        sides = self.rows, self.columns
        _, positions = o.many(
            "MaxPool",
            2,
            x,
            kernel_shape=[side.kernel for side in sides],
            strides=[side.stride for side in sides],
            pads=[*(side.pad for side in sides), *(side.after for side in sides)],
        )
        return o.node("Reshape", positions, o.ints(-1))

    def _at(self, values: str, positions: str) -> str:
        found = self.o.node("Gather", self.o.reshape(values, (numel(self.x_shape),)), positions)
        return self.o.reshape(found, self._out_shape)

    def _scattered(self, positions: str, ct: str) -> str:
        o, count = self.o, (numel(self.x_shape),)
        updates = o.node("Reshape", ct, o.ints(-1))
        zeros = o.full(count, 0.0, self.dtype)
        found = o.node("ScatterElements", zeros, positions, updates, axis=0, reduction="add")
        return o.reshape(found, self.x_shape)


@dataclass(frozen=True)
class MeanNodes:
    """Writes the nodes of average pooling of float32 images.

    Attributes:
        o: Where nodes go.
        x_shape: Of the images, [N, C, H, W]; all but N and C is fixed.
        rows: Windows along axis 2.
        columns: Windows along axis 3.
        exclusive: A window's mean counts only what lies in the image.
    """

    o: OnnxEmitter
    x_shape: Shape
    rows: Side
    columns: Side
    exclusive: bool

    @property
    def _sides(self) -> tuple[Side, Side]:
        return self.rows, self.columns

    @property
    def _pads(self) -> list[int]:
        return [*(side.pad for side in self._sides), *(side.after for side in self._sides)]

    def mean(self, x: str) -> str:
        """The mean of every window."""
        return self.o.node(
            "AveragePool",
            x,
            kernel_shape=[side.kernel for side in self._sides],
            strides=[side.stride for side in self._sides],
            pads=self._pads,
            count_include_pad=int(not self.exclusive),
        )

    def spread(self, ct: str) -> str:
        """Every ``ct`` shared out over its window."""
        o, sides = self.o, self._sides
        share = o.node("Mul", ct, o.array(self._shares))
        if all(side.out == 1 and side.reach == side.size for side in sides) and not any(self._pads):
            return o.expand(share, self.x_shape)
        if all(side.kernel == side.pace for side in sides):
            scales = np.array([1, 1, *(side.pace for side in sides)], np.float32)
            wide = o.node("Resize", share, "", o.array(scales), mode="nearest",
                          coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
            ends = [side.unseen - side.after for side in sides]
            shape = (*self.x_shape[:2], *(side.out * side.pace for side in sides))
            return _resized(o, wide, TensorType(DType.F32, shape), [-side.pad for side in sides], ends)
        planes = o.reshape(share, (dim_mul(*self.x_shape[:2]), 1, *(side.out for side in sides)))
        ones = o.array(np.ones((1, 1, *(side.kernel for side in sides)), np.float32))
        unseen = [side.unseen for side in sides]
        found = o.node("ConvTranspose", planes, ones, strides=[side.stride for side in sides], pads=self._pads,
                       output_padding=unseen if any(unseen) else None)  # fmt: skip
        return o.reshape(found, self.x_shape)

    @property
    def _shares(self) -> np.ndarray:
        """f32: one over what a window's sum is divided by; rank 0 where it is the same for all."""
        if not self.exclusive or not any(self._pads):
            return np.array(1 / (self.rows.kernel * self.columns.kernel), np.float32)
        counts = [sum(side.seen(tap).astype(np.int64) for tap in range(side.kernel)) for side in self._sides]
        return (1 / np.multiply.outer(*counts)).astype(np.float32)


def _largest_behind(o: OnnxEmitter, taps: Sequence[str]) -> list[str]:
    """For every tap, the largest of it and those behind it."""
    found: list[str] = []
    for tap in reversed(taps):
        found.append(o.node("Max", tap, found[-1]) if found else tap)
    return found[::-1]


def _step(side: Side, shape: Shape) -> int:
    """From one element to the next along the axis, in row-major order."""
    return int(np.prod(static_shape(shape[side.axis + 1 :])))


def _on(side: Side, count: int) -> tuple[int, int]:
    """``count`` on this axis, (rows, columns)."""
    return (count, 0) if side.axis == 2 else (0, count)


def _shifted(o: OnnxEmitter, x: str, by: int) -> str:
    """A vector moved towards its end by ``by`` (towards its start where negative); zeros come in."""
    return o.node("Pad", x, o.ints(by, -by)) if by else x


def _resized(
    o: OnnxEmitter, x: str, kind: TensorType, before: Sequence[int], after: Sequence[int], value: float = 0.0
) -> str:
    """Images of a type with (rows, columns) added, or removed where negative.

    By Slice and Concat: ONNX Runtime's Pad takes more than twice as long where rows are short.
    """
    shape = list(kind.shape)
    starts, stops = [max(-count, 0) for count in before], [max(-count, 0) for count in after]
    if any((*starts, *stops)):
        sizes = [size - stop for size, stop in zip(static_shape(kind.shape[2:]), stops, strict=True)]
        x = o.node("Slice", x, o.ints(*starts), o.ints(*sizes), o.ints(2, 3))
        shape[2:] = [size - start for size, start in zip(sizes, starts, strict=True)]
    for axis in (3, 2):
        parts: list[str] = []
        for count in (before[axis - 2], after[axis - 2]):
            parts.append(o.full((*shape[:axis], count, *shape[axis + 1 :]), value, kind.dtype) if count > 0 else "")
        x = o.node("Concat", *(part for part in (parts[0], x, parts[1]) if part), axis=axis) if any(parts) else x
        size = shape[axis]
        assert isinstance(size, int)
        shape[axis] = size + max(before[axis - 2], 0) + max(after[axis - 2], 0)
    return x
