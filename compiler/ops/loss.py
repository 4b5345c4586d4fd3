"""Softmax and the losses that need a kernel of their own; losses made of core ops are in ``loss_layers``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np

from ..ir.core import Value
from ..ir.types import Dim, DType, Shape, TensorType
from .base import Array, Op, OpBuilder, normal_axis, same_dtype
from .emit import Expr, Index, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import Kind, aligned_kind, rowwise_kind
from .onnx_forms import SINGLE_AND_DOUBLE, computed, kernel_type, log1p

SOFTMAX_FLOOR = -64.0
"""Paddle's softmax raises ``x - max(x)`` to at least this before exponentiating, so no probability is zero
and ``cross_entropy`` on top of it stays finite, its gradient included."""

LOG_OF_ZERO = -1e20
"""What Paddle's cross entropy on probabilities takes for ``log(0)``."""


def class_mask(b: OpBuilder, label: Value, shape: Shape, axis: int) -> Value:
    """``bool`` of ``shape`` (up to broadcasting): where the index along ``axis`` equals ``label`` (extent 1 there)."""
    row = tuple(dim if i == axis else 1 for i, dim in enumerate(shape))
    return b.equal(b.iota(row, axis, label.type.dtype), label)


def _require_float(op: Op, x: Value) -> TensorType:
    kind = x.tensor
    if not kind.dtype.is_float:
        raise op.fail(f"works on floating-point values, not {kind}")
    return kind


def _require_label(op: Op, label: Value, shape: Shape) -> None:
    """Hard labels: integers of exactly ``shape``."""
    kind = label.tensor
    if not kind.dtype.is_integer or kind.shape != shape:
        listed = ", ".join(map(str, shape))
        raise op.fail(f"hard labels are integers of shape [{listed}], not {kind}; soft labels need soft_label=True")


def _with_one(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], 1, *shape[axis + 1 :])


