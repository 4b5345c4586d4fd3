"""Pickles of state: what is written is read, by Python too; what attacks, or is damaged, is refused and not run."""

from __future__ import annotations

import pickle
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickles import STATE, array, attacks, encoded, flipped, held, is_state, text
from trees import GOLDENS

from fluidc.frontend.formats.errors import StateFileError
from fluidc.frontend.formats.pickle_reader import MAX_DEPTH, MAX_STEPS, read
from fluidc.frontend.formats.pickle_writer import write
from fluidc.frontend.formats.state import read_state

VALUES: dict[str, Any] = STATE | {
    "none": np.zeros((0, 3)),
    "scalar": np.array(2.5),
    "bool": np.array([True, False]),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "bytes backwards": np.arange(3, dtype=">i4"),
    "half": np.array([0.5], np.float16),
    "bytes": np.arange(256, dtype=np.uint8),
    "numbers": [0, 255, 256, -1, 70000, 2**40, -(2**63), 2**64 - 1, 1.5, float("inf"), None, True, False],
    "texts": ("", "latin1 é", "\ud800", ("nested", ())),
}
FILES = {"pickle": encoded(STATE), "protocol 4": pickle.dumps(STATE, 4), "protocol 0": pickle.dumps(STATE, 0)}


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray):
        return type(found) is np.ndarray and found.shape == wanted.shape and bool((found == wanted).all())
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return type(found) is type(wanted) and len(found) == len(wanted) and all(map(same, found, wanted))
    return type(found) is type(wanted) and found == wanted


@pytest.mark.parametrize("protocol", range(6))
def test_what_python_pickled_is_read(protocol: int) -> None:
    found = read(pickle.dumps(VALUES, protocol), "file")
    assert same(found, VALUES)
    assert isinstance(found, dict)
    for name, value in VALUES.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype.newbyteorder("=")  # type: ignore[union-attr]
            assert found[name].flags.writeable  # type: ignore[union-attr]


def test_what_is_written_is_read_by_python_and_here() -> None:
    data = encoded(VALUES)
    assert data[:2] == b"\x80\x02"
    assert b"numpy._core" not in data  # numpy 1 has no such module
    assert same(pickle.loads(data), VALUES)
    assert same(pickle.loads(data, encoding="latin1"), VALUES)
    assert same(read(data, "file"), VALUES)
    assert encoded(VALUES) == data


def test_pickles_of_python_2_are_read() -> None:
    """They hold bytes where Python 3 has texts, in keys and in arrays."""
    raw = np.array([1.0, -2.0], "<f4").tobytes()
    old = array(b"K\x02\x85", b"U\x08" + raw).replace(b"C\x01b", b"U\x01b").replace(b"X\x02\x00\x00\x00f4", b"U\x02f4")
    found = read(b"\x80\x02}q\x01U\x03fc0" + old + b"s.", "file")
    assert same(found, {"fc0": np.array([1.0, -2.0], np.float32)})
    assert found["fc0"].dtype == np.float32  # type: ignore[index, call-overload, union-attr]
    quoted = b"(dp0\nS'a\\x41\\n\\''\np1\nF1.5\nsS\"'\"\nL7L\nsV\\u20ac\nI01\ns."
    assert read(quoted, "file") == {"aA\n'": 1.5, "'": 7, "€": True}


def test_what_paddle_2_writes_besides_is_read() -> None:
    """Ordered dicts, tuples that are called, scalars of numpy."""
    values = {"model": OrderedDict(), "lr": np.float64(0.5), "steps": np.int64(3)}
    assert same(read(pickle.dumps(values, 4), "file"), {"model": {}, "lr": 0.5, "steps": 3})
    called = held(
        b"c__builtin__\ntuple\n" + text("linear_0.w_0") + array(b"K\x01\x85", b"C\x04" + bytes(4)) + b"\x86\x85R"
    )
    assert same(read(called, "file"), {"w": ("linear_0.w_0", np.zeros(1, np.float32))})


