"""Metrics that accumulate inside the program; `fluid.metrics` has those that accumulate outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics, unique_name
from .errors import invalid, warn
from .framework import Block, Program, default_main_program, program_guard
from .layer_helper import LayerHelper
from .layers.compare import equal
from .layers.evaluate import chunk_eval, edit_distance
from .layers.math import elementwise_div, elementwise_sub, reduce_sum, sums
from .layers.tensor import cast, fill_constant
from .variable import Variable
from .vartype import DTypeLike

Array = NDArray[Any]


def _twin(block: Block, var: Variable) -> Variable:
    """The variable of that name in another program; both are one in the scope."""
    return block.create_var(name=var.name, shape=var.shape, dtype=var.dtype, persistable=True)


class Evaluator:
    """Counts that a program adds up in persistable variables.

    Call `reset` before the first run. ``metrics`` are the Variables of the batch, ``states`` those that add up.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        warn(f"fluid.evaluator.{type(self).__name__} is deprecated: use fluid.metrics.{type(self).__name__}")
        if default_main_program().current_block().idx:
            raise invalid(f"{type(self).__name__} is made inside a control-flow block", "make it outside")
        self.states: list[Variable] = []
        self.metrics: list[Variable] = []
        self.helper = LayerHelper(name, **kwargs)

    def reset(self, executor: metrics.Runs, reset_program: Program | None = None) -> None:
        """Set all counts to zero."""
        reset_program = Program() if reset_program is None else reset_program
        with program_guard(reset_program):
            for state in self.states:
                twin = _twin(reset_program.global_block(), state)
                fill_constant(list(twin.shape), twin.dtype, 0.0, out=twin)
        executor.run(reset_program)

    def eval(self, executor: metrics.Runs, eval_program: Program | None = None) -> Any:
        """The metric over everything since `reset`."""
        raise NotImplementedError

    def _create_state(self, suffix: str, dtype: DTypeLike, shape: Sequence[int]) -> Variable:
        name = f"{unique_name.generate(self.helper.name)}_{suffix}"
        self.states.append(self.helper.block.create_var(name=name, persistable=True, dtype=dtype, shape=shape))
        return self.states[-1]

    def _add(self, state: Variable, more: Variable) -> None:
        sums([state, more], out=state)


class ChunkEvaluator(Evaluator):
    """Precision, recall and F1 of chunks (`layers.chunk_eval`); ``metrics`` are those of the batch."""

    def __init__(
        self,
        input: Variable,
        label: Variable,
        chunk_scheme: str,
        num_chunk_types: int,
        excluded_chunk_types: Sequence[int] | None = None,
    ) -> None:
        super().__init__("chunk_eval")
        kinds = ("num_infer_chunks", "num_label_chunks", "num_correct_chunks")
        states = [self._create_state(kind, "int64", [1]) for kind in kinds]
        self.num_infer_chunks, self.num_label_chunks, self.num_correct_chunks = states
        found = chunk_eval(input, label, chunk_scheme, num_chunk_types, excluded_chunk_types)
        for state, count in zip(states, found[3:]):
            self._add(state, count)
        self.metrics.extend(found[:3])

    def eval(self, executor: metrics.Runs, eval_program: Program | None = None) -> tuple[Array, Array, Array]:
        """Precision, recall and F1, float32 [1]."""
        eval_program = Program() if eval_program is None else eval_program
        block = eval_program.global_block()
        counts = executor.run(eval_program, fetch_list=[_twin(block, state) for state in self.states])
        total = metrics.ChunkEvaluator()
        total.update(*(int(count[0]) for count in counts))
        precision, recall, f1 = (np.array([share], np.float32) for share in total.eval())
        return precision, recall, f1


class EditDistance(Evaluator):
    """Mean edit distance, and the share of sequences that are not right (`layers.edit_distance`)."""

    def __init__(
        self, input: Variable, label: Variable, ignored_tokens: Sequence[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__("edit_distance", **kwargs)
        self.total_distance = self._create_state("total_distance", "float32", [1])
        self.seq_num = self._create_state("seq_num", "int64", [1])
        self.instance_error = self._create_state("instance_error", "int64", [1])
        distances, count = edit_distance(input, label, ignored_tokens=ignored_tokens)
        right = reduce_sum(cast(equal(distances, fill_constant([1], "float32", 0.0)), "int64"))
        wrong = elementwise_sub(count, right)
        total = reduce_sum(distances)
        for state, more in ((self.total_distance, total), (self.seq_num, count), (self.instance_error, wrong)):
            self._add(state, more)
        self.metrics.extend([total, wrong])

    def eval(self, executor: metrics.Runs, eval_program: Program | None = None) -> tuple[Array, Array]:
        """Mean distance and share of wrong sequences, float32 [1]."""
        eval_program = Program() if eval_program is None else eval_program
        block = eval_program.global_block()
        with program_guard(eval_program):
            total, count, wrong = (_twin(block, state) for state in self.states)
            count = cast(count, "float32")
            shares = [elementwise_div(total, count), elementwise_div(cast(wrong, "float32"), count)]
            mean, share = executor.run(eval_program, fetch_list=shares)
        return np.array(mean), np.array(share)


class DetectionMAP(metrics.DetectionMAP):
    """`fluid.metrics.DetectionMAP`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warn("fluid.evaluator.DetectionMAP is deprecated: use fluid.metrics.DetectionMAP")
        super().__init__(*args, **kwargs)


__all__ = ["ChunkEvaluator", "DetectionMAP", "EditDistance"]
