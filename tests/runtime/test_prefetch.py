"""Batches made ahead: the same as without, never before their step is reserved, and no thread is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import POISSON, SHUFFLE

from fluidc.runtime import train
from fluidc.runtime.artifact import PrivacySpec
from fluidc.runtime.data import DataSet
from fluidc.runtime.ledger import Ledger, read_ledger
from fluidc.runtime.prefetch import Prefetcher, Trial
from fluidc.runtime.sampler import PoissonSampler, SliceSampler
from fluidc.runtime.session import Checkpoints, Session

PRIVATE = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)
SECRET = b"test"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def plain() -> Session:
    return Session.load(linear_artifact(), LinearEngine())


def private(spec: PrivacySpec = PRIVATE) -> Session:
    with pytest.warns(UserWarning, match="no privacy guarantee"):
        return Session.load(linear_artifact(spec, 16), LinearEngine(spec), insecure_noise_key=SECRET)


def state(session: Session) -> bytes:
    model = session.model
    return b"".join(array.tobytes() for array in model.state.values()) + repr((model.step, model.sampler)).encode()


# What is made, and when ------------------------------------------------------------------------------------


def test_things_are_made_in_order_and_one_at_a_time() -> None:
    made: list[tuple[int, str]] = []
    ahead = Prefetcher[int](enabled=True)

    def make() -> int:
        made.append((len(made), threading.current_thread().name))
        return len(made)

    assert ahead.take(make) == 1
    for number in range(2, 6):
        ahead.start(make)
        assert ahead.waiting
        assert ahead.take(make) == number
    assert [name.startswith("prefetch") for _, name in made] == [False, True, True, True, True]
    ahead.start(make)
    ahead.close()
    assert not ahead.waiting
    assert not threads()


def test_an_error_comes_from_where_it_was_raised() -> None:
    def broken() -> int:
        raise OSError("the disk is gone")

    ahead = Prefetcher[int](enabled=True)
    ahead.start(broken)
    with pytest.raises(OSError, match="the disk is gone") as caught:
        ahead.take(broken)
    assert caught.traceback[-1].name == "broken"
    assert "gathered ahead" in caught.value.__notes__[0]
    ahead.start(broken)
    ahead.close()  # an error that nobody waits for is nobody's
    assert not threads()


@pytest.mark.parametrize("faster", [True, False])
def test_the_faster_way_is_kept(faster: bool) -> None:
    now = 0.0
    trial = Trial(lambda: now)
    ways: list[bool] = []
    for _ in range(3000):
        trial.tick()
        ways.append(trial.ahead)
        now += 1.0 if trial.ahead == faster else 1.1
    assert ways.count(faster) > 0.95 * len(ways)
    assert set(ways) == {True, False}  # both are tried


def test_what_takes_no_time_is_made_where_it_is_needed() -> None:
    ahead = Prefetcher[int]()
    for _ in range(20):
        ahead.take(lambda: 1)
        assert not ahead.worthwhile


def test_a_way_that_is_far_slower_is_given_up_at_once() -> None:
    now = 0.0
    trial = Trial(lambda: now)
    slow = 0
    for _ in range(100):
        trial.tick()
        slow += trial.ahead
        now += 3.0 if trial.ahead else 1.0
    assert slow == 2


# Trajectories ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["shuffle", "sequential"])
def test_a_plain_run_takes_the_same_steps(sampler: Any, tmp_path: Path) -> None:
    found = []
    for prefetch in (False, True, None):
        session = plain()
        session.train(linear_data(90), epochs=3, batch=16, sampler=sampler, prefetch=prefetch)
        found.append(state(session))
    assert found[0] == found[1] == found[2]
    assert not threads()


@pytest.mark.parametrize(
    ("spec", "steps"), [(PRIVATE, 40), (replace(SHUFFLE, clip=0.7, lot=8.0, sigma=0.5), 36)], ids=["poisson", "shuffle"]
)
def test_a_private_run_takes_the_same_steps(spec: PrivacySpec, steps: int, tmp_path: Path) -> None:
    """Three epochs of slices hold 36 lots, then their budget is used up."""
    found = []
    for prefetch in (False, True):
        session = private(spec)
        session.train(linear_data(90), steps=40, run_dir=tmp_path / str(prefetch), prefetch=prefetch)
        found.append(state(session))
        assert [r.count for r in read_ledger(tmp_path / str(prefetch))[1].records if r.kind == "close"] == [steps]
    assert found[0] == found[1]
    assert not threads()


def test_a_resumed_run_goes_on_at_the_batch_that_was_not_used(tmp_path: Path) -> None:
    straight = plain()
    straight.train(linear_data(90), steps=37, batch=16, prefetch=False)
    folder = Checkpoints(tmp_path / "c", every_steps=11)
    plain().train(linear_data(90), steps=22, batch=16, prefetch=True, checkpoints=folder)
    resumed = plain()
    resumed.train(linear_data(90), steps=37, batch=16, prefetch=True, checkpoints=folder, resume=True)
    assert state(resumed) == state(straight)


# Reservations ----------------------------------------------------------------------------------------------


def test_no_lot_is_drawn_before_its_step_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each draw the ledger on the disk holds a reservation for its step, whichever thread draws."""
    reserved: list[int] = []
    ahead: list[bool] = []
    path = tmp_path / "run"

    def draw(self: PoissonSampler, phase: int = 0) -> Any:
        records = read_ledger(path)[1].records
        reserved.append(sum(record.count for record in records if record.kind == "reserve"))
        ahead.append(threading.current_thread().name.startswith("prefetch"))
        return original(self, phase)

    original = PoissonSampler.next_lot
    monkeypatch.setattr(PoissonSampler, "next_lot", draw)
    monkeypatch.setattr(train, "_RESERVE_SECONDS", 0.02)
    private().train(linear_data(90), steps=60, run_dir=path, prefetch=True)
    assert len(reserved) == 60
    assert all(count > number for number, count in enumerate(reserved))
    assert 5 < ahead.count(True) < 60  # some were drawn ahead; the first after a reservation never is


