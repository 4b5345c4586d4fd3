"""A step on different numbers of threads: no race, the same bits on one build, the same numbers on all."""

from __future__ import annotations

import numpy as np
import pytest

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import compile_source
from fluidc.frontend.bench.models import BENCHMARKS, Mlp, Model
from fluidc.frontend.bench.step import feeds, source, state, take_steps, weights
from fluidc.runtime.buffers import Arrays
from fluidc.runtime.tvm_engine import TvmEngine


# The machine may have fewer cores, and a test before this one a smaller pool.
@pytest.mark.filterwarnings("ignore:.* threads")
@pytest.mark.parametrize(
    ("model", "batch", "private"),
    [(Mlp(200, (130, 70)), 96, True), (BENCHMARKS["cnn"].small, 32, False)],
    ids=["private mlp", "plain cnn"],
)
def test_one_two_and_four_threads(model: Model, batch: int, private: bool) -> None:
    program = source(model, batch, private=private)
    batches = feeds(model, batch)
    results: list[dict[str, np.ndarray]] = []
    for cut in (1, 2, 4):
        compiled = compile_source(program, batch=batch, options=BuildOptions(threads=cut))
        (library,) = compiled.built.members().values()
        found: list[dict[str, np.ndarray]] = []
        for threads in (1, 2, 4, 2):
            held = state(compiled.manifest, weights(program))
            step = take_steps(compiled.manifest, TvmEngine(library, threads), held, batches, bytes(32))
            losses = [step() for _ in range(3)]
            found.append({"losses": np.array(losses), **Arrays(held)})
        for other in found[1:]:
            for name, value in found[0].items():
                np.testing.assert_array_equal(value, other[name], err_msg=name)
        results.append(found[0])
    for other in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_allclose(value, other[name], rtol=1e-5, atol=1e-6, err_msg=name)
