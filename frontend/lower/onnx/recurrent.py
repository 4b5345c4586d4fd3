"""LSTM, GRU and RNN: the inputs of all steps by one product, then a scan over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim, DType
from ....compiler.ops import activation, control, unary
from ....compiler.ops.construct import OpBuilder
from .node import Node, NodeRules, Results

Activation: TypeAlias = Callable[[OpBuilder, Value], Value]


@dataclass(frozen=True)
class _Direction:
    """What one direction computes with.

    Attributes:
        w: [gates * H, I].
        r: [gates * H, H].
        bias_w, bias_r: [gates * H], or None.
        peephole: [3 * H], or None.
        activations: Of the gates, in the order of the operator's attribute.
        clip: Bound on what activations are applied to, or 0.
        reverse: Time runs backwards.
    """

    w: Value
    r: Value
    bias_w: Value | None
    bias_r: Value | None
    peephole: Value | None
    activations: tuple[Activation, ...]
    clip: float
    reverse: bool

    @property
    def width(self) -> int:
        """H, the extent of the hidden state."""
        width = self.r.tensor.shape[1]
        assert isinstance(width, int)
        return width


Step: TypeAlias = Callable[[OpBuilder, _Direction, Value, "Sequence[Value]", "Sequence[Value | None]"], "list[Value]"]
"""(builder, direction, projected inputs [N, gates * H], state, (r, bias_r, peephole)) to the new state."""


def _activation(n: Node, name: str, alpha: float | None, beta: float | None) -> Activation:
    """One of the operator's activations, with its defaults where a parameter is left out."""

    def number(given: float | None, default: float) -> float:
        return default if given is None else given

    known: dict[str, Activation] = {
        "relu": lambda b, x: b.relu(x),
        "tanh": lambda b, x: b.tanh(x),
        "sigmoid": lambda b, x: b.sigmoid(x),
        "affine": lambda b, x: b.scale(x, number(alpha, 1.0), number(beta, 0.0)),
        "leakyrelu": lambda b, x: b(unary.LeakyRelu(x, number(alpha, 0.01))),
        "thresholdedrelu": lambda b, x: b(activation.ThresholdedRelu(x, number(alpha, 1.0))),
        "scaledtanh": lambda b, x: b(activation.STanh(x, number(beta, 1.0), number(alpha, 1.0))),
        "hardsigmoid": lambda b, x: b(activation.HardSigmoid(x, number(alpha, 0.2), number(beta, 0.5))),
        "elu": lambda b, x: b(activation.Elu(x, number(alpha, 1.0))),
        "softsign": lambda b, x: b(activation.Softsign(x)),
        "softplus": lambda b, x: b.softplus(x),
    }
    found = known.get(name.lower())
    if found is None:
        raise n.error(f"the activation {name!r}", f"one of {', '.join(known)}")
    return found


def _directions(n: Node, gates: int, activations: Sequence[str]) -> list[_Direction]:
    """The node's parameters by direction; ``activations`` are the defaults."""
    how = n.attr("direction")
    if how not in ("forward", "reverse", "bidirectional"):
        raise n.error(f"the direction {how!r}", "forward, reverse or bidirectional")
    count = 2 if how == "bidirectional" else 1
    w, r, bias, peephole = n.x("W"), n.x("R"), n.optional("B"), n.optional("P") if gates == 4 else None
    hidden = n.fixed(r, 2)
    for name, value, shape in (
        ("W", w, (count, gates * hidden, w.tensor.shape[-1])),
        ("R", r, (count, gates * hidden, hidden)),
        ("B", bias, (count, 2 * gates * hidden)),
        ("P", peephole, (count, 3 * hidden)),
    ):
        if value is not None and value.tensor.shape != shape:
            raise n.error(f"{name} is {value.type}, not of the shape {list(shape)}", "correct the model")
    names = n.attr("activations") or list(activations) * count
    if n.op_type == "RNN" and names == ["Tanh", "Tanh"]:
        names = names[:count]  # the operator's default is of two directions, also where there is one
    if len(names) != len(activations) * count:
        raise n.error(f"{len(names)} activations", f"it has {len(activations)} for each direction")
    alphas = _parameters(names, n.attr("activation_alpha") or [], _TAKES_ALPHA)
    betas = _parameters(names, n.attr("activation_beta") or [], _TAKES_BETA)
    made = [_activation(n, *each) for each in zip(names, alphas, betas)]
    found: list[_Direction] = []
    for k in range(count):
        b_w = b_r = None
        if bias is not None:
            row = _at(n, bias, k)
            b_w, b_r = n.b.split(row, 0, [gates * hidden] * 2)
        found.append(
            _Direction(
                w=_at(n, w, k),
                r=_at(n, r, k),
                bias_w=b_w,
                bias_r=b_r,
                peephole=None if peephole is None else _at(n, peephole, k),
                activations=tuple(made[k * len(activations) : (k + 1) * len(activations)]),
                clip=n.attr("clip", 0.0),
                reverse=how == "reverse" or k == 1,
            )
        )
    return found