def test_the_ledger_tells_whether_the_next_step_is_reserved() -> None:
    ledger = Ledger.in_memory(PRIVATE)
    assert not ledger.holds_next()
    ledger.step(ahead=3)
    assert ledger.holds_next()
    ledger.step()
    ledger.step()
    assert not ledger.holds_next()
    ledger.step(ahead=2)
    ledger.close()
    assert not ledger.holds_next()
    by_epoch = Ledger.in_memory(replace(SHUFFLE, clip=0.7, lot=8.0, sigma=0.5))
    by_epoch.step(0, ahead=3)
    assert by_epoch.holds_next(0)
    assert not by_epoch.holds_next(1)


def test_a_lot_that_was_drawn_and_not_used_is_returned_with_its_reservation(tmp_path: Path) -> None:
    def stop(report: Any) -> None:
        if report.step == 30:
            raise KeyboardInterrupt

    session = private()
    with pytest.raises(KeyboardInterrupt):
        session.train(linear_data(90), steps=60, run_dir=tmp_path / "run", prefetch=True, callback=stop)
    records = read_ledger(tmp_path / "run")[1].records
    assert [record.count for record in records if record.kind == "close"] == [30]
    assert not threads()


# Failures --------------------------------------------------------------------------------------------------


def test_an_error_while_gathering_ends_the_run_with_the_steps_before_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0

    def take(self: DataSet, indices: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 9:
            raise MemoryError("no room for a batch")
        return original(self, indices)

    original = DataSet.take
    monkeypatch.setattr(DataSet, "take", take)
    folder = Checkpoints(tmp_path / "c", every_steps=100)
    session = plain()
    with pytest.raises(MemoryError, match="no room"):
        session.train(linear_data(90), steps=37, batch=16, prefetch=True, checkpoints=folder)
    assert session.model.step == 8
    assert not threads()
    resumed, straight = plain(), plain()
    resumed.train(linear_data(90), steps=37, batch=16, prefetch=True, checkpoints=folder, resume=True)
    straight.train(linear_data(90), steps=37, batch=16, prefetch=False)
    assert state(resumed) == state(straight)


def test_a_step_that_fails_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LinearEngine()
    session = Session.load(linear_artifact(), engine)
    engine.fail_at = len(engine.calls) + 5
    with pytest.raises(RuntimeError, match="told to fail"):
        session.train(linear_data(90), steps=37, batch=16, prefetch=True)
    assert session.model.step == 5
    assert not threads()


def test_a_signal_ends_a_run_with_its_thread(tmp_path: Path) -> None:
    script = f"""
    import threading
    from linear_engine import LinearEngine, linear_artifact, linear_data
    from pathlib import Path
    from fluidc.runtime.session import Checkpoints, Session
    session = Session.load(linear_artifact(), LinearEngine())
    def started(report):
        if report.step == 3:
            print("go", flush=True)
    result = session.train(linear_data(90), steps=10**9, batch=16, prefetch=True, callback=started,
                           checkpoints=Checkpoints(Path({str(tmp_path / "c")!r})))
    print(result.interrupted, [t.name for t in threading.enumerate() if t.name.startswith("prefetch")])
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=30)
    assert (out, child.returncode) == ("True []\n", 0)


def test_slices_are_drawn_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = 0

    def draw(self: SliceSampler, phase: int = 0) -> Any:
        nonlocal inside
        assert inside == 0
        inside += 1
        try:
            return original(self, phase)
        finally:
            inside -= 1

    original = SliceSampler.next_lot
    monkeypatch.setattr(SliceSampler, "next_lot", draw)
    plain().train(linear_data(90), epochs=5, batch=7, prefetch=True)
