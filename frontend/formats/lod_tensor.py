"""LoDTensors in Paddle's binary form: what ``save_params``, ``save_persistables`` and ``save_vars`` write.

A record, little endian: u32 version 0; u64 number of LoD levels, each a u64 count of bytes and that many bytes of u64
offsets; u32 version 0; i32 length of a ``TensorDesc`` in protobuf, the ``TensorDesc``; the elements, row by row.
A file holds one record, or several one after the other: names and their number are nowhere in it.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import StateFileError, refused

Array: TypeAlias = NDArray[Any]
Offsets: TypeAlias = tuple[tuple[int, ...], ...]
"""Where sequences start and end, one tuple per level, the coarsest first: ``((0, 2, 5),)``."""

ELEMENT_TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("?"),
    1: np.dtype("<i2"),
    2: np.dtype("<i4"),
    3: np.dtype("<i8"),
    4: np.dtype("<f2"),
    5: np.dtype("<f4"),
    6: np.dtype("<f8"),
    20: np.dtype("u1"),
    21: np.dtype("i1"),
}
"""numpy's types by the number that Paddle gives them (``VarType``)."""

MAX_LEVELS = 16
MAX_RANK = 32
_DATA_TYPE = 0x08  # the tag of a varint in field 1
_DIM = 0x10  # of one in field 2
_DIMS = 0x12  # of several there, packed
_MAX_DESCRIPTION = 4 + 11 * MAX_RANK
_NUMBERS = {dtype: number for number, dtype in ELEMENT_TYPES.items()}


@dataclass(frozen=True)
class Record:
    """One tensor of a file; the array is its own."""

    array: Array
    lod: Offsets = ()


def encode(array: Array, lod: Sequence[Sequence[int]] = ()) -> list[bytes | memoryview]:
    """The bytes of one record, the elements as a view of ``array`` where they lie as the file wants them.

    Raises StateFileError for an element type that the format has none for.
    """
    stored = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    number = _NUMBERS.get(stored.dtype)
    if number is None:
        known = ", ".join(dtype.name for dtype in _NUMBERS)
        raise StateFileError(
            f"LoDTensors have no elements of type {array.dtype}", None, f"convert them to one of {known}"
        )
    levels = [np.asarray(level, "<u8").tobytes() for level in lod]
    description = bytes([_DATA_TYPE, number]) + b"".join(bytes([_DIM]) + _varint(extent) for extent in stored.shape)
    head = [struct.pack("<IQ", 0, len(levels))]
    head += [struct.pack("<Q", len(level)) + level for level in levels]
    head += [struct.pack("<Ii", 0, len(description)), description]
    return [b"".join(head), stored.data.cast("B") if stored.ndim and stored.size else stored.tobytes()]


def decode(data: bytes, source: str) -> Record:
    """The one record that ``data`` is.  Raises StateFileError, which names ``source``."""
    (record,) = decode_all(data, source, 1)
    return record


def decode_all(data: bytes, source: str, count: int) -> list[Record]:
    """The ``count`` records that ``data`` is, in their order.  Raises StateFileError, which names ``source``."""
    reader = _Reader(data, source)
    records: list[Record] = []
    for index in range(count):
        if index and reader.at_end:
            raise StateFileError(
                f"the file holds {index} tensors, {count} are wanted",
                source,
                "the names come from the program alone: give the variables that were saved, no more",
            )
        records.append(reader.record())
    if not reader.at_end:
        raise StateFileError(
            f"the file goes on after {count} {'tensor' if count == 1 else 'tensors'}",
            f"{source}, byte {reader.offset}",
            "the names come from the program alone: give all variables that were saved; one variable of several "
            "cannot be taken from such a file",
        )
    return records


def _varint(value: int) -> bytes:
    parts: list[int] = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