_TAKES_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
_TAKES_BETA = {"affine", "scaledtanh", "hardsigmoid"}


def _parameters(names: Sequence[str], given: Sequence[float], takes: set[str]) -> list[float | None]:
    """One per activation: given for each, or for those that take one, in order."""
    if len(given) == len(names):
        return list(given)
    left = iter(given)
    return [next(left, None) if name.lower() in takes else None for name in names]


def _at(n: Node, x: Value, k: int) -> Value:
    """Row ``k``, without its axis."""
    return n.b.reshape(n.b.slice(x, 0, k, k + 1), x.tensor.shape[1:])


def _recurrent(n: Node, gates: int, states: int, activations: Sequence[str], step: Step) -> Results:
    """Y [T, directions, N, H] and the last states [directions, N, H]; with layout 1 the batch comes first."""
    b, x = n.b, n.x("X")
    by_batch = bool(n.attr("layout", 0))
    if x.tensor.rank != 3:
        raise n.error(f"X is {x.type}", "it has the axes time, batch and features")
    if by_batch:
        x = b.transpose(x, (1, 0, 2))
    time, batch, _ = x.tensor.shape
    directions = _directions(n, gates, activations)
    initial = [n.optional("initial_h"), n.optional("initial_c") if states == 2 else None][:states]
    if by_batch:
        initial = [None if v is None else b.transpose(v, (1, 0, 2)) for v in initial]
    live = _live(n, time, batch)
    outputs: list[Value] = []
    last: list[list[Value]] = []
    for k, d in enumerate(directions):
        start = [b.fill((batch, d.width), x.tensor.dtype, 0.0) if v is None else _at(n, v, k) for v in initial]
        ends, out = _run(b, d, x, start, live, step)
        outputs.append(out)
        last.append(ends)
    y = b.stack(outputs, 1)
    final = [b.stack([ends[j] for ends in last], 0) for j in range(states)]
    if by_batch:
        y, final = b.transpose(y, (2, 0, 1, 3)), [b.transpose(v, (1, 0, 2)) for v in final]
    return (y, *final)


def _live(n: Node, time: Dim, batch: Dim) -> Value | None:
    """Which steps belong to a sequence, bool [T, N, 1]; None where all of them do."""
    known = n.known("sequence_lens")
    if not n.has("sequence_lens") or (known is not None and not known.symbolic and (known.array == time).all()):
        return None
    lengths = n.b.reshape(n.b.cast(n.x("sequence_lens"), DType.I64), (1, batch, 1))
    return n.b.less(n.b.iota((time, 1, 1), 0, DType.I64), lengths)


def _run(
    b: OpBuilder, d: _Direction, x: Value, start: Sequence[Value], live: Value | None, step: Step
) -> tuple[list[Value], Value]:
    """The last states [N, H], and the hidden state after every step [T, N, H]."""
    time = x.tensor.shape[0]
    projected = b.matmul(x, d.w, tb=True)
    if d.bias_w is not None:
        projected = b.add(projected, d.bias_w)
    whole = [v for v in (d.r, d.bias_r, d.peephole) if v is not None]
    stacked = [projected] if live is None else [projected, live]

    def body(inner: OpBuilder, i: Value, *values: Value) -> Sequence[Value]:
        del i
        old, rest = values[: len(start)], values[len(start) :]
        slices, given = rest[: len(stacked)], iter(rest[len(stacked) :])
        parameters = [next(given) if v is not None else None for v in (d.r, d.bias_r, d.peephole)]
        new = step(inner, d, slices[0], old, parameters)
        out = new[0]
        if live is not None:
            out = inner.where(slices[1], new[0], inner.zeros_like(new[0]))
            new = [inner.where(slices[1], after, before) for after, before in zip(new, old, strict=True)]
        return [*new, out]

    results = control.scan(b, start, stacked, whole, time, body, reverse=d.reverse)
    return list(results[: len(start)]), results[-1]


