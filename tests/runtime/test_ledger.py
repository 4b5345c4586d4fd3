from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from manifests import POISSON, SHUFFLE

from fluidc.runtime.errors import BudgetError, LedgerError
from fluidc.runtime.ledger import Ledger, Position, read_ledger
from fluidc.runtime.ledger_records import Record

HERE = Path(__file__).parent


def _lines(run_dir: Path) -> list[bytes]:
    return (run_dir / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def _kinds(run_dir: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in _lines(run_dir)]


def _python(*args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "support")}
    command = [sys.executable, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_steps_are_numbered_counted_and_closed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "a" / "run", POISSON) as ledger:
        assert [ledger.step() for _ in range(3)] == [0, 1, 2]
        assert (ledger.steps, ledger.begun) == (3, 3)
    with Ledger.open(tmp_path / "a" / "run", POISSON) as ledger:
        assert ledger.step() == 3
    assert _kinds(tmp_path / "a" / "run") == [
        *("open", "reserve", "reserve", "reserve", "close"),
        *("open", "reserve", "close"),
    ]
    spec, reading = read_ledger(tmp_path / "a" / "run")
    assert spec == POISSON
    assert reading.totals.steps == 4


def test_a_record_has_the_fields_of_the_specification(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        ledger.step(ahead=5)
    first, second, _ = (json.loads(line) for line in _lines(tmp_path))
    assert set(second) == {"seq", "run", "kind", "first", "count", "epoch", "note", "prev", "hash"}
    assert first["prev"] == POISSON.sha256()
    assert second["prev"] == first["hash"]
    assert (second["kind"], second["first"], second["count"]) == ("reserve", 0, 5)


def test_a_reservation_is_durable_before_step_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(tmp_path, POISSON)
    calls: list[str] = []

    def spy(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*args: object) -> object:
            calls.append(name)
            return original(*args)

        return call

    monkeypatch.setattr(os, "write", spy("write"))
    monkeypatch.setattr(os, "fdatasync", spy("fdatasync"))
    ledger.step()
    assert calls == ["write", "fdatasync"]
    assert len(_lines(tmp_path)) == 2
    ledger.close()


def test_close_returns_what_was_reserved_and_not_begun(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        for _ in range(5):
            ledger.step(ahead=4)
        assert ledger.steps == 8
    assert ledger.steps == 5
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert ledger.steps == 5
        assert ledger.step() == 5


def test_an_exception_closes_with_the_steps_begun(tmp_path: Path) -> None:
    def fail() -> None:
        with Ledger.open(tmp_path, POISSON) as ledger:
            ledger.step(ahead=10)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        fail()
    assert read_ledger(tmp_path)[1].totals.steps == 1


def test_a_run_that_never_closed_keeps_its_reservations(tmp_path: Path) -> None:
    crashed = Ledger.open(tmp_path, POISSON)
    crashed.step(ahead=10)
    crashed._log.release()  # pyright: ignore[reportPrivateUsage]  # as the system does when a process dies
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert ledger.steps == 10
        assert ledger.step() == 10
    assert ledger.steps == 11


def test_the_budget_of_steps_is_the_end(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        for _ in range(100):
            ledger.step(ahead=7)
        before = _lines(tmp_path)
        with pytest.raises(BudgetError, match="budget of 100 steps is used up"):
            ledger.step(ahead=7)
        assert _lines(tmp_path) == before
        assert ledger.spent().so_far == ledger.spent().budget == POISSON.epsilon(100, 1e-5)
    with Ledger.open(tmp_path, POISSON) as ledger, pytest.raises(BudgetError):
        ledger.step()


def test_the_budget_of_epochs_is_the_end(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, SHUFFLE) as ledger:
        for epoch in (0, 0, 0, 1):
            ledger.step(epoch, ahead=2)
        assert ledger.epochs == 2
        assert ledger.spent().so_far == SHUFFLE.epsilon(2, 1e-5)
    with Ledger.open(tmp_path, SHUFFLE) as ledger:
        ledger.step(0)  # a new run draws a new permutation: a new counted epoch
        assert ledger.epochs == 3
        with pytest.raises(BudgetError, match="budget of 3 epochs is used up"):
            ledger.step(1)


def test_a_new_epoch_may_use_the_last_reserved_step(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, replace(SHUFFLE, max_steps=4)) as ledger:
        assert [ledger.step(epoch, ahead=4) for epoch in (0, 0, 0, 1)] == [0, 1, 2, 3]
        assert ledger.epochs == 2
        with pytest.raises(BudgetError, match="4 steps"):
            ledger.step(1)


def test_another_artifact_is_refused(tmp_path: Path) -> None:
    Ledger.open(tmp_path, POISSON).close()
    before = _lines(tmp_path)
    with pytest.raises(LedgerError, match="belongs to another artifact"):
        Ledger.open(tmp_path, replace(POISSON, sigma=1.2))
    assert _lines(tmp_path) == before
    assert read_ledger(tmp_path)[0] == POISSON


def test_a_second_run_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        ledger.step()
        code = (
            "import sys; from fluidc.runtime.ledger import Ledger, LedgerError; from manifests import POISSON\n"
            "try: Ledger.open(sys.argv[1], POISSON)\n"
            "except LedgerError as error: print(error.what)\n"
        )
        other = _python("-c", code, str(tmp_path))
        said, _ = other.communicate(timeout=60)
        assert said.strip() == f"another run, process {os.getpid()}, is using this run directory"
        with pytest.raises(LedgerError, match="is using this run directory"):
            Ledger.open(tmp_path, POISSON)
        ledger.step()
    assert _kinds(tmp_path) == ["open", "reserve", "reserve", "close"]


@pytest.mark.parametrize("cut", [1, 2, 40, 10_000])
def test_a_torn_last_record_is_dropped(tmp_path: Path, cut: int) -> None:
    crashed = Ledger.open(tmp_path, POISSON)
    crashed.step()
    crashed.step()
    crashed._log.release()  # pyright: ignore[reportPrivateUsage]
    whole = _lines(tmp_path)
    torn = whole[-1][: max(1, len(whole[-1]) - cut)]
    (tmp_path / "ledger.jsonl").write_bytes(b"".join(whole[:-1]) + torn)
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert ledger.steps == 1
    assert b"".join(_lines(tmp_path)).startswith(b"".join(whole[:-1]))
    assert read_ledger(tmp_path)[1].torn is False


def test_a_last_record_with_a_bad_hash_is_dropped(tmp_path: Path) -> None:
    crashed = Ledger.open(tmp_path, POISSON)
    crashed.step()
    crashed._log.release()  # pyright: ignore[reportPrivateUsage]
    whole = b"".join(_lines(tmp_path))
    (tmp_path / "ledger.jsonl").write_bytes(whole.replace(b'"count": 1', b'"count": 0'))
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert ledger.steps == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [lines[0], lines[1].replace(b'"count": 1', b'"count": 0'), *lines[2:]], "hash does not"),
        (lambda lines: [lines[0], *lines[2:]], "chain of hashes"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "another artifact"),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], "not readable JSON"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], "chain of hashes"),
        (lambda lines: [lines[0][:30] + b"\n", *lines[1:]], "not readable JSON"),
    ],
)
def test_damage_elsewhere_is_refused(
    tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]], message: str
) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        ledger.step()
        ledger.step()
    damaged = b"".join(damage(_lines(tmp_path)))
    (tmp_path / "ledger.jsonl").write_bytes(damaged)
    with pytest.raises(LedgerError, match=message) as caught:
        Ledger.open(tmp_path, POISSON)
    assert "line" in str(caught.value.where)
    assert (tmp_path / "ledger.jsonl").read_bytes() == damaged


