"""numpy's objects as pickles spell them: calls of a few names, and states that fill what the calls gave.

What stands on a reader's stack for a dtype or an array is a description; arrays are made here alone, from a type of
`_TYPES`, a shape, and bytes of just that size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

MAX_RANK = 32
_TYPES = {text: np.dtype(text) for text in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}
_OBJECT = np.dtype(object)
# version, byte order, then: no parts, no names, no fields, the size and alignment of the type, no flags
_PLAIN = (None, None, None, -1, -1, 0)
_OF_OBJECTS = (3, "|", None, None, None, -1, -1, 63)  # flags: counts references, is initialised, pickled as a list, ...


class NotState(Exception):
    """What is asked for is nothing that saved state has in it; the text says what it is."""


@dataclass(eq=False)
class DTypeNode:
    """A dtype under construction: ``f4``, and from its state the byte order."""

    dtype: np.dtype[Any]
    complete: bool = False

    @classmethod
    def called(cls, arguments: tuple[object, ...], *, objects: bool = False) -> DTypeNode:
        """``numpy.dtype("f4", False, True)``; ``objects``: that of Python's objects too.  Raises NotState."""
        text = arguments[0] if len(arguments) == 3 and arguments[1:] == (False, True) else None
        if objects and text in ("O8", "O4", "O"):
            return cls(_OBJECT)
        if not isinstance(text, str) or text not in _TYPES:
            raise NotState("a numpy.dtype that is not of plain numbers")
        return cls(_TYPES[text])

    def fill(self, state: object) -> None:
        """Take the state ``(3, "<", ...)``.  Raises NotState."""
        if self.dtype == _OBJECT and not self.complete and state == _OF_OBJECTS:
            self.complete = True
            return
        if self.complete or not isinstance(state, tuple) or len(state) != 8 or state[2:] != _PLAIN or state[0] != 3:
            raise NotState("a numpy.dtype that is not of plain numbers")
        match state[1], self.dtype.itemsize:
            case "|", 1:
                pass
            case ("<" | ">") as order, size if size > 1:
                self.dtype = self.dtype.newbyteorder(order)
            case _:
                raise NotState("a numpy.dtype of unknown byte order")
        self.complete = True


@dataclass(eq=False)
class ArrayNode:
    """An array under construction; one of Python's objects has those as items until all of them are made."""

    array: Array | None = None
    items: list[Any] | None = None
    shape: tuple[int, ...] = ()

    def fill(self, state: object) -> None:
        """Take the state ``(1, shape, dtype, is Fortran's order, bytes)``.  Raises NotState."""
        begun = self.array is not None or self.items is not None
        if begun or not isinstance(state, tuple) or len(state) != 5 or state[0] != 1:
            raise NotState("the state of a numpy.ndarray in an unknown form")
        _, shape, dtype, fortran, raw = state
        if not isinstance(fortran, bool | int):
            raise NotState("the state of a numpy.ndarray in an unknown form")
        if isinstance(dtype, DTypeNode) and dtype.dtype == _OBJECT and dtype.complete:
            if not isinstance(raw, list) or math.prod(checked_shape(shape)) != len(raw):
                raise NotState("a numpy.ndarray of Python objects of another number than its shape says")
            self.items, self.shape = raw, checked_shape(shape)  # row by row in both orders
            return
        self.array = array_of(shape, dtype, raw, fortran=bool(fortran))

    def of_objects(self, values: list[Any]) -> Array:
        """The array of objects, made of the values of its items."""
        flat = np.empty(len(values), object)
        for at, value in enumerate(values):  # numpy would take an assignment of lists apart
            flat[at] = value
        return flat.reshape(self.shape)


def checked_shape(shape: object) -> tuple[int, ...]:
    """``shape``, if it is one.  Raises NotState."""
    if not isinstance(shape, tuple) or len(shape) > MAX_RANK or not all(_is_extent(extent) for extent in shape):
        raise NotState("a numpy.ndarray whose shape is not one")
    return shape


def array_of(shape: object, dtype: object, raw: object, *, fortran: bool) -> Array:
    """The array of these descriptions, in this machine's byte order, row by row.  Raises NotState."""
    if not isinstance(dtype, DTypeNode) or not (dtype.complete or dtype.dtype.itemsize == 1):
        raise NotState("a numpy.ndarray without a numpy.dtype")
    if dtype.dtype == _OBJECT:
        raise NotState("a numpy.ndarray of Python objects")
    shape = checked_shape(shape)
    data = bytes_of(raw)
    size = math.prod(shape) * dtype.dtype.itemsize
    if size != len(data):
        raise NotState(f"a numpy.ndarray of shape {list(shape)}, which takes {size} bytes, from {len(data)}")
    if dtype.dtype.kind == "b" and data and max(data) > 1:
        raise NotState("a bool that is neither 0 nor 1")
    try:
        laid_out = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError:  # no elements, but extents beyond what numpy indexes
        raise NotState(f"a numpy.ndarray of shape {list(shape)}") from None
    return np.array(laid_out, dtype.dtype.newbyteorder("="), order="C")


def scalar_of(arguments: tuple[object, ...]) -> bool | int | float:
    """``numpy.core.multiarray.scalar(dtype, bytes)`` as Python's number.  Raises NotState."""
    if len(arguments) != 2:
        raise NotState("a scalar of numpy in an unknown form")
    return array_of((), arguments[0], arguments[1], fortran=False).item()


def bytes_of(raw: object) -> bytes:
    """Bytes, be they written as Python 2's str, which holds one byte in each character.  Raises NotState."""
    if isinstance(raw, str):
        try:
            return raw.encode("latin1")
        except UnicodeEncodeError:
            raise NotState("bytes that are not") from None
    if not isinstance(raw, bytes):
        raise NotState("a numpy.ndarray of Python objects")
    return raw


def _is_extent(extent: object) -> bool:
    return isinstance(extent, int) and not isinstance(extent, bool) and 0 <= extent < 1 << 63
