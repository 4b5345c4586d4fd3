"""Decoders, which make sequences step by step, and `dynamic_decode`, which runs one until all sequences have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import unsupported
from ..framework import default_main_program
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import VarType
from .arrange import pad, slice, squeeze, transpose
from .arrays import array_read, array_write, tensor_array_to_tensor
from .compare import equal, increment, less_equal, logical_and, logical_not, logical_or
from .control_flow import While
from .math import elementwise_add, elementwise_mul, reduce_all
from .nn import softmax
from .random import sampling_id
from .rnn_cells import RNNCell
from .structure import flatten, map_structure
from .taught import taught
from .tensor import argmax, assign, cast, fill_constant, fill_constant_batch_size_like, zeros_like

_INTEGERS = (VarType.INT32, VarType.INT64)


class Decoder:
    """Base of decoders: what `dynamic_decode` asks of one."""

    def initialize(self, inits: Any) -> tuple[Any, Any, Variable]:
        """``(inputs, states, finished)`` before the first step, from what the caller of `dynamic_decode` gave."""
        raise NotImplementedError(f"{type(self).__name__}.initialize: a decoder says how it begins")

    def step(self, time: Variable, inputs: Any, states: Any, **kwargs: Any) -> tuple[Any, Any, Any, Variable]:
        """``(outputs, next states, next inputs, finished)`` of a step; ``time`` is its number, int64 [1]."""
        raise NotImplementedError(f"{type(self).__name__}.step: a decoder says how it makes a step")

    def finalize(self, outputs: Any, final_states: Any, sequence_lengths: Variable) -> tuple[Any, Any]:
        """Outputs of all steps [T, N, …] and the last states as they are to be returned."""
        raise NotImplementedError(f"{type(self).__name__}.finalize: nothing is changed at the end")


class DecodeHelper:
    """Base of what `BasicDecoder` asks: where inputs come from, and how a step's output becomes a choice."""

    def initialize(self) -> tuple[Any, Variable]:
        """``(inputs, finished)`` before the first step."""
        raise NotImplementedError(f"{type(self).__name__}.initialize")

    def sample(self, time: Variable, outputs: Variable, states: Any) -> Variable:
        """What is chosen by a step's outputs."""
        raise NotImplementedError(f"{type(self).__name__}.sample")

    def next_inputs(self, time: Variable, outputs: Variable, states: Any, sample_ids: Variable) -> Any:
        """``(finished, inputs, states)`` of the next step."""
        raise NotImplementedError(f"{type(self).__name__}.next_inputs")


class TrainingHelper(DecodeHelper):
    """Inputs are given: the target sequences, whatever the decoder chooses.

    Args:
        inputs: [N, T, …], or a structure of such Variables.
        sequence_length: The length of every sequence, integers [N].
        time_major: Inputs are [T, N, …].
    """

    def __init__(self, inputs: Any, sequence_length: Variable, time_major: bool = False) -> None:
        check_variable("TrainingHelper", "sequence_length", sequence_length)
        self.inputs = inputs
        self.sequence_length = sequence_length
        self.time_major = time_major
        self._longer: Any = None

    def initialize(self) -> tuple[Any, Variable]:
        """The first inputs; sequences without steps are finished."""
        lengths = self.sequence_length
        finished = equal(lengths, fill_constant([1], lengths.dtype, 0))
        return map_structure(lambda x: x[0] if self.time_major else x[:, 0], self.inputs), finished

    def sample(self, time: Variable, outputs: Variable, states: Any) -> Variable:
        """The index of the greatest output."""
        del time, states
        return argmax(outputs, axis=-1)

    def next_inputs(self, time: Variable, outputs: Variable, states: Any, sample_ids: Variable) -> Any:
        """The inputs of the step behind ``time``."""
        del outputs, sample_ids
        axis = 0 if self.time_major else 1
        if self._longer is None:  # a step more, which is read behind the last one
            self._longer = map_structure(lambda x: pad(x, [int(k == 2 * axis + 1) for k in range(2 * len(x.shape))]),
                                         self.inputs)  # fmt: skip
        after = cast(time, "int32") + 1
        finished = less_equal(cast(self.sequence_length, "int32"), after)

        def at(x: Variable) -> Variable:
            return squeeze(slice(x, axes=[axis], starts=[after], ends=[after + 1]), axes=[axis])

        return finished, map_structure(at, self._longer), states


