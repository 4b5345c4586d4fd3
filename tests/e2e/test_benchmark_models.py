"""The models of `fluidc bench` in small sizes: compiled steps equal numpy's, and themselves from run to run."""

from __future__ import annotations

import threading
import warnings
from functools import cache

import numpy as np
import pytest

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import Compiled, compile_source
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.bench.step import feeds, source, state, take_steps, weights
from fluidc.runtime.engine import Engine
from fluidc.runtime.threads import available_cores

Arrays = dict[str, np.ndarray]
KEY = bytes(range(32))
RATE = 0.1
"""Large enough for a step to move every parameter by much more than its rounding."""
ROWS, STEPS = 13, 3


@cache
def compiled(name: str, private: bool, target: str = "cpu", threads: int = 2, rows: int = ROWS) -> Compiled:
    program = source(BENCHMARKS[name].small, rows, private=private)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # more threads than cores
        return compile_source(program, target=target, batch=rows, options=BuildOptions(threads=threads))


def trained(program: Compiled, engine: Engine, name: str, rows: int = ROWS) -> tuple[list[float], Arrays]:
    """Losses of some steps, and by how much these moved the parameters."""
    before = weights(program.source)
    buffers = state(program.manifest, before)
    for spec in program.manifest.state:
        if spec.kind != "lot" and not spec.trainable:
            buffers[spec.name].put(RATE)
    step = take_steps(program.manifest, engine, buffers, feeds(BENCHMARKS[name].small, rows), KEY)
    losses = [step() for _ in range(STEPS)]
    return losses, {p: buffers[p].array - value for p, value in before.items()}


def assert_close(found: tuple[list[float], Arrays], expected: tuple[list[float], Arrays]) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-5)
    for name, value in expected[1].items():
        largest = np.abs(value).max()
        # Attention does not depend on the keys' bias: softmax takes the same number from all scores of a row.
        assert largest > 1e-5 or name.endswith(".k.b"), f"{name} is hardly moved"
        assert np.abs(found[1][name] - value).max() <= 1e-3 * largest + 5e-7, name


def assert_same(found: tuple[list[float], Arrays], expected: tuple[list[float], Arrays]) -> None:
    assert found[0] == expected[0]
    for name, value in expected[1].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)


@pytest.mark.parametrize("private", [False, True], ids=["plain", "private"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_cpu_equals_reference_and_itself(name: str, private: bool) -> None:
    threads = min(2, available_cores())
    program = compiled(name, private, threads=threads)
    oracle = compiled(name, private, "reference")
    found = trained(program, program.built.engine(), name)
    assert_close(found, trained(oracle, oracle.built.engine(), name))
    assert_same(trained(program, program.built.engine(), name), found)


@pytest.mark.parametrize("private", [False, True], ids=["plain", "private"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_onnx_equals_reference_and_itself(name: str, private: bool) -> None:
    program, oracle = (compiled(name, private, target) for target in ("onnx", "reference"))
    found = trained(program, program.built.engine(), name)
    assert_close(found, trained(oracle, oracle.built.engine(), name))
    assert_same(trained(program, program.built.engine(), name), found)


@pytest.mark.parametrize("name", ["cnn", "embedding"])
def test_threads_do_not_race(name: str) -> None:
    """1, 2 and 4 threads compute the same to rounding, and each number of threads the same bits every time."""
    rows, failures = 70, list[BaseException]()

    def check() -> None:
        try:
            programs = {threads: compiled(name, True, threads=threads, rows=rows) for threads in (4, 2, 1)}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                engines = {threads: program.built.engine() for threads, program in programs.items()}
            first = {threads: trained(programs[threads], engines[threads], name, rows) for threads in programs}
            for threads, expected in first.items():
                assert_close(expected, first[1])
                for _ in range(10):
                    assert_same(trained(programs[threads], engines[threads], name, rows), expected)
        except BaseException as failure:
            failures.append(failure)

    # A thread's pool of workers is made at its first step: this one's is for four.
    runner = threading.Thread(target=check)
    runner.start()
    runner.join()
    if failures:
        raise failures[0]


def test_losses_fall() -> None:
    """The step that is measured trains."""
    program = compiled("mlp", False)
    losses, _ = trained(program, program.built.engine(), "mlp")
    assert losses == sorted(losses, reverse=True)
