"""Runs that are killed and go on, over and over: `crash_server` has the processes, `crash_reader` the law."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from crash_reader import Json, Left, judge, read, strangers, told

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower

SERVER = Path(__file__).with_name("crash_server.py")
L: Any = fluid.layers


@dataclass(frozen=True)
class Job:
    """One process that trains, and how it dies.

    Attributes:
        kind: ``plain`` or ``private``.
        root: folder whose changes are watched; the run directory is ``run`` in it.
        steps: last step, from the beginning of the run.
        fatal: number of the changing call at which it dies, or 0; ``mode`` and ``seed`` are `crash_disk.Faults`'s.
        after: seconds after which it is killed from outside, or 0.
        sampler: of a plain run.
        every: steps between checkpoints, of which ``keep`` are kept.
        ahead: most steps that are reserved at once; 0 for the runtime's own number.
        prefetch: the next batch is drawn in a thread.
    """

    kind: Literal["plain", "private"]
    root: str
    steps: int = 12
    fatal: int = 0
    mode: str = "kill"
    seed: int = 0
    after: float = 0.0
    sampler: str = "shuffle"
    every: int = 3
    keep: int = 2
    ahead: int = 0
    prefetch: bool = False


def build(folder: Path) -> None:
    """Write what a server needs to ``folder``: two small artifacts for the cpu, and data for both."""
    for kind in ("plain", "private"):
        main, startup = Program(), Program()
        with fluid.unique_name.guard(), fluid.program_guard(main, startup):
            x, label = L.data("x", [5]), L.data("label", [1], dtype="int64")
            hidden = L.fc(x, 8, act="tanh")
            if kind == "plain":
                hidden = L.dropout(hidden, 0.2)
            loss = L.mean(L.softmax_with_cross_entropy(L.fc(hidden, 3), label))
            optimizer = (
                fluid.optimizer.Adam(0.05)
                if kind == "plain"
                else fluid.optimizer.Dpsgd(0.5, 0.7, 16.0, 1.0, dataset_size=90, max_steps=100_000)
            )
            optimizer.minimize(loss)
        batch = 0 if kind == "plain" else 16
        made = compile_source(lower(main, startup=startup, fetches=[loss.name]), target="cpu", batch=batch)
        made.artifact().write(folder / f"{kind}.fluidc")
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=rng.normal(size=(90, 5)).astype(np.float32), label=rng.integers(0, 3, size=(90, 1)))


class Server:
    """The process that forks. Make it with `serving`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.killed = 0

    def run(self, job: Job) -> Json:
        """What the process of ``job`` told, whether it was killed, and its seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the server has died"
        result: Json = json.loads(answer)
        self.killed += result["killed"]
        return result


@contextmanager
def serving(folder: Path, broken: str = "") -> Iterator[Server]:
    """A server for the artifacts in ``folder``, with one way to break the runtime applied."""
    environment = {
        **os.environ, "TMPDIR": str(folder), "FLUIDC_STATE": str(folder / "state"),
        "TVM_NUM_THREADS": "1", "TVM_BIND_THREADS": "0", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, str(SERVER), str(folder), *([broken] if broken else [])]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


@dataclass(frozen=True)
class Trajectory:
    """A plain run that nobody stopped: the file of a checkpoint after every step, and the loss of every step."""

    files: dict[int, bytes]
    losses: dict[int, str]


@dataclass
class Lineage:
    """Processes that train one after another in one directory, each going on where the one before died.

    Attributes:
        server: forks them.
        job: what they do but for how they die.
        whole: what they must add up to, of a plain run.
        draws, keys: numbers and keys of the steps that they took.
    """

    server: Server
    job: Job
    whole: Trajectory | None
    draws: list[int] = field(default_factory=list[int])
    keys: list[str] = field(default_factory=list[str])

    @property
    def run_dir(self) -> Path:
        return Path(self.job.root) / "run"

    def process(self, more: int = 7, **death: Any) -> Json:
        """Let a process go on for ``more`` steps behind the newest checkpoint, and judge what it did.

        Returns what the server answers.
        """
        Path(self.job.root).mkdir(exist_ok=True)
        before = read(self.run_dir)
        result = self.server.run(replace(self.job, steps=before.newest + more, **death))
        events = result["events"]
        after = read(self.run_dir)
        judge(before, after, events, killed=result["killed"], refused=death.get("mode") in ("EIO", "ENOSPC"))
        self.draws += told(events, "draw")
        self.keys += told(events, "key")
        assert len(set(self.draws)) == len(self.draws), "one number was given to two steps"
        assert len(set(self.keys)) == len(self.keys), "one key was used in two steps"
        assert after.ledger.steps >= len(self.draws), "fewer steps are counted than were taken"
        self._check_trajectory(after, events)
        return result

    def _check_trajectory(self, after: Left, events: list[Json]) -> None:
        """Of a plain run: every checkpoint and every loss is that of the run that nobody stopped, to the last bit."""
        if self.whole is None:
            return
        for step in after.checkpoints:
            written = (self.run_dir / "checkpoints" / f"step-{step:06d}.safetensors").read_bytes()
            assert written == self.whole.files[step], f"the state after step {step} is another one"
        for event in events:
            if "step" in event:
                (value,) = (text for name, text in event.items() if name != "step")
                assert value == self.whole.losses[event["step"]], f"the loss of step {event['step']} is another one"

    def check_clean(self) -> None:
        """After a process that ended well nothing is left of those that did not."""
        assert not strangers(self.run_dir)


def uninterrupted(server: Server, job: Job, steps: int) -> Trajectory:
    """A plain run of ``steps`` steps that nobody stops."""
    result = server.run(replace(job, steps=steps, every=1, keep=steps))
    assert not told(result["events"], "error"), result["events"]
    folder = Path(job.root) / "run" / "checkpoints"
    files = {int(path.stem[5:]): path.read_bytes() for path in folder.glob("step-*")}
    shutil.rmtree(job.root)
    losses = {
        event["step"]: next(text for name, text in event.items() if name != "step")
        for event in result["events"]
        if "step" in event
    }
    return Trajectory(files, losses)


def campaign(server: Server, job: Job, whole: Trajectory | None, folder: Path, rounds: int) -> int:
    """Kill processes of ``job`` in every way; how many died.

    At every call that changes the disk, one process after another in one directory: before it, half way through it,
    and with what was not synced lost; at the calls that make a new run, in a directory of their own each; and
    ``rounds`` times at instants from outside. In the end each run must still end well.
    """
    before = server.killed

    def lineage(name: str, *, prefetch: bool = False) -> Lineage:
        return Lineage(server, replace(job, root=str(folder / name), prefetch=prefetch), whole)

    for seed, mode in enumerate(("kill", "torn", "power", "power", "power")):
        run = lineage(f"{mode}-{seed}", prefetch=seed % 2 == 1)
        fatal = 1
        while run.process(fatal=fatal, mode=mode, seed=fatal << 8 | seed)["killed"]:
            fatal += 1
        assert fatal > 10, "the process did less than a run does"
        run.check_clean()
    for fatal in range(1, 25, 2):
        for mode in ("kill", "power"):
            run = lineage(f"new-{fatal}-{mode}")
            assert run.process(fatal=fatal, mode=mode, seed=fatal)["killed"]
            run.process(more=3)
            run.check_clean()
    run, chance = lineage("random", prefetch=True), random.Random(7)
    seconds = min(run.process()["seconds"] for _ in range(3))
    for _ in range(rounds):
        run.process(after=chance.uniform(0.1, 1.1) * seconds)
    run.process()
    run.check_clean()
    return server.killed - before
