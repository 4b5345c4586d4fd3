"""Beam search over a cell, a decoder of `dynamic_decode`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..layer_helper import check_variable
from ..variable import Variable
from .arrange import expand, gather_nd, reshape, stack, topk, transpose, unsqueeze
from .arrange import shape as shape_of
from .compare import equal, logical_not, logical_or
from .decode import Decoder, gather_tree
from .math import elementwise_add, elementwise_floordiv, elementwise_mod, elementwise_mul
from .nn import softmax
from .ops import cumsum, log
from .rnn_cells import RNNCell
from .structure import flatten, map_structure
from .tensor import assign, cast, fill_constant, fill_constant_batch_size_like, zeros_like

_LEAST = 1e9
"""Minus this is the logarithm of a probability that is never taken."""


class BeamSearchDecoder(Decoder):
    """The ``beam_size`` sequences of greatest probability that a cell makes, among those that extend them step by step.

    States and inputs of the cell have a row per beam, ``[N * beam_size, …]``; other tensors that the cell reads must be
    brought into that form by `tile_beam_merge_with_batch`.

    Args:
        cell: Makes a step.
        start_token: The id before the first.
        end_token: The id that ends a sequence.
        beam_size: Beams of every example.
        embedding_fn: Inputs of ids; the ids themselves if None.
        output_fn: Logits of the cell's output; the output itself if None.
    """

    class OutputWrapper(NamedTuple):
        """What a step puts out, each [N, beam_size]: scores, ids, and the beams that these continue."""

        scores: Any
        predicted_ids: Any
        parent_ids: Any

    class StateWrapper(NamedTuple):
        """What is handed from step to step; states are [N, beam_size, …], the others [N, beam_size]."""

        cell_states: Any
        log_probs: Any
        finished: Any
        lengths: Any

    def __init__(
        self,
        cell: RNNCell,
        start_token: int,
        end_token: int,
        beam_size: int,
        embedding_fn: Callable[[Variable], Variable] | None = None,
        output_fn: Callable[[Variable], Variable] | None = None,
    ) -> None:
        self.cell = cell
        self.embedding_fn = embedding_fn
        self.output_fn = output_fn
        self.start_token = start_token
        self.end_token = end_token
        self.beam_size = beam_size

    @staticmethod
    def tile_beam_merge_with_batch(x: Variable, beam_size: int) -> Variable:
        """``x`` [N, …] with every row ``beam_size`` times: [N * beam_size, …]."""
        check_variable("BeamSearchDecoder.tile_beam_merge_with_batch", "x", x)
        wide = _repeated(x, beam_size)
        rank = len(wide.shape)
        last = transpose(wide, [*range(2, rank), 0, 1])
        merged = reshape(last, [0] * (rank - 2) + [-1])
        return transpose(merged, [rank - 2, *range(rank - 2)])

    def initialize(self, inits: Any) -> tuple[Any, StateWrapper, Variable]:
        """Beams that all begin with the start token; only the first of them can win."""
        like = flatten(inits)[0]
        count = shape_of(like)[0]
        start = fill_constant([1], "int64", self.start_token)
        self._end = fill_constant([1], "int64", self.end_token)
        states = map_structure(lambda x: _repeated(x, self.beam_size), inits)
        ids = expand(unsqueeze(expand(start, [count]), [1]), [1, self.beam_size])
        first = np.array([[0.0] + [-_LEAST] * (self.beam_size - 1)], "float32")
        log_probs = expand(assign(first), [count, 1])
        finished = fill_constant_batch_size_like(like, [-1, self.beam_size], "bool", False, force_cpu=True)
        lengths = zeros_like(ids)
        inputs = self.embedding_fn(ids) if self.embedding_fn else ids
        return inputs, self.StateWrapper(states, log_probs, finished, lengths), finished

    def step(self, time: Variable, inputs: Any, states: Any, **kwargs: Any) -> tuple[Any, Any, Any, Variable]:
        """A step of the cell for all beams, then the best continuations of each example."""
        inputs = map_structure(_merged, inputs)
        outputs, cell_states = self.cell(inputs, map_structure(_merged, states.cell_states), **kwargs)
        outputs = map_structure(self._split, outputs)
        cell_states = map_structure(self._split, cell_states)
        logits = outputs if self.output_fn is None else self.output_fn(outputs)
        found, new_states = self._best(logits, cell_states, states)
        ids = found.predicted_ids
        ids.stop_gradient = True
        next_inputs = self.embedding_fn(ids) if self.embedding_fn else ids
        return found, new_states, next_inputs, new_states.finished

    def finalize(self, outputs: Any, final_states: Any, sequence_lengths: Variable) -> tuple[Any, Any]:
        """The ids of the beams' sequences, [T, N, beam_size]."""
        del sequence_lengths
        return gather_tree(outputs.predicted_ids, outputs.parent_ids), final_states

    def _best(self, logits: Variable, cell_states: Any, before: Any) -> tuple[OutputWrapper, StateWrapper]:
        words = logits.shape[-1]
        size = fill_constant([1], "int64", words)
        ended = np.full(words, -_LEAST, "float32")
        ended[self.end_token] = 0
        step_log_probs = _masked(log(softmax(logits)), before.finished, assign(ended))
        log_probs = elementwise_add(step_log_probs, before.log_probs, axis=0)
        scores = reshape(log_probs, [-1, self.beam_size * words])
        best, places = topk(scores, self.beam_size)
        beams, ids = elementwise_floordiv(places, size), elementwise_mod(places, size)
        next_log_probs = self._gather(reshape(log_probs, [-1, self.beam_size * words]), places)
        next_states = map_structure(lambda x: self._gather(x, beams), cell_states)
        finished = self._gather(before.finished, beams)
        lengths = self._gather(before.lengths, beams)
        lengths = lengths + cast(logical_not(finished), before.lengths.dtype)
        finished = logical_or(finished, equal(ids, self._end))
        return self.OutputWrapper(best, ids, beams), self.StateWrapper(next_states, next_log_probs, finished, lengths)

    def _gather(self, x: Variable, places: Variable) -> Variable:
        """``x[n, places[n, k]]`` for every example n and beam k."""
        ones = fill_constant_batch_size_like(places, [-1, 1], places.dtype, 1)
        rows = expand(cumsum(ones, axis=0, exclusive=True), [1, self.beam_size])
        index = stack([rows, places], axis=2)
        index.stop_gradient = True
        return gather_nd(x, index)

    def _split(self, x: Variable) -> Variable:
        return reshape(x, [-1, self.beam_size, *x.shape[1:]])


def _repeated(x: Variable, times: int) -> Variable:
    """[N, times, …]."""
    wide = unsqueeze(x, [1])
    return expand(wide, [1, times] + [1] * (len(wide.shape) - 2))


def _merged(x: Variable) -> Variable:
    return reshape(x, [-1, *x.shape[2:]])


def _masked(log_probs: Variable, finished: Variable, ended: Variable) -> Variable:
    """Logarithms [N, beams, words] where a beam that is finished can only end again."""
    mask = cast(finished, log_probs.dtype)
    wide = expand(unsqueeze(mask, [2]), [1, 1, log_probs.shape[-1]])
    return elementwise_mul(wide, ended, axis=-1) - elementwise_mul(log_probs, mask - 1, axis=0)
