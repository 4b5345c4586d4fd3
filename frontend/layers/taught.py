"""A decoder whose inputs are given: a loop over them, as long as the longest sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import unsupported
from ..variable import Variable
from .arrange import gather, transpose
from .control_flow import StaticRNN
from .lod import sequence_mask
from .math import elementwise_mul, reduce_max
from .ops import cumsum
from .structure import check_same, flatten, map_structure, pack_as
from .tensor import cast, fill_constant

Step = Callable[[Variable, Any, Any], tuple[Any, Any]]


def taught(
    step: Step,
    inputs: Any,
    first_states: Any,
    lengths: Variable,
    time_major: bool,
    max_step_num: int | None,
    impute_finished: bool,
) -> tuple[Any, Any, Variable]:
    """Outputs [T, N, …] of ``outputs, new_states = step(time, inputs, states)``, the last states, and lengths.

    Args:
        step: Makes a step; ``time`` is its number, int64 [1].
        inputs: [N, T, …], or a structure of such Variables; time first with ``time_major``.
        first_states: Before the first step.
        lengths: Of the sequences, integers [N]; T is the greatest.
        time_major: Inputs are [T, N, …].
        max_step_num: As `dynamic_decode` has it.
        impute_finished: States of sequences that have ended stay as they are.

    Raises:
        UnsupportedError: ``max_step_num`` may end the loop before the sequences do.
    """
    axis = 0 if time_major else 1
    most = max(x.shape[axis] for x in flatten(inputs))
    if max_step_num is not None and not 0 <= most <= max_step_num + 1:
        raise unsupported(
            f"dynamic_decode: inputs of {most} steps are given, and max_step_num is {max_step_num}",
            "leave max_step_num out, and cut the inputs and their lengths",
        )
    mask = transpose(sequence_mask(lengths, dtype="float32"), [1, 0])
    # The steps there are: 0, 1, … up to the longest sequence.
    places = cumsum(cast(reduce_max(mask, dim=1), "int32"), axis=0, exclusive=True)

    def taken(x: Variable) -> Variable:
        return gather(x if time_major else transpose(x, [1, 0, *range(2, len(x.shape))]), places)

    by_step, begin = map_structure(taken, inputs), fill_constant([1], "int64", 0)
    loop = StaticRNN()
    with loop.step():
        time = loop.memory(init=begin)
        rows = map_structure(loop.step_input, by_step)
        states = map_structure(loop.memory, first_states)
        outputs, new_states = step(time, rows, states)
        check_same("dynamic_decode: states and new states", states, new_states)
        if impute_finished:
            here = loop.step_input(mask)
            new_states = map_structure(lambda old, new: _kept(here, old, new), states, new_states)
        loop.update_memory(time, time + fill_constant([1], "int64", 1))
        map_structure(loop.update_memory, states, new_states)
        count = len(flatten(outputs))
        map_structure(loop.step_output, outputs)
        map_structure(loop.step_output, new_states)
    found = list(loop())
    last = pack_as(new_states, [x[-1] for x in found[count:]])
    return pack_as(outputs, found[:count]), last, cast(lengths, "int64")


def _kept(mask: Variable, old: Variable, new: Variable) -> Variable:
    """The new state where a sequence has a step, else the old one."""
    mask = mask if mask.dtype == new.dtype else cast(mask, new.dtype)
    return elementwise_mul(new, mask, axis=0) - elementwise_mul(old, mask - 1, axis=0)
