"""A training step of one recurrent layer over sequences of different lengths, under fluidc and under Paddle 1.8.5.

python recurrent.py [CASE ...]

A case is LAYER-ROWS-UNITS-SHORTEST-LONGEST.  The tokens are projected by an fc, the layer's last tokens are classified,
and SGD updates everything: forward, backward and update.  How both libraries are run is said in classic.py, whose
processes take turns here, too.  Lengths are drawn anew for every batch, so that no code is made for one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from statistics import median
from typing import Any

import numpy as np

CASES = (
    "lstm-64-128-20-100",
    "lstm-64-128-100-100",
    "lstm-128-256-20-50",
    "lstm-32-512-20-50",
    "gru-64-128-20-100",
    "gru-128-256-20-50",
    "gru-32-512-20-50",
)
BATCHES, BURST, ROUNDS = 6, 0.4, 5


def build(fluid: Any, case: str) -> tuple[Any, Any, Any]:
    """The program, its startup and its loss."""
    layer, _, units = case.split("-")[:3]
    main, startup, L = fluid.Program(), fluid.Program(), fluid.layers
    main.random_seed = startup.random_seed = 1
    width = int(units)
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        x, y = L.data("x", [width], lod_level=1), L.data("y", [1], dtype="int64")
        if layer == "lstm":
            # Paddle's LSTMs of 8, 16, ... units get no gradient through the cell on processors with AVX.
            rows = L.dynamic_lstm(L.fc(x, 4 * width), 4 * width)[0]
        else:
            rows = L.dynamic_gru(L.fc(x, 3 * width), width)
        chances = L.fc(L.sequence_last_step(rows), 2, act="softmax")
        loss = L.mean(L.cross_entropy(chances, y))
        fluid.optimizer.SGD(0.01).minimize(loss)
    return main, startup, loss


def batches(fluid: Any, case: str) -> list[dict[str, Any]]:
    """Feeds of random tokens."""
    rows, units, shortest, longest = map(int, case.split("-")[1:])
    rng, found = np.random.RandomState(0), []
    for _ in range(BATCHES):
        lengths = rng.randint(shortest, longest + 1, rows)
        tokens = rng.standard_normal((lengths.sum(), units)).astype("float32")
        labels = rng.randint(0, 2, (rows, 1)).astype("int64")
        x = fluid.create_lod_tensor(tokens, [lengths.tolist()], fluid.CPUPlace())
        found.append({"x": x, "y": labels})
    return found


def serve(library: str, case: str) -> None:
    """Answer each line on standard input: an empty one with a burst's seconds per step."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    if library == "fluidc":
        import fluidc.frontend as fluid
    else:
        import paddle.fluid as fluid  # type: ignore[import-not-found,no-redef]
    main, startup, loss = build(fluid, case)
    exe, feeds = fluid.Executor(fluid.CPUPlace()), batches(fluid, case)
    exe.run(startup)

    def losses() -> list[float]:
        return [float(np.asarray(exe.run(main, feed=feed, fetch_list=[loss])[0]).reshape(-1)[0]) for feed in feeds]

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
            losses()
        answers.write(json.dumps((time.perf_counter() - start) / passes / BATCHES) + "\n")
        answers.flush()


def measured(case: str, paddle: str, threads: int) -> dict[str, float]:
    """The figures of one case."""
    from classic import Child

    ours = Child(sys.executable, "fluidc", case, threads, __file__)
    theirs = Child(paddle, "paddle", case, threads, __file__)
    # From the second step on, LSTMs learn differently: see `build`.
    kept = 1 if case.startswith("lstm") else BATCHES
    np.testing.assert_allclose(ours.losses[:kept], theirs.losses[:kept], rtol=1e-4, err_msg=case)
    pairs = [(ours.burst(), theirs.burst()) for _ in range(ROUNDS)]
    ours.stop()
    theirs.stop()
    return {
        "fluidc, ms": median(pair[0] for pair in pairs) * 1e3,
        "Paddle, ms": median(pair[1] for pair in pairs) * 1e3,
        "Paddle / fluidc": median(theirs / ours for ours, theirs in pairs),
        "compiling, s": ours.compiling,
    }


def main(cases: list[str]) -> None:
    """Measure, print and store; figures of cases that are not named stay as they are."""
    import harness

    from fluidc.frontend.bench.machine import load as machine_load
    from fluidc.frontend.bench.machine import machine
    from fluidc.runtime.threads import thread_count

    paddle = os.environ.get("PADDLE_PYTHON")
    if paddle is None:
        raise SystemExit("PADDLE_PYTHON must name an interpreter that has Paddle 1.8.5")
    threads, before = thread_count(), machine_load()
    figures = dict(harness.figures("recurrent", threads))
    print(f"{'':24}{'fluidc, ms':>12}{'Paddle, ms':>12}{'ratio':>8}{'compiling, s':>14}")
    for case in cases or CASES:
        row = measured(case, paddle, threads)
        figures[case] = row
        ours, theirs, ratio, compiling = row.values()
        print(f"{case:24}{ours:12.3f}{theirs:12.3f}{ratio:8.2f}{compiling:14.2f}", flush=True)
        harness.save("recurrent", {key: figures[key] for key in CASES if key in figures}, machine(threads, before))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main(sys.argv[1:])
