"""Writing a state dict into the variables that it belongs to: all of them, or none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ProgramError, wrong_type
from ..formats.state import NAME_TABLE
from ..lod import LoDTensor
from ..source import user_location
from ..variable import Variable
from .variable import EagerVariable

# A message names so many keys and counts the others.
_SHOWN = 6


class StateDictError(ProgramError, RuntimeError):
    """A state dict without a key that is needed, or with a value that does not fit its variable."""


def load_state(
    caller: str, wanted: Mapping[str, Variable], given: Mapping[str, Any] | None, known: Collection[str] | None = None
) -> list[str]:
    """Set every variable of ``wanted`` to the value that ``given`` holds under its key.

    Args:
        caller: What the user called, for messages.
        wanted: Variables of dygraph by key.
        given: Arrays, LoDTensors or Variables of dygraph by key.
        known: Keys that may be in ``given`` without being wanted.

    Returns:
        The keys of ``given`` that are neither wanted nor known.

    Raises:
        ArgumentTypeError: ``given`` is no mapping.
        StateDictError: A key is missing, or a value has another shape or element type; nothing was changed.
    """
    if not isinstance(given, Mapping):
        raise wrong_type(
            f"{caller}: the state dict is {type(given).__name__}",
            "give what state_dict() or fluid.load_dygraph(...)[0] returned",
        )
    fitting: list[tuple[EagerVariable, NDArray[np.generic]]] = []
    wrong: list[str] = []
    for key, variable in wanted.items():
        if not isinstance(variable, EagerVariable):
            raise StateDictError(
                f"{caller}: {variable.name} belongs to a static Program, whose values are in a scope",
                where=user_location().place,
                hint="build the layer inside fluid.dygraph.guard(), or use fluid.set_program_state",
            )
        if key in given:
            value = _array(given[key])
            if (reason := _misfit(variable, value, given[key])) is not None or value is None:
                wrong.append(f"{key} ({variable.name}) {reason}")
            else:
                fitting.append((variable, value))
    if missing := [key for key in wanted if key not in given]:
        raise StateDictError(
            f"{caller}: the state dict has no {_listed(missing)}; it has {_listed(list(given)) or 'no keys'}",
            where=user_location().place,
            hint="nothing was changed; load the state dict of a model with the same layers and attribute names, or "
            "pass use_structured_name=False for keys that are parameter names",
        )
    if wrong:
        raise StateDictError(
            f"{caller}: {_listed(wrong, '; ')}",
            where=user_location().place,
            hint="nothing was changed; build the model with the sizes of the one that was saved",
        )
    for variable, value in fitting:
        variable.set_value(value)
    return [key for key in given if key not in wanted and key not in (known or ()) and key != NAME_TABLE]


def _array(value: object) -> NDArray[np.generic] | None:
    if isinstance(value, EagerVariable):
        return value.numpy()
    if isinstance(value, LoDTensor):
        return value.array
    return value if isinstance(value, np.ndarray) else None


def _misfit(variable: Variable, value: NDArray[np.generic] | None, given: object) -> str | None:
    """Why a value cannot become the variable's."""
    if value is None:
        return f"is given {type(given).__name__}, not an array"
    if value.shape != tuple(variable.shape):
        return f"has shape {list(variable.shape)}, but its value has {list(value.shape)}"
    if value.dtype != variable.dtype.numpy:
        return f"holds {variable.dtype.numpy.name}, but its value holds {value.dtype.name}"
    return None


def _listed(names: list[str], separator: str = ", ") -> str:
    more = len(names) - _SHOWN
    return separator.join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
