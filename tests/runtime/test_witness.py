from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path

import pytest
from manifests import POISSON, SHUFFLE

from fluidc.runtime.errors import PrivacyWarning
from fluidc.runtime.ledger import Ledger
from fluidc.runtime.witness import state_folder


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUIDC_STATE", str(tmp_path / "state"))


def trained(run_dir: Path, steps: int = 5) -> None:
    with Ledger.open(run_dir, POISSON) as ledger:
        for _ in range(steps):
            ledger.step()


def told(run_dir: Path) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trained(run_dir, 1)
    assert all(issubclass(warning.category, PrivacyWarning) for warning in found)
    return [str(warning.message) for warning in found]


def test_a_ledger_that_goes_on_is_not_doubted(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    assert told(tmp_path / "run") == []
    (tmp_path / "run").rename(tmp_path / "moved")
    assert told(tmp_path / "moved") == []
    assert told(tmp_path / "another") == [], "other runs of one artifact are other ledgers"


def test_a_ledger_that_was_put_back_is_told_once(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    trained(run_dir)
    shutil.copytree(run_dir, tmp_path / "backup")
    trained(run_dir)
    shutil.rmtree(run_dir)
    shutil.copytree(tmp_path / "backup", run_dir)
    (text,) = told(run_dir)
    assert text.startswith(
        f"the privacy ledger {run_dir / 'ledger.jsonl'} counts 5 steps, and this machine has seen it"
    )
    assert "with 10: it was put back from a copy, or is one" in text
    assert told(run_dir) == []


def test_a_ledger_of_which_two_copies_go_on_is_told(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    trained(tmp_path / "run")
    (text,) = told(tmp_path / "copy")
    assert "or is one" in text
    (text,) = told(tmp_path / "run")
    assert "has seen it with 6" in text


def test_a_ledger_that_is_gone_is_told(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    (text,) = told(tmp_path / "run")
    assert text.startswith(f"5 steps of this artifact were counted in {tmp_path / 'run' / 'ledger.jsonl'}, and that")
    assert told(tmp_path / "run") == []
    shutil.rmtree(tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ledger.open(tmp_path / "run", SHUFFLE).close()  # another artifact's never was there


def test_while_a_run_goes_on_it_is_seen_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    ledger = Ledger.open(tmp_path / "run", POISSON)
    (file,) = (tmp_path / "state").rglob("*.json")
    for seconds, steps in ((0, 0), (59, 0), (2, 3), (30, 3)):
        now[0] += seconds
        ledger.step()
        assert f'"steps": {steps}' in file.read_text()
    ledger.close()
    assert '"steps": 4' in file.read_text()


@pytest.mark.parametrize("content", [b"", b"{", b'{"format_version": 2}', b"[" * 100_000, b"\xff" * 100])
def test_what_is_remembered_wrongly_is_not_believed(tmp_path: Path, content: bytes) -> None:
    trained(tmp_path / "run")
    (file,) = (tmp_path / "state").rglob("*.json")
    file.write_bytes(content)
    assert told(tmp_path / "run") == []


def test_nothing_is_remembered_where_that_is_not_wanted_or_not_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUIDC_STATE", "")
    assert state_folder() is None
    trained(tmp_path / "run")
    assert not (tmp_path / "state").exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLUIDC_STATE", str(tmp_path / "file"))
    assert told(tmp_path / "run") == []


def test_where_it_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUIDC_STATE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == tmp_path / ".local" / "state" / "fluidc"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    trained(tmp_path / "run")
    (file,) = (tmp_path / "xdg").rglob("*.json")
    assert file.parent == tmp_path / "xdg" / "fluidc" / "ledgers" / POISSON.sha256()
    assert file.parent.stat().st_mode & 0o777 == 0o700
