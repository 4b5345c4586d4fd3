"""Ops that saved models hold and no layer of fluid 1.8 records: those of ``paddle.tensor``, and of Paddle 2."""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, numel
from ...compiler.ops import indexing, loss
from .context import OpLowering, Rules
from .elementwise import matrix_product


def _where(o: OpLowering) -> None:
    o.set(o.b.where(o.x("Condition"), o.x("X"), o.x("Y")))


def _matmul_v2(o: OpLowering) -> None:
    o.set(matrix_product(o, bool(o.attr("trans_x", False)), bool(o.attr("trans_y", False))))


def _flatten_range(o: OpLowering) -> None:
    x = o.x()
    start, stop = o.axes(x, [o.attr("start_axis", 1), o.attr("stop_axis", -1)])
    shape = x.tensor.shape
    o.set(o.b.reshape(x, (*shape[:start], numel(shape[start : stop + 1]), *shape[stop + 1 :])))


def _top_k_v2(o: OpLowering) -> None:
    x, k = o.x(), o.attr("k", 1)
    if o.has("K"):
        raise o.error("k is a Variable", "give a number known when the program is built")
    (axis,) = o.axes(x, [o.attr("axis", -1)])
    last = x.tensor.rank - 1
    if axis == last and o.attr("largest", True):
        values, indices = o.b.emit(indexing.TopK(x, k))
    else:
        sorted_ = o.b.emit(indexing.Argsort(x, axis, bool(o.attr("largest", True))))
        values, indices = (o.b.slice(v, axis, 0, k) for v in sorted_)
    o.set(values)
    o.set(indices, "Indices")


def _expand_v2(o: OpLowering) -> None:
    x, wanted = o.x(), o.attr("shape")
    new = len(wanted) - x.tensor.rank
    shape: list[Dim] = [x.tensor.shape[i - new] if d == -1 else d for i, d in enumerate(wanted)]
    o.set(o.b.broadcast(x, tuple(shape)))


def _tile(o: OpLowering) -> None:
    x, times = o.x(), list(o.attr("repeat_times"))
    times = [1] * (x.tensor.rank - len(times)) + times
    o.set(o.b.tile(_with_rank(o, x, len(times)), times))


def _with_rank(o: OpLowering, x: Value, rank: int) -> Value:
    return o.b.reshape(x, (*(1,) * (rank - x.tensor.rank), *x.tensor.shape))


def _log_softmax(o: OpLowering) -> None:
    o.set(o.b(loss.LogSoftmax(o.tokens(), o.attr("axis", -1))))


def _silu(o: OpLowering) -> None:
    x = o.tokens()
    o.set(o.b.mul(x, o.b.sigmoid(x)))


RULES: Rules = {
    "where": _where,
    "matmul_v2": _matmul_v2,
    "flatten_contiguous_range": _flatten_range,
    "top_k_v2": _top_k_v2,
    "expand_v2": _expand_v2,
    "tile": _tile,
    "log_softmax": _log_softmax,
    "silu": _silu,
}
