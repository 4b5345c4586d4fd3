"""Buffers with two sides: whoever looks at a value finds the newest, whichever side an engine left it on."""

from __future__ import annotations

import signal
from types import FrameType

import numpy as np
import pytest

from fluidc.runtime.buffers import ALIGNMENT, Arrays, Buffer, aligned_copy, flip


def buffer(values: object = (1.0, 2.0)) -> Buffer:
    return Buffer(aligned_copy(np.array(values, np.float32)))


def away(values: object = (3.0, 4.0)) -> Buffer:
    made = buffer()
    made.spare[...] = values
    flip([made])
    return made


def test_a_buffer_is_at_home_until_it_is_flipped() -> None:
    made = buffer()
    home = made.home
    assert not made.is_away
    assert made.array is home
    assert len(made.sides) == 1  # no second array before somebody writes one
    made.spare[...] = (3.0, 4.0)
    assert made.array.tolist() == [1, 2]
    flip([made])
    assert made.is_away
    assert made.sides[0].tolist() == [3, 4]
    assert made.spare is home


def test_the_owner_finds_the_newest_values_in_the_array_that_was_always_his() -> None:
    made = away()
    assert made.home.tolist() == [1, 2]
    assert made.array is made.home
    assert made.home.tolist() == [3, 4]
    assert not made.is_away
    made.array[...] = 5
    assert made.sides[0].tolist() == [5, 5]


def test_nothing_is_copied_when_the_values_are_at_home() -> None:
    made = away()
    other = made.sides[0]
    assert made.array.tolist() == [3, 4]
    other[...] = 9
    assert made.array.tolist() == [3, 4]
    made.bring_home()
    assert made.array.tolist() == [3, 4]


def test_what_is_put_is_newer_than_what_is_away() -> None:
    made = away()
    made.put((7, 8))
    assert not made.is_away
    assert made.array.tolist() == [7, 8]


def test_what_does_not_fit_is_not_put() -> None:
    made = away()
    with pytest.raises(ValueError):
        made.put((7, 8, 9))
    assert made.array.tolist() == [3, 4]


def test_the_second_side_is_like_the_first() -> None:
    for made in (Buffer(aligned_copy(np.ones(shape, dtype))) for shape in ((), (0, 3), (5,)) for dtype in ("u8", "?")):
        assert (made.spare.shape, made.spare.dtype) == (made.home.shape, made.home.dtype)
        assert made.spare.ctypes.data % ALIGNMENT == 0
        assert made.spare.flags.c_contiguous


def test_a_mapping_of_arrays_looks_each_time_anew() -> None:
    made = buffer()
    arrays = Arrays({"w": made})
    assert arrays["w"].tolist() == [1, 2]
    made.spare[...] = (3.0, 4.0)
    flip([made])
    assert dict(arrays)["w"].tolist() == [3, 4]
    assert list(arrays) == ["w"]
    assert len(arrays) == 1
    assert arrays.get("b") is None


def test_no_interrupt_falls_between_two_buffers() -> None:
    buffers = [buffer() for _ in range(400)]
    for made in buffers:
        made.spare[...] = 0
    mixed: list[int] = []

    def look(number: int, frame: FrameType | None) -> None:
        if len({made.is_away for made in buffers}) != 1:
            mixed.append(number)

    handler = signal.signal(signal.SIGVTALRM, look)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 1e-4, 1e-4)
        for _ in range(2000):
            flip(buffers)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
    assert not mixed
