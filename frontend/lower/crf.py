"""Conditional random fields: the forward algorithm and Viterbi's, over time and all sequences at once.

Both run over padded emissions [N, L, D] whose steps beyond a sequence's length keep its state.  Like Paddle, the
forward algorithm works on probabilities that are scaled to sum to 1 at every step, whose logarithms add up to the
normaliser (Rabiner, 1989, section V.A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, RaggedType
from ...compiler.ops import control, ragged
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.grad import StopGradient
from ...compiler.ops.ragged_pad import Pad, Unpad
from .context import OpLowering, Rules
from .loss import check_range


@dataclass(frozen=True)
class _Chains:
    """The sequences of one op, padded.

    Attributes:
        sequences: The emissions, where they came as sequences.
        emission: f[N, L, D]; 0 beyond the length.
        lengths: i64[N].
        live: bool[N, L]: which steps count.
        start, end: Scores of a first and a last label, f[D].
        between: Scores of a label (axis 1) after another (axis 0), f[D, D].
    """

    sequences: Value | None
    emission: Value
    lengths: Value
    live: Value
    start: Value
    end: Value
    between: Value

    @staticmethod
    def of(o: OpLowering) -> _Chains:
        b = o.b
        if o.has("Length"):
            x, sequences = o.x("Emission"), None
            lengths = b.cast(b.reshape(o.x("Length"), x.tensor.shape[:1]), DType.I64)
        else:
            sequences = _sequences(o, "Emission")
            x, lengths = b(Pad(sequences, o.function.longest(sequences))), b(ragged.Lengths(sequences))
        rows, steps, labels = x.tensor.shape
        assert isinstance(labels, int)
        live = b.less(b.iota((rows, steps), 1, DType.I64), b.reshape(lengths, (rows, 1)))
        x = b.where(b.reshape(live, (rows, steps, 1)), x, b.fill((), x.tensor.dtype, 0.0))
        start, end, between = b.split(o.x("Transition"), 0, [1, 1, labels])
        start, end = b.reshape(start, (labels,)), b.reshape(end, (labels,))
        return _Chains(sequences, x, lengths, live, start, end, between)

    def label(self, o: OpLowering) -> Value:
        """The labels, i64[N, L]; 0 beyond the length."""
        rows, steps, labels = self.emission.tensor.shape
        if self.sequences is None:
            label = o.x("Label")
        else:
            check_range(o, "Label", labels)
            label = o.b(Pad(_sequences(o, "Label"), steps))
        label = o.b.reshape(label, (rows, steps))
        return o.b.where(self.live, label, o.b.fill((), DType.I64, 0))

    def apart(self, b: OpBuilder, x: Value) -> Value:
        """``x`` [N, L, …] as the op gives it: of sequences the tokens of all rows."""
        return x if self.sequences is None else b(ragged.Data(b(Unpad(x, self.sequences))))

    def over_time(self, b: OpBuilder, x: Value) -> Value:
        """``x`` [N, L, …] with the steps on axis 0; and back."""
        return b.transpose(x, (1, 0, *range(2, x.tensor.rank)))

    def live_steps(self, b: OpBuilder) -> Value:
        """``live`` with the steps on axis 0, bool[L, N, 1]."""
        rows, steps, _ = self.emission.tensor.shape
        return b.reshape(b.transpose(self.live, (1, 0)), (steps, rows, 1))


def _sequences(o: OpLowering, slot: str) -> Value:
    found = o.any(slot)
    if not isinstance(found.type, RaggedType):
        raise o.error(
            f"{o.op.input(slot)[0]} has no sequences", "feed a LoDTensor: fluid.create_lod_tensor(...), or give length"
        )
    return found


def _normaliser(
    b: OpBuilder, chains: _Chains, emission_exps: Value, peaks: Value, between_exps: Value
) -> tuple[Value, Value]:
    """The scaled forward probabilities of every step, f[N, L, D], and the log of the sum over all label sequences.

    Args:
        b: Builder.
        chains: The sequences.
        emission_exps: exp(emission - peak), f[N, L, D].
        peaks: The largest emission of every step, f[N, L, 1].
        between_exps: exp(between).
    """
    rows, steps, labels = emission_exps.tensor.shape
    dtype = emission_exps.tensor.dtype
    none = b.fill((), dtype, 0.0)

    def step(inner: OpBuilder, i: Value, alpha: Value, log_z: Value, *rest: Value) -> Sequence[Value]:
        emitted, live, start, between = rest
        first = inner.equal(i, inner.fill((), DType.I64, 0))
        from_before = inner.where(first, inner.broadcast(start, (rows, labels)), inner.matmul(alpha, between))
        reached = inner.mul(from_before, emitted)
        # A step that does not count divides by 1: where nothing came before it, all is 0.
        total = inner.where(live, inner.reduce_sum(reached, (1,), keepdims=True), inner.fill((), dtype, 1.0))
        scaled = inner.div(reached, total)
        return inner.where(live, scaled, alpha), inner.add(log_z, inner.log(total)), scaled

    init = b.fill((rows, labels), dtype, 0.0), b.fill((rows, 1), dtype, 0.0)
    sliced = chains.over_time(b, emission_exps), chains.live_steps(b)
    start = b.reshape(b.exp(chains.start), (1, labels))
    last, log_z, alphas = control.scan(b, init, sliced, (start, between_exps), steps, step)
    # The largest emissions were taken out of the probabilities.
    live = b.reshape(chains.live, (rows, steps, 1))
    shift = b.reduce_sum(b.where(live, peaks, none), (1,))
    ending = b.reduce_sum(b.mul(last, b.reshape(b.exp(chains.end), (1, labels))), (1,), keepdims=True)
    some = b.less(b.fill((), DType.I64, 0), b.reshape(chains.lengths, (rows, 1)))
    ended = b.log(b.where(some, ending, b.fill((), dtype, 1.0)))
    alphas = b.where(live, chains.over_time(b, alphas), none)
    return alphas, b.add(b.add(log_z, shift), ended)


def _score(b: OpBuilder, chains: _Chains, label: Value) -> Value:
    """The score of the labels given, f[N, 1]; 0 for a sequence without tokens."""
    rows, steps, labels = chains.emission.tensor.shape
    assert isinstance(labels, int)
    dtype = chains.emission.tensor.dtype
    none, zero = b.fill((), dtype, 0.0), b.fill((), DType.I64, 0)
    emitted = b.reshape(b.take_along(chains.emission, b.reshape(label, (rows, steps, 1)), 2), (rows, steps))
    at = b.iota((steps,), 0, DType.I64)
    before = b.gather(label, b.maximum(b.add(at, b.fill((), DType.I64, -1)), zero), 1)
    pairs = b.add(b.mul(before, b.fill((), DType.I64, labels)), label)
    passed = b.gather(b.reshape(chains.between, (labels * labels,)), pairs, 0)
    opened = b.gather(chains.start, label, 0)
    ended = b.gather(chains.end, label, 0)
    is_first = b.equal(at, zero)
    is_last = b.equal(b.add(at, b.fill((), DType.I64, 1)), b.reshape(chains.lengths, (rows, 1)))
    score = b.add(b.add(emitted, b.where(is_first, opened, passed)), b.where(is_last, ended, none))
    return b.reduce_sum(b.where(chains.live, score, none), (1,), keepdims=True)


def _linear_chain_crf(o: OpLowering) -> None:
    b, chains = o.b, _Chains.of(o)
    x = chains.emission
    # Taken out of a sum of exponentials and added to its logarithm: no gradient is lost.
    peaks = b(StopGradient(b.reduce_max(x, (2,), keepdims=True)))
    emission_exps, between_exps = b.exp(b.sub(x, peaks)), b.exp(chains.between)
    alphas, log_z = _normaliser(b, chains, emission_exps, peaks, between_exps)
    o.set(chains.apart(b, alphas), "Alpha")
    o.set(b.exp(o.x("Transition")), "TransitionExps")
    raw = o.x("Emission") if chains.sequences is None else b(ragged.Data(chains.sequences))
    axis = raw.tensor.rank - 1
    o.set(b.exp(b.sub(raw, b.reduce_max(raw, (axis,), keepdims=True))), "EmissionExps")
    o.set(b.sub(log_z, _score(b, chains, chains.label(o))), "LogLikelihood")


def _best_path(b: OpBuilder, chains: _Chains) -> Value:
    """The labels of the highest score, i64[N, L]; 0 beyond the length.

    Forward only the best scores are kept; which label they came from is asked again on the way back, of the path alone.
    """
    rows, steps, labels = chains.emission.tensor.shape
    dtype = chains.emission.tensor.dtype
    live = chains.live_steps(b)

    def forward(inner: OpBuilder, i: Value, best: Value, *rest: Value) -> Sequence[Value]:
        emitted, live, start, between = rest
        first = inner.equal(i, inner.fill((), DType.I64, 0))
        through = inner.add(inner.reshape(best, (rows, labels, 1)), between)  # [N, before, now]
        reached = inner.where(first, inner.broadcast(start, (rows, labels)), inner.reduce_max(through, (1,)))
        return inner.where(live, inner.add(reached, emitted), best), best

    none = b.fill((rows, labels), dtype, 0.0)
    start = b.reshape(chains.start, (1, labels))
    emitted = chains.over_time(b, chains.emission)
    best, earlier = control.scan(b, (none,), (emitted, live), (start, chains.between), steps, forward)
    last = b.argmax(b.add(best, b.reshape(chains.end, (1, labels))), 1)

    def backward(inner: OpBuilder, i: Value, label: Value, *rest: Value) -> Sequence[Value]:
        earlier, live, into = rest
        before = inner.argmax(inner.add(earlier, inner.gather(into, label, 0)), 1)
        return inner.where(live, before, label), inner.where(live, label, inner.fill((), DType.I64, 0))

    live, into = b.reshape(live, (steps, rows)), b.transpose(chains.between, (1, 0))
    _, path = control.scan(b, (last,), (earlier, live), (into,), steps, backward, reverse=True)
    return b.transpose(path, (1, 0))


def _crf_decoding(o: OpLowering) -> None:
    b, chains = o.b, _Chains.of(o)
    path = _best_path(b, chains)
    if o.has("Label"):
        same = b.logical_and(b.equal(path, chains.label(o)), chains.live)
        path = b.cast(same, DType.I64)
    if chains.sequences is not None:
        path = b(Unpad(b.reshape(path, (*path.tensor.shape, 1)), chains.sequences))
    o.set(path, "ViterbiPath")


RULES: Rules = {
    "linear_chain_crf": _linear_chain_crf,
    "crf_decoding": _crf_decoding,
}
