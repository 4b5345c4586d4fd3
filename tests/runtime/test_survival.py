"""What a run meets and lives through: signals, folders that are taken, lost or read-only, clocks that jump, damage.

Deaths and refusing disks are in test_crash.py.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import POISSON

from fluidc.runtime import commands, keeper
from fluidc.runtime.commands import RunArguments
from fluidc.runtime.errors import ArtifactError, CheckpointError, DataError, LedgerError
from fluidc.runtime.keeper import Checkpoints
from fluidc.runtime.ledger import Ledger, read_ledger
from fluidc.runtime.lock import FolderLock, InUse
from fluidc.runtime.progress import StepReport
from fluidc.runtime.session import Session
from fluidc.runtime.signals import STOPPING, StopSignals

PRIVATE = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)
DATA = linear_data(90)
Event = Callable[[StepReport], None]


def plain(batch: int | None = None, **options: Any) -> Session:
    return Session.load(linear_artifact(batch=batch), LinearEngine(), **options)


def private(**options: Any) -> Session:
    return Session.load(linear_artifact(PRIVATE, 64), LinearEngine(PRIVATE), **options)


def weights(session: Session) -> bytes:
    return b"".join(session.model.state[name].tobytes() for name in ("w", "b", "seen"))


def at(step: int, what: Callable[[], object]) -> Event:
    """A callback that does something after one step."""

    def event(report: StepReport) -> None:
        if report.step == step:
            what()

    return event


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.stem[5:]) for path in folder.glob("step-*.safetensors"))


# -- going on exactly -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 20])
@pytest.mark.parametrize("sampler", ["shuffle", "sequential"])
def test_a_run_in_many_pieces_is_the_run_in_one(
    tmp_path: Path, sampler: Literal["shuffle", "sequential"], batch: int | None
) -> None:
    """Epochs of 5 batches (4, where the batch is fixed), cut within them and at their ends; a new seed is ignored."""
    rows = batch or 20
    losses: list[bytes] = []
    whole = plain(batch)
    whole.train(
        DATA, steps=23, batch=rows, sampler=sampler, callback=lambda r: losses.append(r.fetches["loss"].tobytes())
    )
    pieces: list[bytes] = []
    piece = whole
    for seed, end in enumerate((1, 3, 4, 9, 14, 15, 23)):
        piece = plain(batch, seed=7 if seed == 0 else seed)
        piece.train(
            DATA, steps=end, sampler=sampler, resume=True, batch=rows if end == 1 else None,
            checkpoints=Checkpoints(tmp_path, every_steps=4, keep=1),
            callback=lambda r: pieces.append(r.fetches["loss"].tobytes()),
        )  # fmt: skip
    assert pieces == losses
    assert weights(piece) == weights(whole)
    assert steps_in(tmp_path) == [23]


def test_a_checkpoint_needs_no_other_file(tmp_path: Path) -> None:
    first, second, whole = plain(), plain(seed=5), plain()
    path = tmp_path / "alone" / "step-000007.safetensors"
    first.train(DATA, steps=7, batch=20, checkpoints=Checkpoints(tmp_path / "all", every_steps=7))
    path.parent.mkdir()
    shutil.copy(tmp_path / "all" / path.name, path)
    second.resume(path.parent)
    assert (second.model.seed, second.model.course) == (7, first.model.course)
    second.train(DATA, steps=3, batch=20)
    whole.train(DATA, steps=10, batch=20)
    assert weights(second) == weights(whole)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "folder", "hollow header"])
def test_a_damaged_checkpoint_is_passed_over_and_told(tmp_path: Path, damage: str) -> None:
    whole = plain()
    whole.train(DATA, steps=12, batch=20)
    plain().train(DATA, steps=8, batch=20, checkpoints=Checkpoints(tmp_path, every_steps=4))
    newest = tmp_path / "step-000008.safetensors"
    data = newest.read_bytes()
    newest.unlink()
    if damage == "folder":  # somebody else's: no checkpoint is skipped, but one cannot get this name
        newest.mkdir()
    else:
        flipped = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
        hollow = (1 << 20).to_bytes(8, "little") + b"[" * (1 << 20)
        newest.write_bytes({"cut": data[:-5], "empty": b"", "flipped": flipped, "hollow header": hollow}[damage])
    for name in ("notes.txt", "step-9.safetensors", "step-000099.safetensors.part", ".step-000099.safetensors.1.tmp"):
        (tmp_path / name).write_text("of somebody else")
    session = plain()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        session.train(DATA, steps=12, resume=True, checkpoints=Checkpoints(tmp_path, every_steps=4))
    expected = "the checkpoint cannot be written" if damage == "folder" else f"{newest} is skipped"
    assert [str(w.message).split(": ")[0] for w in told] == [expected]
    assert weights(session) == weights(whole)
    assert (tmp_path / "notes.txt").read_text() == "of somebody else"


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", unreadable)
    with pytest.raises(CheckpointError, match="folder cannot be read: Permission denied"):
        plain().resume(tmp_path)


@pytest.mark.parametrize("wrong", ["keep", "every_steps", "every_seconds"])
def test_a_policy_without_sense_is_refused_before_any_step(wrong: str) -> None:
    with pytest.raises(DataError, match=f"{wrong} of the checkpoints is 0"):
        Checkpoints(Path("kept"), **{wrong: 0})


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_clocks_that_jump_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day goes backwards by a year with every look; only the clock that never does decides."""
    day = itertools.count(2**31, -31_536_000)
    monkeypatch.setattr(time, "time", lambda: float(next(day)))
    ticks = itertools.count()
    # The keeper's own name for it: threads of other tests in this process look at the clock, too.
    monkeypatch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    kept = Checkpoints(tmp_path, every_seconds=8.0, keep=99)
    plain().train(DATA, steps=40, batch=20, checkpoints=kept)
    between = np.diff([0, *steps_in(tmp_path)])
    assert len(between) > 3
    assert len(set(between[:-1].tolist())) == 1, "always after as many steps, since each takes as many ticks"


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_signal_in_the_middle_of_a_checkpoint_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, call: str
) -> None:
    real = getattr(os, call)
    calls = 0

    def signalled(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), number)
        return real(*args)

    session, whole = plain(), plain()
    monkeypatch.setattr(os, call, signalled)
    result = session.train(DATA, steps=50, batch=20, checkpoints=Checkpoints(tmp_path, every_steps=2))
    monkeypatch.undo()
    assert result.interrupted
    assert result.checkpoint == tmp_path / f"step-{result.step:06d}.safetensors"
    again = plain()
    again.train(DATA, steps=20, resume=True, checkpoints=Checkpoints(tmp_path))
    whole.train(DATA, steps=20, batch=20)
    assert weights(again) == weights(whole)


