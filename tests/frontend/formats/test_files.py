"""Files of state are written together or not at all, and read only where they are files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fluidc.frontend.formats.errors import StateFileError
from fluidc.frontend.formats.files import read_file, write_files


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_and_folders_are_made(tmp_path: Path) -> None:
    write_files({tmp_path / "a" / "b" / "c": [b"1", b"", memoryview(b"23")], tmp_path / "d": []})
    assert contents(tmp_path) == {"a/b/c": b"123", "d": b""}
    write_files({tmp_path / "d": [b"new"]})
    assert contents(tmp_path) == {"a/b/c": b"123", "d": b"new"}


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_files({file: [b"1"]})
    for mode in (0o600, 0o640, 0o666):
        file.chmod(mode)
        write_files({file: [b"2"]})
        assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.parametrize("length", [250, 300])
def test_a_name_too_long_is_said(length: int, tmp_path: Path) -> None:
    with pytest.raises(StateFileError, match="too long"):
        write_files({tmp_path / "a": [b"new"], tmp_path / ("x" * length): [b"new"]})
    assert contents(tmp_path) == {}


def failing() -> Iterator[bytes]:
    yield b"half"
    raise OSError(28, "No space left on device")


def interrupted() -> Iterator[bytes]:
    yield b"half"
    raise KeyboardInterrupt


@pytest.mark.parametrize(("chunks", "error"), [(failing, StateFileError), (interrupted, KeyboardInterrupt)])
def test_a_failure_while_writing_changes_nothing(
    chunks: Callable[[], Iterator[bytes]], error: type[BaseException], tmp_path: Path
) -> None:
    write_files({tmp_path / "a": [b"old"]})
    with pytest.raises(error):
        write_files({tmp_path / "a": [b"new"], tmp_path / "b": chunks()})
    assert contents(tmp_path) == {"a": b"old"}


def test_a_failure_while_naming_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call that gives a file its name fails once; nothing is left over."""
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == fails:
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    for fails in (1, 2, 3):
        folder = tmp_path / str(fails)
        calls = -10
        write_files({folder / "a": [b"old a"], folder / "c": [b"old c"]})
        calls = 0
        with pytest.raises(StateFileError, match="files that were there are as before"):
            write_files({folder / "a": [b"new"], folder / "b": [b"new"], folder / "c": [b"new"]})
        assert contents(folder) == {"a": b"old a", "c": b"old c"}


def test_a_file_system_without_second_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    write_files({tmp_path / "a": [b"old"]})
    write_files({tmp_path / "a": [b"new"]})
    assert contents(tmp_path) == {"a": b"new"}


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(StateFileError, match="there is a folder of that name"):
        write_files({tmp_path / "a": [b"new"]})


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "this is not a file"),
        (tmp_path, "this is not a file"),
        (Path("/dev/zero"), "this is not a file"),
        (tmp_path / "missing", "cannot be read: No such file"),
    ):
        with pytest.raises(StateFileError, match=message):
            read_file(path)
