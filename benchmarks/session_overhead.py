"""Microseconds that one run costs beyond the compiled function itself, with ten state tensors."""

from __future__ import annotations

import harness
import numpy as np

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.bench.timing import rounds_of
from fluidc.frontend.lower import lower
from fluidc.runtime.engine import Buffer, aligned_copy
from fluidc.runtime.stepper import Stepper
from fluidc.runtime.threads import thread_count


def main() -> dict[str, float]:
    """Figures in microseconds."""
    main_program, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main_program, startup), fluid.unique_name.guard():
        x = fluid.layers.data("x", [8], dtype="float32")
        for _ in range(5):
            x = fluid.layers.fc(x, 8)
        loss = fluid.layers.mean(x)
    compiled = compile_source(lower(main_program, fetches=(loss.name,)), batch=4)
    engine = compiled.built.engine()
    state = {s.name: Buffer(aligned_copy(np.zeros(s.shape, np.float32))) for s in compiled.manifest.state}
    assert len(state) == 10
    stepper = Stepper(compiled.manifest, engine, state)
    feed = aligned_copy(np.ones((4, 8), np.float32))
    spec = compiled.manifest.function("step")
    handles = [engine.state(state[b.name]) if b.kind == "state" else engine.tensor(feed) for b in spec.inputs]
    calls = {"engine": lambda: engine.call("step", handles), "stepper": lambda: stepper.run("step", {"x": feed})}
    best = {name: min(seconds) for name, seconds in rounds_of(calls, rounds=20, seconds=0.05).items()}
    return {
        "compiled function": 1e6 * best["engine"],
        "one run": 1e6 * best["stepper"],
        "overhead": 1e6 * (best["stepper"] - best["engine"]),
    }


if __name__ == "__main__":
    before, figures = load(), main()
    for name, value in figures.items():
        print(f"{name:20} {value:8.1f} us")
    harness.save("session_overhead", figures, machine(thread_count(), before))
