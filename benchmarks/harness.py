"""What the benchmarks share beside ``frontend/bench``: the files of results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from fluidc.frontend.bench.machine import Machine

RESULTS = Path(__file__).resolve().parent / "results"


def figures(name: str, threads: int) -> dict[str, object]:
    """The figures of ``results/NAME-THREADS.json``, none where there is no such file."""
    file = RESULTS / f"{name}-{threads}.json"
    return json.loads(file.read_text())["figures"] if file.exists() else {}


def save(name: str, figures: Mapping[str, object], machine: Machine) -> None:
    """Write ``results/NAME-THREADS.json``: the figures and the machine."""
    RESULTS.mkdir(exist_ok=True)
    record = {"benchmark": name, "figures": dict(figures), "machine": asdict(machine)}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}-{machine.threads}.json").write_text(text + "\n")
