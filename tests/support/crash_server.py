"""A process that has everything loaded, and forks one that trains for every line of its input.

    python crash_server.py FOLDER [BROKEN]

FOLDER holds ``plain.fluidc``, ``private.fluidc`` and ``data.npz``; BROKEN names a function of `broken_files`, applied
before anything else. Each line of input is a `crash_runs.Job` in JSON; the answer is a line with what the process told
before it died, and how it ended. What a process tells it tells before it can be seen by anybody: the number and key of
a noise draw before the engine gets them, a step's values before they are returned.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from crash_disk import Faults

from fluidc.runtime import keeper, train
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.engine import Buffer
from fluidc.runtime.keeper import Checkpoints
from fluidc.runtime.manifest import Manifest
from fluidc.runtime.progress import StepReport
from fluidc.runtime.sampler import PoissonSampler
from fluidc.runtime.session import Session
from fluidc.runtime.tvm_engine import TvmEngine

Tell = Callable[..., None]


class Telling:
    """An engine of one thread that tells of every private step, by its number and key, before it is taken."""

    in_place = True

    def __init__(self, artifact: Artifact, tell: Tell) -> None:
        self.inner = TvmEngine(artifact.modules["module.so"], 1)
        self.manifest: Manifest = artifact.manifest
        self.tell = tell

    def tensor(self, array: Any, *, secret: bool = False) -> tuple[Any, Any]:
        return self.inner.tensor(array, secret=secret), array

    def state(self, buffer: Buffer) -> tuple[Any, Any]:
        return self.tensor(buffer.array)

    def call(self, function: str, arguments: Sequence[tuple[Any, Any]]) -> list[Any]:
        bound = zip(self.manifest.function(function).inputs, arguments, strict=True)
        given = {binding.kind: array for binding, (_, array) in bound if binding.kind in ("key", "draw")}
        if given:
            self.tell(draw=int(given["draw"]), key=hashlib.sha256(given["key"].tobytes()).hexdigest())
        return self.inner.call(function, [handle for handle, _ in arguments])


class Notes:
    """A display that tells what stays on the screen."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def due(self) -> bool:
        return False

    def show(self, report: StepReport) -> None:
        pass

    def note(self, text: str) -> None:
        self.tell(note=text)


def run(job: dict[str, Any], artifact: Artifact, data: dict[str, Any], tell: Tell) -> None:
    """Train as the job says, in this process."""
    root = Path(job["root"])
    private = job["kind"] == "private"
    faults = Faults(root, job["fatal"], job["mode"], job["seed"], lambda text: tell(missed=text))
    save = keeper.save

    def saving(model: Any, *args: Any, **options: Any) -> Path:
        path = save(model, *args, **options)
        tell(kept=model.step)
        return path

    keeper.save = saving
    draw = PoissonSampler.next_lot

    def drawing(self: PoissonSampler, phase: int = 0) -> Any:
        tell(lot=self.state.position)
        return draw(self, phase)

    PoissonSampler.next_lot = drawing
    if job["ahead"]:
        train._MAX_RESERVED = job["ahead"]
    session = Session.load(artifact, Telling(artifact, tell), seed=7)
    tell(loaded=True)
    faults.install()
    result = session.train(
        data,
        steps=job["steps"],
        sampler=None if private else job["sampler"],
        batch=None if private else 20,
        run_dir=root / "run" if private else None,
        checkpoints=Checkpoints(root / "run" / "checkpoints", every_steps=job["every"], keep=job["keep"]),
        resume=True,
        prefetch=job["prefetch"],
        progress=Notes(tell),
        callback=lambda report: tell(step=report.step, **{n: v.tobytes().hex() for n, v in report.fetches.items()}),
    )
    tell(
        end=result.step,
        calls=len(faults.calls),
        taken=result.taken,
        unsaved=None if result.unsaved is None else str(result.unsaved),
    )


def fork(job: dict[str, Any], artifact: Artifact, data: dict[str, Any]) -> dict[str, Any]:
    """Run the job in a process of its own; what it told, its exit status, and how long it took."""
    reading, writing = os.pipe()
    real_write = os.write
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)

            def tell(**event: Any) -> None:
                real_write(writing, json.dumps(event).encode() + b"\n")

            try:
                run(job, artifact, data, tell)
            except BaseException as error:
                tell(error=f"{type(error).__name__}: {error}")
        finally:
            os._exit(0)
    os.close(writing)
    if job["after"]:
        time.sleep(job["after"])
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    events = [json.loads(line) for line in told.splitlines(keepends=True) if line.endswith(b"\n")]
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"events": events, "killed": killed, "seconds": time.monotonic() - start}


def main() -> None:
    """Answer line by line until the input ends."""
    folder = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", ".* this machine has seen it with|.* that privacy ledger is gone")
    if len(sys.argv) > 2:
        import broken_files

        getattr(broken_files, sys.argv[2])()
    artifacts = {kind: Artifact.read(folder / f"{kind}.fluidc") for kind in ("plain", "private")}
    with np.load(folder / "data.npz") as file:
        data = {name: file[name] for name in file.files}
    for artifact in artifacts.values():  # libraries are loaded here, once
        TvmEngine(artifact.modules["module.so"], 1)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(fork(job, artifacts[job["kind"]], data)), flush=True)


if __name__ == "__main__":
    main()