def test_a_signal_while_the_ledger_syncs_ends_the_run_with_every_step_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdatasync
    calls = 0

    def signalled(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        real(handle)

    monkeypatch.setattr(os, "fdatasync", signalled)
    result = private().train(DATA, steps=50, run_dir=tmp_path, checkpoints=Checkpoints(tmp_path / "c"))
    assert result.interrupted
    reading = read_ledger(tmp_path)[1]
    assert reading.records[-1].kind == "close"
    assert reading.totals.steps == result.step == steps_in(tmp_path / "c")[-1]


def test_a_signal_that_is_passed_on_twice_is_one_and_a_later_one_acts() -> None:
    def twice(pause: float) -> str:
        with StopSignals(enabled=True) as signals:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.raised
        return signals.name

    assert twice(0.0) == "SIGINT"
    with pytest.raises(KeyboardInterrupt):
        twice(0.6)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_signals_that_are_ignored_stay_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hang_up = at(2, lambda: os.kill(os.getpid(), signal.SIGHUP))
        result = plain().train(DATA, steps=5, checkpoints=Checkpoints(tmp_path), callback=hang_up)
        assert (result.step, result.interrupted) == (5, False)
    finally:
        signal.signal(signal.SIGHUP, before)


def _arguments(tmp_path: Path, **changes: Any) -> RunArguments:
    linear_artifact().write(tmp_path / "linear.fluidc")
    np.savez(tmp_path / "data.npz", **DATA)  # pyright: ignore[reportArgumentType]
    made = RunArguments(tmp_path / "linear.fluidc", tmp_path / "data.npz", steps=30, output=tmp_path / "out.fluidc")
    return replace(made, **changes)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_before_the_first_step_ends_the_command_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)

    def load(artifact: Any, threads: int | None, device: int | None) -> LinearEngine:
        os.kill(os.getpid(), number)
        time.sleep(5)
        raise AssertionError("the signal was swallowed")

    assert commands.run(_arguments(tmp_path), load) == 1
    assert capsys.readouterr().err == "interrupted: steps that no checkpoint and no output holds are lost\n"
    assert signal.getsignal(number) is before
    assert not (tmp_path / "linear.fluidc.run").exists()


