"""LoDTensors in Paddle's binary form: bytes as Paddle 1.8.5 writes them, and what is refused."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from pickles import flipped

from fluidc.frontend.formats.errors import StateFileError
from fluidc.frontend.formats.lod_tensor import ELEMENT_TYPES, MAX_LEVELS, Record, decode, decode_all, encode
from fluidc.frontend.vartype import VarType

# Paddle 1.8.5's own bytes of float32 [0, 1, 2], of int64 [[-1]], and of two sequences of 1 and 2 rows.
VECTOR = bytes.fromhex("000000000000000000000000000000000400000008051003000000000000803f00000040")
COUNTER = bytes.fromhex("0000000000000000000000000000000006000000080310011001ffffffffffffffff")
ROWS = bytes.fromhex(
    "00000000" "0100000000000000" "1800000000000000" "0000000000000000" "0100000000000000" "0300000000000000"
    "00000000" "06000000" "0805" "1003" "1001" "000080bf" "00000000" "0000803f"
)  # fmt: skip


def encoded(array: Any, lod: Any = ()) -> bytes:
    return b"".join(encode(np.asarray(array), lod))


def described(text: bytes, data: bytes = b"") -> bytes:
    """A record without LoD whose TensorDesc is ``text``."""
    return struct.pack("<IQIi", 0, 0, 0, len(text)) + text + data


def test_bytes_are_paddles() -> None:
    assert encoded(np.arange(3, dtype=np.float32)) == VECTOR
    assert encoded(np.array([[-1]])) == COUNTER
    assert encoded(np.array([[-1], [0], [1]], np.float32), [[0, 1, 3]]) == ROWS
    found = decode(ROWS, "file")
    assert found.lod == ((0, 1, 3),)
    np.testing.assert_array_equal(found.array, [[-1], [0], [1]])


def test_element_types_are_fluids() -> None:
    numbers = {int(kind) for kind in VarType if kind < VarType.LOD_TENSOR or kind in (VarType.UINT8, VarType.INT8)}
    assert set(ELEMENT_TYPES) == numbers
    for number, dtype in ELEMENT_TYPES.items():
        assert dtype == VarType(number).numpy
        found = decode(encoded(np.ones((2, 1), dtype)), "file").array
        assert found.dtype == dtype
        assert found.tolist() == [[1], [1]]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float32),
        np.array(2.5),
        np.arange(6).reshape(2, 3).T,
        np.arange(6, dtype=">i4"),
        np.arange(300 * 2).reshape(300, 1, 2),
    ],
    ids=str,
)
def test_arrays_of_any_layout_are_read_as_they_were(array: np.ndarray) -> None:
    found = decode(encoded(array), "file").array
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.flags.writeable
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array)


def test_files_of_several_records() -> None:
    found = decode_all(VECTOR + COUNTER + ROWS, "file", 3)
    assert [record.array.shape for record in found] == [(3,), (1, 1), (3, 1)]
    with pytest.raises(StateFileError, match="the file holds 2 tensors, 3 are wanted"):
        decode_all(VECTOR + COUNTER, "file", 3)
    with pytest.raises(StateFileError, match="the file goes on after 1 tensor\n  at file, byte 36"):
        decode_all(VECTOR + COUNTER, "file", 1)


def test_dims_may_be_packed() -> None:
    found = decode(described(b"\x08\x05\x12\x02\x01\x03", bytes(12)), "file").array
    assert found.shape == (1, 3)


def test_a_type_that_the_format_has_not_is_not_written() -> None:
    with pytest.raises(StateFileError, match="LoDTensors have no elements of type uint32"):
        encode(np.zeros(2, np.uint32))


BROKEN = {
    "this is no LoDTensor of version 0, but 1": b"\x01" + VECTOR[1:],
    "this is no Tensor of version 0, but 7": VECTOR[:12] + b"\x07" + VECTOR[13:],
    f"{MAX_LEVELS + 1} LoD levels": VECTOR[:4] + struct.pack("<Q", MAX_LEVELS + 1) + VECTOR[12:],
    "a LoD level of 25 bytes": ROWS[:12] + b"\x19" + ROWS[13:],
    "a LoD level should take 4611686018427387904 bytes": ROWS[:12] + struct.pack("<Q", 1 << 62) + ROWS[20:],
    "LoD offsets that do not divide 3 items": ROWS[:36] + b"\x02" + ROWS[37:],
    "LoD offsets that do not divide 4 items": encoded(np.zeros(4), [[0, 3, 1, 4]]),
    "LoD offsets that do not divide 1 items": encoded(np.zeros(4), [[0, 2], [0, 4]]),
    "LoD offsets that do not divide 2 items": encoded(np.zeros(2), [[]]),
    "a TensorDesc of -1 bytes": VECTOR[:16] + b"\xff" * 4 + VECTOR[20:],
    "a TensorDesc of 2147483647 bytes": VECTOR[:16] + b"\xff\xff\xff\x7f" + VECTOR[20:],
    "element type 7, which no tensor of fluid has": described(b"\x08\x07\x10\x01"),
    "element type -1, which no tensor of fluid has": described(b"\x10\x01"),
    "a TensorDesc with tag 26": described(b"\x1a\x00"),
    "a TensorDesc whose dims pass its end": described(b"\x08\x05\x12\x05\x01"),
    "a TensorDesc with a number that does not end": described(b"\x08\x05\x10" + b"\xff" * 11),
    "a shape of 1 extents, the largest 18446744073709551615": described(b"\x08\x05\x10" + b"\xff" * 9 + b"\x01"),
    "a shape of 33 extents": described(b"\x08\x05" + b"\x10\x01" * 33),
    "a float32 tensor of shape [3] should take 12 bytes, 8 are left": VECTOR[:-4],
    "should take 340282366920938463389587631136930004996 bytes": described(
        b"\x08\x05" + (b"\x10" + b"\xff" * 8 + b"\x7f") * 2
    ),
    "a float32 tensor of shape [0, 4611686018427387904]": described(b"\x08\x05\x10\x00\x10" + b"\x80" * 8 + b"\x40"),
    "a bool that is neither 0 nor 1": described(b"\x08\x00\x10\x01", b"\x02"),
}  # fmt: skip


@pytest.mark.parametrize("message", BROKEN)
def test_what_is_broken_is_refused(message: str) -> None:
    with pytest.raises(StateFileError) as refused:
        decode(BROKEN[message], "fc_0.w_0")
    assert message in str(refused.value)
    assert "fc_0.w_0" in str(refused.value)


@pytest.mark.parametrize("data", [VECTOR, COUNTER, ROWS])
def test_a_file_cut_short_is_refused_wherever_it_is_cut(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(StateFileError):
            decode(data[:length], "file")


def test_a_file_with_wrong_bits_is_refused_or_has_the_right_types() -> None:
    read_well = 0
    tracemalloc.start()
    try:
        for seed, data in enumerate((VECTOR, COUNTER, ROWS)):
            for broken in flipped(data, 700, seed):
                try:
                    found = decode(broken, "file")
                except StateFileError:
                    continue
                assert isinstance(found, Record)
                assert found.array.dtype in ELEMENT_TYPES.values()
                assert found.array.nbytes <= len(broken)
                read_well += 1
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert 0 < read_well < 2100  # bits of elements cannot be told from others
