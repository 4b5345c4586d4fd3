"""By how much a fresh process grows when it runs steps of an artifact: ``python -m fluidc.frontend.bench.memory``.

Code is loaded before: growth is the state, the feeds' copies, and what the steps allocate.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ...compiler.driver import Compiled
from ...runtime.artifact import Artifact
from ...runtime.engines import engine_for
from ...runtime.errors import FluidcError
from .models import BENCHMARKS
from .step import feeds, source, state, take_steps, weights

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth(compiled: Compiled, name: str, batch: int, threads: int) -> float | None:
    """Megabytes by which a fresh process grows over three steps; None where the system does not tell (not Linux).

    Raises:
        FluidcError: The process failed.
    """
    if not _RESET.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.fluidc"
        compiled.artifact().write(path)
        run = subprocess.run(
            [sys.executable, "-m", __name__, str(path), name, str(batch), str(threads)],
            capture_output=True, text=True, check=False, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    if run.returncode:
        raise FluidcError(
            "the process that measures memory failed", where=f"model {name}", hint=run.stderr.strip().splitlines()[-1]
        )
    return float(run.stdout)


def resident(field: str) -> int:
    """Kilobytes resident: now (``VmRSS``), or at most (``VmHWM``)."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {field}")


def main(path: str, name: str, batch: str, threads: str) -> None:
    """Print the megabytes."""
    artifact = Artifact.read(Path(path))
    manifest, model, rows = artifact.manifest, BENCHMARKS[name].model, int(batch)
    engine = engine_for(artifact, int(threads))
    given, data = weights(source(model, rows, private=False)), feeds(model, rows)
    _RESET.write_text("5")  # the maximum starts anew
    before = resident("VmRSS")
    step = take_steps(manifest, engine, state(manifest, given), data)
    for _ in range(3):
        step()
    print((resident("VmHWM") - before) / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
