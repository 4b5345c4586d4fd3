"""What a script feeds, as the arrays that a compiled step takes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .api import similar
from .errors import invalid
from .framework import Program
from .lod import LENGTHS, OUTER, LoDTensor
from .variable import Variable

Array: TypeAlias = NDArray[Any]


def feed_arrays(program: Program, feed: Mapping[str, object]) -> dict[str, Array]:
    """Dense arrays by parameter name; a LoD feed becomes its rows and the lengths of its sequences, level by level.

    Raises:
        ProgramError: Sequences without their lengths or of another rank, or what is no array of one shape.
    """
    arrays: dict[str, Array] = {}
    block = program.global_block()
    for name, value in feed.items():
        if name not in block.vars:
            near = similar(name, [each.name for each in block.vars.values() if each.is_data])
            meant = f"; did you mean {near!r}?" if near else ""
            what = f"Executor.run: the program has no variable {name!r} to feed; it is ignored{meant}"
            warnings.warn(what, stacklevel=4)
            continue
        variable = block.vars[name]
        suffixes = (LENGTHS, OUTER)[: variable.lod_level]
        if isinstance(value, LoDTensor):
            if value.array.shape[1:] == (1,) and variable.lod_level and len(variable.shape) == 1:
                raise _rows_of_lists(variable, value)
            arrays[name] = value.array
            lengths = value.recursive_sequence_lengths()
            # Of what is declared without sequences, they mean nothing.
            for suffix, level in zip(suffixes, reversed(lengths), strict=False):
                arrays[name + suffix] = np.asarray(level, np.int64)
        else:
            arrays[name] = _array(variable, value)
        if any(name + suffix not in arrays for suffix in suffixes):
            raise _without_lengths(variable, value)
    return arrays


def _array(variable: Variable, value: object) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        if variable.lod_level:
            raise _without_lengths(variable, value) from None
        raise invalid(
            f"feed {variable.name!r} is a list whose parts have different lengths, which no array has",
            "pad them to one length, or declare the data with lod_level=1 and feed fluid.create_lod_tensor(...)",
        ) from None
    # Python's numbers have no element type of their own: they take the declared one.
    declared = variable.dtype.numpy
    is_plain = isinstance(value, list | tuple) and not any(isinstance(part, np.ndarray | np.generic) for part in value)
    if is_plain and array.dtype.kind in "fi" and np.can_cast(array.dtype, declared, "same_kind"):
        return array.astype(declared)
    return array


def _rows_of_lists(variable: Variable, value: LoDTensor) -> Exception:
    """Lists give one column, as in Paddle, which refuses them here as well."""
    name = variable.name
    return invalid(
        f"feed {name!r} has rows of shape {list(value.array.shape)}, which create_lod_tensor makes of lists; it is "
        f"declared {list(variable.shape)}",
        f"feed fluid.create_lod_tensor(np.concatenate(lists), [[lengths]], place), or declare {name!r} with shape "
        "[None, 1]",
    )


def _without_lengths(variable: Variable, value: object) -> Exception:
    name, level = variable.name, variable.lod_level
    if isinstance(value, LoDTensor) and (found := value.recursive_sequence_lengths()):
        return invalid(
            f"feed {name!r} has lod_level {level}, the LoDTensor has {len(found)} level of lengths: {_few(found)}",
            f"feed {name!r} lengths of {level} levels, such as [[2, 1], [3, 1, 4]]",
        )
    if isinstance(value, list | tuple) and value and all(isinstance(part, list | tuple | np.ndarray) for part in value):
        lengths: list[int] = [len(part) for part in value]
        return invalid(
            f"feed {name!r} has lod_level {level}, and is a list of {len(value)} parts: it is not said which of them "
            "are sequences",
            f"if each part is a sequence: fluid.create_lod_tensor(rows, [{_few(lengths)}], place), where rows is one "
            "array of all of them; a DataFeeder makes it of samples",
        )
    return invalid(
        f"feed {name!r} has lod_level {level}: the lengths of its sequences are missing",
        f"feed fluid.create_lod_tensor(array, [[lengths]], place) for {name!r}",
    )


def _few(values: list[Any]) -> str:
    return str(values) if len(values) <= 6 else f"[{', '.join(map(str, values[:6]))}, ...]"
