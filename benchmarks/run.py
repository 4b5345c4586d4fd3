"""Runs every benchmark in a process of its own (thread pools disturb each other) and prints the figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fluidc.runtime.threads import available_cores

HERE = Path(__file__).resolve().parent
CORES = available_cores()
# Kernels with one thread too: on a shared machine the other cores are not always there.
BENCHMARKS = (
    ("compile_time", CORES), ("session_overhead", CORES), ("noise", CORES), ("kernels", 1), ("kernels", CORES),
    ("growth", CORES), ("steps", CORES), ("cold_start", CORES),
)  # fmt: skip


def main() -> None:
    """One process per benchmark and number of threads."""
    for name, threads in BENCHMARKS:
        print(f"-- {name} ({threads} threads)", flush=True)
        settings = {"FLUIDC_THREADS": str(threads)}
        subprocess.run([sys.executable, HERE / f"{name}.py"], check=True, env=os.environ | settings, cwd=HERE)


if __name__ == "__main__":
    main()
