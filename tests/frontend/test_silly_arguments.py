"""Arguments that make no sense are refused at the user's line, and not by what happens to break on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.privacy import resolve
from fluidc.runtime.errors import FluidcError

STATED: dict[str, Any] = {
    "clip": 1.0, "batch_size": 8.0, "sigma": 1.0, "dataset_size": 90, "delta": 1e-3, "max_steps": 5,
}  # fmt: skip
privacy: Any = fluid.privacy  # its types refuse what these tests pass
ROWS = np.ones((90, 4), np.float32)


def minimised(**changed: Any) -> None:
    x = fluid.data("x", [-1, 4], "float32")
    fluid.optimizer.Dpsgd(0.1, **{**STATED, **changed}).minimize(fluid.layers.mean(fluid.layers.fc(x, 1)))


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: minimised(clipping_options="x"), "clipping_options is 'x'"),
        (lambda: minimised(clipping="quantile", clipping_options=[1]), "clipping_options is"),
        (lambda: minimised(mechanism="discrete", clipping_options=[1]), "clipping_options is"),
        (lambda: minimised(batch_size=True), "batch_size is True"),
        (lambda: privacy.spent(minimised(mechanism="discrete", sigma=1e9)), "more than the 2\\^40"),
        (lambda: privacy.poisson_batches(minimised()), "arrays is NoneType"),
        (lambda: privacy.poisson_batches({1: ROWS}, minimised()), "given: 1"),
        (lambda: privacy.poisson_batches({"x": [[1.0], [1.0, 2.0]]}, minimised()), "rows have different sizes"),
        (lambda: privacy.poisson_batches({"x": ROWS}, "p"), "program is str, not a Program"),
        (lambda: privacy.poisson_batches({"x": ROWS}, minimised(), 3), "run_dir is 3"),
        (lambda: privacy.spent("x"), "program is str, not a Program"),
    ],
)
def test_refused(act: Callable[[], object], says: str) -> None:
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        pytest.raises(FluidcError, match=says) as caught,
    ):
        act()
    assert "test_silly_arguments.py:" in (caught.value.where or "")
    assert caught.value.hint


def test_numbers_of_numpy_are_numbers() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        minimised(sigma=np.float32(1.0), batch_size=np.int64(8))
        assert fluid.privacy.spent().max_steps == 5


def test_a_tiny_budget_is_calibrated_or_refused() -> None:
    plan = resolve(clip=1.0, lot=1.0, epsilon=1e-9, sample_rate=0.01, delta=1e-5, max_steps=10)
    assert plan.budget is not None
    assert plan.budget.epsilon <= 1e-9
