"""The update of a lot of any size, through the runtime and on every target, against DP-SGD by hand in float64."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from private_runs import MASTER, Arrays, Program_, classifying, compiled, dpsgd, rows, trained

from fluidc.runtime import keystream

CLIP, LOT, SIGMA, RATE = 0.7, 24.0, 1.0, 0.5
Array = np.ndarray[Any, Any]


@cache
def program(target: str) -> Program_:
    """The physical batch is 16, the stated lot 24."""
    from private_runs import classifier

    return compiled(classifier, target, 16, dpsgd(CLIP, LOT, SIGMA, RATE))


def gradients(state: Arrays, x: Array, label: int) -> Arrays:
    """One example's gradient of the classifier, in float64."""
    w0, b0, w1, b1 = (state[name].astype(np.float64) for name in ("fc_0.w_0", "fc_0.b_0", "fc_1.w_0", "fc_1.b_0"))
    x = x.astype(np.float64)
    hidden = np.tanh(x @ w0 + b0)
    scores = hidden @ w1 + b1
    delta = np.exp(scores - scores.max())
    delta /= delta.sum()
    delta[label] -= 1
    back = (w1 @ delta) * (1 - hidden**2)
    return {"fc_0.w_0": np.outer(x, back), "fc_0.b_0": back, "fc_1.w_0": np.outer(hidden, delta), "fc_1.b_0": delta}


def expected(state: Arrays, lot: Arrays, key: bytes, draw: int) -> Arrays:
    sums = {name: np.zeros(value.shape) for name, value in state.items()}
    for x, (label,) in zip(lot["x"], lot["label"], strict=True):
        g = gradients(state, x, int(label))
        length = np.sqrt(sum(float(np.sum(np.square(value))) for value in g.values()))
        for name, value in g.items():
            sums[name] += value * min(1.0, CLIP / length)
    after: Arrays = {}
    for tensor, name in enumerate(sorted(state)):
        z = keystream.gaussian(
            key, domain=keystream.Domain.GRADIENT, tensor=tensor, draw=draw, count=state[name].size
        ).reshape(state[name].shape)
        after[name] = state[name] - RATE * (sums[name] + SIGMA * CLIP * z) / LOT
    return after


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
@pytest.mark.parametrize("count", [0, 1, 16, 17, 33, 48])
def test_lots_of_any_size(target: str, count: int) -> None:
    session, _ = program(target).session(seed=2)
    before, lot = trained(session), rows(count, seed=count)
    session.model.stepper.run_lot(lot, key=MASTER, draw=2**33 + 1)
    for name, value in expected(before, lot, MASTER, 2**33 + 1).items():
        np.testing.assert_allclose(session.model.state[name], value, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_the_divisor_is_the_stated_lot(target: str) -> None:
    """Neither the physical batch (16) nor the rows at hand (16, 10, 7): the stated 24."""
    for count in (16, 10, 7):
        session, _ = program(target).session(seed=2)
        before, lot = trained(session), rows(count, seed=4)
        session.model.stepper.run_lot(lot, key=MASTER, draw=0)
        for name, value in expected(before, lot, MASTER, 0).items():
            np.testing.assert_allclose(session.model.state[name], value, rtol=0, atol=2e-6, err_msg=name)


def test_the_examples_of_this_file_are_those_of_the_others() -> None:
    assert classifying("reference").artifact.manifest.batch == program("reference").artifact.manifest.batch == 16
