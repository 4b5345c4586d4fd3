"""Archives, folders and arrays as data sets: what is mapped, what is read, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_engine import LinearEngine, linear_artifact, linear_data, linear_manifest
from numpy.typing import NDArray

from fluidc.runtime import archives, feeds
from fluidc.runtime.columns import parse_columns
from fluidc.runtime.data import DataSet, load_data, open_arrays
from fluidc.runtime.errors import DataError
from fluidc.runtime.feeds import FeedCheck
from fluidc.runtime.manifest import FeedSpec
from fluidc.runtime.progress import Counted
from fluidc.runtime.session import Session

Array = NDArray[Any]

ARRAYS: dict[str, Array] = {
    "x": np.arange(24, dtype=np.float32).reshape(4, 6),
    "columns": np.asfortranarray(np.arange(12, dtype=np.float64).reshape(4, 3)),
    "label": np.arange(4),
    "empty": np.zeros((0, 3), np.int8),
    "one": np.array(3, np.int32),
}


def save_npz(path: Path, arrays: dict[str, Array], *, compressed: bool = False) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def save_folder(path: Path, arrays: dict[str, Array]) -> Path:
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


@pytest.fixture(params=["read", "mapped"])
def mapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether files of any size are mapped."""
    if request.param == "mapped":
        monkeypatch.setattr(archives, "MAPPED_BYTES", 1)
    return request.param == "mapped"


@pytest.mark.parametrize("form", ["npz", "compressed", "folder"])
def test_arrays_are_what_was_saved(form: str, mapped: bool, tmp_path: Path) -> None:
    if form == "folder":
        path = save_folder(tmp_path / "data", ARRAYS)
        (path / "README.txt").write_text("not an array")
    else:
        path = save_npz(tmp_path / "data.npz", ARRAYS, compressed=form == "compressed")
    found = open_arrays(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    # What is mapped cannot be written; what was read can, and is where engines read it without a copy.
    assert found["x"].flags.writeable == (not mapped or form == "compressed")


def test_rows_are_taken_from_anywhere_in_memory(mapped: bool, tmp_path: Path) -> None:
    """Members of an archive begin at odd places, so their elements are not aligned there."""
    arrays = {"x": np.random.default_rng(1).random((50, 7)), "y": np.arange(50)}
    found = open_arrays(save_npz(tmp_path / "data.npz", arrays))
    assert found["x"].flags.aligned != mapped
    checks = [FeedCheck(FeedSpec("x", "f64", ("N", 7))), FeedCheck(FeedSpec("y", "i64", ("N",)))]
    data = DataSet(checks, found, "data")
    for indices in ([3, 1, 49], [], list(range(50))):
        taken = data.take(np.array(indices, np.int64))
        for name, array in taken.items():
            np.testing.assert_array_equal(array, arrays[name][indices])
            assert array.flags.aligned
            assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_lie_on_any_axis_and_in_any_order(axis: int, order: Any) -> None:
    array = np.array(np.arange(60).reshape(6, 10), order=order)
    shape: tuple[int | str, ...] = ("N", 10) if axis == 0 else (6, "N")
    data = DataSet([FeedCheck(FeedSpec("x", "i64", shape))], {"x": array}, "data")
    indices = np.array([4, 0, 5])
    np.testing.assert_array_equal(data.take(indices)["x"], np.take(array, indices, axis))
    np.testing.assert_array_equal(data.slice(1, 3)["x"], array[1:3] if axis == 0 else array[:, 1:3])


def test_training_is_the_same_from_every_form(mapped: bool, tmp_path: Path) -> None:
    data = linear_data(90)
    forms = {
        "arrays": data,
        "npz": save_npz(tmp_path / "a.npz", data),
        "compressed": save_npz(tmp_path / "b.npz", data, compressed=True),
        "folder": save_folder(tmp_path / "c", data),
    }
    found = {}
    for name, source in forms.items():
        session = Session.load(linear_artifact(), LinearEngine())
        session.train(source, epochs=3, batch=16)
        found[name] = session.model.state["w"].tobytes(), session.evaluate(source).values
    assert len(set(map(str, found.values()))) == 1, found


def damaged(path: Path, where: int, value: bytes) -> Path:
    text = bytearray(path.read_bytes())
    text[where : where + len(value)] = value
    path.write_bytes(text)
    return path


def test_damaged_archives_are_refused(mapped: bool, tmp_path: Path) -> None:
    whole = save_npz(tmp_path / "whole.npz", {"x": np.zeros((64, 8), np.float32)}).read_bytes()
    at = whole.index(b"(64, 8)")
    for number, (start, value) in enumerate(
        [
            (at, b"(65, 8)"), (at, b"(64,-8)"), (at, b"(6e,88)"), (whole.index(b"<f4"), b"|O4"),
            (whole.index(b"<f4"), b"<f8"), (whole.index(b"NUMPY\x01"), b"NUMPX\x01"),
            (whole.index(b"NUMPY\x01") + 5, b"\x09"),
        ]
    ):  # fmt: skip
        path = tmp_path / f"{number}.npz"
        path.write_bytes(whole)
        with pytest.raises(DataError, match=r"not a \.npz archive of plain arrays"):
            archives.read_npz(damaged(path, start, value))
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"not a \.npz archive"):
        archives.read_npz(cut)
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("x.txt", "hello")
    with pytest.raises(DataError, match=r"its member 'x.txt' is no array"):
        archives.read_npz(tmp_path / "text.npz")
    file = save_folder(tmp_path / "folder", {"x": ARRAYS["x"]}) / "x.npy"
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.write(file, "x.npy")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.write(file, "x.npy")
    with pytest.raises(DataError, match="it holds 'x' twice"):
        archives.read_npz(tmp_path / "twice.npz")


