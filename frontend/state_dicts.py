"""State dicts of eager code on the disk: ``PREFIX.pdparams`` of layers, ``PREFIX.pdopt`` of optimizers."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .errors import invalid, wrong_type
from .formats.errors import StateFileError
from .formats.files import write_files
from .formats.pickle_reader import Value
from .formats.state import NAME_TABLE, encode_state, read_state
from .source import user_location
from .variable import Parameter, Variable

PARAMETERS = ".pdparams"
OPTIMIZER = ".pdopt"

_missing = ""
"""What the last `load_dygraph` did not find; see `missing_optimizer_state`."""


def save_dygraph(state_dict: Mapping[str, object], model_path: str) -> None:
    """Write the state of a layer to ``PREFIX.pdparams``, that of an optimizer to ``PREFIX.pdopt``.

    Which of the two is told by what it holds: parameters or none. The file is written whole or not at all. Paddle loads
    it with its own `load_dygraph`.

    Args:
        state_dict: What ``layer.state_dict()`` or ``optimizer.state_dict()`` returned; {} is the state of an optimizer
            that keeps nothing.
        model_path: PREFIX, with the folder, which is made if it is not there.

    Raises:
        StateFileError: The file cannot be written, or there is something in the state that is not arrays, numbers and
            texts in dicts, lists and tuples.
    """
    if not isinstance(state_dict, Mapping):
        raise wrong_type(
            f"save_dygraph: state_dict is {type(state_dict).__name__}",
            "give layer.state_dict() or optimizer.state_dict()",
        )
    path = prefix_of("save_dygraph", model_path)
    path += PARAMETERS if any(isinstance(value, Parameter) for value in state_dict.values()) else OPTIMIZER
    values: dict[str, object] = {}
    names: dict[str, str] = {}
    for key, value in state_dict.items():
        values[key] = value
        if isinstance(value, Variable):
            values[key], names[key] = _array_of(key, value), value.name
    write_files({Path(path): encode_state(values | {NAME_TABLE: names}, "state_dict")})


def load_dygraph(
    model_path: str, keep_name_table: bool = False
) -> tuple[dict[str, Value] | None, dict[str, Value] | None]:
    """Read what `save_dygraph`, here or in Paddle, wrote under one prefix.

    Args:
        model_path: PREFIX; a suffix is taken off.
        keep_name_table: Leave the table of parameters' own names in, under ``StructuredToParameterName@@``.

    Returns:
        The states of the layer and of the optimizer, arrays by name. None for one that was not saved:
        ``optimizer.set_dict(None)`` then says so, and names a file of nearly this prefix, and changes nothing.

    Raises:
        StateFileError: There is neither of the two, or one that is damaged or unsafe.
    """
    global _missing
    prefix = os.fspath(model_path).removesuffix(PARAMETERS).removesuffix(OPTIMIZER)
    paths = [Path(prefix + suffix) for suffix in (PARAMETERS, OPTIMIZER)]
    if not any(path.exists() for path in paths):
        near = near_spellings(prefix, PARAMETERS) + near_spellings(prefix, OPTIMIZER)
        raise StateFileError(
            f"there is no {prefix}{PARAMETERS} and no {prefix}{OPTIMIZER}",
            user_location().place,
            f"found {', '.join(near)}" if near else "give the prefix that was given to save_dygraph",
        )
    parameters, optimizer = (read_state(path) if path.exists() else None for path in paths)
    for state in (parameters, optimizer):
        if state is not None and not keep_name_table:
            state.pop(NAME_TABLE, None)
    _missing = ""
    if optimizer is None:
        near = near_spellings(prefix, OPTIMIZER)
        _missing = f"no optimizer state in {prefix}" + "".join(f"; found {name}" for name in near)
    return parameters, optimizer


def missing_optimizer_state() -> str:
    """What ``optimizer.set_dict(None)`` is to warn of, None being what `load_dygraph` returned.

    ``no optimizer state in paddle_dy; found padle_dy.pdopt`` where the last `load_dygraph` found no ``.pdopt``, the
    second half only where the folder has a file of nearly that name; ``no optimizer state was given`` else.
    """
    return _missing or "no optimizer state was given"


def prefix_of(what: str, model_path: str) -> str:
    """PREFIX of files to be written.  Raises ArgumentTypeError and ProgramError."""
    if not isinstance(model_path, str | os.PathLike):
        raise wrong_type(
            f"{what}: model_path is {type(model_path).__name__}", "give the path of the files to be, less suffix"
        )
    prefix = os.fspath(model_path)
    if not os.path.basename(prefix):
        raise invalid(
            f"{what}: model_path {prefix!r} names a folder", "add a name: the files are NAME.pdparams and so on"
        )
    return prefix


def near_spellings(prefix: str, suffix: str) -> list[str]:
    """At most one file with this suffix, beside the one of ``prefix``, that has nearly its name."""
    folder, name = os.path.split(prefix)
    try:
        found = [path.name.removesuffix(suffix) for path in Path(folder or ".").iterdir() if path.name.endswith(suffix)]
    except OSError:
        return []
    return [near + suffix for near in difflib.get_close_matches(name, found, n=1, cutoff=0.75) if near != name]


def _array_of(key: str, value: Variable) -> np.ndarray:
    if not value.is_eager:
        raise wrong_type(
            f"save_dygraph: {key} is a Variable of a static program, which has no value of its own",
            "use fluid.save(program, path)",
        )
    return value.numpy()
