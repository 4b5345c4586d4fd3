"""What it gains to gather the next batch while a step runs: training on mapped data, with prefetch and without.

An MLP 32-10 on rows of several widths, batch 256, from a folder of .npy files: once with the files in the page cache,
once with the cache dropped before every round. Rounds take turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

import harness
import numpy as np

import fluidc.frontend as fluid
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import compile_source
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.lower import lower
from fluidc.runtime.session import Session
from fluidc.runtime.threads import thread_count

BATCH = 256
WIDTHS = (784, 16384, 65536)
BYTES = 128 << 20
LEAST_STEPS = 24
WAYS: dict[bool | None, str] = {False: "without", True: "always", None: "as measured"}


def session(width: int, threads: int) -> Session:
    program, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(program, startup), fluid.unique_name.guard():
        x, y = fluid.data("x", [None, width]), fluid.data("y", [None, 1], "int64")
        logits = fluid.layers.fc(fluid.layers.fc(x, 32, act="relu"), 10)
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, y))
        fluid.optimizer.SGD(1e-4).minimize(loss)
    source = lower(program, startup=startup, fetches=(loss.name,))
    return Session.load(
        compile_source(source, batch=BATCH, options=BuildOptions(threads=threads), keep_ir=True).artifact(), seed=1
    )


def write(folder: Path, width: int) -> int:
    """A data set of `BYTES`; returns its rows."""
    rows = BYTES // (4 * width)
    folder.mkdir()
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, width))
    random = np.random.default_rng(1)
    for start in range(0, rows, 256):
        x[start : start + 256] = random.random((min(256, rows - start), width), np.float32)
    x.flush()
    np.save(folder / "y.npy", random.integers(0, 10, (rows, 1)))
    return rows


def drop(folder: Path) -> None:
    """Have the system forget the pages of the files."""
    for file in folder.iterdir():
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--threads", type=int, help="of a step")
    args = parser.parse_args()
    before, threads = load(), thread_count(args.threads)
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as scratch:
        for width in args.widths:
            folder = Path(scratch) / str(width)
            rows = write(folder, width)
            trained, steps = session(width, threads), max(LEAST_STEPS, rows // BATCH)
            trained.train(folder, steps=2)
            for cold in (False, True):
                found: dict[bool | None, list[float]] = {way: [] for way in WAYS}
                for _ in range(args.rounds):
                    for prefetch in WAYS:
                        if cold:
                            drop(folder)
                        found[prefetch].append(trained.train(folder, steps=steps, prefetch=prefetch).seconds / steps)
                times = {told: 1e3 * median(found[way]) for way, told in WAYS.items()}
                name = f"rows of {4 * width / 1024:.0f} KiB, {'cold' if cold else 'cached'}"
                figures[name] = {f"{told}, ms": each for told, each in times.items()}
                shown = "  ".join(f"{told} {each:8.2f} ms" for told, each in times.items())
                print(f"{name:26} {shown}", flush=True)
    harness.save("prefetch", figures, machine(threads, before))


if __name__ == "__main__":
    main()
