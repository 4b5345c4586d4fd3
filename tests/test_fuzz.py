"""Damaged files of every kind are refused with a message, or understood: no crash, no hang, nothing executed.

`fuzz_targets` is the table of kinds, `fuzz_mutations` how they are damaged, and `fuzz_child` the process that reads
them under a limit of memory, with a watchdog and a hook on all that Python could execute.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz_child import trial
from fuzz_targets import TARGETS, Target
from fuzz_watch import Watch

from fluidc.runtime.errors import ArtifactError, FluidcError

CHILD = Path(__file__).parent / "support" / "fuzz_child.py"
NIGHTLY = 5000
"""Inputs of each kind, other ones than those of the normal run."""


def needed(name: str) -> Target:
    """The target, where what reads such files is installed."""
    target = TARGETS[name]
    if target.needs:
        pytest.importorskip(target.needs)
    return target


def read_many(target: Target, first: int, count: int, folder: Path, seconds: float) -> Counter[str]:
    """How reading the damaged inputs ended, by outcome; fails where anything went wrong."""
    command = [sys.executable, str(CHILD), target.name, str(first), str(count), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"it hangs: {(error.stderr or b'')[-300:]!r}")
    assert done.returncode == 0, f"exit code {done.returncode}, the last number is the input\n{done.stderr[-3000:]}"
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not report["faults"], f"{len(report['faults'])} faults\n" + "\n".join(report["faults"][:5])
    outcomes = Counter[str](report["outcomes"])
    assert outcomes.total() == count
    return outcomes


def test_two_thousand_inputs_are_read() -> None:
    assert sum(target.share for target in TARGETS.values()) >= 2000


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_refused_or_understood(name: str, tmp_path: Path) -> None:
    target = needed(name)
    outcomes = read_many(target, 0, target.share, tmp_path, 120)
    refusals = {words for words in outcomes if words != "accepted"}
    assert len(refusals) >= target.distinct, refusals
    assert outcomes["accepted"] < target.share / 2, outcomes


@pytest.mark.nightly
@pytest.mark.parametrize("name", TARGETS)
def test_many_more_damaged_files(name: str, tmp_path: Path) -> None:
    read_many(needed(name), 1_000_000, NIGHTLY, tmp_path, 3000)


# What would be caught -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "x"),
        (FluidcError(" "), "without a message"),
        (FluidcError("half a \ud800"), None),
        (ArtifactError("what", "", "hint"), "without place or advice"),
        (ArtifactError("what", "where", ""), "without place or advice"),
    ],
)
def test_other_ends_than_a_proper_refusal_are_faults(error: Exception, message: str | None, tmp_path: Path) -> None:
    def read(data: bytes, folder: Path) -> None:
        raise error

    target = Target("x", lambda _: [b""], (), read, 1, 1)
    if message is None:
        assert trial(target, b"", tmp_path).startswith("FluidcError")
        return
    with pytest.raises((KeyError, AssertionError), match=message):
        trial(target, b"", tmp_path)


EXECUTED = """
import os, pickle, subprocess, sys
sys.path.insert(0, {support!r})
from pathlib import Path
from fuzz_watch import Watch
watch = Watch(Path({folder!r}))
watch.armed = True
{attempt}
watch.armed = False
print(len(watch.seen))
"""


@pytest.mark.parametrize(
    ("attempt", "seen"),
    [
        ("os.system('true')", True),
        ("exec('1')", True),
        ("import ctypes; ctypes.CDLL(None)", True),
        ("subprocess.run(['true'])", True),
        ("import socket; socket.socket()", True),
        ("pickle.loads(pickle.dumps(os.getcwd))", True),
        ("import this", True),
        ("open('/tmp/fluidc-fuzz-elsewhere', 'w').close()", True),
        ("os.open('/tmp/fluidc-fuzz-elsewhere', os.O_RDWR | os.O_CREAT)", True),
        ("open({folder!r} + '/x', 'w').close()", False),
        ("open('/proc/self/stat').read()", False),
    ],
)
def test_the_watch_sees_what_is_executed(attempt: str, seen: bool, tmp_path: Path) -> None:
    attempt = attempt.replace("{folder!r}", repr(str(tmp_path)))
    script = EXECUTED.format(support=str(CHILD.parent), folder=str(tmp_path), attempt=attempt)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    Path("/tmp/fluidc-fuzz-elsewhere").unlink(missing_ok=True)
    assert (int(done.stdout.split()[-1]) > 0) is seen


def test_a_watch_that_is_not_armed_says_nothing(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    exec("1")
    assert watch.seen == []
