"""Nanoseconds per Gaussian: ChaCha20, Box-Muller and the store, as they run inside a private update."""

from __future__ import annotations

import harness
import numpy as np

from fluidc.compiler.codegen.target import BuildOptions, build
from fluidc.compiler.ir.core import Function, Module, Output, Param, StateName, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops import dp_noise
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.bench.timing import rounds_of
from fluidc.runtime.engine import aligned_copy
from fluidc.runtime.threads import available_cores

COUNT = 1 << 20
ROUNDS = 9


def function() -> Function:
    """The noisy mean of a sum of ``COUNT`` elements."""
    b = OpBuilder()
    values = {
        "total": Value(TensorType(DType.F32, (COUNT,)), "total"),
        "key": Value(TensorType(DType.U32, (8,)), "key"),
        "draw": Value(TensorType(DType.U64, ()), "draw"),
    }
    noisy = dp_noise.AddNoise(values["total"], None, values["key"], values["draw"], 0, 1.0, 1.0, 1.0, StateName("w"))
    result = b(noisy)
    return Function("noise", tuple(Param(k, v) for k, v in values.items()), tuple(b.ops), (Output("y", result),))


def main() -> None:
    before, figures = load(), dict[str, float]()
    counts = sorted({1, min(2, available_cores()), available_cores()}, reverse=True)
    arrays = (np.zeros(COUNT, np.float32), np.arange(8, dtype=np.uint32), np.array(0, np.uint64))
    engines = {
        threads: build(Module(Stage.TARGET, (), (function(),)), "cpu", BuildOptions(threads=threads)).engine()
        for threads in counts
    }
    calls = {}
    for threads, engine in engines.items():
        handles = [engine.tensor(aligned_copy(array)) for array in arrays]
        calls[f"{threads} threads"] = lambda engine=engine, handles=handles: engine.call("noise", handles)
    for name, seconds in rounds_of(calls, rounds=ROUNDS, seconds=0.1).items():
        # The copy that a fetch makes is in it: about 0.1 ns per element.
        figures[f"{name}, ns per Gaussian"] = 1e9 * float(np.median(seconds)) / COUNT
    for name, value in figures.items():
        print(f"{name:30} {value:6.2f}")
    harness.save("noise", figures, machine(max(counts), before))


if __name__ == "__main__":
    main()
