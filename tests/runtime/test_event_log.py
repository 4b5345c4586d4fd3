"""Event files for TensorBoard, as TensorBoard's own reader finds them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import POISSON

from fluidc.runtime import commands
from fluidc.runtime.artifact import PrivacySpec
from fluidc.runtime.commands import RunArguments
from fluidc.runtime.errors import DataError
from fluidc.runtime.event_log import EventLog
from fluidc.runtime.observe import Observed, StepTimes, is_seen
from fluidc.runtime.progress import Silent, StepReport
from fluidc.runtime.session import Session

PRIVATE = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)
Scalars = Mapping[str, list[tuple[int, float, float]]]


@pytest.fixture(scope="module", autouse=True)
def _writer() -> None:
    pytest.importorskip("tensorboardX")


def read(folder: Path) -> Scalars:
    """Tag -> (step, value, wall time) of every scalar."""
    pytest.importorskip("tensorboard")
    module: Any = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
    found: dict[str, list[tuple[int, float, float]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in module.LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value, event.wall_time))
    return found


def run(folder: Path, spec: PrivacySpec | None = None, **more: Any) -> Path:
    folder.mkdir()
    path, data, log = folder / "linear.fluidc", folder / "data.npz", folder / "log"
    linear_artifact(spec, None if spec is None else 16).write(path)
    np.savez(data, **linear_data(more.pop("rows", 90)))  # pyright: ignore[reportArgumentType]
    arguments = replace(RunArguments(path, data, steps=30, log=log), **more)
    assert commands.run(arguments, lambda *_: LinearEngine(spec)) == 0
    return log


def test_tensorboard_reads_what_a_run_logged(tmp_path: Path) -> None:
    found = read(run(tmp_path / "run", evaluate=tmp_path / "run" / "data.npz"))
    assert found.keys() == {"step/loss", "time/step_seconds", "time/examples_per_second", "evaluation/loss"}
    assert [step for step, *_ in found["step/loss"]] == list(range(1, 31))
    losses = [value for _, value, _ in found["step/loss"]]
    assert losses[-1] < losses[0]
    assert all(value > 0 for _, value, _ in found["time/step_seconds"])
    times = [time for *_, time in found["step/loss"]]
    assert times == sorted(times)
    assert times[0] > 1e9
    session = Session.load(linear_artifact(), LinearEngine())
    session.train(linear_data(90), steps=30)
    assert [found["evaluation/loss"][0][:2]] == [(30, pytest.approx(session.evaluate(linear_data(90)).values["loss"]))]


def test_what_is_not_private_is_marked_so(tmp_path: Path) -> None:
    found = read(run(tmp_path / "run", PRIVATE, evaluate=tmp_path / "run" / "data.npz"))
    manifest = linear_artifact(PRIVATE, 16).manifest
    public = {output.name for output in manifest.function("step").outputs if not output.not_private}
    shown = {tag for tag in found if not tag.startswith("NOT_PRIVATE/")}
    assert shown == {"epsilon/so_far", "epsilon/budget"} | {tag for tag in shown if tag.removeprefix("step/") in public}
    assert "NOT_PRIVATE/step/loss" in found
    assert "NOT_PRIVATE/time/step_seconds" in found
    assert "NOT_PRIVATE/evaluation/loss" in found
    so_far = [value for _, value, _ in found["epsilon/so_far"]]
    assert so_far == sorted(so_far)
    assert so_far[-1] == pytest.approx(PRIVATE.epsilon(30, 1e-5), rel=1e-6)
    assert {value for _, value, _ in found["epsilon/budget"]} == {np.float32(PRIVATE.epsilon(100, 1e-5))}


def test_a_private_report_logs_the_same_whatever_the_examples_are(tmp_path: Path) -> None:
    first = read(run(tmp_path / "a", PRIVATE, private_report=True))
    other = read(run(tmp_path / "b", PRIVATE, private_report=True, rows=400))
    assert not [tag for tag in first if "NOT_PRIVATE" in tag or "time" in tag or "loss" in tag]
    assert {time for events in first.values() for *_, time in events} == {0.0}
    assert first["epsilon/so_far"] == other["epsilon/so_far"]
    assert first.keys() == other.keys()


def test_steps_are_seen_by_their_number_alone() -> None:
    seen = [count for count in range(1, 25_001) if is_seen(count)]
    assert seen[:1000] == list(range(1, 1001))
    assert seen[1000:1003] == [1010, 1020, 1030]
    assert [count for count in seen if count > 10_000][:2] == [10_100, 10_200]
    assert len(seen) == 1000 + 900 + 150


def test_an_observed_display_shows_what_it_showed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    looked: list[tuple[int, float | None]] = []

    class Every7(Silent):
        asked = 0

        def due(self) -> bool:
            self.asked += 1
            return self.asked % 7 == 0

        def show(self, report: StepReport) -> None:
            shown.append(report.step)

    class Looks:
        def step(self, report: StepReport, seconds: float | None) -> None:
            looked.append((report.step, seconds))

    now = iter(range(1000))
    observed = Observed(Every7(), [Looks()], clock=lambda: float(next(now)))
    session = Session.load(linear_artifact(), LinearEngine())
    session.train(linear_data(90), steps=30, progress=observed)
    assert shown == [7, 14, 21, 28, 30]
    assert looked == [(step, 1.0) for step in range(1, 31)]
    assert observed.times.steps == 30
    assert observed.times.bars() == [(1.0, 1.5, 30)]


def test_times_fall_into_bins() -> None:
    times = StepTimes()
    assert times.bars() == []
    for seconds in (0.0, 1.2e-3, 1.4e-3, 2.5e-3, 1e9):
        times.add(seconds)
    bars = times.bars()
    assert sum(count for *_, count in bars) == 5
    assert (1e-3, 1.5e-3, 2) in bars
    assert (2e-3, 3e-3, 1) in bars


def test_a_log_that_cannot_be_written_is_refused_or_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Session.load(linear_artifact(), LinearEngine()).model
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the log cannot be written"):
        EventLog(tmp_path / "file", model)
    report = StepReport(1, 2, 3, {"loss": np.ones(1, np.float32)}, frozenset(), None, None)

    def full(event: object) -> None:
        raise OSError("No space left on device")

    with EventLog(tmp_path / "log", model) as log:
        monkeypatch.setattr(log._writer, "write_event", full)  # pyright: ignore[reportPrivateUsage]
        with pytest.warns(UserWarning, match="ends here: No space"):
            log.step(report, 0.1)
        log.step(report, 0.1)  # has warned
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(DataError, match="not installed") as caught:
        EventLog(tmp_path / "other", model)
    assert caught.value.hint == "pip install tensorboardX"
