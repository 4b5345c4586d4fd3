"""Cells, and `rnn`, which runs one over padded sequences."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..errors import wrong_type
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttrLike
from ..variable import Variable
from ..vartype import DTypeLike, VarType
from .arrange import shape as shape_of
from .arrange import transpose
from .control_flow import StaticRNN
from .lod import sequence_mask
from .math import elementwise_mul
from .rnn_units import Activation, BasicGRUUnit, BasicLSTMUnit
from .structure import check_same, flatten, is_sequence, map_structure, pack_as
from .tensor import fill_constant_batch_size_like, reverse

_FLOATS = (VarType.FP32, VarType.FP64)


class RNNCell:
    """Base of cells: ``outputs, new_states = cell(inputs, states)`` is one step.

    Inputs, outputs and states are Variables or nested structures of them; new states have the structure of states.
    """

    def call(self, inputs: Any, states: Any, **kwargs: Any) -> tuple[Any, Any]:
        """One step; every cell has its own."""
        raise NotImplementedError(f"{type(self).__name__}.call: a cell says how it makes a step")

    def __call__(self, inputs: Any, states: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self.call(inputs, states, **kwargs)

    def get_initial_states(
        self,
        batch_ref: Any,
        shape: Any = None,
        dtype: Any = "float32",
        init_value: float = 0,
        batch_dim_idx: int = 0,
    ) -> Any:
        """States that are ``init_value`` everywhere, one row per example.

        Args:
            batch_ref: A Variable, or a structure of them; the first tells the number of examples.
            shape: A shape, or a structure of shapes, without the axis of examples (or with -1 first);
                `state_shape` if None.
            dtype: One element type, or a structure of them as of shapes; `state_dtype` if None.
            init_value: What states are filled with.
            batch_dim_idx: The axis of ``batch_ref`` that runs over examples.
        """
        like = flatten(batch_ref)[0]
        check_variable("RNNCell", "batch_ref", like)
        shapes = _shapes(self.state_shape if shape is None else shape)
        if dtype is None:
            try:
                dtype = self.state_dtype
            except NotImplementedError:
                dtype = "float32"
        if not is_sequence(dtype):
            dtype = map_structure(lambda _: dtype, shapes)

        def filled(shape: _Shape, dtype: DTypeLike) -> Variable:
            return fill_constant_batch_size_like(like, shape.extents, dtype, init_value, input_dim_idx=batch_dim_idx)

        return map_structure(filled, shapes, dtype)

    @property
    def state_shape(self) -> Any:
        """The shapes of states, without the axis of examples; for cells that `get_initial_states` is asked of."""
        raise NotImplementedError(f"{type(self).__name__}.state_shape: the cell does not say what its states are")

    @property
    def state_dtype(self) -> Any:
        """The element types of states."""
        raise NotImplementedError(f"{type(self).__name__}.state_dtype: the cell does not say what its states are")


class _Shape:
    """A shape as one leaf of a structure."""

    def __init__(self, extents: list[int]) -> None:
        self.extents = extents if extents[:1] == [-1] else [-1, *extents]


def _shapes(given: Any) -> Any:
    """A structure of shapes with each shape as a leaf."""
    if isinstance(given, int):
        return _Shape([given])
    if isinstance(given, list | tuple) and all(isinstance(part, int) for part in given):
        return _Shape([int(part) for part in given])
    if isinstance(given, dict):
        return {key: _shapes(part) for key, part in given.items()}
    return [_shapes(part) for part in given] if isinstance(given, list) else tuple(_shapes(part) for part in given)


class GRUCell(RNNCell):
    """A cell of `BasicGRUUnit`: inputs [N, inputs], states [N, hidden_size], output the new states."""

    def __init__(
        self,
        hidden_size: int,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        gate_activation: Activation | None = None,
        activation: Activation | None = None,
        dtype: DTypeLike = "float32",
        name: str = "GRUCell",
    ) -> None:
        self.hidden_size = hidden_size
        self.gru_unit = BasicGRUUnit(name, hidden_size, param_attr, bias_attr, gate_activation, activation, dtype)

    def call(self, inputs: Variable, states: Variable) -> tuple[Variable, Variable]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """``(hidden, hidden)``."""
        helper = LayerHelper("GRUCell", "GRUCell")
        helper.check_dtype("inputs", inputs, _FLOATS)
        helper.check_dtype("states", states, _FLOATS)
        hidden = self.gru_unit(inputs, states)
        return hidden, hidden

    @property
    def state_shape(self) -> list[int]:
        """[hidden_size]."""
        return [self.hidden_size]


class LSTMCell(RNNCell):
    """A cell of `BasicLSTMUnit`: inputs [N, inputs], states [hidden, cell], output the hidden state."""

    def __init__(
        self,
        hidden_size: int,
        param_attr: ParamAttrLike = None,
        bias_attr: ParamAttrLike = None,
        gate_activation: Activation | None = None,
        activation: Activation | None = None,
        forget_bias: float = 1.0,
        dtype: DTypeLike = "float32",
        name: str = "LSTMCell",
    ) -> None:
        self.hidden_size = hidden_size
        self.lstm_unit = BasicLSTMUnit(
            name, hidden_size, param_attr, bias_attr, gate_activation, activation, forget_bias, dtype
        )

    def call(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: Variable, states: list[Variable]
    ) -> tuple[Variable, list[Variable]]:
        """``(hidden, [hidden, cell])``."""
        helper = LayerHelper("LSTMCell", "LSTMCell")
        helper.check_dtype("inputs", inputs, _FLOATS)
        if not isinstance(states, list) or len(states) != 2:
            raise wrong_type(f"LSTMCell: states are {states!r}", "give the list [hidden, cell]")
        for state in states:
            helper.check_dtype("states", state, _FLOATS)
        hidden, cell = self.lstm_unit(inputs, *states)
        return hidden, [hidden, cell]

    @property
    def state_shape(self) -> list[list[int]]:
        """[[hidden_size], [hidden_size]]."""
        return [[self.hidden_size], [self.hidden_size]]


def rnn(
    cell: RNNCell,
    inputs: Any,
    initial_states: Any = None,
    sequence_length: Variable | None = None,
    time_major: bool = False,
    is_reverse: bool = False,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """A cell run over all steps of padded sequences: ``(outputs, last states)``.

    Args:
        cell: Makes one step.
        inputs: [N, T, …], or a structure of such Variables.
        initial_states: Before the first step; those of ``cell.get_initial_states`` if None.
        sequence_length: The length of every sequence, integers [N].  Behind it states stay as they are, so that the
            last ones are those after its last step; outputs are computed on.  None takes padding for data.
        time_major: Inputs and outputs are [T, N, …].
        is_reverse: Steps run from the last to the first.
        **kwargs: More arguments of the cell.

    Returns:
        The outputs of all steps, [N, T, …], in the cell's structure, and states after the last step.

    Raises:
        ProgramError: New states in another structure than states.
    """
    for x in flatten(inputs):
        check_variable("rnn", "inputs", x)
    if initial_states is None:
        initial_states = cell.get_initial_states(batch_ref=inputs, batch_dim_idx=1 if time_major else 0)
    for state in flatten(initial_states):
        check_variable("rnn", "initial_states", state)
        state.stop_gradient = False
    if not time_major:
        inputs = map_structure(_turned, inputs)
    mask = None
    if sequence_length is not None:
        check_variable("rnn", "sequence_length", sequence_length)
        steps = shape_of(flatten(inputs)[0])[0]
        mask = transpose(sequence_mask(sequence_length, steps, flatten(initial_states)[0].dtype), [1, 0])
    if is_reverse:
        inputs = map_structure(partial(reverse, axis=[0]), inputs)
        mask = None if mask is None else reverse(mask, axis=[0])
    loop = StaticRNN()
    with loop.step():
        step_inputs = map_structure(loop.step_input, inputs)
        states = map_structure(loop.memory, initial_states)
        outputs, new_states = cell.call(step_inputs, map_structure(lambda x: x, states), **kwargs)
        check_same("rnn: the cell's states and new states", states, new_states)
        if mask is not None:
            kept = partial(_kept, loop.step_input(mask))
            new_states = map_structure(kept, states, new_states)
        map_structure(loop.update_memory, states, new_states)
        count = len(flatten(outputs))
        map_structure(loop.step_output, outputs)
        map_structure(loop.step_output, new_states)
    found = list(loop())
    stacked = pack_as(outputs, found[:count])
    last_states = pack_as(new_states, [x[-1] for x in found[count:]])
    if is_reverse:
        stacked = map_structure(partial(reverse, axis=[0]), stacked)
    if not time_major:
        stacked = map_structure(_turned, stacked)
    return stacked, last_states


def _turned(x: Variable) -> Variable:
    """Examples and steps swapped."""
    return transpose(x, [1, 0, *range(2, len(x.shape))])


def _kept(mask: Variable, state: Variable, new_state: Variable) -> Variable:
    """``new_state`` in the rows whose mask is 1, ``state`` in those where it is 0."""
    return elementwise_mul(new_state, mask, axis=0) - elementwise_mul(state, mask - 1, axis=0)
