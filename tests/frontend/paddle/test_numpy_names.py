"""Names that numpy dropped are back inside the block, told once, and gone after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.formats.errors import StateFileError
from fluidc.frontend.paddle.numpy_names import RESTORED, is_restored, old_numpy
from fluidc.frontend.paddle.session import Session, noting

# What this numpy still has, but would rather not.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OF_OBJECTS = "np.load of objects without allow_pickle"


@pytest.fixture
def session() -> Iterator[Session]:
    with noting(Session()) as current, old_numpy():
        yield current


def run(text: str) -> Any:
    """The value of ``it`` after a script."""
    names: dict[str, Any] = {"np": np, "__name__": "__main__"}
    exec(compile(text, "user.py", "exec"), names)
    return names["it"]


def test_names_mean_what_they_did(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("it = [np.int, np.float, np.object, np.str]") == [int, float, object, str]
    assert run("it = np.product([2, 3]), np.cumproduct([2, 3]).tolist(), np.sometrue([0, 1]), np.alltrue([0, 1])") == (
        6,
        [2, 6],
        True,
        False,
    )
    assert run("it = np.in1d([[1, 2]], [2]).tolist()") == [False, True]
    assert run("it = np.asscalar(np.float32(2))") == 2.0
    assert run("it = np.zeros(2, np.int).dtype") == np.int64
    assert run("it = [np.cast[np.int0](2.7), np.find_common_type([np.float32], [np.int64, np.float64])]") == [2, "f4"]
    assert run("it = np.issctype(np.int32), np.issctype(list), np.obj2sctype('f4')") == (True, False, np.float32)
    assert run("it = np.NaN != np.NaN and np.Inf > 1 and np.NINF < 0")
    told = capsys.readouterr().err.splitlines()
    assert "note: np.int of older numpy is int in this run (first used at user.py:1)" in told
    assert len(told) == len(set(told)) == len(session.restored)
    assert session.restored["np.int"] == "user.py:1"


def test_every_name_has_a_value(session: Session) -> None:
    for name in RESTORED:
        if is_restored(name):
            assert run(f"it = np.{name}") is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        run("it = np.nothing")


def test_libraries_see_the_numpy_that_there_is(session: Session) -> None:
    names: dict[str, Any] = {"np": np, "__name__": "scipy.linalg"}
    exec("it = hasattr(np, 'float_')", names)
    assert not names["it"]
    assert not session.restored


def test_only_inside_the_block() -> None:
    load = np.load
    with noting(Session()), old_numpy():
        assert np.load is not load
    assert np.load is load
    with pytest.raises(AttributeError):
        run("it = np.int")


@pytest.mark.parametrize(
    "value",
    [
        np.array([[1, "a"], [None, 2.5]], object),
        np.asfortranarray(np.array([[1, "a"], [None, 2.5]], object)),
        np.array([[1, 2], [3]], object),
        np.array({"conv1": [np.ones((2, 3), np.float32), np.zeros(2)], "inner": {"a": 3}}, object),
    ],
    ids=["matrix", "fortran", "lists", "dict"],
)
def test_objects_are_loaded(value: np.ndarray, session: Session, tmp_path: Path) -> None:
    np.save(tmp_path / "it.npy", value, allow_pickle=True)
    np.savez(tmp_path / "it.npz", a=value, b=np.arange(3), allow_pickle=True)
    for found in (np.load(tmp_path / "it.npy"), np.load(str(tmp_path / "it.npz"))["a"]):
        assert found.shape == value.shape
        assert found.dtype == object
        assert repr(found.tolist()) == repr(value.tolist())
    with np.load(str(tmp_path / "it.npz")) as archive:
        assert set(archive.files) >= {"a", "b"}
        np.testing.assert_array_equal(archive["b"], [0, 1, 2])
    assert list(session.restored) == [OF_OBJECTS]


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_code_in_a_file_is_not_run(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("it.npy", np.array([_Harmful()], object), allow_pickle=True)
    with pytest.raises(StateFileError, match=r"posix\.mkdir, which no saved state needs; it was not run"):
        np.load("it.npy")
    assert not Path("harm").exists()


def test_what_the_script_says_itself_holds(session: Session, tmp_path: Path) -> None:
    np.save(tmp_path / "it.npy", np.array([None], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.load(tmp_path / "it.npy", allow_pickle=False)
    assert np.load(tmp_path / "it.npy", allow_pickle=True)[0] is None
    with open(tmp_path / "it.npy", "rb") as file, pytest.raises(ValueError, match="allow_pickle=False"):
        np.load(file)
    assert not session.restored


def test_other_files_are_loaded_as_ever(session: Session, tmp_path: Path) -> None:
    np.save(tmp_path / "it.npy", np.arange(4))
    np.testing.assert_array_equal(np.load(tmp_path / "it.npy", mmap_mode="r"), [0, 1, 2, 3])
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY nothing")
    with pytest.raises(ValueError):
        np.load(tmp_path / "bad.npy")


def test_one_element_is_a_number(session: Session) -> None:
    """As it was before numpy 2.4: ``float(loss)`` of what an Executor returns."""
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        one, two = fluid.layers.fill_constant([1], "float32", 2.5), fluid.layers.fill_constant([2], "int64", 3)
        found, several = fluid.Executor(target="reference").run(fetch_list=[one, two])
    assert (float(found), int(found), "%.1f" % found) == (2.5, 2, "2.5")  # noqa: UP031
    assert isinstance(found, np.ndarray)
    assert (repr(found), str(found)) == ("array([2.5], dtype=float32)", "[2.5]")
    assert (repr(several), str(several[:1])) == ("array([3, 3])", "[3]")
    assert [float(row) for row in several.reshape(2, 1)] == [3, 3]
    assert "float() of an array of one element" in session.restored
    with pytest.raises(TypeError, match="only size-1 arrays"):
        float(several)
