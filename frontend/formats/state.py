"""Files of state as `save_dygraph` and `fluid.save` write them: one dict of arrays by name, pickled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from .errors import StateFileError
from .files import read_file
from .pickle_arrays import Array
from .pickle_reader import Value, read
from .pickle_writer import write

NAME_TABLE = "StructuredToParameterName@@"
"""The key of the table from a layer's names for its parameters to their own."""

_PARTS = "UnpackBigParamInfor@@"  # Paddle 2 writes an array of more than 1 GiB in parts, and says here of which


def encode_state(values: Mapping[str, object], what: str) -> Iterable[bytes]:
    """The bytes of a state file.  Raises StateFileError for what state cannot hold."""
    return write(values, what)


def read_state(path: Path) -> dict[str, Value]:
    """The values in a state file of fluid, of Paddle 1.8 or of Paddle 2.

    Raises:
        StateFileError: The file is missing, damaged, or holds anything but arrays, numbers and texts in dicts, lists
            and tuples.
    """
    state = read(read_file(path), str(path))
    if not isinstance(state, dict):
        raise StateFileError(
            f"the file holds one {type(state).__name__}, not values by name",
            str(path),
            "give a file of save_dygraph or fluid.save",
        )
    parts = state.pop(_PARTS, None)
    if parts is not None:
        _join(state, parts, str(path))
    return state


def _join(state: dict[str, Value], parts: Value, source: str) -> None:
    """Put arrays together that were written in parts."""
    for name, table in parts.items() if isinstance(parts, dict) else [("", None)]:
        match table:
            case {"OriginShape": tuple(shape), "slices": list(names)}:
                state[name] = _joined(
                    [state.pop(part, None) if isinstance(part, str) else None for part in names], shape
                )
            case _:
                state[name] = None
        if state[name] is None:
            raise StateFileError(
                f"the parts of {name!r} do not fit", source, "the file is damaged or no saved state: save it again"
            )


def _joined(parts: list[Value], shape: tuple[Value, ...]) -> Array | None:
    arrays = [part for part in parts if isinstance(part, np.ndarray) and part.ndim == 1]
    extents = [extent for extent in shape if isinstance(extent, int) and extent >= 0]
    fits = len(arrays) == len(parts) > 0 and len(extents) == len(shape)
    if not fits or len({part.dtype for part in arrays}) > 1 or math.prod(extents) != sum(map(len, arrays)):
        return None
    return np.concatenate(arrays).reshape(extents)