class _Rows:
    """Loop helpers for reductions along one axis: per-row tensors lack that axis."""

    def __init__(self, t: TvmEmitter, x: Tensor, axis: int) -> None:
        self.t, self.x, self.axis = t, x, axis
        self.rest: Shape = (*x.shape[:axis], *x.shape[axis + 1 :])

    def row(self, index: tuple[Index, ...]) -> tuple[Index, ...]:
        """The row that holds element ``index``."""
        return (*index[: self.axis], *index[self.axis + 1 :])

    def at(self, row: tuple[Index, ...], along: Index) -> tuple[Index, ...]:
        """Element ``along`` of a row."""
        return (*row[: self.axis], along, *row[self.axis :])

    def max(self) -> Tensor:
        def element(*index: Index) -> Scalar:
            return self.x[self.at(index[:-1], index[-1])]

        return self.t.reduce("max", self.rest, (self.x.shape[self.axis],), element, self.x.dtype)

    def exp(self, top: Tensor, floor: bool) -> Tensor:
        """``exp(x - top)`` of every element."""

        def element(*index: Index) -> Scalar:
            shifted = self.x[index] - top[self.row(index)]
            return self.t.call("exp", self.t.maximum(shifted, SOFTMAX_FLOOR) if floor else shifted)

        return self.t.compute(self.x.shape, self.x.dtype, element)

    def sum(self, values: Tensor) -> Tensor:
        def element(*index: Index) -> Scalar:
            return values[self.at(index[:-1], index[-1])]

        return self.t.reduce("sum", self.rest, (self.x.shape[self.axis],), element, self.x.dtype)

    def shares(self, values: Tensor, total: Tensor) -> Tensor:
        """``values / total``, by the reciprocal of every row's total."""

        def inverse(whole: Expr) -> Scalar:
            return self.t.const(1.0, whole.dtype) / whole

        inverses = self.t.pointwise(inverse, total)

        def element(*index: Index) -> Scalar:
            return values[index] * inverses[self.row(index)]

        return self.t.compute(self.x.shape, self.x.dtype, element)


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """``exp(x) / sum(exp(x))`` along ``axis``, with Paddle's floor (``SOFTMAX_FLOOR``)."""

    name: ClassVar[str] = "loss.softmax"

    x: Value
    axis: int = -1

    def infer(self) -> TensorType:
        kind = _require_float(self, self.x)
        normal_axis(self, self.axis, kind.rank)
        return kind

    def evaluate(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            shifted = np.maximum(x - x.max(axis=self.axis, keepdims=True), x.dtype.type(SOFTMAX_FLOOR))
        e = np.exp(shifted)
        return np.asarray(e / e.sum(axis=self.axis, keepdims=True), x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return (None,)
        return (_softmax_vjp(b, self.result, ct, self.axis % self.x.tensor.rank),)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return rowwise_kind(self, kinds[0], (self.axis % self.x.tensor.rank,), "softmax")

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        rows = _Rows(t, x, self.axis % len(x.shape))
        powers = rows.exp(rows.max(), floor=True)
        return rows.shares(powers, rows.sum(powers))

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        dtype = self.x.type.dtype
        lowest = o.scalar(math.exp(SOFTMAX_FLOOR), kernel_type(self, dtype, SINGLE_AND_DOUBLE))

        def build(a: str) -> str:
            # The floor is the probability of the largest element, that of a difference of 0, times its exponential.
            shares = o.node("Softmax", a, axis=self.axis)
            largest = o.node("ReduceMax", shares, o.ints(self.axis), keepdims=1)
            return o.node("Max", shares, o.node("Mul", largest, lowest))

        return computed(self, o, dtype, SINGLE_AND_DOUBLE, build, x)


def _softmax_vjp(b: OpBuilder, y: Value, ct: Value, axis: int) -> Value:
    """``y * (ct - sum(ct * y))``."""
    return b.mul(y, b.sub(ct, b.reduce_sum(b.mul(ct, y), (axis,), keepdims=True)))


@dataclass(frozen=True, eq=False)
class LogSoftmax(Op):
    """``x - log(sum(exp(x)))`` along ``axis``, computed from ``x - max(x)``."""

    name: ClassVar[str] = "loss.log_softmax"

    x: Value
    axis: int = -1

    def infer(self) -> TensorType:
        kind = _require_float(self, self.x)
        normal_axis(self, self.axis, kind.rank)
        return kind

    def evaluate(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):
            shifted = x - x.max(axis=self.axis, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True)), x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return (None,)
        total = b.reduce_sum(ct, (self.axis % self.x.tensor.rank,), keepdims=True)
        return (b.sub(ct, b.mul(b.exp(self.result), total)),)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return rowwise_kind(self, kinds[0], (self.axis % self.x.tensor.rank,), "log_softmax")

    def to_tvm(self, t: TvmEmitter, x: Tensor) -> Tensor:
        rows = _Rows(t, x, self.axis % len(x.shape))
        top = rows.max()
        total = rows.sum(rows.exp(top, floor=False))

        def element(*index: Index) -> Scalar:
            row = rows.row(index)
            return x[index] - top[row] - t.call("log", total[row])

        return t.compute(x.shape, x.dtype, element)

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        dtype = self.x.type.dtype
        build = partial(_log_softmax_onnx, o, axis=self.axis, double=dtype is DType.F64)
        return computed(self, o, dtype, SINGLE_AND_DOUBLE, build, x)


def _log_softmax_onnx(o: OnnxEmitter, x: str, axis: int, double: bool) -> str:
    if not double:
        return o.node("LogSoftmax", x, axis=axis)
    # The kernel for f64 takes NaN for no element.
    shifted = o.node("Sub", x, o.node("ReduceMax", x, o.ints(axis), keepdims=1))
    return o.node("Sub", shifted, o.node("Log", o.node("ReduceSum", o.node("Exp", shifted), o.ints(axis), keepdims=1)))


@dataclass(frozen=True, eq=False)
class SoftmaxCrossEntropy(Op):
    """``-log(softmax(logits))`` at the label: results ``(loss, softmax)``.

    ``label`` holds class numbers with extent 1 on ``axis``; ``loss`` has its shape.  A label equal to
    ``ignore_index`` costs 0, any other label outside the classes costs NaN on every target.  The loss comes
    from the log-sum-exp, so it is exact for any logits; ``softmax`` is the plain softmax.
    """

    name: ClassVar[str] = "loss.softmax_cross_entropy"

    logits: Value
    label: Value
    axis: int = -1
    ignore_index: int = -100

    @property
    def along(self) -> int:
        """``axis`` counted from 0."""
        return self.axis % self.logits.tensor.rank

    def infer(self) -> tuple[TensorType, TensorType]:
        kind = _require_float(self, self.logits)
        normal_axis(self, self.axis, kind.rank)
        loss = kind.with_shape(_with_one(kind.shape, self.along))
        _require_label(self, self.label, loss.shape)
        return loss, kind

    def evaluate(self, logits: Array, label: Array) -> tuple[Array, Array]:
        with np.errstate(invalid="ignore"):
            shifted = logits - logits.max(axis=self.axis, keepdims=True)
        e = np.exp(shifted)
        total = e.sum(axis=self.axis, keepdims=True)
        loss = np.log(total) - _pick(shifted, label, self.axis)
        loss[label == self.ignore_index] = 0
        return np.asarray(loss, logits.dtype), np.asarray(e / total, logits.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        ct_loss, ct_softmax = cts
        softmax = self.results[1]
        dlogits = None
        if ct_loss is not None:
            seed = _drop_ignored(b, self.label, self.ignore_index, ct_loss)
            target = b.cast(class_mask(b, self.label, softmax.tensor.shape, self.along), softmax.type.dtype)
            dlogits = b.mul(b.sub(softmax, target), seed)
        if ct_softmax is not None:
            through = _softmax_vjp(b, softmax, ct_softmax, self.along)
            dlogits = through if dlogits is None else b.add(dlogits, through)
        return dlogits, None

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, Kind]:
        row = rowwise_kind(self, kinds[0], (self.along,), "softmax")
        shape = self.results[0].tensor.shape
        return aligned_kind(self, (row, kinds[1]), (shape, shape), shape, linear=False), row

    def to_tvm(self, t: TvmEmitter, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        rows = _Rows(t, logits, self.along)
        top = rows.max()
        powers = rows.exp(top, floor=False)
        total = rows.sum(powers)

        def element(*index: Index) -> Scalar:
            row = rows.row(index)
            picked, inside = _picked(t, logits, label[index], row, self.along)
            loss = t.call("log", total[row]) - (picked - top[row])
            return _hard_loss(t, loss, label[index], inside, self.ignore_index)

        loss = t.compute(label.shape, logits.dtype, element)
        return loss, rows.shares(powers, total)

    def to_onnx(self, o: OnnxEmitter, logits: str, label: str) -> tuple[str, str]:
        dtype = self.logits.type.dtype
        wide = kernel_type(self, dtype, SINGLE_AND_DOUBLE)
        classes = self.logits.tensor.shape[self.along]
        labels = _HardLabel(o, label, self.label.type.dtype, classes, self.ignore_index)

        def loss(a: str) -> str:
            logs = _log_softmax_onnx(o, a, self.axis, wide is DType.F64)
            return labels.cost(o.node("Neg", labels.pick(logs, self.along)), wide)

        shares = partial(o.node, "Softmax", axis=self.axis)
        costs = computed(self, o, dtype, SINGLE_AND_DOUBLE, loss, logits)
        return costs, computed(self, o, dtype, SINGLE_AND_DOUBLE, shares, logits)


@dataclass(frozen=True, eq=False)
class CrossEntropy(Op):
    """``-log(p)`` at the label, for probabilities ``p`` along the last axis; ``log(0)`` counts as -1e20.

    ``label`` holds class numbers with extent 1 on the last axis; the result has its shape.  A label equal to
    ``ignore_index`` costs 0, any other label outside the classes costs NaN.
    """

    name: ClassVar[str] = "loss.cross_entropy"

    p: Value
    label: Value
    ignore_index: int = -100

    def infer(self) -> TensorType:
        kind = _require_float(self, self.p)
        if kind.rank == 0:
            raise self.fail("needs a class axis, and the probabilities are one number")
        _require_label(self, self.label, (*kind.shape[:-1], 1))
        return kind.with_shape((*kind.shape[:-1], 1))

    def evaluate(self, p: Array, label: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.log(_pick(p, label, -1))
        loss = -np.where(np.isneginf(log), LOG_OF_ZERO, log)
        loss[label == self.ignore_index] = 0
        return np.asarray(loss, p.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        seed = _drop_ignored(b, self.label, self.ignore_index, ct)
        shape = self.p.tensor.shape
        slope = b.neg(b.div(b.broadcast(seed, shape), self.p))
        # A selection, not a product: p = 0 away from the label must leave no trace.
        return b.where(class_mask(b, self.label, shape, len(shape) - 1), slope, b.zeros_like(slope)), None

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        row = rowwise_kind(self, kinds[0], (self.p.tensor.rank - 1,), "cross entropy")
        shape = self.result.tensor.shape
        return aligned_kind(self, (row, kinds[1]), (shape, shape), shape, linear=False)

    def to_tvm(self, t: TvmEmitter, p: Tensor, label: Tensor) -> Tensor:
        axis = len(p.shape) - 1

        def element(*index: Index) -> Scalar:
            picked, inside = _picked(t, p, label[index], index[:-1], axis)
            log = t.select(picked.eq(0.0), t.const(LOG_OF_ZERO, p.dtype), t.call("log", picked))
            return _hard_loss(t, -log, label[index], inside, self.ignore_index)

        return t.compute(label.shape, p.dtype, element)

    def to_onnx(self, o: OnnxEmitter, p: str, label: str) -> str:
        dtype = self.p.type.dtype
        wide = kernel_type(self, dtype, SINGLE_AND_DOUBLE)
        axis = self.p.tensor.rank - 1
        labels = _HardLabel(o, label, self.label.type.dtype, self.p.tensor.shape[axis], self.ignore_index)

        def build(a: str) -> str:
            log = o.node("Log", labels.pick(a, axis))
            return labels.cost(o.node("Neg", o.node("Max", log, o.scalar(LOG_OF_ZERO, wide))), wide)

        return computed(self, o, dtype, SINGLE_AND_DOUBLE, build, p)


def _pick(x: Array, label: Array, axis: int) -> Array:
    """``x`` at the label along ``axis`` (kept with extent 1); NaN where the label is no class."""
    index = label.astype(np.int64)
    inside = (index >= 0) & (index < x.shape[axis])
    picked = np.take_along_axis(x, np.where(inside, index, 0), axis=axis)
    return np.where(inside, picked, np.asarray(np.nan, x.dtype))


def _picked(t: TvmEmitter, x: Tensor, label: Expr, row: tuple[Index, ...], axis: int) -> tuple[Expr, Expr]:
    """``x`` at the label in ``row``, and whether the label is a class; reads inside the tensor in any case."""
    at = t.cast(label, DType.I64)
    inside = (at >= 0) & (at < t.extent(x.shape[axis]))
    safe = t.select(inside, at, t.const(0, DType.I64))
    return x[(*row[:axis], safe, *row[axis:])], inside


def _hard_loss(t: TvmEmitter, loss: Expr, label: Expr, inside: Expr, ignore_index: int) -> Expr:
    known = t.select(inside, loss, t.const(float("nan"), loss.dtype))
    return t.select(label.eq(ignore_index), t.const(0.0, loss.dtype), known)


class _HardLabel:
    """Labels as nodes.

    Attributes:
        safe: In place of a label that is no class, one that is.
        inside: Whether the label is a class, bool.
        ignored: Whether it is the ignored one, bool.
    """

    def __init__(self, o: OnnxEmitter, label: str, dtype: DType, classes: Dim, ignore_index: int) -> None:
        self.o = o
        limits: Any = np.iinfo(cast(Any, dtype.numpy))
        known = limits.min <= ignore_index <= limits.max
        if dtype not in (DType.I32, DType.I64):
            dtype, label = DType.I64, o.cast(label, DType.I64)
        if isinstance(classes, int):
            last = o.scalar(classes - 1, dtype)
        else:
            last = o.cast(o.node("Sub", o.extent(classes), o.scalar(1, DType.I64)), dtype)
        self.safe = o.node("Clip", label, o.scalar(0, dtype), last)
        self.inside = o.node("Equal", self.safe, label)
        self.ignored = o.node("Equal", label, o.scalar(ignore_index, dtype)) if known else o.scalar(False, DType.BOOL)

    def pick(self, x: str, axis: int) -> str:
        """``x`` at the label along ``axis``, kept with extent 1."""
        return self.o.node("GatherElements", x, self.safe, axis=axis)

    def cost(self, loss: str, dtype: DType) -> str:
        """``loss``, or NaN where the label is no class, or 0 where it is ignored."""
        known = self.o.node("Where", self.inside, loss, self.o.scalar(math.nan, dtype))
        return self.o.node("Where", self.ignored, self.o.scalar(0, dtype), known)


def _drop_ignored(b: OpBuilder, label: Value, ignore_index: int, ct: Value) -> Value:
    """``ct`` with zeros where the label is ignored."""
    ignored = b.equal(label, b.fill((), label.type.dtype, ignore_index))
    return b.where(ignored, b.zeros_like(ct), ct)


@dataclass(frozen=True, eq=False)
class SigmoidCrossEntropy(Op):
    """``-label * log(sigmoid(x)) - (1 - label) * log(1 - sigmoid(x))`` elementwise; ignored labels cost 0.

    Computed as ``max(x, 0) - x * label + log1p(exp(-|x|))``, which overflows for no ``x``.
    """

    name: ClassVar[str] = "loss.sigmoid_cross_entropy"

    x: Value
    label: Value
    ignore_index: int = -100

    def infer(self) -> TensorType:
        kind = _require_float(self, self.x)
        same_dtype(self, self.x, self.label)
        if self.label.tensor.shape != kind.shape:
            raise self.fail(f"input and label have one shape, not {kind} and {self.label.type}")
        return kind

    def evaluate(self, x: Array, label: Array) -> Array:
        with np.errstate(invalid="ignore"):
            loss = np.maximum(x, 0) - x * label + np.log1p(np.exp(-np.abs(x)))
        return np.asarray(np.where(label == self.ignore_index, 0, loss), x.dtype)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        seed = _drop_ignored(b, self.label, self.ignore_index, ct)
        dx = b.mul(seed, b.sub(b.sigmoid(self.x), self.label)) if needs[0] else None
        dlabel = b.neg(b.mul(seed, self.x)) if needs[1] else None
        return dx, dlabel

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        shape = self.x.tensor.shape
        return aligned_kind(self, kinds, (shape, shape), shape, linear=False)

    def to_tvm(self, t: TvmEmitter, x: Tensor, label: Tensor) -> Tensor:
        def element(a: Expr, y: Expr) -> Scalar:
            tail = t.call("log1p", t.call("exp", -t.call("abs", a)))
            loss = t.maximum(a, 0.0) - a * y + tail
            return t.select(y.eq(float(self.ignore_index)), t.const(0.0, x.dtype), loss)

        return t.pointwise(element, x, label, dtype=x.dtype)

    def to_onnx(self, o: OnnxEmitter, x: str, label: str) -> str:
        dtype = self.x.type.dtype
        wide = kernel_type(self, dtype, SINGLE_AND_DOUBLE)

        def build(a: str, y: str) -> str:
            tail = log1p(o, o.node("Exp", o.node("Neg", o.node("Abs", a))), wide)
            loss = o.node("Add", o.node("Sub", o.node("Relu", a), o.node("Mul", a, y)), tail)
            return o.node("Where", o.node("Equal", y, o.scalar(self.ignore_index, wide)), o.scalar(0, wide), loss)

        return computed(self, o, dtype, SINGLE_AND_DOUBLE, build, x, label)


OPS: tuple[type[Op], ...] = (Softmax, LogSoftmax, SoftmaxCrossEntropy, CrossEntropy, SigmoidCrossEntropy)
