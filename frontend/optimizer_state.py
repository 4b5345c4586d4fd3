"""The state of an optimizer in dygraph: accumulators by name, and where a schedule of the learning rate stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dygraph.base import eager_program
from .dygraph.variable import EagerVariable
from .errors import invalid, warn, wrong_type
from .lod import LoDTensor
from .schedules import LearningRateDecay
from .schedules.numbers import count_of
from .vartype import VarType

SCHEDULE, STEP = "LR_Scheduler", "global_step"
_NAME_TABLE = "StructuredToParameterName@@"
"""A table that Paddle writes into every file; the names of accumulators do not need it."""


def state_of(
    accumulators: Iterable[EagerVariable], restored: Mapping[str, NDArray[Any]], decay: LearningRateDecay | None
) -> dict[str, Any]:
    """The state of an optimizer.

    Args:
        accumulators: Those that exist.
        restored: Values, by name, that wait for accumulators to be created.
        decay: The schedule of the learning rate, if it is one.

    Returns:
        Accumulators by name; with a schedule also its state, and the number of the step as int32 of shape [1].
    """
    constant = eager_program().recorder.constant
    state: dict[str, Any] = {var.name: var for var in accumulators}
    state.update((name, constant(name, value)) for name, value in restored.items())
    if decay is not None:
        state[SCHEDULE] = decay.state_dict()
        if decay.counts_steps:
            state[STEP] = constant(STEP, np.array([decay.step_num], np.int32))
    return state


@dataclass(frozen=True)
class Restored:
    """A state that fits an optimizer.

    Attributes:
        values: Of accumulators, by name.
        schedule: What the schedule takes over; empty without one.
    """

    values: Mapping[str, NDArray[Any]]
    schedule: Mapping[str, Any]


def fitting(
    owner: str,
    state: object,
    accumulators: Mapping[str, EagerVariable],
    kinds: Sequence[str],
    decay: LearningRateDecay | None,
) -> Restored:
    """What an optimizer takes over from a state.

    Args:
        owner: The optimizer, for errors.
        state: What `state_of` or `load_dygraph` gave.
        accumulators: Those that exist, by name.
        kinds: Names of what the rule keeps, as in ``PARAMETER_KIND_0``; accumulators of them may still be to come.
        decay: The schedule of the learning rate, if it is one.

    Raises:
        ProgramError: A name that the optimizer does not keep, one that is missing, another shape, no schedule.
        ArgumentTypeError: A value of another type.

    Warns:
        UserWarning: It holds a schedule, and the learning rate is none.
    """
    if not isinstance(state, Mapping):
        raise wrong_type(f"{owner}.set_dict: the state is {type(state).__name__}", "give what state_dict() gave")
    schedule = _schedule(owner, state, decay)
    values = {str(key): value for key, value in state.items() if key not in (SCHEDULE, STEP, _NAME_TABLE)}
    pattern = re.compile(rf".+_(?:{'|'.join(map(re.escape, kinds))})_\d+") if kinds else None
    unknown = [name for name in values if name not in accumulators and (pattern is None or not pattern.fullmatch(name))]
    if unknown:
        kept = ", ".join(f"PARAMETER_{kind}_0" for kind in kinds) or "nothing for a parameter"
        raise invalid(
            f"{owner}.set_dict: the state holds {_listed(unknown)}, which {owner} does not keep",
            f"it keeps {kept}; give the state of the same kind of optimizer",
        )
    missing = [name for name in accumulators if name not in values]
    if missing:
        raise invalid(
            f"{owner}.set_dict: the state has no {_listed(missing)}",
            "take the state after minimize, from an optimizer of the same parameters",
        )
    arrays = {name: _array(owner, name, value) for name, value in values.items()}
    for name, var in accumulators.items():
        check_fit(f"{owner}.set_dict", name, arrays[name], var.shape, var.dtype)
    return Restored(arrays, schedule)


def check_fit(caller: str, name: str, array: NDArray[Any], shape: Sequence[int], dtype: VarType) -> None:
    """ProgramError unless a restored value has the shape and the element type of its accumulator."""
    if array.shape != tuple(shape) or array.dtype != dtype.numpy:
        raise invalid(
            f"{caller}: the state holds {name} as {array.dtype.name}{list(array.shape)}, but it is "
            f"{dtype.numpy.name}{list(shape)}",
            "the state belongs to a model of other shapes",
        )


def check_complete(owner: str, kept: Mapping[str, object], wanted: Sequence[str]) -> None:
    """ProgramError unless a restored state has all accumulators that are about to be created."""
    missing = [name for name in wanted if name not in kept]
    if missing:
        raise invalid(
            f"{owner}: the state given to set_dict has no {_listed(missing)}, but {_listed(list(kept))}",
            "accumulators are named after their parameters and counted: build model and optimizer in the order in "
            "which they were built when the state was taken",
        )


def _schedule(owner: str, state: Mapping[Any, Any], decay: LearningRateDecay | None) -> Mapping[str, Any]:
    if decay is None:
        if SCHEDULE in state or STEP in state:
            warn(
                f"{owner}.set_dict: the state tells where a schedule of the learning rate stood, which is not used: "
                "here the learning rate is no schedule"
            )
        return {}
    steps = tuple(decay.state_keys) == ("step_num",)
    # Before 1.8 the number of the step was all that a state had of a schedule.
    if SCHEDULE not in state and not (steps and STEP in state):
        raise invalid(
            f"{owner}.set_dict: the state has no {SCHEDULE}, so it does not say where {type(decay).__name__} stood",
            "it was taken from an optimizer whose learning rate is a number",
        )
    values = decay.checked(state[SCHEDULE]) if SCHEDULE in state else {}
    if decay.counts_steps and STEP in state:
        number = _array(owner, STEP, state[STEP])
        if number.shape != (1,):
            raise invalid(f"{owner}.set_dict: {STEP} has shape {list(number.shape)}", "it is one number, of shape [1]")
        values["step_num"] = count_of(owner, f"{STEP} of the state", number)
    return values


def _array(owner: str, name: str, value: object) -> NDArray[Any]:
    if isinstance(value, EagerVariable):
        return value.numpy()
    if isinstance(value, LoDTensor):
        value = value.array
    if not isinstance(value, np.ndarray):
        raise wrong_type(
            f"{owner}.set_dict: {name} is {type(value).__name__}", "give arrays, or Variables that have values"
        )
    return value


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