class GreedyEmbeddingHelper(DecodeHelper):
    """The choice of the greatest output is the next input, by way of an embedding.

    Args:
        embedding_fn: Inputs of ids.
        start_tokens: The first ids, int64 [N].
        end_token: The id that ends a sequence.
    """

    def __init__(self, embedding_fn: Callable[[Variable], Variable], start_tokens: Variable, end_token: int) -> None:
        check_variable(type(self).__name__, "start_tokens", start_tokens)
        self.embedding_fn = embedding_fn
        self.start_tokens = start_tokens
        self.end_token = fill_constant([1], "int64", end_token)

    def initialize(self) -> tuple[Any, Variable]:
        """Inputs of the first ids; no sequence is finished."""
        finished = fill_constant_batch_size_like(self.start_tokens, [-1], "bool", False, force_cpu=True)
        return self.embedding_fn(self.start_tokens), finished

    def sample(self, time: Variable, outputs: Variable, states: Any) -> Variable:
        """The index of the greatest output."""
        del time, states
        return argmax(outputs, axis=-1)

    def next_inputs(self, time: Variable, outputs: Variable, states: Any, sample_ids: Variable) -> Any:
        """Inputs of what was chosen."""
        del time, outputs
        finished = equal(sample_ids, self.end_token)
        return finished, self.embedding_fn(sample_ids), states


