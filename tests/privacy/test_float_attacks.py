"""Rows of finite float32 numbers that used to move the clipped sum by more than its bound says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid

pytestmark = pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")

layers = fluid.layers
SLACK = 2.0**-10
Arrays = dict[str, np.ndarray]
ZERO = fluid.initializer.ConstantInitializer(0.0)


def sums(
    loss: Callable[[], Any], lots: list[Arrays], target: str, clip: float = 1.0, **arguments: Any
) -> list[np.ndarray]:
    """The clipped sum of each lot, all parameters in one vector: what a step without noise does to parameters of 0."""
    rows = float(lots[0]["y"].shape[0])
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        fluid.optimizer.Dpsgd(1.0, clip=clip, batch_size=rows, sigma=0.0, **arguments).minimize(loss())
    exe, found = fluid.Executor(target=target), []
    names = [parameter.name for parameter in main.all_parameters()]
    for lot in lots:
        scope = fluid.Scope()
        exe.run(startup, scope=scope)
        exe.run(main, feed=lot, scope=scope)
        found.append(-rows * np.concatenate([np.ravel(scope.var(n).get_tensor()) for n in names]).astype(np.float64))
    return found


def regression() -> Any:
    x, y = layers.data("x", [1]), layers.data("y", [1])
    predicted = layers.fc(x, 1, param_attr=fluid.ParamAttr("w", initializer=ZERO), bias_attr=False)
    return layers.mean(layers.square_error_cost(predicted, y))


@pytest.mark.parametrize("clipping", ["flat", "automatic"])
@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_factors_below_the_normal_numbers_are_not_rounded_up(target: str, clipping: str) -> None:
    labels = np.append(np.linspace(5e22, 7.2e22, 5), [5e14, 4e15])  # norms of 1e45 need factors of 1e-45
    lots = [{"x": np.full((1, 1), 1e22, np.float32), "y": np.full((1, 1), label, np.float32)} for label in labels]
    lengths = [np.linalg.norm(total) for total in sums(regression, lots, target, clipping=clipping)]
    assert max(lengths) <= 1 + SLACK
    assert min(lengths[-2:]) == pytest.approx(1, abs=SLACK)


def time_first() -> Any:
    x = layers.data("x", [2, -1, 64], append_batch_size=False)
    y = layers.data("v", [2, -1, 64], append_batch_size=False)
    weight = layers.data("y", [1])
    out = layers.fc(x, 64, num_flatten_dims=2, param_attr=fluid.ParamAttr("w", initializer=ZERO), bias_attr=False)
    per_example = layers.reshape(layers.reduce_sum(out * y, dim=[0, 2]), [-1, 1])
    return layers.mean(per_example * weight)


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_tokens_that_cancel_do_not_swallow_the_other_examples(target: str) -> None:
    """The two outer products of row 0 cancel exactly, and in between those of all others are added."""
    rows = 256
    lot = {
        "x": np.full((2, rows, 64), 1 / 8, np.float32),
        "v": np.full((2, rows, 64), 0.02 / 16, np.float32),
        "y": np.ones((rows, 1), np.float32),
    }
    without = {name: value.copy() for name, value in lot.items()}
    for name in ("x", "v"):
        without[name][:, 0] = 0
    lot["x"][:, 0] = 1e8
    lot["v"][0, 0], lot["v"][1, 0] = 1, -1
    present, absent = sums(time_first, [lot, without], target)
    assert np.linalg.norm(absent) == pytest.approx(0.02 * (rows - 1), rel=1e-3)
    assert np.linalg.norm(present - absent) <= 0.01  # once: 4.2 and 2.5, where the bound is 1
