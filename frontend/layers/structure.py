"""Nested structures of Variables: lists, tuples, named tuples and dicts, gone through in fluid's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import invalid


def is_sequence(x: object) -> bool:
    """Whether ``x`` is a structure rather than a leaf."""
    return isinstance(x, Mapping) or (isinstance(x, Sequence) and not isinstance(x, str))


def _entries(structure: Any) -> list[Any]:
    """Its parts; of a dict by sorted keys."""
    return [structure[key] for key in sorted(structure)] if isinstance(structure, Mapping) else list(structure)


def flatten(structure: Any) -> list[Any]:
    """The leaves, from left to right; of a leaf, itself."""
    if not is_sequence(structure):
        return [structure]
    return [leaf for entry in _entries(structure) for leaf in flatten(entry)]


def pack_as(structure: Any, leaves: Sequence[Any]) -> Any:
    """The same structure with other leaves.

    Raises:
        ProgramError: Another number of leaves.
    """
    wanted = len(flatten(structure))
    if len(leaves) != wanted:
        raise invalid(f"a structure of {wanted} Variables is given {len(leaves)}", "both must have the same parts")
    return _packed(structure, iter(leaves))


def _packed(structure: Any, leaves: Iterator[Any]) -> Any:
    if not is_sequence(structure):
        return next(leaves)
    parts = [_packed(entry, leaves) for entry in _entries(structure)]
    if isinstance(structure, Mapping):
        by_key = dict(zip(sorted(structure), parts))
        return type(structure)((key, by_key[key]) for key in structure)  # type: ignore[call-arg]
    if hasattr(structure, "_fields"):
        return type(structure)(*parts)
    return type(structure)(parts)  # type: ignore[call-arg]


def map_structure(function: Callable[..., Any], *structures: Any) -> Any:
    """``function`` of the leaves that stand in the same place, in the structure of the first."""
    leaves = zip(*(flatten(structure) for structure in structures))
    return pack_as(structures[0], [function(*each) for each in leaves])


def check_same(what: str, first: Any, second: Any) -> None:
    """Refuse two structures whose parts differ.

    Raises:
        ProgramError: They do.
    """
    if is_sequence(first) != is_sequence(second) or (is_sequence(first) and type(first) is not type(second)):
        raise invalid(
            f"{what}: a {type(first).__name__} in the one is a {type(second).__name__} in the other",
            "both must have the same structure",
        )
    if not is_sequence(first):
        return
    parts, others = _entries(first), _entries(second)
    if len(parts) != len(others):
        raise invalid(f"{what}: {len(parts)} parts and {len(others)}", "both must have the same structure")
    for one, other in zip(parts, others):
        check_same(what, one, other)
