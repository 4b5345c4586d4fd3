"""Runs every benchmark in a process of its own (thread pools disturb each other) and prints the figures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHMARKS = ("compile_time", "session_overhead", "matmul")


def main() -> None:
    """One process per benchmark; threads are the cores given to this process unless TVM_NUM_THREADS says."""
    threads = os.environ.get("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    settings = {"TVM_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "TVM_BIND_THREADS": "0",
                "TVM_THREAD_POOL_SPIN_COUNT": "0"}  # fmt: skip
    for name in BENCHMARKS:
        print(f"-- {name} ({threads} threads)", flush=True)
        subprocess.run([sys.executable, HERE / f"{name}.py"], check=True, env=os.environ | settings, cwd=HERE)


if __name__ == "__main__":
    main()