def test_a_signal_while_the_result_is_written_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export = Session.export

    def signalled(self: Session, path: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        export(self, path)

    monkeypatch.setattr(Session, "export", signalled)
    assert commands.run(_arguments(tmp_path), lambda *_: LinearEngine()) == 1
    assert f"SIGTERM: stopped after the training; wrote {tmp_path / 'out.fluidc'}" in capsys.readouterr().out
    assert Session.load(tmp_path / "out.fluidc", LinearEngine()).model.state["w"].any()


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_checkpoints_has_one_run_at_a_time(tmp_path: Path) -> None:
    policy = Checkpoints(tmp_path / "kept", every_steps=2)

    def meanwhile() -> None:
        for resume in (False, True):
            with pytest.raises(CheckpointError, match=f"another run, process {os.getpid()}, writes its checkpoints"):
                plain().train(DATA, steps=4, batch=20, checkpoints=policy, resume=resume)
        with pytest.raises(CheckpointError, match="another run"):
            plain().save(policy.directory)
        session.save(policy.directory)  # the run itself may

    session = plain()
    session.train(DATA, steps=6, batch=20, checkpoints=policy, callback=at(3, meanwhile))
    assert steps_in(policy.directory) == [3, 4, 6]
    plain().train(DATA, steps=8, resume=True, checkpoints=policy)  # and the next one after it


def test_runs_that_plan_no_checkpoint_share_a_folder_until_one_needs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Checkpoints(tmp_path / "kept")

    def other() -> None:
        stopped = plain().train(
            DATA, steps=9, batch=20, checkpoints=policy, callback=at(2, lambda: os.kill(os.getpid(), signal.SIGINT))
        )
        assert stopped.unsaved is None
        os.kill(os.getpid(), signal.SIGINT)

    result = plain().train(DATA, steps=9, batch=30, checkpoints=policy, callback=at(4, other))
    assert result.checkpoint is None
    assert result.unsaved is not None
    assert result.unsaved.what == "the checkpoint folder holds an earlier run"
    assert len(steps_in(policy.directory)) == 1
    assert plain().train(DATA, steps=3, checkpoints=Checkpoints(tmp_path / "none")).unsaved is None
    assert not (tmp_path / "none").exists()


def test_locks_of_the_dead_are_free_and_those_of_their_children_are_told(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held = FolderLock(tmp_path)
    held.take()
    for text, told in (
        (str(gone.pid), f"a process that was started by process {gone.pid}, which has ended"),
        ("half a num", "an unknown process"),
        ("9" * 30, f"a process that was started by process {'9' * 30}, which has ended"),
        ("1", "process 1"),
    ):
        (tmp_path / "run.lock").write_text(text)
        with pytest.raises(InUse) as caught:
            FolderLock(tmp_path).take()
        assert str(caught.value) == told
    held.release()
    FolderLock(tmp_path).take()


def test_a_lock_that_was_removed_is_taken_anew(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "kept")
    lock.take()
    shutil.rmtree(lock.folder)
    lock.take()
    with pytest.raises(InUse):
        FolderLock(lock.folder).take()


def test_many_processes_that_start_at_once_are_one_run(tmp_path: Path) -> None:
    """Eight of them on one directory: those that are refused are told who is there; every step is counted once."""
    code = """
        import json, os, sys
        sys.path.insert(0, sys.argv[1])
        from dataclasses import replace
        from pathlib import Path
        from linear_engine import LinearEngine, linear_artifact, linear_data
        from manifests import POISSON
        from fluidc.runtime.errors import FluidcError
        from fluidc.runtime.session import Checkpoints, Session
        spec = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)
        data, run_dir, children = linear_data(90), Path(sys.argv[2]), []
        for _ in range(8):
            child = os.fork()
            if child == 0:
                try:
                    kept = Checkpoints(run_dir / "checkpoints", every_steps=5)
                    session = Session.load(linear_artifact(spec, 64), LinearEngine(spec))
                    taken = session.train(data, steps=60, run_dir=run_dir, checkpoints=kept, resume=True).taken
                    os.write(1, f"{taken}\\n".encode())
                except FluidcError as error:
                    os.write(1, f"{type(error).__name__} {error.what}\\n".encode())
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
    """
    lines = [line[8:] for line in code.splitlines()]
    support = str(Path(__file__).parents[1] / "support")
    command = [sys.executable, "-c", "\n".join(lines), support, str(tmp_path / "run")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    taken = [int(line) for line in said if line.isdecimal()]
    refused = [line for line in said if not line.isdecimal()]
    assert len(said) == 8
    assert sum(taken) == 60 == read_ledger(tmp_path / "run")[1].totals.steps
    assert refused, "eight processes found the folder free one after another"
    for line in refused:
        assert line.startswith(("CheckpointError another run, ", "LedgerError another run, "))


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_private_run_whose_directory_is_lost_takes_no_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("fluidc.runtime.train._MAX_RESERVED", 1)
    run_dir, steps = tmp_path / "run", list[int]()

    def lose() -> None:
        if how == "moved":
            run_dir.rename(tmp_path / "elsewhere")
            return
        shutil.rmtree(run_dir)
        if how == "replaced":
            Ledger.open(run_dir, PRIVATE).close()

    def callback(report: StepReport) -> None:
        steps.append(report.step)
        if report.step == 4:
            lose()

    kept = Checkpoints(tmp_path / "kept", every_steps=2)
    with pytest.raises(LedgerError, match="moved, removed or replaced"):
        private().train(DATA, steps=20, run_dir=run_dir, checkpoints=kept, callback=callback)
    assert steps == [1, 2, 3, 4]
    assert steps_in(kept.directory) == [2, 4]


def test_a_plain_run_whose_folder_is_removed_makes_it_again(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "kept", every_steps=2)
    result = plain().train(
        DATA, steps=7, batch=20, checkpoints=kept, callback=at(5, lambda: shutil.rmtree(kept.directory))
    )
    assert (result.unsaved, steps_in(kept.directory)) == (None, [6, 7])


@pytest.mark.parametrize("kind", ["plain", "private"])
def test_a_folder_that_cannot_be_written_is_refused_before_any_step(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("no folder")
    engine = LinearEngine(PRIVATE if kind == "private" else None)
    artifact = linear_artifact(PRIVATE, 64) if kind == "private" else linear_artifact()
    with pytest.raises(CheckpointError, match="the checkpoint folder cannot be written: "):
        Session.load(artifact, engine).train(
            DATA, steps=3, run_dir=tmp_path / "run" if kind == "private" else None,
            checkpoints=Checkpoints(tmp_path / "file" / "kept", every_steps=1),
        )  # fmt: skip
    assert "step" not in engine.calls
    assert not (tmp_path / "run").exists()


# -- disks that refuse ------------------------------------------------------------------------------------------------


def test_the_command_writes_its_output_although_the_last_checkpoint_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise CheckpointError("the checkpoint cannot be written: No space left on device", "kept", "free some space")

    monkeypatch.setattr(keeper, "save", full)
    arguments = _arguments(tmp_path, checkpoint=tmp_path / "kept", checkpoint_every="4")
    assert commands.run(arguments, lambda *_: LinearEngine()) == 0
    out = capsys.readouterr()
    assert "warning: the checkpoint cannot be written: No space left on device (kept); training goes on" in out.err
    assert (tmp_path / "out.fluidc").exists()
    with pytest.raises(CheckpointError, match="No space left"):
        commands.run(replace(arguments, output=None), lambda *_: LinearEngine())
    stop = {"lots": 0}

    class Interrupted(LinearEngine):
        def call(self, function: str, arguments: Any) -> Any:
            stop["lots"] += function == "step"
            if stop["lots"] == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().call(function, arguments)

    assert commands.run(arguments, lambda *_: Interrupted()) == 1
    text = capsys.readouterr().out
    assert "stopped after step 3; its checkpoint could not be written, there is no other one: the checkpoint" in text


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system takes a part of a record and refuses the rest."""
    monkeypatch.setattr("fluidc.runtime.train._MAX_RESERVED", 1)
    steps: list[int] = []
    kept = Checkpoints(tmp_path / "kept", every_steps=50)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(LedgerError, match="cannot be written: File too large"):
            private().train(DATA, steps=60, run_dir=tmp_path, checkpoints=kept, callback=lambda r: steps.append(r.step))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    reading = read_ledger(tmp_path)[1]
    assert reading.torn
    assert (tmp_path / "ledger.jsonl").stat().st_size == 5000
    assert steps_in(kept.directory) == [reading.totals.steps] == steps[-1:]
    assert private().train(DATA, steps=60, run_dir=tmp_path, checkpoints=kept, resume=True).taken == 60 - steps[-1]
    assert read_ledger(tmp_path)[1].totals.steps == 60


REAL = """
    import json, os, resource, subprocess, sys, warnings
    sys.path.insert(0, sys.argv[1])
    folder = sys.argv[2]
    from dataclasses import replace
    from pathlib import Path
    import numpy as np
    from linear_engine import LinearEngine, linear_artifact, linear_data
    from manifests import POISSON
    from fluidc.runtime.errors import FluidcError
    from fluidc.runtime.session import Checkpoints, Session

    def mount(*options):
        subprocess.run(["mount", *options], check=True, capture_output=True)

    def train(**options):
        counted = []
        try:
            session = Session.load(linear_artifact(spec, 64), LinearEngine(spec))
            kept = Checkpoints(Path(folder, "run", "checkpoints"), every_steps=5)
            result = session.train(
                data, steps=60, run_dir=Path(folder, "run"), checkpoints=kept, resume=True,
                callback=lambda r: counted.append(r.step),
            )
            said = "" if result.unsaved is None else result.unsaved.what
        except FluidcError as error:
            said = f"{type(error).__name__} {error.what}"
        return {"said": said, "steps": counted}

    spec = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)
    data = linear_data(90)
    warnings.simplefilter("ignore")
    found = {}
    try:
        mount("-t", "tmpfs", "-o", "size=48k", "tmpfs", folder)
    except (OSError, subprocess.CalledProcessError) as error:
        print(json.dumps({"skip": str(error)}))
        sys.exit()
    import fluidc.runtime.train as loop
    loop._MAX_RESERVED = 1
    filler = Path(folder, "filler")
    filler.write_bytes(bytes(24 * 1024))
    found["full"] = train()
    filler.unlink()
    mount("-o", "remount,ro", folder)
    found["read-only"] = train()
    mount("-o", "remount,rw,size=4m", folder)
    found["freed"] = train()
    print(json.dumps(found))
"""


def test_on_a_real_small_disk(tmp_path: Path) -> None:
    """It runs full, then it can only be read, then there is space again: no step is taken that is not counted."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs util-linux")
    lines = "\n".join(line[4:] for line in REAL.splitlines())
    support = str(Path(__file__).parents[1] / "support")
    done = subprocess.run(
        [unshare, "--user", "--map-root-user", "--mount", sys.executable, "-c", lines, support, str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("this kernel gives no mounts to users")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if "skip" in found:
        pytest.skip(found["skip"])
    full, read_only, freed = found["full"], found["read-only"], found["freed"]
    assert full["said"] == "LedgerError the privacy ledger cannot be written: No space left on device"
    assert 0 < len(full["steps"]) < 60
    assert read_only == {
        "said": "CheckpointError the checkpoint folder cannot be written: Read-only file system",
        "steps": [],
    }
    assert freed["said"] == ""
    assert freed["steps"][-1] >= 59
    assert freed["steps"][0] <= full["steps"][-1] + 1


@pytest.mark.parametrize("planned", [False, True])
def test_steps_before_a_callback_that_raises_are_kept_where_checkpoints_are_planned(
    tmp_path: Path, planned: bool
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    kept = Checkpoints(tmp_path / "kept", every_steps=100 if planned else None)
    session = plain()
    with pytest.raises(ZeroDivisionError):
        session.train(DATA, steps=9, batch=20, checkpoints=kept, callback=at(4, fail))
    assert (steps_in(kept.directory) if planned else kept.directory.exists()) == ([4] if planned else False)
    session.train(DATA, steps=5, batch=20, checkpoints=kept)  # the folder is free again


@pytest.mark.parametrize("private", [False, True])
def test_a_result_that_cannot_be_written_is_kept_in_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    arguments, spec = _arguments(tmp_path), PRIVATE if private else None
    linear_artifact(spec, 64 if private else None).write(arguments.artifact)

    def choose(artifact: Any, threads: int | None, device: int | None) -> LinearEngine:
        return LinearEngine(spec)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fluidc.runtime.artifact.write_atomically", full)
    folder = tmp_path / "linear.fluidc.run" / "checkpoints"
    with pytest.raises(ArtifactError, match=r"No space left.*[\s\S]*step-000030[\s\S]*the trained state is kept"):
        commands.run(arguments, choose)
    monkeypatch.undo()
    assert steps_in(folder) == [30]
    assert commands.run(replace(arguments, resume=True), choose) == 0
    written = Session.load(arguments.output or "", LinearEngine(spec))
    again = Session.load(arguments.artifact, LinearEngine(spec))
    again.resume(folder)
    assert weights(written)[:16] == weights(again)[:16]
    if private:
        assert read_ledger(tmp_path / "linear.fluidc.run")[1].totals.steps == 30


# -- nobody reads -----------------------------------------------------------------------------------------------------


def test_an_output_that_nobody_reads_is_no_failure_of_the_program(tmp_path: Path) -> None:
    linear_artifact().write(tmp_path / "linear.fluidc")
    command = [sys.executable, "-m", "fluidc.runtime", "inspect", str(tmp_path / "linear.fluidc")]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_the_page_is_written_where_nobody_reads_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    arguments = replace(_arguments(tmp_path), report=tmp_path / "page.html")
    monkeypatch.setattr("builtins.print", closed)
    with pytest.raises(BrokenPipeError):
        commands.run(arguments, lambda *_: LinearEngine())
    assert (tmp_path / "page.html").read_text().startswith("<!")


def test_a_warning_that_nobody_reads_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Closed())
    with commands.plain_warnings() as seen:
        warnings.warn("the disk is full", UserWarning, stacklevel=1)
    assert seen == ["the disk is full"]


def test_checkpoints_of_steps_that_no_ledger_counts_are_refused_before_the_first_one(tmp_path: Path) -> None:
    session = Session.load(linear_artifact(PRIVATE, batch=4), LinearEngine(PRIVATE))
    with pytest.warns(UserWarning, match="fed by the caller"):
        session.run(linear_data(8))
    taken: list[StepReport] = []
    with pytest.raises(LedgerError, match="counted in memory only"):
        session.train(
            DATA, steps=9, run_dir=tmp_path, checkpoints=Checkpoints(tmp_path / "kept", 3), callback=taken.append
        )
    assert not taken
    assert read_ledger(tmp_path)[1].totals.steps == 0


def test_a_disk_that_stays_full_is_told_once_until_it_takes_a_checkpoint_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {2, 4, 6, 10}
    real = keeper.save

    def refusing(model: Any, *arguments: Any, **options: Any) -> Path:
        if model.step in full:
            raise CheckpointError(f"no space at {model.step}", "there", "free some")
        return real(model, *arguments, **options)

    monkeypatch.setattr(keeper, "save", refusing)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plain().train(DATA, steps=12, batch=20, checkpoints=Checkpoints(tmp_path, every_steps=2))
    assert [str(each.message).split(" (")[0] for each in told] == ["no space at 2", "no space at 10"]
