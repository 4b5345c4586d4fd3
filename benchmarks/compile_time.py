"""Seconds to compile for the CPU, `import tvm` apart: the first time, and found on disk."""

from __future__ import annotations

import os
import tempfile
import time
import warnings

import digits
import harness

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import Source, compile_source
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.bench.step import source


def seconds(source: Source, batch: int, options: BuildOptions) -> float:
    """From the captured module to the bytes of an artifact."""
    start = time.perf_counter()
    compile_source(source, batch=batch, options=options, keep_ir=True).artifact().to_bytes()
    return time.perf_counter() - start


def main() -> dict[str, float]:
    """Figures in seconds."""
    start = time.perf_counter()
    import tvm.relax  # noqa: F401

    figures = {"import tvm": time.perf_counter() - start}
    warnings.simplefilter("ignore")
    options = BuildOptions(threads=harness.machine()["threads"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FLUIDC_CACHE"] = folder
        for private in (False, True):
            kind = "private" if private else "plain"
            programs = {"digits": (digits.source(private=private), digits.BATCH)}
            for name in ("mlp", "resnet"):
                model = BENCHMARKS[name]
                programs[name] = (source(model.model, model.batch, private=private), model.batch)
            for name, (program, batch) in programs.items():
                figures[f"{name} {kind}"] = seconds(program, batch, options)
                figures[f"{name} {kind}, kept"] = seconds(program, batch, options)
    return figures


if __name__ == "__main__":
    figures = main()
    for name, taken in figures.items():
        print(f"{name:32} {taken:6.3f} s")
    harness.save("compile_time", figures)
