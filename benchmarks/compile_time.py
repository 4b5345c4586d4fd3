"""Seconds to compile training steps for the CPU, each in a process of its own; `import tvm` apart.

python compile_time.py [MODEL...]     of `fluidc bench`; mlp and resnet if left out
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings

import harness

from fluidc.compiler.driver import compile_source
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.bench.step import source
from fluidc.runtime.threads import thread_count


def compile_once(name: str, private: bool) -> None:
    """Print the seconds of `import tvm`, of compiling, of its code generation, and of linking the file."""
    start = time.perf_counter()
    import tvm.relax  # noqa: F401

    imported = time.perf_counter() - start
    warnings.simplefilter("ignore")
    chosen = BENCHMARKS[name]
    program = source(chosen.model, chosen.batch, private=private)
    start = time.perf_counter()
    compiled = compile_source(program, batch=chosen.batch)
    total = time.perf_counter() - start
    start = time.perf_counter()
    compiled.artifact().to_bytes()
    print(imported, total, dict(compiled.trace.timings)["codegen"], time.perf_counter() - start)


def main(names: list[str]) -> None:
    """The first and the second compilation of every model: the second finds the first one's kernels, where kept."""
    before, figures = load(), dict[str, float]()
    for name in names:
        for kind in ("plain", "private"):
            for turn in ("first", "again"):
                command = [sys.executable, __file__, "--once", name, kind]
                run = subprocess.run(command, check=True, capture_output=True, text=True)
                parts = zip(
                    ("import tvm", "compile", "code generation", "link"), map(float, run.stdout.split()), strict=True
                )
                figures |= {f"{name} {kind}, {turn}: {part}": seconds for part, seconds in parts}
                print(
                    f"{name:12} {kind:8} {turn:6}", *(f"{s:6.2f} s" for s in map(float, run.stdout.split())), flush=True
                )
    harness.save("compile_time", figures, machine(thread_count(), before))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        compile_once(sys.argv[2], sys.argv[3] == "private")
    else:
        main(sys.argv[1:] or ["mlp", "resnet"])
