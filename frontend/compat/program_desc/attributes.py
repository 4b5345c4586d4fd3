"""Attributes of an OpDesc: their types, and how they are written and read."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import ProgramDescError, shown


class AttrType(enum.IntEnum):
    """Paddle's numbers for the types of attributes."""

    INT = 0
    FLOAT = 1
    STRING = 2
    INTS = 3
    FLOATS = 4
    STRINGS = 5
    BOOLEAN = 6
    BOOLEANS = 7
    BLOCK = 8
    LONG = 9
    BLOCKS = 10
    LONGS = 11


_FIELDS = {
    AttrType.INT: "i",
    AttrType.FLOAT: "f",
    AttrType.STRING: "s",
    AttrType.INTS: "ints",
    AttrType.FLOATS: "floats",
    AttrType.STRINGS: "strings",
    AttrType.BOOLEAN: "b",
    AttrType.BOOLEANS: "bools",
    AttrType.BLOCK: "block_idx",
    AttrType.LONG: "l",
    AttrType.BLOCKS: "blocks_idx",
    AttrType.LONGS: "longs",
}
_CASTS: dict[AttrType, Callable[[Any], Any]] = {
    AttrType.INT: int,
    AttrType.FLOAT: float,
    AttrType.STRING: lambda text: str(text).encode(),
    AttrType.BOOLEAN: bool,
    AttrType.LONG: int,
    AttrType.BLOCK: int,
}
_ELEMENTS = {
    AttrType.INTS: AttrType.INT,
    AttrType.FLOATS: AttrType.FLOAT,
    AttrType.STRINGS: AttrType.STRING,
    AttrType.BOOLEANS: AttrType.BOOLEAN,
    AttrType.BLOCKS: AttrType.BLOCK,
    AttrType.LONGS: AttrType.LONG,
}


def write_attr(message: Any, name: str, kind: AttrType, value: Any) -> None:
    """Add an attribute to an OpDesc message.

    Raises:
        ValueError: The value is not of this type, or does not fit into it.
    """
    attr = message.attrs.add(name=name, type=kind)
    element = _ELEMENTS.get(kind)
    try:
        if element is None:
            setattr(attr, _FIELDS[kind], _CASTS[kind](_plain(value)))
        else:
            getattr(attr, _FIELDS[kind]).extend(_CASTS[element](_plain(each)) for each in value)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _plain(value: Any) -> Any:
    """The Python value of a numpy scalar, as the protobuf library takes them."""
    return value.item() if isinstance(value, np.generic) else value


def read_attr(attr: Any, where: str) -> Any:
    """The value of an attribute message: a number, text, or a list of them.

    Raises:
        ProgramDescError: Of a type that Paddle 1.8.5 does not have, or text that is not UTF-8.
    """
    try:
        kind = AttrType(attr.type)
    except ValueError:
        raise ProgramDescError(
            f"attribute {shown(attr.name)} is of type {attr.type}, which Paddle 1.8.5 does not have",
            where,
            "save the model with Paddle 1.8",
        ) from None
    value = getattr(attr, _FIELDS[kind])
    try:
        if kind is AttrType.STRING:
            return value.decode()
        if kind is AttrType.STRINGS:
            return [text.decode() for text in value]
    except UnicodeDecodeError:
        raise ProgramDescError(
            f"attribute {shown(attr.name)} is no text", where, "the file is damaged: copy it anew"
        ) from None
    return list(value) if kind in _ELEMENTS else value
