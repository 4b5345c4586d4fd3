"""Writing state as a pickle of protocol 2 that Paddle 1.8.5 and any numpy read.

The same values give the same bytes: nothing in them depends on the process, or on which objects are one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import StateFileError

Array: TypeAlias = NDArray[Any]

MAX_TEXT = (1 << 32) - 1
"""Bytes of a text in protocol 2, in UTF-8: elements of arrays are written as one."""

MAX_DEPTH = 32
_MARK, _TUPLE, _REDUCE, _BUILD, _STOP = b"(", b"t", b"R", b"b", b"."
_LATIN1 = b"X\x06\x00\x00\x00latin1"
_FLAGS = {True: b"\x88", False: b"\x89"}
# numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), _codecs.encode("b", "latin1")), to be filled by its state.
_EMPTY_ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n"
    b"cnumpy\nndarray\n"
    b"K\x00\x85"
    b"c_codecs\nencode\nX\x01\x00\x00\x00b" + _LATIN1 + b"\x86R"
    b"\x87R"
)


def write(value: object, what: str) -> Iterator[bytes]:
    """The pickle of dicts with texts for keys, lists, tuples, texts, numbers, None, and arrays, piece by piece.

    Raises:
        StateFileError: Something else is in it; ``what`` and the keys above it are named.
    """
    yield b"\x80\x02"
    yield from _value(value, what, 0)
    yield _STOP


def _value(value: object, what: str, depth: int) -> Iterator[bytes]:
    if depth > MAX_DEPTH:
        raise StateFileError(f"{what} is nested deeper than {MAX_DEPTH}", None, "state is dicts of arrays and numbers")
    match value:
        case None:
            yield b"N"
        case bool() | np.bool_():
            yield _FLAGS[bool(value)]
        case int() | np.integer():
            yield _integer(int(value), what)
        case float() | np.floating():
            yield b"G" + struct.pack(">d", float(value))
        case str():
            yield _text(value.encode("utf-8", "surrogatepass"), what)
        case np.ndarray():
            yield from _array(value, what)
        case Mapping():
            yield b"}" + _MARK
            for key, part in value.items():
                if not isinstance(key, str):
                    raise StateFileError(f"{what} has the key {key!r}", None, "keys of state are texts")
                yield _text(key.encode("utf-8", "surrogatepass"), what)
                yield from _value(part, f"{what}[{key!r}]", depth + 1)
            yield b"u"
        case list():
            yield b"]" + _MARK
            for index, part in enumerate(value):
                yield from _value(part, f"{what}[{index}]", depth + 1)
            yield b"e"
        case tuple():
            yield _MARK
            for index, part in enumerate(value):
                yield from _value(part, f"{what}[{index}]", depth + 1)
            yield _TUPLE
        case _:
            raise StateFileError(
                f"{what} is {type(value).__name__}, which state cannot hold",
                None,
                "state is arrays, numbers, texts, and dicts, lists and tuples of them",
            )


def _integer(value: int, what: str) -> bytes:
    if 0 <= value < 1 << 8:
        return b"K" + struct.pack("<B", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    if -(1 << 63) <= value < 1 << 64:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
    raise StateFileError(f"{what} is an integer of more than 64 bits", None, "state holds numbers that fluid has")


def _text(data: bytes, what: str) -> bytes:
    if len(data) > MAX_TEXT:
        raise StateFileError(
            f"{what} takes {len(data)} bytes, this format holds {MAX_TEXT} of one value",
            None,
            "save it with fluid.io.save_params or save_persistables, whose files have no such limit",
        )
    return b"X" + struct.pack("<I", len(data)) + data


def _array(array: Array, what: str) -> Iterator[bytes]:
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise StateFileError(
            f"{what} has elements of type {array.dtype}, which state cannot hold", None, "give an array of numbers"
        )
    stored = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    extents = b"".join(_integer(extent, what) for extent in stored.shape)
    yield _EMPTY_ARRAY + _MARK + b"K\x01" + _MARK + extents + _TUPLE + _dtype(stored.dtype) + _FLAGS[False]
    yield b"c_codecs\nencode\n"
    yield _text(stored.tobytes().decode("latin1").encode("utf-8"), what)
    yield _LATIN1 + b"\x86" + _REDUCE
    yield _TUPLE + _BUILD


def _dtype(dtype: np.dtype[Any]) -> bytes:
    """``numpy.dtype("f4", False, True)`` and its state ``(3, "<", None, None, None, -1, -1, 0)``."""
    name = f"{dtype.kind}{dtype.itemsize}".encode()
    order = b"|" if dtype.itemsize == 1 else b"<"
    unset = b"J" + struct.pack("<i", -1)
    called = (
        b"cnumpy\ndtype\nX" + struct.pack("<I", len(name)) + name + _FLAGS[False] + _FLAGS[True] + b"\x87" + _REDUCE
    )
    state = _MARK + b"K\x03" + b"X\x01\x00\x00\x00" + order + b"NNN" + unset + unset + b"K\x00" + _TUPLE
    return called + state + _BUILD
