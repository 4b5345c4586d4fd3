"""The kit for GPU machines, written and run on the emulated device: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import cuda_cases
import cuda_steps

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def write_and_run(folder: Path, wrong: bool) -> tuple[int, str]:
    """A kit with few op cases and one small model; what `gpu.main` returns and prints.  ``wrong``: expects a lie."""
    cuda_steps.compile_for_device()
    sys.path.insert(0, str(BENCHMARKS))
    import gpu_kit

    from fluidc.compiler.codegen.built import BuildOptions
    from fluidc.frontend.bench.models import Benchmark, Mlp

    small = Mlp(6, (8,), 3)
    models: Any = gpu_kit
    models.MODELS = {"mlp": Benchmark(small, 4, "small", small)}
    jobs = [(cuda_cases.IDS[number], cuda_cases.job_of(number)) for number in (0, 40, 200)]
    if wrong:
        jobs[1][1].expected[0][...] += 1
    gpu_kit.write_kit(folder, ["mlp"], BuildOptions("x86-64-v3"), jobs)
    sys.path.insert(0, str(folder))
    import gpu

    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = gpu.main(["--out", str(folder / "found.json"), "--seconds", "0.01", "--rounds", "1"])
    return code, said.getvalue()
