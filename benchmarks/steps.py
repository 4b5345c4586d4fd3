"""`fluidc bench` for every model beside every peer that is installed; results/steps-THREADS.json, .png, README's table.

    python steps.py                 everything
    python steps.py mlp --rounds 5  one model, in place of its old figures; further options go to `fluidc bench`

One process per model, so that none inherits another's memory or thread pools.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import readme_table

from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.bench.report import Report, draw
from fluidc.runtime.threads import thread_count

HERE = Path(__file__).resolve().parent
PEERS = {
    ".venv-peers": ("torch_peer.py", "jax_peer.py"),
    ".venv-paddle": ("paddle_peer.py",),
}


def commands() -> list[str]:
    """The command lines of the peers that `make bench-peers` has installed."""
    found: list[str] = []
    for folder, scripts in PEERS.items():
        python = HERE.parent / folder / "bin" / "python"
        if python.exists():
            found += [f"{python} {HERE / 'peers' / script}" for script in scripts]
        else:
            print(f"{folder} is not there: `make bench-peers` installs it", file=sys.stderr)
    return found


def measured(name: str, options: list[str]) -> Report:
    """One model in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.json"
        peers = [word for line in commands() for word in ("--with", line)]
        command = [sys.executable, "-m", "fluidc.frontend.cli", "bench", name, "--memory", "-o", file, *peers, *options]
        subprocess.run(command, check=True)
        return Report.from_json(file.read_text())


def merged(old: Report | None, new: Report) -> Report:
    """Figures of the models measured now in place of old ones; a noisy run marks the whole."""
    if old is None:
        return new
    models = {name: (old.models | new.models)[name] for name in BENCHMARKS if name in old.models | new.models}
    machine = replace(
        new.machine,
        load=max(old.machine.load, new.machine.load),
        noisy=old.machine.noisy or new.machine.noisy,
        versions=old.machine.versions | new.machine.versions,
    )
    return Report(models, machine)


def main() -> None:
    arguments = sys.argv[1:]
    names = [word for word in arguments if word in BENCHMARKS] or list(BENCHMARKS)
    options = [word for word in arguments if word not in BENCHMARKS]
    threads = thread_count()
    results = HERE / "results" / f"steps-{threads}.json"
    old = Report.from_json(results.read_text()) if results.exists() and len(names) < len(BENCHMARKS) else None
    for name in names:
        old = merged(old, measured(name, ["--threads", str(threads), *options]))
        results.write_text(old.to_json())
    assert old is not None
    draw(old, results.with_suffix(".png"))
    if results == readme_table.STEPS:
        readme_table.main()


if __name__ == "__main__":
    main()