def plain(value: Any) -> Any:
    """What Python unpickled, with dicts for ordered ones and Python's numbers for numpy's."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("path", sorted((GOLDENS.parent / "paddle262").iterdir()), ids=lambda path: path.name)
def test_files_of_paddle_2_are_read(path: Path) -> None:
    found = read_state(path)
    assert same(found, plain(pickle.loads(path.read_bytes())))
    assert found.keys() & {"0.weight", "LR_Scheduler", "best"}


def test_arrays_in_parts_are_joined(tmp_path: Path) -> None:
    parts = {"w@@.0": np.arange(4.0), "b": np.ones(1), "w@@.1": np.arange(4.0, 6.0)}
    info = {"w": {"OriginShape": (2, 3), "slices": ["w@@.0", "w@@.1"]}}
    path = tmp_path / "a.pdparams"
    path.write_bytes(encoded(parts | {"UnpackBigParamInfor@@": info}))
    assert same(read_state(path), {"b": np.ones(1), "w": np.arange(6.0).reshape(2, 3)})
    for wrong in (
        {"w": {"OriginShape": (2, 4), "slices": ["w@@.0", "w@@.1"]}},
        {"w": {"OriginShape": (2, 4), "slices": ["w@@.0", "w@@.0"]}},
        {"w": {"OriginShape": (1,), "slices": ["x"]}},
        {"w": {"OriginShape": (0,), "slices": []}},
        {"w": 3},
        4,
    ):
        path.write_bytes(encoded(parts | {"UnpackBigParamInfor@@": wrong}))
        with pytest.raises(StateFileError, match="do not fit"):
            read_state(path)


def test_shared_parts_stay_shared() -> None:
    one = np.ones(3)
    found: Any = read(pickle.dumps({"a": one, "b": one}, 2), "file")
    assert found["a"] is found["b"]


# Attacks and damage -------------------------------------------------------------------------------------------


RUN = {"reduce of os.system", "global eval", "global eval of Python 2", "stack global", "inst", "obj"}


def test_attacks_are_refused(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    """Nothing runs, nothing large is made, and each ends soon with an error that names the file."""
    trace = tmp_path / "ran"
    path = tmp_path / "model.pdparams"
    said: list[str] = []
    tracemalloc.start()
    try:
        for name, data in attacks(f"touch {trace}"):
            path.write_bytes(data)
            tracemalloc.reset_peak()
            start = time.process_time()
            with pytest.raises(StateFileError) as refused:
                read_state(path)
            assert str(path) in str(refused.value)
            said.append(f"{name}: {refused.value.what}\n")
            assert tracemalloc.get_traced_memory()[1] < 60_000_000, name
            assert time.process_time() - start < 5, name
    finally:
        tracemalloc.stop()
    assert not trace.exists()
    golden("errors/pickles.txt", "".join(said))


def test_the_attacks_are_attacks(tmp_path: Path) -> None:
    """Python's own unpickler runs the command of those that are made to run one."""
    trace = tmp_path / "ran"
    ran: set[str] = set()
    for name, data in attacks(f"touch {trace}"):
        if name in RUN:
            pickle.loads(data)
            if trace.exists():
                ran.add(name)
                trace.unlink()
    assert ran == RUN


def test_a_message_says_what_was_asked_for() -> None:
    with pytest.raises(StateFileError) as refused:
        read(held(b"cposix\nsystem\n" + text("reboot") + b"\x85R"), "model.pdparams")
    assert str(refused.value) == (
        "the file asks for posix.system, which no saved state needs; it was not run\n"
        "  at model.pdparams, byte 23\n"
        "  it may be made to run code on your machine: load it in no other way either, and ask where it comes from"
    )
    with pytest.raises(StateFileError, match="opcode NEWOBJ, which no saved state needs"):
        read(held(b"cnumpy\nndarray\n)\x81"), "model.pdparams")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_short_is_refused_wherever_it_is_cut(kind: str) -> None:
    for length in range(len(FILES[kind])):
        with pytest.raises(StateFileError):
            read(FILES[kind][:length], "file")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_with_wrong_bits_is_refused_or_has_the_right_types(kind: str) -> None:
    read_well = 0
    for data in flipped(FILES[kind], 2000, seed=7):
        try:
            found = read(data, "file")
        except StateFileError:
            continue
        assert is_state(found)
        read_well += 1
    assert 0 < read_well < 2000  # bits of elements cannot be told from others


def test_bounds_are_where_they_are_said_to_be() -> None:
    def nested(depth: int) -> bytes:
        return held(b"]" * depth + b"a" * (depth - 1))

    assert read(nested(MAX_DEPTH - 1), "file")
    with pytest.raises(StateFileError, match="nested deeper"):
        read(nested(MAX_DEPTH), "file")
    with pytest.raises(StateFileError, match=f"more than {MAX_STEPS} opcodes"):
        read(b"\x80\x02}(" + b"N" * MAX_STEPS + b"u.", "file")
    with pytest.raises(StateFileError, match=f"more than {MAX_STEPS} values"):
        read(held(b"(](" + b"N" * 10_000 + b"eq\x00](" + b"h\x00" * 300 + b"et"), "file")


# Writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": {"x": object()}}, r"state\['w'\]\['x'\] is object, which state cannot hold"),
        ({"w": np.array([None])}, r"state\['w'\] has elements of type object"),
        ({"w": np.zeros(1, np.complex64)}, r"state\['w'\] has elements of type complex64"),
        ({3: 1}, "state has the key 3"),
        ({"w": [2**70]}, r"state\['w'\]\[0\] is an integer of more than 64 bits"),
    ],
)
def test_what_state_cannot_hold_is_not_written(value: object, message: str) -> None:
    with pytest.raises(StateFileError, match=message):
        encoded(value)


def test_a_value_too_long_for_the_format_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluidc.frontend.formats.pickle_writer.MAX_TEXT", 30)
    assert list(write({"w": np.zeros(30, np.int8)}, "state"))
    with pytest.raises(StateFileError, match=r"state\['w'\] takes 31 bytes, this format holds 30"):
        list(write({"w": np.zeros(31, np.int8)}, "state"))


def test_what_holds_itself_is_not_written() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(StateFileError, match="nested deeper than"):
        encoded(value)
