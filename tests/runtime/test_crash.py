"""Training that is killed at any moment: nothing that was seen is uncounted, nothing is lost that was kept.

One process after another trains a compiled artifact in one directory and is killed by SIGKILL: at instants from
outside, and at every call of the operating system that changes the disk, half way through it, or with the machine. What
it leaves is judged by a reader of its own (`crash_reader`). That this can fail is seen on runtimes that are broken.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
from broken_files import BROKEN
from crash_reader import read, told
from crash_runs import Job, Lineage, Server, Trajectory, build, campaign, serving, uninterrupted


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def server(made: Path) -> Iterator[Server]:
    with serving(made) as running:
        yield running


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Job], Trajectory]:
    """What a plain run does when nobody stops it."""
    return cache(lambda job: uninterrupted(server, replace(job, root=str(tmp_path_factory.mktemp("whole"))), 400))


def test_a_private_run_is_killed_two_hundred_times(server: Server, tmp_path: Path) -> None:
    start = time.monotonic()
    killed = campaign(server, Job("private", "", ahead=3), None, tmp_path, rounds=60)
    print(f"{killed} kills in {time.monotonic() - start:.1f} s")
    assert killed >= 200


@pytest.mark.parametrize("sampler", ["shuffle", "sequential"])
def test_a_plain_run_that_is_killed_ends_in_the_same_bits(
    server: Server, whole: Callable[[Job], Trajectory], tmp_path: Path, sampler: str
) -> None:
    job = Job("plain", "", sampler=sampler)
    start = time.monotonic()
    killed = campaign(server, job, whole(job), tmp_path, rounds=40)
    print(f"{killed} kills in {time.monotonic() - start:.1f} s")
    assert killed >= 100


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["plain", "private"])
def test_runs_are_killed_all_night(
    server: Server, whole: Callable[[Job], Trajectory], tmp_path: Path, kind: Literal["plain", "private"]
) -> None:
    """At instants and with losses that differ from night to night; the seed is shown when it fails."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    chance, sound = random.Random(seed), whole(Job(kind, "")) if kind == "plain" else None
    for number in range(20):
        job = Job(kind, str(tmp_path / f"{number}"), prefetch=bool(number % 2), keep=1 + number % 3, ahead=number % 4)
        run = Lineage(server, job, sound)
        seconds = run.process(more=12)["seconds"]
        for _ in range(12):
            run.process(more=12, after=chance.uniform(0.1, 1.1) * seconds)
            run.process(more=12, fatal=chance.randrange(1, 60), mode="power", seed=chance.randrange(1 << 30))
        run.process()
        run.check_clean()


@pytest.mark.parametrize("mode", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("kind", ["plain", "private"])
def test_a_disk_that_refuses_costs_no_step(
    server: Server, whole: Callable[[Job], Trajectory], tmp_path: Path, kind: Literal["plain", "private"], mode: str
) -> None:
    """At every call: an ordinary run goes on without its checkpoint; what a private one has taken is in one."""
    run = Lineage(server, Job(kind, str(tmp_path / "run"), ahead=3), whole(Job(kind, "")) if kind == "plain" else None)
    fatal, errors, unsaved = 1, 0, 0
    while True:
        newest = read(run.run_dir).newest
        events = run.process(fatal=fatal, mode=mode)["events"]
        (end,) = [event for event in events if "end" in event] or [None]
        steps, (error,) = told(events, "step"), told(events, "error") or [""]
        errors += bool(error)
        if end is None:
            assert os.strerror(getattr(errno, mode)) in error
            assert kind == "private" or not steps, "a run that had begun was ended"
            if mode == "EIO" and steps:
                assert read(run.run_dir).newest == steps[-1], "steps were taken and are in no checkpoint"
        elif end["unsaved"]:
            unsaved += 1
            assert os.strerror(getattr(errno, mode)) in end["unsaved"]
        elif end["calls"] < fatal:
            break
        if end is not None:
            assert steps[-1] == newest + 7
        fatal += 1
    assert errors >= 3
    assert unsaved >= 1
    run.check_clean()


SLOWER = ("torn_records_kept", "no_fsync_before_the_rename", "old_ones_removed_first", "dropout_from_the_start")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.nightly) if n in SLOWER else n for n in BROKEN])
def test_a_runtime_that_is_broken_does_not_pass(
    made: Path, whole: Callable[[Job], Trajectory], tmp_path: Path, name: str
) -> None:
    kind, message = BROKEN[name]
    job = Job(kind, "")
    sound = whole(job) if kind == "plain" else None
    with serving(made, name) as server, pytest.raises(AssertionError, match=message):
        campaign(server, replace(job, ahead=3), sound, tmp_path, rounds=10)
