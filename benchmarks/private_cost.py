"""What privacy costs: the private step over the plain one, and the same for Opacus and JAX where they are installed.

Three models at batch 256, plain SGD and Dpsgd.  All contestants take turns in one run; peers live in a process of
their own (`make bench-peers`).  Memory is the growth of the resident set of a fresh process over three steps.

    python private_cost.py            everything
    python private_cost.py mlp        one model
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cost_models
import harness

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import Compiled, compile_source
from fluidc.runtime.stepper import Stepper

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"
TARGET_SECONDS = 0.15
ROUNDS = 9
LONGEST_SECONDS = 5.0
"""Steps that take long are not repeated every round once they have had this much time."""


class Peers:
    """The process in which other libraries take the same steps; it answers one line per line."""

    def __init__(self, threads: int) -> None:
        self._process: subprocess.Popen[str] | None = None
        if PEERS.exists():
            settings = {"OMP_NUM_THREADS": str(threads), "KMP_BLOCKTIME": "0", "OMP_WAIT_POLICY": "passive"}
            self._process = subprocess.Popen(
                [PEERS, HERE / "cost_peers.py", str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | settings,
            )  # fmt: skip

    def ask(self, *words: object) -> dict[str, object]:
        """What the process answers; empty where there is none."""
        if self._process is None:
            return {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer else {"error": "the process of the peers ended"}

    def close(self) -> None:
        if self._process is not None:
            self.ask("quit")
            self._process.wait(10)


def steps(compiled: Compiled, name: str) -> Callable[[], object]:
    """A function that takes one step of a compiled model."""
    engine = compiled.built.engine()
    stepper = Stepper(compiled.manifest, engine, cost_models.state(compiled.manifest))
    return cost_models.step(stepper, name, private=compiled.manifest.privacy is not None)


def calls_for(step: Callable[[], object]) -> int:
    """Calls that take about ``TARGET_SECONDS``."""
    step()
    return max(1, round(TARGET_SECONDS / harness.rounds_of({"": step}, rounds=1, calls=1)[""][0]))


def memory(compiled: Compiled, name: str, threads: int) -> float:
    """Megabytes by which a fresh process that runs the artifact grows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.fluidc"
        path.write_bytes(compiled.artifact().to_bytes())
        command = [sys.executable, HERE / "cost_memory.py", path, name, str(threads)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(name: str, threads: int, peers: Peers) -> dict[str, float]:
    """Figures of one model: milliseconds (best round), ratios of best and of median rounds, megabytes."""
    variants = {"plain": False, "private": True}
    options = BuildOptions(threads=threads)
    built = {
        label: compile_source(cost_models.source(name, private=private), batch=cost_models.BATCH, options=options)
        for label, private in variants.items()
    }
    figures = {f"{name}: {label}, MB": memory(compiled, name, threads) for label, compiled in built.items()}
    contestants = {label: steps(compiled, name) for label, compiled in built.items()}
    calls = {label: calls_for(step) for label, step in contestants.items()}
    times: dict[str, list[float]] = {label: [] for label in contestants}
    others = peers.ask("load", name)
    failures = {label: reason for label, reason in others.items() if reason}
    for label, reason in failures.items():
        print(f"   {name}: {label} is missing: {reason}", flush=True)
    for _ in range(ROUNDS):
        for label, step in contestants.items():
            times[label] += harness.rounds_of({label: step}, rounds=1, calls=calls[label])[label]
        for label in others.keys() - failures.keys():
            spent = times.setdefault(label, [])
            if not spent or sum(spent) + spent[-1] < LONGEST_SECONDS:
                spent.append(float(str(peers.ask("time", name, label)["seconds"])))
    for label, seconds in times.items():
        figures[f"{name}: {label}, ms"] = 1e3 * min(seconds)
    pairs = [("plain", "private"), ("torch", "opacus hooks"), ("torch", "opacus ghost"), ("jax", "jax vmap")]
    for base, label in pairs:
        if base in times and label in times:
            figures[f"{name}: {label} / {base}, best rounds"] = min(times[label]) / min(times[base])
            figures[f"{name}: {label} / {base}, median rounds"] = median(times[label]) / median(times[base])
    figures[f"{name}: private / plain, MB"] = figures[f"{name}: private, MB"] / figures[f"{name}: plain, MB"]
    return figures


def table(figures: dict[str, float], names: list[str]) -> str:
    """The figures as a Markdown table, one line per model and contestant."""
    lines = ["| model | step | ms | over its plain step (median) | MB |", "|---|---|---|---|---|"]
    for name in names:
        for label in ("plain", "private", "torch", "opacus hooks", "opacus ghost", "jax", "jax vmap"):
            key = f"{name}: {label}, ms"
            if key not in figures:
                continue
            ratio, middle = (
                next((v for k, v in figures.items() if k.startswith(f"{name}: {label} / ") and k.endswith(end)), None)
                for end in ("best rounds", "median rounds")
            )
            size = figures.get(f"{name}: {label}, MB")
            shown = f"{ratio:.2f} ({middle:.2f})" if ratio is not None and middle is not None else ""
            lines.append(f"| {name} | {label} | {figures[key]:.2f} | {shown} | {f'{size:.1f}' if size else ''} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, save the figures."""
    names = sys.argv[1:] or list(cost_models.MODELS)
    threads = harness.machine()["threads"]
    peers = Peers(threads)
    figures: dict[str, float] = {}
    try:
        for name in names:
            figures |= measure(name, threads, peers)
    finally:
        peers.close()
    print(table(figures, names))
    if not PEERS.exists():
        print("peers are not installed: `make bench-peers`")
    if names == list(cost_models.MODELS):
        harness.save("private_cost", figures)


if __name__ == "__main__":
    main()
