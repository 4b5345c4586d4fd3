"""Building every benchmark model for chips that need not be there: seconds, kernels, sizes, registers and spills.

    python cuda_build.py [MODEL...] [--compilers nvrtc,nvcc] [--arch sm_80,sm_90]

Each model, plain and private, is compiled at the size that is timed, in a process of its own, with nothing kept from
before.  New figures join those in the file of results.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import harness

from fluidc.compiler.codegen.cache import Cache
from fluidc.compiler.codegen.tvm.cpu import named_cpu
from fluidc.compiler.codegen.tvm.cuda.arch import Options
from fluidc.compiler.codegen.tvm.cuda.build import compile_module
from fluidc.compiler.codegen.tvm.cuda.toolchain.architectures import Architecture
from fluidc.compiler.codegen.tvm.cuda.toolchain.compiler import Compiler
from fluidc.compiler.codegen.tvm.cuda.toolchain.embed import embedding
from fluidc.compiler.codegen.tvm.cuda.toolchain.find import VARIABLE, find_compiler
from fluidc.compiler.codegen.tvm.link import shared_library
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.bench.step import source

KINDS = ("plain", "private")
ARCHITECTURES = ("sm_80", "sm_90")


@dataclass
class Timed:
    """A compiler that is timed.

    Attributes:
        compiler: The one that does the work.
        seconds: That it took.
    """

    compiler: Compiler
    seconds: float = 0.0

    @property
    def title(self) -> str:
        return self.compiler.title

    @property
    def known(self) -> tuple[int, ...]:
        return self.compiler.known

    def translate(self, text: str, architectures: Sequence[Architecture]) -> tuple[bytes, str]:
        start = time.perf_counter()
        made = self.compiler.translate(text, architectures)
        self.seconds += time.perf_counter() - start
        return made


def build_once(name: str, private: bool, architectures: Sequence[str]) -> dict[str, object]:
    """Build a model for CUDA with the compiler that is found; returns its row of the table."""
    benchmark = BENCHMARKS[name]
    module = source(benchmark.model, benchmark.batch, private=private).module
    timed = Timed(find_compiler())
    start = time.perf_counter()
    for step in pipeline(module, batch=benchmark.batch):
        module = step.run(module)
    options = Options(named_cpu("x86-64-v3"), tuple(architectures))
    with tempfile.TemporaryDirectory() as folder, embedding(timed, architectures, Cache(Path(folder))) as embedded:
        library = shared_library(compile_module(module, options).executable, options.cpu.machine)
    total = time.perf_counter() - start
    (code,) = embedded.code
    used = code.kernels
    return {
        "compiler": timed.title,
        "architectures": list(architectures),
        "seconds": round(total, 2),
        "seconds of the compiler of CUDA C": round(timed.seconds, 2),
        "kernels": len({kernel.name for kernel in used}),
        "bytes of machine code": len(code.image),
        "bytes of module.so": len(library),
        "most registers": max(kernel.registers for kernel in used),
        "kernel with most registers": max(used, key=lambda kernel: kernel.registers).name,
        "spilling kernels": sorted({kernel.name for kernel in used if kernel.spilled}),
        "checked architectures": sorted({kernel.architecture for kernel in used}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the benchmark models for CUDA, and measure that.")
    parser.add_argument("models", nargs="*", default=list(BENCHMARKS), help="all if left out")
    parser.add_argument("--compilers", default="nvrtc,nvcc")
    parser.add_argument("--arch", default=",".join(ARCHITECTURES))
    parser.add_argument("--once", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    architectures = tuple(arguments.arch.split(","))
    warnings.simplefilter("ignore")
    if arguments.once:
        print(json.dumps(build_once(arguments.models[0], arguments.once == "private", architectures)))
        return
    figures, before = harness.figures("cuda_build", os.cpu_count() or 1), load()
    for name in arguments.models:
        for kind in KINDS:
            for compiler in arguments.compilers.split(","):
                command = [sys.executable, __file__, name, "--once", kind, "--arch", arguments.arch]
                run = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, VARIABLE: compiler}
                )
                row = json.loads(run.stdout)
                print(f"{name:12} {kind:8} {json.dumps(row)}", flush=True)
                figures[f"{name} {kind}, {compiler}"] = row
                harness.save("cuda_build", figures, machine(os.cpu_count() or 1, before))


if __name__ == "__main__":
    main()
