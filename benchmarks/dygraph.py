"""Eager mode: what an op costs beside its arithmetic, and a training step beside the static one and Paddle's.

python dygraph.py

Every pair is measured in one process, in turns.  PADDLE_PYTHON names an interpreter that has Paddle 1.8.5; without it
Paddle is left out.  It runs this file under Python 3.7, so what needs fluidc is imported in `main`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

STEPS, ROUNDS, ROWS = 30, 5, 256


def seconds(call: Callable[[], object], times: int) -> float:
    """Median of ``times`` calls."""
    found: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return median(found)


def data() -> tuple[Any, Any]:
    """A batch of images and labels."""
    rng = np.random.RandomState(0)
    return rng.standard_normal((ROWS, 784)).astype("float32"), rng.randint(0, 10, (ROWS, 1)).astype("int64")


def dygraph_step(fluid: Any, optimizer: str) -> Callable[[], object]:
    """One step of a 784-512-512-10 classifier in eager mode, for either implementation of fluid."""
    layers, dygraph = fluid.layers, fluid.dygraph
    net = dygraph.Sequential(
        dygraph.Linear(784, 512, act="relu"), dygraph.Linear(512, 512, act="relu"), dygraph.Linear(512, 10)
    )
    rule = getattr(fluid.optimizer, optimizer)(0.01, parameter_list=net.parameters())
    image, label = data()

    def step() -> object:
        logits = net(dygraph.to_variable(image))
        loss = layers.mean(layers.softmax_with_cross_entropy(logits, dygraph.to_variable(label)))
        loss.backward()
        rule.minimize(loss)
        net.clear_gradients()
        return loss.numpy()

    return step


def chain(fluid: Any, length: int = 100) -> Callable[[], object]:
    """Additions of tiny tensors, and one look at the end."""
    x = fluid.dygraph.to_variable(np.ones((4, 4), "float32"))

    def run() -> object:
        y = x
        for _ in range(length):
            y = y + x
        return y.numpy()

    return run


def static_step(fluid: Any, optimizer: str) -> Callable[[], object]:
    """The same classifier as a Program."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup):
        image, label = fluid.data("image", [None, 784]), fluid.data("label", [None, 1], "int64")
        h = fluid.layers.fc(fluid.layers.fc(image, 512, act="relu"), 512, act="relu")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(h, 10), label))
        getattr(fluid.optimizer, optimizer)(0.01).minimize(loss)
    exe = fluid.Executor(fluid.CPUPlace())
    exe.run(startup)
    images, labels = data()
    return lambda: exe.run(main, feed={"image": images, "label": labels}, fetch_list=[loss])


def paddle() -> None:
    """Print the same of Paddle, which runs in an interpreter of its own."""
    import paddle.fluid as fluid  # type: ignore[import-not-found]

    with fluid.dygraph.guard(fluid.CPUPlace()):
        for call in (chain(fluid), dygraph_step(fluid, "SGD"), dygraph_step(fluid, "Adam")):
            seconds(call, 5)
            print(min(seconds(call, STEPS) for _ in range(ROUNDS)))


def main() -> None:
    """Measure, print and store."""
    import harness

    import fluidc.frontend as fluid
    from fluidc.frontend.bench.machine import load, machine
    from fluidc.runtime.threads import thread_count

    threads, before = thread_count(), load()
    figures: dict[str, float] = {}
    with fluid.dygraph.guard():
        call = chain(fluid)
        seconds(call, 5)
        figures["fluidc: op, us"] = seconds(call, 50) / 100 * 1e6
    for optimizer in ("SGD", "Adam"):
        static = static_step(fluid, optimizer)
        with fluid.dygraph.guard():
            eager = dygraph_step(fluid, optimizer)
            seconds(eager, 5)
            seconds(static, 5)
            pairs = [(seconds(static, STEPS), seconds(eager, STEPS)) for _ in range(ROUNDS)]
        figures[f"fluidc: {optimizer} static, ms"] = min(pair[0] for pair in pairs) * 1e3
        figures[f"fluidc: {optimizer} dygraph, ms"] = min(pair[1] for pair in pairs) * 1e3
        figures[f"{optimizer}: dygraph / static"] = median(eager / static for static, eager in pairs)
    interpreter = os.environ.get("PADDLE_PYTHON")
    if interpreter:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [interpreter, "-W", "ignore", __file__, "--paddle"]
        run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        op, sgd, adam = map(float, run.stdout.split())
        figures["Paddle: op, us"] = op / 100 * 1e6
        figures["Paddle: SGD dygraph, ms"] = sgd * 1e3
        figures["Paddle: Adam dygraph, ms"] = adam * 1e3
    for name, value in figures.items():
        print(f"{name:28} {value:8.2f}")
    harness.save("dygraph", figures, machine(threads, before))


if __name__ == "__main__":
    if sys.argv[1:] == ["--paddle"]:
        paddle()
    else:
        main()
