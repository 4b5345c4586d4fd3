"""What every benchmark shares: interleaved timing, and a record of the machine it ran on."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TypedDict

RESULTS = Path(__file__).parent / "results"


class Machine(TypedDict):
    """Where and with what a benchmark ran; ``noisy`` when other work kept the cores busy."""

    cpu: str
    cores: int
    threads: int
    load: float
    noisy: bool
    versions: dict[str, str]


def machine() -> Machine:
    """The present machine."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return Machine(
        cpu=model,
        cores=cores,
        threads=int(os.environ["TVM_NUM_THREADS"]),
        load=round(load, 2),
        noisy=load > cores,
        versions={name: metadata.version(name) for name in ("fluidc", "apache-tvm", "numpy")}
        | {"python": platform.python_version()},
    )


def rounds_of(contestants: Mapping[str, Callable[[], object]], *, rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds per call of each contestant: the mean of every round.

    Contestants take turns, with a pause between them: a thread pool spins for a while after its last call, and
    would take a core from the next one.
    """
    means: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            time.sleep(0.2)
            call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            means[name].append((time.perf_counter() - start) / calls)
    return means


def interleaved(contestants: Mapping[str, Callable[[], object]], *, rounds: int, calls: int) -> dict[str, float]:
    """Seconds per call of each contestant: the best round's mean (`rounds_of`)."""
    return {name: min(means) for name, means in rounds_of(contestants, rounds=rounds, calls=calls).items()}


def save(name: str, figures: Mapping[str, float]) -> None:
    """Write ``results/NAME-THREADS.json``: the figures and the machine."""
    RESULTS.mkdir(exist_ok=True)
    here = machine()
    record = {"benchmark": name, "figures": dict(figures), "machine": here}
    (RESULTS / f"{name}-{here['threads']}.json").write_text(json.dumps(record, indent=1) + "\n")