def _clipped(b: OpBuilder, d: _Direction, x: Value) -> Value:
    return b.clip(x, -d.clip, d.clip) if d.clip else x


def _hidden(b: OpBuilder, before: Value, parameters: Sequence[Value | None]) -> Value:
    """What the hidden state adds to the gates: ``h @ r.T + bias_r``."""
    r, bias, _ = parameters
    assert r is not None
    out = b.matmul(before, r, tb=True)
    return out if bias is None else b.add(out, bias)


def _lstm_step(input_forget: bool) -> Step:
    def step(
        b: OpBuilder, d: _Direction, x: Value, state: Sequence[Value], parameters: Sequence[Value | None]
    ) -> list[Value]:
        before, cell = state
        f, g, h = d.activations
        i, o, forget, c = b.split(b.add(x, _hidden(b, before, parameters)), 1, [d.width] * 4)
        peepholes = parameters[2]
        p_i, p_o, p_f = (None,) * 3 if peepholes is None else b.split(peepholes, 0, [d.width] * 3)

        def gate(value: Value, peephole: Value | None, seen: Value) -> Value:
            value = value if peephole is None else b.add(value, b.mul(seen, peephole))
            return f(b, _clipped(b, d, value))

        opened = gate(i, p_i, cell)
        kept = b.scale(opened, -1.0, 1.0) if input_forget else gate(forget, p_f, cell)
        new = b.add(b.mul(kept, cell), b.mul(opened, g(b, _clipped(b, d, c))))
        return [b.mul(gate(o, p_o, new), h(b, _clipped(b, d, new))), new]

    return step


def _gru_step(after: bool) -> Step:
    """``after``: the reset gate is applied to the product (PyTorch's form), not to the state before it."""

    def step(
        b: OpBuilder, d: _Direction, x: Value, state: Sequence[Value], parameters: Sequence[Value | None]
    ) -> list[Value]:
        (before,) = state
        f, g = d.activations
        r, bias, _ = parameters
        assert r is not None
        width = d.width
        x_gates, x_new = b.split(x, 1, [2 * width, width])

        def opened(from_gates: Value) -> tuple[Value, ...]:
            """The update and the reset gate."""
            return b.split(f(b, _clipped(b, d, b.add(x_gates, from_gates))), 1, [width] * 2)

        if after:
            from_gates, from_new = b.split(_hidden(b, before, parameters), 1, [2 * width, width])
            update, reset = opened(from_gates)
            candidate = b.mul(reset, from_new)
        else:
            r_gates, r_new = b.split(r, 0, [2 * width, width])
            b_gates, b_new = (None, None) if bias is None else b.split(bias, 0, [2 * width, width])
            update, reset = opened(_hidden(b, before, (r_gates, b_gates, None)))
            candidate = _hidden(b, b.mul(reset, before), (r_new, b_new, None))
        new = g(b, _clipped(b, d, b.add(x_new, candidate)))
        return [b.add(new, b.mul(update, b.sub(before, new)))]

    return step


def _rnn_step(
    b: OpBuilder, d: _Direction, x: Value, state: Sequence[Value], parameters: Sequence[Value | None]
) -> list[Value]:
    (before,) = state
    (f,) = d.activations
    return [f(b, _clipped(b, d, b.add(x, _hidden(b, before, parameters))))]


def _lstm(n: Node) -> Results:
    step = _lstm_step(bool(n.attr("input_forget", 0)))
    return _recurrent(n, 4, 2, ("Sigmoid", "Tanh", "Tanh"), step)


def _gru(n: Node) -> Results:
    return _recurrent(n, 3, 1, ("Sigmoid", "Tanh"), _gru_step(bool(n.attr("linear_before_reset", 0))))


def _rnn(n: Node) -> Results:
    return _recurrent(n, 1, 1, ("Tanh",), _rnn_step)


RULES: NodeRules = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
