"""Prints by how many megabytes this process grows when it runs three steps of an artifact.

Usage: cost_memory.py ARTIFACT MODEL THREADS.  Code is loaded first: growth is the state, the feeds' copies, and
what the steps allocate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cost_models

from fluidc.runtime.artifact import Artifact
from fluidc.runtime.engines import engine_for
from fluidc.runtime.stepper import Stepper


def resident(field: str) -> int:
    """Kilobytes resident: now (``VmRSS``), or at most (``VmHWM``)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def main(path: str, name: str, threads: str) -> None:
    artifact = Artifact.from_bytes(Path(path).read_bytes(), path)
    engine = engine_for(artifact, int(threads))
    Path("/proc/self/clear_refs").write_text("5")  # the maximum starts anew
    before = resident("VmRSS")
    manifest = artifact.manifest
    stepper = Stepper(manifest, engine, cost_models.state(manifest))
    step = cost_models.step(stepper, name, private=manifest.privacy is not None)
    for _ in range(3):
        step()
    print((resident("VmHWM") - before) / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