class _Reader:
    """Bytes of a file and how far they are read; never reads past the end, never allocates what is not there."""

    def __init__(self, data: bytes, source: str) -> None:
        self._data = memoryview(data)
        self._source = source
        self.offset = 0

    @property
    def at_end(self) -> bool:
        return self.offset == len(self._data)

    def record(self) -> Record:
        self._version("LoDTensor")
        start = self.offset
        lod = self._levels()
        self._version("Tensor")
        array = self._tensor()
        self._check_lod(lod, array, start)
        return Record(array, lod)

    def _take(self, count: int, what: str) -> memoryview:
        left = len(self._data) - self.offset
        if not 0 <= count <= left:
            raise self._refused(f"{what} should take {count} bytes, {left} are left")
        self.offset += count
        return self._data[self.offset - count : self.offset]

    def _number(self, form: str, what: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form), what))
        return value

    def _version(self, what: str) -> None:
        version = self._number("<I", f"the version of a {what}")
        if version != 0:
            self.offset -= 4
            raise self._refused(f"this is no {what} of version 0, but {version}")

    def _levels(self) -> Offsets:
        count = self._number("<Q", "the number of LoD levels")
        if count > MAX_LEVELS:
            raise self._refused(f"{count} LoD levels")
        levels: list[tuple[int, ...]] = []
        for _ in range(count):
            size = self._number("<Q", "the size of a LoD level")
            if size % 8:
                raise self._refused(f"a LoD level of {size} bytes")
            levels.append(tuple(np.frombuffer(self._take(size, "a LoD level"), "<u8").tolist()))
        return tuple(levels)

    def _tensor(self) -> Array:
        length = self._number("<i", "the length of a TensorDesc")
        if not 0 <= length <= _MAX_DESCRIPTION:
            raise self._refused(f"a TensorDesc of {length} bytes")
        number, shape = self._description(self._take(length, "the TensorDesc"))
        dtype = ELEMENT_TYPES.get(number)
        if dtype is None:
            raise self._refused(f"element type {number}, which no tensor of fluid has")
        what = f"a {dtype.name} tensor of shape {list(shape)}"
        elements = np.frombuffer(self._take(math.prod(shape) * dtype.itemsize, what), dtype)
        if dtype.kind == "b" and elements.view(np.uint8).max(initial=0) > 1:
            raise self._refused("a bool that is neither 0 nor 1")
        try:
            return elements.reshape(shape).astype(dtype.newbyteorder("="))
        except ValueError:  # no elements, but extents beyond what numpy indexes
            raise self._refused(what) from None

    def _description(self, text: memoryview) -> tuple[int, tuple[int, ...]]:
        """Element type and shape in a ``TensorDesc``, the last bytes taken."""
        number, shape, at = -1, [], 0
        while at < len(text):
            tag = text[at]
            if tag not in (_DATA_TYPE, _DIM, _DIMS):
                raise self._refused(f"a TensorDesc with tag {tag}")
            value, at = self._unsigned(text, at + 1)
            if tag == _DATA_TYPE:
                number = value
                continue
            end = at
            if tag == _DIMS:
                end = at + value
                if end > len(text):
                    raise self._refused("a TensorDesc whose dims pass its end")
            else:
                shape.append(value)
            while at < end:
                value, at = self._unsigned(text[:end], at)
                shape.append(value)
        if len(shape) > MAX_RANK or any(extent >= 1 << 63 for extent in shape):
            raise self._refused(f"a shape of {len(shape)} extents, the largest {max(shape)}")
        return number, tuple(shape)

    def _unsigned(self, text: memoryview, at: int) -> tuple[int, int]:
        value = 0
        for index, byte in enumerate(text[at : at + 10]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value, at + index + 1
        raise self._refused("a TensorDesc with a number that does not end")

    def _check_lod(self, lod: Offsets, array: Array, start: int) -> None:
        items = [*(len(level) - 1 for level in lod[1:]), array.shape[0] if array.ndim else 0]
        for level, count in zip(lod, items):
            falls = any(after < before for before, after in itertools.pairwise(level))
            if not level or level[0] != 0 or level[-1] != count or falls:
                raise refused(f"LoD offsets that do not divide {count} items", self._source, start)

    def _refused(self, what: str) -> StateFileError:
        return refused(what, self._source, self.offset)
