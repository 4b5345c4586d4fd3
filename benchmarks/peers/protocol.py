"""How `fluidc bench` talks to a process of another library: one JSON object per line, a request and its answer.

    {"do": "contestants", "model": NAME}               -> {"contestants": [{"label", "private"}], "versions": {...}}
    {"do": "load", "label": LABEL, "model": NAME, "arrays": FILE.npz}
                                                       -> {"losses": [before, after one step]} or {"missing": reason};
                                                          of a private one only the first
    {"do": "time", "label": LABEL, "seconds": S}       -> {"seconds": per step}: the mean of a burst of about S seconds
    {"do": "forget"}                                   -> {}: what was loaded may go
    {"do": "quit"}                                     -> {}

``FILE.npz`` holds the batch (``x``, ``label``) and the parameters under the names of the fluid program.  Needs nothing
of fluidc: the libraries live in environments of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

LEARNING_RATE, CLIP, SIGMA = 1e-3, 1.0, 1.0
LONG_STEP = 2.0
"""Seconds from which one step is a burst of its own."""

Arrays = Mapping[str, np.ndarray]
Step = Callable[[], float]
"""Takes one step to its end; returns the loss before it."""


@dataclass(frozen=True)
class Contestant:
    """A way to take a training step; ``make(model, arrays)`` prepares it for one of ``models``."""

    label: str
    private: bool
    models: frozenset[str]
    make: Callable[[str, Arrays], Step]


def burst(step: Step, seconds: float) -> float:
    """Seconds per step, after one that warms up."""
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    if first > LONG_STEP:
        return first
    calls = max(1, round(seconds / first))
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def serve(contestants: list[Contestant], versions: Mapping[str, str]) -> None:
    """Answer the requests on standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    steps: dict[str, Step] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, object] = {}
        match request["do"]:
            case "contestants":
                found = [c for c in contestants if request["model"] in c.models]
                answer["contestants"] = [{"label": c.label, "private": c.private} for c in found]
                answer["versions"] = dict(versions)
            case "load":
                try:
                    with np.load(request["arrays"]) as file:
                        arrays = dict(file)
                    label, model = request["label"], request["model"]
                    chosen = next(c for c in contestants if c.label == label and model in c.models)
                    step = chosen.make(model, arrays)
                    answer["losses"] = [step()] if chosen.private else [step(), step()]
                    steps[label] = step
                except Exception as error:
                    answer["missing"] = f"{type(error).__name__}: {error}".splitlines()[0]
            case "time":
                answer["seconds"] = burst(steps[request["label"]], request["seconds"])
            case "forget":
                steps.clear()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if request["do"] == "quit":
            return


def limit_threads() -> int:
    """The number of threads given as the only argument; the process is kept on as many cores."""
    threads = int(sys.argv[1])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:threads])
    return threads
