"""What a run is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

from .errors import SequencesError, wrong_type
from .framework import Program
from .lod import LENGTHS, OUTER, LoDTensor
from .source import user_location
from .variable import Variable

Array: TypeAlias = NDArray[Any]
Fetch: TypeAlias = "str | Variable"


def fetch_names(program: Program, fetch_list: Sequence[Fetch] | Fetch | None) -> tuple[str, ...]:
    """Names of what is fetched, in order.  Raises ProgramError for what the program does not have."""
    if fetch_list is None:
        return ()
    if isinstance(fetch_list, str | Variable):
        fetch_list = [fetch_list]
    names: list[str] = []
    for item in fetch_list:
        if not isinstance(item, str | Variable):
            raise wrong_type(f"fetch_list holds {item!r}", "give Variables or their names")
        name = item if isinstance(item, str) else item.name
        program.global_block().var(name)  # raises for a name the program does not have
        names.append(name)
    return tuple(names)


def check_dense(divided: Sequence[str]) -> None:
    """Raise SequencesError where a fetch is divided into sequences, which an array cannot say."""
    for name in divided:
        raise SequencesError(
            f"run: the result {name!r} holds sequences, and an array does not say where each of them ends",
            where=user_location().place,
            hint="give return_numpy=False: it returns LoDTensors, with recursive_sequence_lengths()",
        )


def tensor_of(values: Mapping[str, Array], name: str) -> LoDTensor:
    """A result and the lengths of its sequences, of which ``values`` hold one array for each level."""
    tensor = LoDTensor()
    tensor.set(values[name])
    if name + LENGTHS in values:
        levels = [values[name + suffix].tolist() for suffix in (OUTER, LENGTHS) if name + suffix in values]
        tensor.set_recursive_sequence_lengths(levels)
    return tensor
