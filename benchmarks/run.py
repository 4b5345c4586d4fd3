"""Runs every benchmark in a process of its own (thread pools disturb each other) and prints the figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0))
# Matrix products with one thread too: on a shared machine the other cores are not always there.
BENCHMARKS = (
    ("compile_time", CORES), ("session_overhead", CORES), ("matmul", 1), ("matmul", CORES),
    ("private_cost", 1), ("private_cost", CORES),
)  # fmt: skip


def main() -> None:
    """One process per benchmark and number of threads."""
    for name, threads in BENCHMARKS:
        settings = {
            "TVM_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": str(threads),
            "TVM_BIND_THREADS": "0",
            "TVM_THREAD_POOL_SPIN_COUNT": "0",
        }
        print(f"-- {name} ({threads} threads)", flush=True)
        subprocess.run([sys.executable, HERE / f"{name}.py"], check=True, env=os.environ | settings, cwd=HERE)


if __name__ == "__main__":
    main()
