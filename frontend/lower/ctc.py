"""Connectionist temporal classification (Graves et al., 2006): the forward recursion, in logarithms.

A path goes through blank 0, label 0, blank 1, label 1, … to the last blank.  ``blanks[n, k]`` is the log-likelihood of
all beginnings of paths that stand at blank k, ``labels[n, k]`` that of those at label k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, RaggedType
from ...compiler.ops import control, loss, ragged
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.grad import StopGradient
from ...compiler.ops.ragged_pad import Pad
from ...runtime.extents import Combined, Fixed, Rule
from .context import OpLowering, Rules

NEVER = -1e30
"""The logarithm of a probability of zero; no infinity, whose gradient is no number."""


@dataclass(frozen=True)
class _Spoken:
    """Scores with the steps on axis 0, f[L, N, C], and labels i64[N, W] with W above their number; both padded."""

    scores: Value
    steps: Value
    labels: Value
    counts: Value


def _sequences(o: OpLowering) -> _Spoken:
    """The operands, as sequences or with lengths."""
    b = o.b
    if o.has("LogitsLength"):
        scores, labels = o.x("Logits"), o.x("Label")
        rows = scores.tensor.shape[1]
        steps, counts = (b.cast(b.reshape(o.x(s), (rows,)), DType.I64) for s in ("LogitsLength", "LabelLength"))
        labels = b.pad(labels, (0, 0), (0, 1))
        return _Spoken(scores, steps, b.cast(labels, DType.I64), counts)
    scores, labels = o.any("Logits"), o.any("Label")
    for slot, value in (("Logits", scores), ("Label", labels)):
        if not isinstance(value.type, RaggedType):
            raise o.error(f"{o.op.input(slot)[0]} has no sequences", "feed a LoDTensor: fluid.create_lod_tensor(...)")
    padded = b(Pad(scores, o.function.longest(scores)))
    found = o.function.sizes.expression(labels)
    if found is None:
        raise o.error(f"the lengths of {o.op.input('Label')[0]} are computed", "let them follow from what is fed")
    width = o.function.sizes.extent(Rule("max", Combined("add", found, Fixed(1))), "W")
    rows = labels.ragged.count
    listed = b.cast(b.reshape(b(Pad(labels, width)), (rows, width)), DType.I64)
    lengths = b(ragged.Lengths(scores)), b(ragged.Lengths(labels))
    return _Spoken(b.transpose(padded, (1, 0, 2)), lengths[0], listed, lengths[1])


def _before(b: OpBuilder, x: Value, fill: float) -> Value:
    """Column k of the result is column k - 1 of ``x`` [N, W], the first one ``fill``."""
    width = x.tensor.shape[1]
    at = b.iota((width,), 0, DType.I64)
    zero = b.fill((), DType.I64, 0)
    moved = b.gather(x, b.maximum(b.add(at, b.fill((), DType.I64, -1)), zero), 1)
    return b.where(b.equal(at, zero), b.fill((), x.type.dtype, fill), moved)


def _either(b: OpBuilder, *logs: Value) -> Value:
    """The logarithm of a sum of probabilities."""
    peak = logs[0]
    for x in logs[1:]:
        peak = b.maximum(peak, x)
    peak = b(StopGradient(peak))
    total = b.exp(b.sub(logs[0], peak))
    for x in logs[1:]:
        total = b.add(total, b.exp(b.sub(x, peak)))
    return b.add(peak, b.log(total))


def _warpctc(o: OpLowering) -> None:
    b, spoken, blank = o.b, _sequences(o), int(o.attr("blank", 0))
    length, rows, _ = spoken.scores.tensor.shape
    width = spoken.labels.tensor.shape[1]
    dtype = spoken.scores.type.dtype
    none = b.fill((), DType.I64, 0)
    counted = b.less(b.iota((rows, width), 1, DType.I64), b.reshape(spoken.counts, (rows, 1)))
    labels = b.where(counted, spoken.labels, none)
    repeats = b.logical_and(b.equal(labels, _before(b, labels, -1)), counted)
    first = b.equal(b.iota((width,), 0, DType.I64), none)
    repeats = b.logical_and(repeats, b.logical_not(first))
    live = b.less(b.iota((length, rows), 0, DType.I64), spoken.steps)
    scores = b.where(b.reshape(live, (length, rows, 1)), spoken.scores, b.fill((), dtype, 0.0))
    logs = b(loss.LogSoftmax(scores, 2))
    of_blank = b.slice(logs, 2, blank, blank + 1)
    index = b.broadcast(b.reshape(labels, (1, rows, width)), (length, rows, width))
    of_labels = b.take_along(logs, index, 2)

    def step(inner: OpBuilder, i: Value, blanks: Value, said: Value, *rest: Value) -> Sequence[Value]:
        del i
        of_blank, of_labels, live, repeats = rest
        never = inner.fill((), dtype, NEVER)
        earlier = _before(inner, said, NEVER)
        now_blank = inner.add(_either(inner, blanks, earlier), of_blank)
        past_blank = inner.where(repeats, never, earlier)
        now_said = inner.add(_either(inner, said, blanks, past_blank), of_labels)
        live = inner.reshape(live, (rows, 1))
        return inner.where(live, now_blank, blanks), inner.where(live, now_said, said)

    # Before the first step a path stands at blank 0 at no cost: it goes on to blank 0 or to label 0.
    at_start = b.broadcast(b.where(first, b.fill((), dtype, 0.0), b.fill((), dtype, NEVER)), (rows, width))
    said = b.fill((rows, width), dtype, NEVER)
    blanks, said = control.scan(b, (at_start, said), (of_blank, of_labels, live), (repeats,), length, step)
    counts = b.reshape(spoken.counts, (rows, 1))
    last = b.maximum(b.add(counts, b.fill((), DType.I64, -1)), none)
    ended = b.where(b.less(none, counts), b.take_along(said, last, 1), b.fill((), dtype, NEVER))
    cost = b.neg(_either(b, b.take_along(blanks, counts, 1), ended))
    steps = b.reshape(spoken.steps, (rows, 1))
    needed = b.add(counts, b.reduce_sum(b.cast(repeats, DType.I64), (1,), keepdims=True))
    cost = b.where(b.less_equal(needed, steps), cost, b.fill((), dtype, 0.0))
    if o.attr("norm_by_times", False):
        of_times = b.div(cost, b.maximum(b.cast(steps, dtype), b.fill((), dtype, 1.0)))
        cost = b.add(of_times, b(StopGradient(b.sub(cost, of_times))))
    o.set(cost, "Loss")


RULES: Rules = {"warpctc": _warpctc}