def test_a_changed_byte_of_a_small_archive_is_noticed(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "data.npz", {"x": np.arange(64)})
    archives.read_npz(path)
    with pytest.raises(DataError, match="Bad CRC-32"):
        archives.read_npz(damaged(path, path.read_bytes().index(np.arange(64).tobytes()) + 9, b"\xff"))


def test_folders_that_hold_no_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.npy file"):
        open_arrays(tmp_path / "empty")
    folder = save_folder(tmp_path / "cut", {"x": ARRAYS["x"]})
    os.truncate(folder / "x.npy", 150)
    with pytest.raises(DataError, match="22 bytes follow a header that announces 96") as caught:
        open_arrays(folder)
    assert str(caught.value.where).endswith("x.npy")
    with pytest.raises(DataError, match="does not exist"):
        open_arrays(tmp_path / "nothing")


def test_what_is_compressed_and_large_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_npz(tmp_path / "data.npz", {"x": np.zeros((100, 100))}, compressed=True)
    monkeypatch.setattr(archives, "MEMORY_BYTES", 1000)
    with pytest.raises(DataError, match="is compressed") as caught:
        archives.read_npz(path)
    assert "python -m zipfile -e" in (caught.value.hint or "")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", path, tmp_path / "folder"], check=True)
    np.testing.assert_array_equal(open_arrays(tmp_path / "folder")["x"], np.zeros((100, 100)))


def test_labels_are_checked_in_parts_and_the_row_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_CHECKED_BYTES", 80)
    check = FeedCheck(FeedSpec("label", "i64", ("N", 1), 0, 10))
    labels = np.arange(100).reshape(100, 1) % 10
    told: list[tuple[str, int, int]] = []
    check.accept(labels, lambda *part: told.append(part))
    assert told[0] == ("checking 'label'", 10, 100)
    assert told[-1] == ("checking 'label'", 100, 100)
    assert len(told) == 10
    labels[73] = -1
    with pytest.raises(DataError, match="holds -1 in row 73"):
        check.accept(labels)
    labels[73], labels[99] = 3, 10
    with pytest.raises(DataError, match="holds 10 in row 99"):
        check.accept(labels)


def test_long_work_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    told: list[str] = []
    counted = Counted(told.append)
    for second in (1.0, 2.5, 3.0, 5.0):
        now[0] = second
        counted("reading", int(10 * second), 100 if second < 4 else 0)
    assert told == ["reading: 25 %", "reading: 50 rows"]


def test_columns_of_arrays_are_refused(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "data.npz", linear_data(9))
    with pytest.raises(DataError, match="the data is no table"):
        load_data(path, linear_manifest(), "step", parse_columns(["x=a"]))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_data_larger_than_memory_trains(tmp_path: Path) -> None:
    """600 MB of rows in a process that may have 400 MB, shuffled."""
    rows, width = 50_000, 3000
    folder = save_folder(tmp_path / "data", {"label": np.ones((rows, 1), np.int64), "y": np.ones((rows, 1), "f4")})
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, width))  # sparse: takes no room
    x[:9] = 1
    del x
    script = f"""
    import resource, sys
    import linear_engine
    import numpy as np
    from fluidc.runtime.session import Session
    linear_engine.D = {width}
    resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))
    session = Session.load(linear_engine.linear_artifact(), linear_engine.LinearEngine())
    result = session.train(sys.argv[1], steps=20, batch=64, prefetch=True)
    assert result.examples == 1280
    try:
        np.load(sys.argv[1] + "/x.npy")
    except MemoryError:
        print("does not fit")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), folder],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support"), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "does not fit\n"
