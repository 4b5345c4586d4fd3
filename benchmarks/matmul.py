"""Matrix products against numpy's BLAS, interleaved in one run, as ratios (above 1: fluidc is faster)."""

from __future__ import annotations

import harness
import numpy as np

from fluidc.compiler.codegen.target import BuildOptions, build
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.runtime.engine import aligned_copy

# (M, K, N, transposed a, transposed b)
SHAPES = {
    "256x784x512": (256, 784, 512, False, False),
    "784x256x512 TN": (784, 256, 512, True, False),
    "256x512x256 NT": (256, 512, 256, False, True),
    "256x512x10": (256, 512, 10, False, False),
    "1024x1024x1024": (1024, 1024, 1024, False, False),
}


def product(name: str, m: int, k: int, n: int, ta: bool, tb: bool) -> Function:
    """A function of one matrix product."""
    b = OpBuilder()
    x = Value(TensorType(DType.F32, (k, m) if ta else (m, k)), "x")
    w = Value(TensorType(DType.F32, (n, k) if tb else (k, n)), "w")
    y = b.matmul(x, w, ta=ta, tb=tb)
    return Function(name, (Param("x", x), Param("w", w)), tuple(b.ops), (Output("y", y),))


def main() -> dict[str, float]:
    """numpy's seconds over fluidc's, per shape."""
    functions = tuple(product(f"product{i}", *shape) for i, shape in enumerate(SHAPES.values()))
    built = build(Module(Stage.TARGET, (), functions), "cpu", BuildOptions(threads=harness.machine()["threads"]))
    engine = built.engine()
    rng = np.random.default_rng(0)
    ratios: dict[str, float] = {}
    for i, (name, (m, k, n, ta, tb)) in enumerate(SHAPES.items()):
        x = aligned_copy(rng.normal(size=(k, m) if ta else (m, k)).astype(np.float32))
        w = aligned_copy(rng.normal(size=(n, k) if tb else (k, n)).astype(np.float32))
        handles = [engine.tensor(x), engine.tensor(w)]
        left, right = (x.T if ta else x), (w.T if tb else w)
        best = harness.interleaved(
            {
                "numpy": lambda left=left, right=right: left @ right,
                "fluidc": lambda i=i, handles=handles: engine.call(f"product{i}", handles),
            },
            rounds=12,
            calls=max(2, int(2e9 / (2 * m * k * n))),
        )
        ratios[name] = best["numpy"] / best["fluidc"]
    return ratios


if __name__ == "__main__":
    ratios = main()
    for name, ratio in ratios.items():
        print(f"{name:18} {ratio:5.2f} x numpy")
    harness.save("matmul", ratios)
