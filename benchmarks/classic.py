"""A training step of each program in examples/classic, under fluidc and under the real Paddle 1.8.5.

python classic.py [NAME ...]

PADDLE_PYTHON names an interpreter that has Paddle 1.8.5 (tests/golden/make_paddle185 says how to make one).  Each
program runs in two processes, one per library, that take turns: bursts of a third of a second over the same twenty
batches, feeding and fetching included.  Both are kept on as many cores as they have threads.  Paddle gets its threads
by OMP_NUM_THREADS, MKL_NUM_THREADS and FLAGS_paddle_num_threads, and MKL_DEBUG_CPU_TYPE=5, without which its MKL takes
its slowest path on processors that are not Intel's; Paddle's kernels of oneDNN (FLAGS_use_mkldnn) cannot train these
programs, they crash.  LSTMs are as wide as Paddle's vector kernel wants them, where its gradients are wrong
(docs/adr/0044): only first losses are compared of them, in the tests whole curves of narrower ones.

The first pass over the batches is not measured: there fluidc compiles.  What it takes longer than a later pass is given
as the time to compile.  With two threads, the table of docs/old_programs.md is written anew.

This file also runs under Paddle's Python 3.7, so what needs fluidc is imported in `main`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "support"))

from classic_programs import NAMES, load  # noqa: E402 - both interpreters find it there

BATCHES, BURST, ROUNDS = 20, 0.33, 7
VECTORS = {"sentiment_lstm": 256, "label_semantic_roles": 128}
"""Programs with an LSTM, and the HIDDEN, four times its units, that Paddle's vector kernel takes."""


def serve(library: str, name: str) -> None:
    """Answer each line on standard input: an empty one with a burst's seconds per step."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    if library == "fluidc":
        import types

        import fluidc.frontend as fluid

        sys.modules["paddle"] = types.ModuleType("paddle")
        sys.modules["paddle"].__dict__["fluid"] = sys.modules["paddle.fluid"] = fluid
    import paddle.fluid as fluid  # type: ignore[import-not-found,no-redef]

    module = load(name)
    if name in VECTORS:
        module.HIDDEN = VECTORS[name]
    model = module.build()
    exe = fluid.Executor(fluid.CPUPlace())
    exe.run(model.startup)
    batches = list(module.batches(BATCHES))

    def losses() -> list[float]:
        return [float(np.asarray(module.step(exe, model, batch)[0]).reshape(-1)[0]) for batch in batches]

    start = time.perf_counter()
    first = losses()
    cold = time.perf_counter() - start
    start = time.perf_counter()
    losses()
    warm = time.perf_counter() - start
    answers.write(json.dumps({"losses": first, "compiling": cold - warm}) + "\n")
    answers.flush()
    passes = max(1, round(BURST / warm))
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(passes):
            for batch in batches:
                module.step(exe, model, batch)
        answers.write(json.dumps((time.perf_counter() - start) / passes / BATCHES) + "\n")
        answers.flush()


class Child:
    """A process that trains one program with one library, as ``script --serve`` does."""

    def __init__(self, interpreter: str, library: str, name: str, threads: int, script: str = __file__) -> None:
        cores = sorted(os.sched_getaffinity(0))[:threads]
        settings = {"FLUIDC_THREADS": str(threads), "FLUIDC_CACHE": "", "MKL_DEBUG_CPU_TYPE": "5"}
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "FLAGS_paddle_num_threads"):
            settings[variable] = str(threads)
        self.process = subprocess.Popen(
            [interpreter, "-W", "ignore", script, "--serve", library, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | settings,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        first = json.loads(self._line())
        self.losses, self.compiling = first["losses"], first["compiling"]

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} failed")
        return line

    def burst(self) -> float:
        """Seconds per step."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._line())

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measured(name: str, paddle: str, threads: int) -> dict[str, float]:
    """The figures of one program."""
    ours, theirs = Child(sys.executable, "fluidc", name, threads), Child(paddle, "paddle", name, threads)
    compared = 1 if name in VECTORS else BATCHES
    np.testing.assert_allclose(ours.losses[:compared], theirs.losses[:compared], rtol=1e-4, err_msg=name)
    pairs = [(ours.burst(), theirs.burst()) for _ in range(ROUNDS)]
    ours.stop()
    theirs.stop()
    return {
        "fluidc, ms": median(pair[0] for pair in pairs) * 1e3,
        "Paddle, ms": median(pair[1] for pair in pairs) * 1e3,
        "Paddle / fluidc": median(theirs / ours for ours, theirs in pairs),
        "compiling, s": ours.compiling,
    }


def write_table(figures: dict[str, dict[str, float]]) -> None:
    """Put the figures where the documentation has them."""
    path = HERE.parent / "docs" / "old_programs.md"
    rows = [
        f"| {name} | {f['fluidc, ms']:.3g} | {f['Paddle, ms']:.3g} | {f['Paddle / fluidc']:.1f} | "
        f"{f['compiling, s']:.1f} |"
        for name, f in figures.items()
    ]
    head = ["| program | fluidc, ms | Paddle 1.8.5, ms | ratio | compiling, s |", "|---|---|---|---|---|"]
    before, rest = path.read_text().split("<!-- classic: made by benchmarks/classic.py -->\n")
    _, after = rest.split("<!-- end of classic -->")
    marks = "<!-- classic: made by benchmarks/classic.py -->\n", "<!-- end of classic -->"
    path.write_text(before + marks[0] + "\n" + "\n".join(head + rows) + "\n\n" + marks[1] + after)


def main(names: list[str]) -> None:
    """Measure, print and store; figures of programs that are not named stay as they are."""
    import harness

    from fluidc.frontend.bench.machine import load as machine_load
    from fluidc.frontend.bench.machine import machine
    from fluidc.runtime.threads import thread_count

    paddle = os.environ.get("PADDLE_PYTHON")
    if paddle is None:
        raise SystemExit("PADDLE_PYTHON must name an interpreter that has Paddle 1.8.5")
    threads, before = thread_count(), machine_load()
    figures: Any = dict(harness.figures("classic", threads))
    print(f"{'':24}{'fluidc, ms':>12}{'Paddle, ms':>12}{'ratio':>8}{'compiling, s':>14}")
    for name in names or NAMES:
        row = measured(name, paddle, threads)
        figures[name] = row
        ours, theirs, ratio, compiling = row.values()
        print(f"{name:24}{ours:12.3f}{theirs:12.3f}{ratio:8.2f}{compiling:14.2f}", flush=True)
        figures = {key: figures[key] for key in NAMES if key in figures}
        harness.save("classic", figures, machine(threads, before))
    if threads == 2:
        write_table(figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main(sys.argv[1:])
