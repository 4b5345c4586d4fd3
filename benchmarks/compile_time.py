"""Seconds to compile the digits step for the CPU, `import tvm` apart."""

from __future__ import annotations

import time
import warnings

import digits
import harness

from fluidc.compiler.driver import compile_source


def main() -> dict[str, float]:
    """Figures in seconds."""
    start = time.perf_counter()
    import tvm  # noqa: F401

    figures = {"import tvm": time.perf_counter() - start}
    warnings.simplefilter("ignore")
    for private in (False, True):
        name = "private" if private else "plain"
        start = time.perf_counter()
        compiled = compile_source(digits.source(private=private), batch=digits.BATCH)
        figures[f"compile {name}"] = time.perf_counter() - start
        figures[f"compile {name}: code generation"] = dict(compiled.trace.timings)["codegen"]
        start = time.perf_counter()
        compiled.artifact().to_bytes()
        figures[f"link and pack {name}"] = time.perf_counter() - start
    return figures


if __name__ == "__main__":
    figures = main()
    for name, seconds in figures.items():
        print(f"{name:32} {seconds:6.2f} s")
    harness.save("compile_time", figures)
