"""Moving elements: reshape, transpose, broadcast, concat, slice, pad, reverse; and tensors made from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import Dim, DType, Shape, Sym, TensorType, dim_add, dim_div, static_shape
from .base import Array, Op, OpBuilder, as_array, broadcast_shapes, same_dtype
from .by_example import example_sum
from .emit import Expr, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import (
    OWN_COUNT,
    PUBLIC,
    ExampleKind,
    Kind,
    MixedKind,
    TotalKind,
    all_public,
    constant_rows,
    default_kind,
    first_mixed,
)
from .onnx_forms import computed, kernel_type

_ALL_BUT_BF16 = frozenset(DType) - {DType.BF16}
"""Element types for which ONNX Runtime has Expand and Pad."""

_ROWS = "add what is fixed to every row, along another axis: rows of the batch come from feeds alone"


def _factors(shape: Shape) -> tuple[int, tuple[str, ...]]:
    """The number of elements as (static factor, symbols): defined also where it has several symbols."""
    static = math.prod(d if isinstance(d, int) else d.scale for d in shape)
    return static, () if static == 0 else tuple(sorted(name for d in shape if isinstance(d, Sym) for name in d.factors))


@dataclass(frozen=True, eq=False)
class Move(Op):
    """Base of the ops of one operand whose result holds its elements elsewhere."""

    x: Value

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        return (None if ct is None or not needs[0] else self.pullback(b, ct),)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        """The elements' cotangents at the operand's places."""
        raise NotImplementedError

    def moved(self, kind: ExampleKind) -> Kind:
        """Where the example axis goes."""
        raise NotImplementedError

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (kind,) = kinds
        return self.moved(kind) if isinstance(kind, ExampleKind) else kind


@dataclass(frozen=True, eq=False)
class Reshape(Move):
    """The same elements, row-major, under another shape."""

    name: ClassVar[str] = "shape.reshape"

    shape: Shape

    def infer(self) -> TensorType:
        x = self.x.tensor
        if _factors(x.shape) != _factors(self.shape):
            shape = ", ".join(map(str, self.shape))
            raise self.fail(f"{x} does not have as many elements as the new shape [{shape}]")
        return x.with_shape(self.shape)

    def evaluate(self, x: Array) -> Array:
        return x.reshape(static_shape(self.shape))

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        return Reshape(operands[0], (operands[0].tensor.shape[0], *self.shape))

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.reshape(ct, self.x.tensor.shape)

    def moved(self, kind: ExampleKind) -> Kind:
        # In row-major order the batch has a static number of steps outside and inside it.  Wherever it lands,
        # the factors of its new axis must be whole divisors of those.
        before, symbol, after = _around(self.x.tensor.shape, kind.axis)
        outside, inside = before * kind.pre, after * kind.post
        for axis, dim in enumerate(self.shape):
            if symbol is None or not isinstance(dim, Sym) or dim.name != symbol:
                continue
            new_before, _, new_after = _around(self.shape, axis)
            if new_before and new_after and outside % new_before == 0 and inside % new_after == 0:
                pre, post = outside // new_before, inside // new_after
                if pre * post == dim.scale:
                    return ExampleKind(axis, pre, post)
        before_text, after_text = (f"[{', '.join(map(str, s))}]" for s in (self.x.tensor.shape, self.shape))
        return MixedKind(
            f"reshape from {before_text} to {after_text} spreads the rows of one example",
            self,
            "keep the batch as one axis; transpose before a reshape that has to cross it",
        )

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        source = self.x.tensor.shape
        groups = _aligned_groups(source, self.shape)

        def element(*index: Expr) -> Scalar:
            found: list[Any] = [t.const(0, DType.I64)] * len(source)
            for before, after in groups:
                flat: Any = None
                for axis in after:
                    i = t.cast(index[axis], DType.I64)
                    flat = i if flat is None else flat * t.extent(self.shape[axis]) + i
                for axis in reversed(before[1:]):
                    found[axis] = flat % t.extent(source[axis])
                    flat = flat // t.extent(source[axis])
                if before and flat is not None:
                    found[before[0]] = flat
            return x[tuple(found)]

        return t.compute(self.shape, self.x.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        return x if self.shape == self.x.tensor.shape else o.reshape(x, self.shape)


def _aligned_groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """The finest pairs of consecutive axes that hold equally many elements, leaving out extents of 1.

    Row-major order is kept group by group, so a reshape needs division only inside a group of several axes.
    """
    left = [axis for axis, dim in enumerate(source) if dim != 1]
    right = [axis for axis, dim in enumerate(target) if dim != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left or right:
        before, after = left[:1], right[:1]
        left, right = left[1:], right[1:]
        while left or right:
            a, b = (_factors(tuple(s[i] for i in axes)) for s, axes in ((source, before), (target, after)))
            if a == b:
                break
            short = (len(a[1]), a[0]) < (len(b[1]), b[0])
            if (short and left) or not right:
                before, left = [*before, left[0]], left[1:]
            else:
                after, right = [*after, right[0]], right[1:]
        groups.append((before, after))
    return groups


def _around(shape: Shape, axis: int) -> tuple[int, str | None, int]:
    """Static steps before the axis, its symbol, and steps after it; symbol None where an extent besides is symbolic."""
    before, after = shape[:axis], shape[axis + 1 :]
    if not all(isinstance(d, int) for d in before + after):
        return 1, None, 1
    dim = shape[axis]
    symbol = dim.name if isinstance(dim, Sym) else None
    return math.prod(static_shape(before)), symbol, math.prod(static_shape(after))


@dataclass(frozen=True, eq=False)
class Transpose(Move):
    """Axes in another order: axis ``i`` of the result is axis ``perm[i]`` of ``x``."""

    name: ClassVar[str] = "shape.transpose"

    perm: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.tensor
        if sorted(self.perm) != list(range(x.rank)):
            raise self.fail(f"perm {list(self.perm)} does not list the axes of {x} once each")
        return x.with_shape(x.shape[axis] for axis in self.perm)

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(np.transpose(x, self.perm)).reshape([x.shape[axis] for axis in self.perm])

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        return Transpose(operands[0], (0, *(axis + 1 for axis in self.perm)))

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.transpose(ct, [self.perm.index(axis) for axis in range(len(self.perm))])

    def moved(self, kind: ExampleKind) -> Kind:
        return ExampleKind(self.perm.index(kind.axis), kind.pre, kind.post)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        def element(*index: Expr) -> Scalar:
            return x[tuple(index[self.perm.index(axis)] for axis in range(len(self.perm)))]

        return t.compute(self.result.tensor.shape, self.x.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        still = self.perm == tuple(range(len(self.perm)))
        return x if still else o.node("Transpose", x, perm=list(self.perm))


@dataclass(frozen=True, eq=False)
class Broadcast(Move):
    """``x`` repeated to ``shape``, right-aligned as in numpy."""

    name: ClassVar[str] = "shape.broadcast"

    shape: Shape

    def infer(self) -> TensorType:
        x = self.x.tensor
        if broadcast_shapes(self, x.shape, self.shape) != self.shape:
            raise self.fail(f"{x} does not broadcast to the shape [{', '.join(map(str, self.shape))}]")
        return x.with_shape(self.shape)

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(np.broadcast_to(x, static_shape(self.shape))).reshape(static_shape(self.shape))

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b.unbroadcast(ct, self.x.tensor.shape)

    def moved(self, kind: ExampleKind) -> Kind:
        return ExampleKind(kind.axis + len(self.shape) - self.x.tensor.rank, kind.pre, kind.post)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return constant_rows(self, self.shape) if all_public(kinds) else super().example_axis(kinds)

    def example_grad(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        kind = self.example_axis(kinds)
        if not all_public(kinds) or not isinstance(kind, ExampleKind):
            return None
        return example_sum(b, ct, kind, self.x.tensor.shape)

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        source = self.x.tensor.shape
        extra = len(self.shape) - len(source)

        def element(*index: Expr) -> Scalar:
            stretched = [d == 1 and out != 1 for d, out in zip(source, self.shape[extra:], strict=True)]
            return x[tuple(0 if s else i for s, i in zip(stretched, index[extra:], strict=True))]

        return t.compute(self.shape, self.x.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        if self.shape == self.x.tensor.shape:
            return x
        return computed(self, o, self.x.type.dtype, _ALL_BUT_BF16, partial(o.expand, shape=self.shape), x)


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """``xs`` one after the other along ``axis``."""

    name: ClassVar[str] = "shape.concat"

    xs: tuple[Value, ...]
    axis: int

    def infer(self) -> TensorType:
        if not self.xs:
            raise self.fail("nothing to concatenate")
        dtype, first = same_dtype(self, *self.xs), self.xs[0].tensor
        if not 0 <= self.axis < first.rank:
            raise self.fail(f"axis {self.axis} is not an axis of {first}")
        total: Dim = 0
        for value in self.xs:
            shape = value.tensor.shape
            if self._others(shape) != self._others(first.shape):
                raise self.fail(f"{first} and {value.type} differ outside axis {self.axis}")
            try:
                total = dim_add(total, shape[self.axis])
            except ValueError as error:
                raise self.fail(f"extents along axis {self.axis} do not add up: {error}", _ROWS) from None
        return TensorType(dtype, (*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]))

    def _others(self, shape: Shape) -> Shape:
        return shape[: self.axis] + shape[self.axis + 1 :]

    def evaluate(self, xs: Sequence[Array]) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        return Concat(tuple(operands), self.axis + 1) if all(over) else None

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        found: list[Value | None] = []
        start: Dim = 0
        for value, need in zip(self.xs, needs, strict=True):
            stop = dim_add(start, value.tensor.shape[self.axis])
            found.append(b.slice(ct, self.axis, start, stop) if ct is not None and need else None)
            start = stop
        return tuple(found)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        mixed = first_mixed(kinds)
        if mixed is not None or all_public(kinds):
            return default_kind(self, kinds)
        totals = {kind for kind in kinds if isinstance(kind, TotalKind)}
        examples = {kind for kind in kinds if isinstance(kind, ExampleKind)}
        if totals:
            if len(totals) == 1 and not examples:
                return totals.pop()
            return MixedKind(f"{self.name} joins sums over the batch with other values", self)
        if {kind.axis for kind in examples} == {self.axis}:
            listed = [kind for kind in kinds if isinstance(kind, ExampleKind)]
            if len(listed) == len(kinds) and len({kind.post for kind in listed}) == 1:
                return ExampleKind(self.axis, sum(kind.pre for kind in listed), listed[0].post)
            return MixedKind(f"{self.name} along the batch axis joins blocks that are not whole batches", self)
        if len(examples) == 1:
            return examples.pop()
        return MixedKind(f"{self.name} combines different examples (the batch lies on different axes)", self)

    def to_tvm(self, t: TvmEmitter, xs: Sequence[Tensor]) -> Tensor:
        shapes = [value.tensor.shape for value in self.xs]

        def element(*index: Expr) -> Scalar:
            along = t.cast(index[self.axis], DType.I64)
            starts: list[Any] = [t.const(0, DType.I64)]
            for shape in shapes[:-1]:
                starts.append(starts[-1] + t.extent(shape[self.axis]))
            found: Scalar | None = None
            for x, shape, start in reversed(list(zip(xs, shapes, starts, strict=True))):
                if shape[self.axis] == 0:
                    continue
                value = x[(*index[: self.axis], along - start, *index[self.axis + 1 :])]
                end = start + t.extent(shape[self.axis])
                found = value if found is None else t.select(along < end, value, found)
            return t.const(0, self.result.type.dtype) if found is None else found

        return t.compute(self.result.tensor.shape, self.result.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter, xs: Sequence[str]) -> str:
        return o.node("Concat", *xs, axis=self.axis)


def _difference(op: Op, stop: Dim, start: Dim) -> Dim:
    """``stop - start``; raises VerifyError where it is not one term."""
    if isinstance(start, int) and isinstance(stop, int):
        return stop - start
    if start == 0:
        return stop
    if isinstance(start, Sym) and isinstance(stop, Sym) and start.name == stop.name:
        scale = stop.scale - start.scale
        return Sym(stop.name, scale) if scale else 0
    raise op.fail(f"the extent from {start} to {stop} is neither fixed nor a multiple of the batch")


@dataclass(frozen=True, eq=False)
class Slice(Move):
    """Elements ``start, start + step, …`` below ``stop`` along ``axis``; ``0 <= start <= stop <= extent``."""

    name: ClassVar[str] = "shape.slice"

    axis: int
    start: Dim
    stop: Dim
    step: int = 1

    def infer(self) -> TensorType:
        x = self.x.tensor
        if not 0 <= self.axis < x.rank:
            raise self.fail(f"axis {self.axis} is not an axis of {x}")
        extent = x.shape[self.axis]
        length = _difference(self, self.stop, self.start)
        span = length if isinstance(length, int) else length.scale
        low = self.start if isinstance(self.start, int) else self.start.scale
        high = self.stop if isinstance(self.stop, int) else self.stop.scale
        limit = extent if isinstance(extent, int) else extent.scale if isinstance(self.stop, Sym) else high
        if low < 0 or span < 0 or high > limit or self.step < 1:
            raise self.fail(f"slice {self.start}:{self.stop}:{self.step} does not lie within axis {self.axis} of {x}")
        if self.step > 1:
            if isinstance(length, Sym):
                if length.scale % self.step:
                    raise self.fail(f"every {self.step}th of {length} elements is not a whole number of batches")
                length = Sym(length.name, length.scale // self.step)
            else:
                length = -(-length // self.step)
        return x.with_shape((*x.shape[: self.axis], length, *x.shape[self.axis + 1 :]))

    def evaluate(self, x: Array) -> Array:
        start, stop = static_shape((self.start, self.stop))
        where = [slice(None)] * x.ndim
        where[self.axis] = slice(start, stop, self.step)
        return np.ascontiguousarray(x[tuple(where)])

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        return Slice(operands[0], self.axis + 1, self.start, self.stop, self.step)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        shape = self.x.tensor.shape
        low: list[Dim] = [0] * len(shape)
        high: list[Dim] = [0] * len(shape)
        interior = [0] * len(shape)
        low[self.axis] = self.start
        interior[self.axis] = self.step - 1
        high[self.axis] = _difference(self, shape[self.axis], self._end)
        return b.pad(ct, low, high, 0.0, interior)

    @property
    def _end(self) -> Dim:
        """One past the last element taken."""
        if self.step == 1:
            return self.stop
        taken = self.result.tensor.shape[self.axis]
        if isinstance(taken, Sym):
            raise self.fail("a strided slice of a batch-sized axis has no gradient; slice within the example")
        start = static_shape((self.start,))[0]
        return start + (taken - 1) * self.step + 1 if taken else start

    def moved(self, kind: ExampleKind) -> Kind:
        if kind.axis != self.axis:
            return kind
        block = dim_div(self.x.tensor.shape[self.axis], kind.pre)
        if block is not None and self.step == 1:
            first = dim_div(self.start, block) if self.start != 0 else 0
            last = dim_div(self.stop, block)
            if first is not None and isinstance(first, int) and isinstance(last, int) and last > first:
                return ExampleKind(self.axis, last - first, kind.post)
        return MixedKind(
            f"{self.name} selects examples by position",
            self,
            "weight examples by a mask that is part of their own data",
        )

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        def element(*index: Expr) -> Scalar:
            along = t.cast(index[self.axis], DType.I64) * self.step + t.extent(self.start)
            return x[(*index[: self.axis], along, *index[self.axis + 1 :])]

        return t.compute(self.result.tensor.shape, self.x.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        whole = self.stop == self.x.tensor.shape[self.axis]
        if whole and self.start == 0 and self.step == 1:
            return x
        start, stop = o.shape((self.start,)), o.ints(_FAR) if whole else o.shape((self.stop,))
        return o.node("Slice", x, start, stop, o.ints(self.axis), o.ints(self.step))


_FAR = 2**63 - 1
"""As the end of a slice: as far as the axis goes."""


@dataclass(frozen=True, eq=False)
class Pad(Move):
    """``value`` around ``x``: ``low[i]`` elements before axis ``i``, ``high[i]`` after, ``interior[i]`` between
    neighbours (empty: none anywhere)."""

    name: ClassVar[str] = "shape.pad"

    low: Shape
    high: Shape
    value: float = 0.0
    interior: tuple[int, ...] = ()

    @property
    def gaps(self) -> tuple[int, ...]:
        """``interior``, one per axis."""
        return self.interior or (0,) * self.x.tensor.rank

    def infer(self) -> TensorType:
        x = self.x.tensor
        if not len(self.low) == len(self.high) == len(self.gaps) == x.rank:
            raise self.fail(f"one padding below and above per axis of {x}, not {len(self.low)} and {len(self.high)}")
        shape: list[Dim] = []
        for axis, (dim, low, high, gap) in enumerate(zip(x.shape, self.low, self.high, self.gaps, strict=True)):
            if any(isinstance(p, int) and p < 0 for p in (low, high, gap)):
                raise self.fail(f"padding of axis {axis} is negative")
            if gap and isinstance(dim, Sym):
                raise self.fail(f"padding between the elements of the symbolic axis {axis}")
            spread = dim if isinstance(dim, Sym) else max(dim + (dim - 1) * gap, 0)
            try:
                shape.append(dim_add(dim_add(spread, low), high))
            except ValueError as error:
                raise self.fail(f"axis {axis} of {x} cannot be padded: {error}", _ROWS) from None
        return x.with_shape(shape)

    def evaluate(self, x: Array) -> Array:
        out = np.full(static_shape(self.result.tensor.shape), as_array(self.value, self.x.type.dtype), x.dtype)
        lows = static_shape(self.low)
        steps = [gap + 1 for gap in self.gaps]
        if x.size:
            ends = [low + (n - 1) * s + 1 for low, n, s in zip(lows, x.shape, steps, strict=True)]
            out[tuple(slice(*bounds) for bounds in zip(lows, ends, steps, strict=True))] = x
        return out

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        for axis, (dim, low, gap) in enumerate(zip(self.x.tensor.shape, self.low, self.gaps, strict=True)):
            if gap and isinstance(dim, int):
                stop = dim_add(low, max(dim + (dim - 1) * gap, 0))
            else:
                stop = dim_add(low, dim)
            if (low, stop, gap) != (0, ct.tensor.shape[axis], 0):
                ct = b.slice(ct, axis, low, stop, gap + 1)
        return ct

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        (kind,) = kinds
        if isinstance(kind, TotalKind):
            return kind
        return super().example_axis(kinds)

    def moved(self, kind: ExampleKind) -> Kind:
        axis = kind.axis
        if self.low[axis] == 0 and self.high[axis] == 0 and self.gaps[axis] == 0:
            return kind
        return MixedKind(f"{self.name} adds rows to the batch", self, "pad within the example")

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        shape = self.x.tensor.shape
        fill = t.const(self.value, self.x.type.dtype)

        def element(*index: Expr) -> Scalar:
            if any(d == 0 for d in shape):
                return fill
            inside: Any = None
            found: list[Any] = []
            for i, dim, low, high, gap in zip(index, shape, self.low, self.high, self.gaps, strict=True):
                if low == 0 and high == 0 and gap == 0:
                    found.append(i)
                    continue
                offset = t.cast(i, DType.I64) - t.extent(low)
                place = offset // (gap + 1) if gap else offset
                here = (offset >= 0) & (place < t.extent(dim))
                if gap:
                    here = here & (offset % (gap + 1)).eq(0)
                inside = here if inside is None else inside & here
                found.append(place)
            value = x[tuple(found)]
            return value if inside is None else t.select(inside, value, fill)

        return t.compute(self.result.tensor.shape, self.x.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        dtype = self.x.type.dtype
        if 0 in self.x.tensor.shape:
            return o.full(self.result.tensor.shape, self.value, dtype)

        def build(a: str) -> str:
            value = o.array(as_array(self.value, dtype).astype(kernel_type(self, dtype, _ALL_BUT_BF16).numpy))
            above = self.high
            if any(self.gaps):
                # Gaps behind every element, which ends as high with one gap too many.
                a = self._spread(o, a, value)
                above = tuple(h - g if isinstance(h, int) else h for h, g in zip(above, self.gaps, strict=True))
            return o.node("Pad", a, o.shape((*self.low, *above)), value)

        return computed(self, o, dtype, _ALL_BUT_BF16, build, x)

    def _spread(self, o: OnnxEmitter, x: str, value: str) -> str:
        """``x`` with its gaps behind every element: each axis is split in two, and the second padded."""
        shape = self.x.tensor.shape
        pads = [0] * (2 * len(shape)) + [n for gap in self.gaps for n in (0, gap)]
        split = o.reshape(x, tuple(n for dim in shape for n in (dim, 1)))
        split = o.node("Pad", split, o.ints(*pads), value)
        dims = zip(shape, self.gaps, strict=True)
        return o.reshape(split, tuple(dim * (gap + 1) if isinstance(dim, int) else dim for dim, gap in dims))


@dataclass(frozen=True, eq=False)
class Reverse(Move):
    """``x`` backwards along ``axes``."""

    name: ClassVar[str] = "shape.reverse"

    axes: tuple[int, ...]

    def infer(self) -> TensorType:
        x = self.x.tensor
        if len(set(self.axes)) != len(self.axes) or any(not 0 <= a < x.rank for a in self.axes):
            raise self.fail(f"axes {list(self.axes)} are not distinct axes of {x}")
        return x

    def evaluate(self, x: Array) -> Array:
        return np.ascontiguousarray(np.flip(x, self.axes)).reshape(x.shape)

    def pullback(self, b: OpBuilder, ct: Value) -> Value:
        return b(Reverse(ct, self.axes))

    def moved(self, kind: ExampleKind) -> Kind:
        if kind.axis not in self.axes:
            return kind
        return MixedKind(f"{self.name} changes the order of the batch", self, "reverse another axis")

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        shape = self.x.tensor.shape

        def element(*index: Expr) -> Scalar:
            return x[
                tuple(
                    t.extent(shape[axis]) - 1 - t.cast(i, DType.I64) if axis in self.axes else i
                    for axis, i in enumerate(index)
                )
            ]

        return t.compute(shape, self.x.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        if not self.axes:
            return x
        ones = o.ints(*(-1 for _ in self.axes))
        return o.node("Slice", x, ones, o.ints(*(-_FAR for _ in self.axes)), o.ints(*self.axes), ones)


@dataclass(frozen=True, eq=False)
class Iota(Op):
    """A tensor of ``type`` that holds every element's position along ``axis``."""

    name: ClassVar[str] = "shape.iota"
    no_vjp: ClassVar[str] = "no operands"

    axis: int
    type: TensorType

    def infer(self) -> TensorType:
        if not 0 <= self.axis < self.type.rank or self.type.dtype is DType.BOOL:
            raise self.fail(f"axis {self.axis} of {self.type} has no positions")
        return self.type

    def evaluate(self) -> Array:
        shape = static_shape(self.type.shape)
        along = np.arange(shape[self.axis]).astype(self.type.dtype.numpy)
        column = along.reshape([-1 if axis == self.axis else 1 for axis in range(len(shape))])
        return np.ascontiguousarray(np.broadcast_to(column, shape))

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if isinstance(self.type.shape[self.axis], int):
            return PUBLIC
        return MixedKind("an example's position in the batch depends on the other examples", self)

    def to_tvm(self, t: TvmEmitter) -> Tensor:
        def element(*index: Expr) -> Scalar:
            return t.cast(index[self.axis], self.type.dtype)

        return t.compute(self.type.shape, self.type.dtype, element)

    def to_onnx(self, o: OnnxEmitter) -> str:
        shape, dtype = self.type.shape, self.type.dtype
        extent = o.extent(shape[self.axis])
        along = o.node("Range", o.scalar(0, DType.I64), extent, o.scalar(1, DType.I64))
        if dtype is not DType.I64:
            along = o.cast(along, dtype)
        if self.axis < len(shape) - 1:
            along = o.reshape(along, (shape[self.axis], *(1 for _ in shape[self.axis + 1 :])))
        one_row = tuple(dim if i == self.axis else 1 for i, dim in enumerate(shape))
        if shape == one_row:
            return along if self.axis == 0 else o.reshape(along, shape)
        return computed(self, o, dtype, _ALL_BUT_BF16, partial(o.expand, shape=shape), along)


@dataclass(frozen=True, eq=False)
class Extent(Op):
    """The extent ``dim`` as a number (rank 0) of ``dtype``."""

    name: ClassVar[str] = "shape.extent"
    no_vjp: ClassVar[str] = "no operands"

    dim: Dim
    dtype: DType

    def infer(self) -> TensorType:
        return TensorType(self.dtype, ())

    def evaluate(self) -> Array:
        return as_array(static_shape((self.dim,))[0], self.dtype)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if isinstance(self.dim, int):
            return PUBLIC
        return MixedKind(
            "the size of the batch depends on every example",
            self,
            f"use layers.mean; or {OWN_COUNT}",
        )

    def to_tvm(self, t: TvmEmitter) -> Tensor:
        return t.compute((), self.dtype, lambda: t.cast(t.extent(self.dim), self.dtype))

    def to_onnx(self, o: OnnxEmitter) -> str:
        extent = o.extent(self.dim)
        return extent if self.dtype is DType.I64 else o.cast(extent, self.dtype)


OPS: tuple[type[Op], ...] = (Reshape, Transpose, Broadcast, Concat, Slice, Pad, Reverse, Iota, Extent)
