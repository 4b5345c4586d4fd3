"""``basic_lstm`` and ``basic_gru``: layers of recurrent units over padded sequences, in one loop for each direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..layers.arrange import reshape, transpose
from ..layers.arrange import shape as shape_of
from ..layers.control_flow import StaticRNN
from ..layers.lod import sequence_mask
from ..layers.math import elementwise_mul
from ..layers.nn import dropout
from ..layers.rnn_units import Activation, BasicGRUUnit, BasicLSTMUnit, named
from ..layers.tensor import concat, reverse
from ..param_attr import ParamAttrLike
from ..variable import Variable
from ..vartype import DTypeLike

Unit = Callable[..., Any]
MakeUnit = Callable[[str, ParamAttrLike, ParamAttrLike], Unit]


def basic_gru(
    input: Variable,
    init_hidden: Variable | None,
    hidden_size: int,
    num_layers: int = 1,
    sequence_length: Variable | None = None,
    dropout_prob: float = 0.0,
    bidirectional: bool = False,
    batch_first: bool = True,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    gate_activation: Activation | None = None,
    activation: Activation | None = None,
    dtype: DTypeLike = "float32",
    name: str = "basic_gru",
) -> tuple[Variable, Variable]:
    """Layers of `BasicGRUUnit`: the last layer's outputs, and the hidden states after the last step.

    Args:
        input: [N, T, inputs], or [T, N, inputs] without ``batch_first``.
        init_hidden: [layers * directions, N, D]; zeros if None.
        hidden_size: D.
        num_layers: Layers, each on the outputs of the one before.
        sequence_length: Integers [N]; states stay as they are behind the end of a sequence.
        dropout_prob: Of what a layer puts out.
        bidirectional: A second stack of layers reads sequences backwards.
        batch_first: Axis 0 is examples, not steps.
        param_attr, bias_attr: Of every layer; a name gets the direction and the layer's number appended.
        gate_activation, activation: Layers; sigmoid and tanh if None.
        dtype: Of the parameters.
        name: What the layers' names begin with.

    Returns:
        [N, T, D * directions] (or time first), and [layers * directions, N, D].
    """

    def make(scope: str, weight: ParamAttrLike, bias: ParamAttrLike) -> Unit:
        return BasicGRUUnit(scope, hidden_size, weight, bias, gate_activation, activation, dtype)

    stacks = _stacks(make, name, num_layers, bidirectional, param_attr, bias_attr, bias_attr)
    net = _Net(stacks, hidden_size, dropout_prob, "downgrade_in_infer")
    out, (hidden,) = net.run(input, [init_hidden], sequence_length, batch_first)
    return out, hidden


def basic_lstm(
    input: Variable,
    init_hidden: Variable | None,
    init_cell: Variable | None,
    hidden_size: int,
    num_layers: int = 1,
    sequence_length: Variable | None = None,
    dropout_prob: float = 0.0,
    bidirectional: bool = False,
    batch_first: bool = True,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    gate_activation: Activation | None = None,
    activation: Activation | None = None,
    forget_bias: float = 1.0,
    dtype: DTypeLike = "float32",
    name: str = "basic_lstm",
) -> tuple[Variable, Variable, Variable]:
    """Layers of `BasicLSTMUnit`, as `basic_gru`: outputs, hidden states and cells after the last step.

    Both initial states are given, or neither.  As in fluid, biases of the layers that read backwards are made by
    ``param_attr`` where ``bias_attr`` has no name.
    """

    def make(scope: str, weight: ParamAttrLike, bias: ParamAttrLike) -> Unit:
        return BasicLSTMUnit(scope, hidden_size, weight, bias, gate_activation, activation, forget_bias, dtype)

    stacks = _stacks(make, name, num_layers, bidirectional, param_attr, bias_attr, param_attr)
    net = _Net(stacks, hidden_size, dropout_prob, "upscale_in_train")
    out, (hidden, cell) = net.run(input, [init_hidden, init_cell], sequence_length, batch_first)
    return out, hidden, cell


def _stacks(
    make: MakeUnit,
    name: str,
    layers: int,
    bidirectional: bool,
    weight: ParamAttrLike,
    bias: ParamAttrLike,
    backward_bias: ParamAttrLike,
) -> list[list[Unit]]:
    """The units of every direction."""
    found = [
        [make(f"{name}_layers_{i}", named(weight, f"_fw_w_{i}"), named(bias, f"_fw_b_{i}")) for i in range(layers)]
    ]
    if bidirectional:
        found.append([])
        for i in range(layers):
            suffixed = named(bias, f"_bw_b_{i}")
            chosen = suffixed if suffixed is not bias else backward_bias
            found[1].append(make(f"{name}_reverse_layers_{i}", named(weight, f"_bw_w_{i}"), chosen))
    return found


class _Net:
    """Stacks of units, one for each direction."""

    def __init__(self, stacks: list[list[Unit]], hidden_size: int, dropout_prob: float, how: str) -> None:
        self._stacks, self._size = stacks, hidden_size
        self._dropout, self._how = dropout_prob, how

    def run(
        self, input: Variable, init: Sequence[Variable | None], lengths: Variable | None, batch_first: bool
    ) -> tuple[Variable, list[Variable]]:
        """Outputs, and per kind of state what it is after the last step."""
        layers, directions = len(self._stacks[0]), len(self._stacks)
        x = transpose(input, [1, 0, 2]) if batch_first else input
        mask = None
        if lengths is not None:
            mask = transpose(sequence_mask(lengths, shape_of(x)[0], "float32"), [1, 0])
        starts = [None if state is None else reshape(state, [layers, directions, -1, self._size]) for state in init]
        outputs: list[Variable] = []
        last: list[list[Variable]] = []
        for direction, units in enumerate(self._stacks):
            if direction:
                x, mask = reverse(x, axis=[0]), None if mask is None else reverse(mask, axis=[0])
            out, states = self._direction(x, mask, units, starts, direction)
            outputs.append(reverse(out, axis=[0]) if direction else out)
            last.append(states)
        if directions == 1:
            out, states = outputs[0], last[0]
        else:
            out = concat(outputs, axis=2)
            states = [reshape(concat(list(each), axis=1), [layers * directions, -1, self._size]) for each in zip(*last)]
        return transpose(out, [1, 0, 2]) if batch_first else out, states

    def _direction(
        self,
        x: Variable,
        mask: Variable | None,
        units: Sequence[Unit],
        starts: Sequence[Variable | None],
        direction: int,
    ) -> tuple[Variable, list[Variable]]:
        loop, kinds = StaticRNN(), len(starts)
        given = [[None if start is None else start[i, direction] for start in starts] for i in range(len(units))]
        with loop.step():
            row = loop.step_input(x)
            step_mask = None if mask is None else loop.step_input(mask)
            for i, unit in enumerate(units):
                before = [self._memory(loop, x, start) for start in given[i]]
                made = unit(row, *before)
                after = list(made) if isinstance(made, tuple) else [made]
                if step_mask is not None:
                    after = [
                        elementwise_mul(new, step_mask, axis=0) - elementwise_mul(old, step_mask - 1, axis=0)
                        for new, old in zip(after, before)
                    ]
                for old, new in zip(before, after):
                    loop.update_memory(old, new)
                for new in after:
                    loop.step_output(new)
                row = after[0]
                if self._dropout:
                    row = dropout(row, self._dropout, dropout_implementation=self._how)
            loop.step_output(row)
        found = list(loop())
        rows = [x[-1] for x in found[:-1]]
        states = [reshape(concat(rows[kind::kinds], axis=0), [len(units), -1, self._size]) for kind in range(kinds)]
        return found[-1], states

    def _memory(self, loop: StaticRNN, x: Variable, start: Variable | None) -> Variable:
        if start is not None:
            return loop.memory(init=start)
        return loop.memory(batch_ref=x, shape=[-1, self._size], ref_batch_dim_idx=1)
