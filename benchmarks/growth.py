"""How the time of a plain step grows with batch and width; a plot of time per floating-point operation.

The MLP of `fluidc bench` at batches of 32 to 4096, and one of three layers of equal width, 64 to 4096, at batch 256.
Linear means a level line: time over FLOPs stays where it is, beyond what caches and launches explain.
"""

from __future__ import annotations

import argparse
from statistics import median

import harness

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import compile_source
from fluidc.frontend.bench.compare import flops
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.bench.models import Mlp, Model
from fluidc.frontend.bench.step import feeds, source, step_of
from fluidc.frontend.bench.timing import burst
from fluidc.runtime.threads import thread_count

BATCHES = [2**n for n in range(5, 13)]
WIDTHS = [2**n for n in range(6, 13)]
PICTURE = harness.RESULTS / "growth.png"


def measured(model: Model, batch: int, threads: int, rounds: int) -> tuple[float, float]:
    """Seconds of a step, and its floating-point operations."""
    program = source(model, batch, private=False)
    compiled = compile_source(program, batch=batch, options=BuildOptions(threads=threads))
    step, count = step_of(compiled, feeds(model, batch)), flops(compiled.built.kernels)
    assert count is not None
    return median(burst(step, 0.2) for _ in range(rounds)), count


def draw(found: dict[str, dict[int, tuple[float, float]]], threads: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, 2), found.items(), strict=True):
        rates = [1e12 * seconds / count for seconds, count in points.values()]
        axes.plot(list(points), rates, marker="o")
        axes.axhspan(rates[-1] / 1.25, rates[-1] * 1.25, alpha=0.15, label="within 25 % of the largest")
        axes.set_xscale("log", base=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(name)
        axes.set_ylabel("ps per floating-point operation")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(f"Plain step of an MLP, {threads} threads")
    figure.savefig(PICTURE, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--largest", type=int, default=4096, help="leave out larger batches and widths")
    args = parser.parse_args()
    before, threads = load(), thread_count()
    found: dict[str, dict[int, tuple[float, float]]] = {"batch": {}, "width": {}}
    for batch in (b for b in BATCHES if b <= args.largest):
        found["batch"][batch] = measured(Mlp(), batch, threads, args.rounds)
    for width in (w for w in WIDTHS if w <= args.largest):
        found["width"][width] = measured(Mlp(width, (width, width)), 256, threads, args.rounds)
    for name, points in found.items():
        for size, (seconds, count) in points.items():
            print(f"{name} {size:5}  {1e3 * seconds:9.3f} ms  {count / seconds / 1e9:6.0f} GFLOP/s", flush=True)
    if args.largest >= max(WIDTHS):
        figures = {f"{name} {size}, ms": 1e3 * s for name, points in found.items() for size, (s, _) in points.items()}
        figures |= {
            f"{name} {size}, GFLOP": c / 1e9 for name, points in found.items() for size, (_, c) in points.items()
        }
        harness.save("growth", figures, machine(threads, before))
        draw(found, threads)


if __name__ == "__main__":
    main()
