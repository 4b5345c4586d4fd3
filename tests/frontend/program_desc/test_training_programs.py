"""Training programs of Paddle 1.8.5 train here as they do there, from its files alone.

What they are is in ``paddle_programs``; ``make_goldens.py`` has Paddle write and run them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fluid_programs import feed_value
from paddle_programs import STEPS, TRAINING

import fluidc.frontend as fluid
from fluidc.frontend.compat.program_desc.loading import LoadedProgram

GOLDEN = dict(np.load(Path(__file__).parent / "paddle_programs.npz"))


def bytes_of(case: str, part: str = "main") -> bytes:
    return GOLDEN[f"{case}/{part}"].tobytes()


def loaded(case: str, **options: Any) -> LoadedProgram:
    return fluid.io.load_program(bytes_of(case), bytes_of(case, "startup"), **options)


def golden(case: str, part: str) -> dict[str, Any]:
    prefix = f"{case}/{part}/"
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


def run(case: str, model: LoadedProgram, steps: int, fetches: list[str]) -> tuple[list[list[Any]], dict[str, Any]]:
    """What a program gives in some steps, from Paddle's first values; and its persistable variables then."""
    executor, scope = fluid.Executor(fluid.CPUPlace(), target="reference"), fluid.Scope()
    if model.startup.global_block().ops:
        executor.run(model.startup, scope=scope)
    for name, value in golden(case, "init").items():
        scope.var(name).get_tensor().set(value)
    results = []
    for step in range(steps):
        feed = {var.name: feed_value(var.name, var.shape, var.dtype.numpy.name, 0, case, step) for var in model.feeds}
        results.append(executor.run(model.program, feed=feed, fetch_list=fetches, scope=scope))
    state = {name: np.asarray(scope.var(name).get_tensor()) for name in golden(case, "end")}
    return results, state


@pytest.mark.parametrize("case", sorted(TRAINING))
def test_training_equals_paddles(case: str) -> None:
    model = loaded(case)
    fetches = GOLDEN[f"{case}/results"].tolist()
    assert [var.name for var in model.losses] == fetches[-len(model.losses) :] or case == "penalty"
    results, state = run(case, model, STEPS, fetches)
    for step, values in enumerate(results):
        for number, value in enumerate(values):
            np.testing.assert_allclose(value, GOLDEN[f"{case}/{step}/{number}"], rtol=2e-5, atol=2e-6)
    for name, value in golden(case, "end").items():
        np.testing.assert_allclose(state[name], value, rtol=5e-5, atol=5e-6, err_msg=name)


def test_shapes_that_are_variables() -> None:
    model = loaded("shapes")
    fetches = GOLDEN["shapes/results"].tolist()
    (values,), _ = run("shapes", model, 1, fetches)
    for number, (name, value) in enumerate(zip(fetches, values)):
        wanted = GOLDEN[f"shapes/0/{number}"]
        assert value.dtype == wanted.dtype, name
        np.testing.assert_allclose(value, wanted, rtol=1e-6, err_msg=name)