class SampleEmbeddingHelper(GreedyEmbeddingHelper):
    """As `GreedyEmbeddingHelper`, but the choice is drawn from ``softmax(outputs / softmax_temperature)``."""

    def __init__(
        self,
        embedding_fn: Callable[[Variable], Variable],
        start_tokens: Variable,
        end_token: int,
        softmax_temperature: float | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(embedding_fn, start_tokens, end_token)
        warm = softmax_temperature is not None
        self.softmax_temperature = fill_constant([1], "float32", softmax_temperature) if warm else None
        self.seed = seed

    def sample(self, time: Variable, outputs: Variable, states: Any) -> Variable:
        """Ids drawn from the outputs."""
        del time, states
        logits = outputs if self.softmax_temperature is None else outputs / self.softmax_temperature
        probabilities = softmax(logits)
        probabilities.stop_gradient = True
        return sampling_id(probabilities, seed=self.seed or 0, dtype=self.start_tokens.dtype)


class BasicDecoder(Decoder):
    """A cell whose inputs and choices are a helper's.

    Args:
        cell: Makes a step.
        helper: Says what comes in.
        output_fn: What becomes of the cell's output, such as a layer to logits.
    """

    class OutputWrapper(NamedTuple):
        """What a step puts out."""

        cell_outputs: Any
        sample_ids: Any

    def __init__(
        self, cell: RNNCell, helper: DecodeHelper, output_fn: Callable[[Variable], Variable] | None = None
    ) -> None:
        self.cell = cell
        self.helper = helper
        self.output_fn = output_fn

    def initialize(self, inits: Any) -> tuple[Any, Any, Variable]:
        """The helper's inputs, and ``inits`` as the cell's states."""
        inputs, finished = self.helper.initialize()
        return inputs, inits, finished

    def outputs(self, time: Variable, inputs: Any, states: Any, **kwargs: Any) -> tuple[OutputWrapper, Any]:
        """``(outputs, states)`` of the cell's step."""
        found, new_states = self.cell(inputs, states, **kwargs)
        if self.output_fn is not None:
            found = self.output_fn(found)
        ids = self.helper.sample(time=time, outputs=found, states=new_states)
        ids.stop_gradient = True
        return self.OutputWrapper(found, ids), new_states

    def step(self, time: Variable, inputs: Any, states: Any, **kwargs: Any) -> tuple[Any, Any, Any, Variable]:
        """A step of the cell, then the helper's choice."""
        found, new_states = self.outputs(time, inputs, states, **kwargs)
        finished, next_inputs, next_states = self.helper.next_inputs(
            time=time, outputs=found.cell_outputs, states=new_states, sample_ids=found.sample_ids
        )
        return found, next_states, next_inputs, finished


def dynamic_decode(
    decoder: Decoder,
    inits: Any = None,
    max_step_num: int | None = None,
    output_time_major: bool = False,
    impute_finished: bool = False,
    is_test: bool = False,
    return_length: bool = False,
    **kwargs: Any,
) -> Any:
    """Steps of a decoder until all sequences are finished: ``(outputs, final states)``.

    A `BasicDecoder` with a `TrainingHelper` is a loop over the given inputs, and has gradients; others run until their
    results say that they are done, which is known only when the program runs: such programs are not trained.

    Args:
        decoder: Makes a step.
        inits: What the decoder begins with.
        max_step_num: After so many more steps than one, no other is made; None for no bound.
        output_time_major: Outputs are [T, N, …].
        impute_finished: States of finished sequences stay as they are.
        is_test: The program is not trained, so that no states of earlier steps are kept.
        return_length: Return the number of steps of every sequence, too.
        **kwargs: More arguments of the decoder's step.

    Returns:
        Outputs [N, T, …] of all steps, as the decoder finalizes them, states after the last, and with ``return_length``
        int64 [N] how many steps each sequence took.
    """
    if type(decoder) is BasicDecoder and type(decoder.helper) is TrainingHelper:
        helper = decoder.helper
        found = taught(
            lambda time, x, states: decoder.outputs(time, x, states, **kwargs),
            helper.inputs, inits, helper.sequence_length, helper.time_major, max_step_num, impute_finished,
        )  # fmt: skip
    else:
        found = _decoded(decoder, inits, max_step_num, impute_finished, is_test, kwargs)
    outputs, states, lengths = found
    if type(decoder).finalize is not Decoder.finalize:
        outputs, states = decoder.finalize(outputs, states, lengths)
    if not output_time_major:
        outputs = map_structure(lambda x: transpose(x, [1, 0, *range(2, len(x.shape))]), outputs)
    return (outputs, states, lengths) if return_length else (outputs, states)


def _decoded(
    decoder: Decoder,
    inits: Any,
    max_step_num: int | None,
    impute_finished: bool,
    is_test: bool,
    kwargs: dict[str, Any],
) -> tuple[Any, Any, Variable]:
    """Outputs [T, N, …], states and lengths of a loop that ends when all sequences have."""
    first_inputs, first_states, finished = decoder.initialize(inits)
    finished.stop_gradient = True
    time = fill_constant([1], "int64", 0)
    going = logical_not(reduce_all(finished))
    most = None if max_step_num is None else fill_constant([1], "int64", max_step_num)
    loop = While(going, is_test=is_test)
    lengths = cast(zeros_like(finished), "int64")
    lengths.stop_gradient = True
    input_arrays = state_arrays = None
    if not is_test:
        input_arrays = map_structure(lambda x: array_write(x, time), first_inputs)
        state_arrays = map_structure(lambda x: array_write(x, time), first_states)
    arrays: list[Any] = []
    outside = default_main_program().current_block()
    with loop.block():
        inputs, states = first_inputs, first_states
        if not is_test:
            inputs = map_structure(lambda array: array_read(array, time), input_arrays)
            states = map_structure(lambda array: array_read(array, time), state_arrays)
        outputs, next_states, next_inputs, done = decoder.step(time, inputs, states, **kwargs)
        done = logical_or(done, finished)
        longer = elementwise_add(lengths, cast(logical_not(finished), lengths.dtype))
        if impute_finished:
            next_states = map_structure(lambda old, new: _imputed(old, new, finished), states, next_states)
        for x in flatten(outputs):
            name = f"{LayerHelper('array').name}.out"
            arrays.append(outside.create_var(name=name, type=VarType.LOD_TENSOR_ARRAY, dtype=x.dtype))
            array_write(x, time, arrays[-1])
        increment(time, 1.0, in_place=True)
        if is_test:
            map_structure(assign, next_inputs, first_inputs)
            map_structure(assign, next_states, first_states)
        else:
            map_structure(lambda x, array: array_write(x, time, array), next_inputs, input_arrays)
            map_structure(lambda x, array: array_write(x, time, array), next_states, state_arrays)
        assign(done, finished)
        assign(longer, lengths)
        if most is None:
            logical_not(reduce_all(finished), out=going)
        else:
            logical_and(logical_not(reduce_all(finished)), less_equal(time, most), out=going)
    stacked = [tensor_array_to_tensor(array, axis=0, use_stack=True)[0] for array in arrays]
    last = first_states if is_test else map_structure(lambda array: array_read(array, time), state_arrays)
    return map_structure(lambda _: stacked.pop(0), outputs), last, lengths


def _imputed(old: Variable, new: Variable, finished: Variable) -> Variable:
    """The old state where a sequence is finished, else the new one."""
    dtype = old.dtype
    if dtype is VarType.BOOL:
        old, new = cast(old, "float32"), cast(new, "float32")
    mask = cast(finished, old.dtype)
    mask.stop_gradient = True
    kept = elementwise_mul(old, mask, axis=0) - elementwise_mul(new, mask - 1, axis=0)
    return cast(kept, dtype) if dtype is VarType.BOOL else kept


def gather_tree(ids: Variable, parents: Variable) -> Variable:
    """Full sequences of a beam search, from the ids of every step and the beams that they continue.

    Args:
        ids: Integers [T, N, beams].
        parents: The beam of the step before that each id continues, as ``ids``.

    Returns:
        [T, N, beams]: beam k's sequence, read backwards from the k-th id of the last step.
    """
    helper = LayerHelper("gather_tree")
    helper.check_dtype("ids", ids, _INTEGERS)
    helper.check_dtype("parents", parents, _INTEGERS)
    if len(ids.shape) != 3 or len(parents.shape) != 3:
        raise unsupported(
            f"gather_tree: ids {list(ids.shape)} and parents {list(parents.shape)}", "both must be [T, N, beams]"
        )
    out = helper.temporary(ids.dtype, ids.shape)
    helper.op("gather_tree", {"Ids": [ids], "Parents": [parents]}, {"Out": [out]})
    return out