def _reserved(record: Record) -> Record:
    """A reservation, well formed and hashed, that follows ``record``."""
    return Record(record.seq + 1, record.run, "reserve", record.first + record.count, 1, 0, "", record.sha256())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "close", "count": 5}, "closes 5 of 1 reserved steps"),
        ({"first": 0}, "counts 0 steps, the records before count 1"),
        ({"prev": "0" * 64}, "chain of hashes"),
        ({"seq": 7}, "chain of hashes"),
        ({"run": "another"}, "the run 'another' is not the open one"),
    ],
)
def test_forged_records_are_refused_even_with_good_hashes(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        ledger.step()
        opened, reserved = ledger.records
    forged = replace(_reserved(reserved), **changes)
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(opened.line() + reserved.line() + forged.line() + _reserved(forged).line())
    with pytest.raises(LedgerError, match=message):
        Ledger.open(tmp_path, POISSON)
    honest = _reserved(reserved)
    path.write_bytes(opened.line() + reserved.line() + honest.line() + _reserved(honest).line())
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert ledger.steps == 3


@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_write_the_ledger_stays_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    ledger = Ledger.open(tmp_path, POISSON)
    ledger.step()
    calls = 0

    def fail(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(LedgerError, match=os.strerror(code)):
        ledger.step()
    assert calls == 1
    monkeypatch.undo()
    with pytest.raises(LedgerError, match="takes no more steps: an earlier write failed"):
        ledger.step()
    ledger.close()
    assert "close" not in _kinds(tmp_path)
    with Ledger.open(tmp_path, POISSON) as after:
        assert after.steps >= 1


def _interrupt(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise KeyboardInterrupt out of the next append, ``moment`` of it."""
    name = "fdatasync" if "sync" in moment else "write"
    original = getattr(os, name)

    def interrupted(handle: int, *data: bytes) -> None:
        if moment == "half way through the write":
            original(handle, data[0][:20])
        elif moment.startswith("after"):
            original(handle, *data)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, name, interrupted)


MOMENTS = (
    "before the write",
    "half way through the write",
    "after the write",
    "before fdatasync",
    "after fdatasync",
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_while_a_record_is_written_stops_the_ledger_and_loses_no_step(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(tmp_path, POISSON)
    begun = [ledger.step(ahead=2) for _ in range(2)]
    _interrupt(moment, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        ledger.step()
    monkeypatch.undo()
    on_disk = (tmp_path / "ledger.jsonl").read_bytes()
    with pytest.raises(LedgerError, match="takes no more steps: an earlier write was interrupted"):
        ledger.step()
    with pytest.raises(LedgerError, match="was interrupted"):
        ledger.check_usable()
    ledger.close()
    assert (tmp_path / "ledger.jsonl").read_bytes() == on_disk
    with Ledger.open(tmp_path, POISSON) as after:
        assert len(begun) <= after.steps <= len(begun) + 1
        assert after.step() == after.steps - 1
    assert read_ledger(tmp_path)[1].totals.steps == after.steps


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_while_a_run_is_closed_keeps_what_was_reserved(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(tmp_path, POISSON)
    ledger.step(ahead=5)
    _interrupt(moment, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        ledger.close()
    monkeypatch.undo()
    ledger.close()
    with Ledger.open(tmp_path, POISSON) as after:  # the lock is free
        assert after.steps in (1, 5)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_while_a_ledger_is_opened_frees_the_lock(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        ledger.step()
    _interrupt(moment, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Ledger.open(tmp_path, POISSON)
    monkeypatch.undo()
    with Ledger.open(tmp_path, POISSON) as after:
        assert after.steps == 1


def test_an_interrupt_between_two_runs_stops_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(tmp_path, POISSON)
    ledger.step()

    def interrupted(_: int) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("fluidc.runtime.ledger.secrets.token_hex", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.void("user-fed")
    monkeypatch.undo()
    with pytest.raises(LedgerError, match="the change of runs was interrupted"):
        ledger.step()
    ledger.close()
    assert _kinds(tmp_path) == ["open", "reserve", "close"]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(tmp_path, POISSON)
    original = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: original(handle, data[:11]))
    ledger.step()
    ledger.close()
    assert read_ledger(tmp_path)[1].totals.steps == 1


def test_every_new_name_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    original = os.fsync

    def spy(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        original(handle)

    monkeypatch.setattr(os, "fsync", spy)
    Ledger.open(tmp_path / "a" / "b", POISSON).close()
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(synced)


def test_a_checkpoint_is_bound_to_its_record(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "run", POISSON) as ledger:
        ledger.step()
        position = ledger.position
        ledger.step()
    early = b"".join(_lines(tmp_path / "run")[: position.seq])
    with Ledger.open(tmp_path / "run", POISSON, resume=position) as ledger:
        assert ledger.step() == 2
    for resume in (Position(position.seq, "0" * 64), Position(999, position.sha256)):
        with pytest.raises(LedgerError, match="does not count"):
            Ledger.open(tmp_path / "run", POISSON, resume=resume)
    (tmp_path / "run" / "ledger.jsonl").write_bytes(early)
    with pytest.raises(LedgerError, match="does not count"):
        Ledger.open(tmp_path / "run", POISSON, resume=position)
    with pytest.raises(LedgerError, match="does not count"):
        Ledger.open(tmp_path / "gone", POISSON, resume=position)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("void", "reason"), [("seeded", "none (seeded)"), ("user-fed", "unknown: lots were fed by the caller")]
)
def test_void_runs_end_epsilon_for_good(tmp_path: Path, void: str, reason: str) -> None:
    with Ledger.open(tmp_path, POISSON, void=void) as ledger:  # pyright: ignore[reportArgumentType]
        ledger.step()
        assert (ledger.spent().budget, ledger.spent().so_far) == (None, None)
    with Ledger.open(tmp_path, POISSON) as ledger:
        spent = ledger.spent()
    assert (spent.steps, spent.budget, spent.so_far, spent.reason) == (1, None, None, reason)


def test_a_run_may_become_void(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert ledger.step(ahead=4) == 0
        assert ledger.spent().so_far is not None
        ledger.void("user-fed")
        assert ledger.spent().reason == "unknown: lots were fed by the caller"
        assert ledger.steps == 1, "the run that ended gave back what it had reserved"
        assert ledger.step() == 1
    assert _kinds(tmp_path) == ["open", "reserve", "close", "open", "reserve", "close"]
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert (ledger.steps, ledger.spent().so_far) == (2, None)


def test_without_accounting_steps_count_and_epsilon_is_unknown() -> None:
    spec = replace(
        POISSON, accounting="none", reason="unknown: dataset_size not stated", table=(), q_num=None, max_steps=None
    )
    with Ledger.in_memory(spec) as ledger:
        for _ in range(150):
            ledger.step()
        spent = ledger.spent()
    assert (spent.steps, spent.budget, spent.reason) == (150, None, "unknown: dataset_size not stated")


def test_taints_are_kept(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        ledger.taint("early stopping on the private loss")
    with Ledger.open(tmp_path, POISSON) as ledger:
        assert ledger.spent().taints == ("early stopping on the private loss",)
        assert ledger.spent().budget is not None


def test_in_memory_counts_and_refuses_like_a_file() -> None:
    with Ledger.in_memory(POISSON) as ledger:
        assert [ledger.step(ahead=30) for _ in range(100)] == list(range(100))
        with pytest.raises(BudgetError):
            ledger.step()
    with pytest.raises(LedgerError, match="takes no more steps: closed"):
        ledger.step()


def test_epsilon_at_another_delta() -> None:
    with Ledger.in_memory(POISSON) as ledger:
        ledger.step()
        assert ledger.spent(1e-6).budget == POISSON.epsilon(100, 1e-6)
        with pytest.raises(BudgetError):
            ledger.spent(1e-9)


def test_a_forked_child_cannot_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(tmp_path, POISSON) as ledger:
        ledger.step()
        parent = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: parent + 1)
        with pytest.raises(LedgerError, match="opened by another process"):
            ledger.check_usable()
        with pytest.raises(LedgerError, match="opened by another process"):
            ledger.step()
        ledger.close()
        monkeypatch.undo()
        assert ledger.step() == 1
    assert _kinds(tmp_path) == ["open", "reserve", "reserve", "close"]


def test_a_directory_without_a_ledger_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        read_ledger(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LedgerError, match="cannot be written"):
        Ledger.open(tmp_path / "file" / "run", POISSON)
