"""Whole steps as CUDA kernels on the emulated device: the losses and parameters of the reference target."""

from __future__ import annotations

from functools import cache

import cuda_device
import cuda_steps
import numpy as np
import pytest
from cuda_worker import Worker

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))

STEPS = 5


@cache
def worker() -> Worker:
    return Worker()


@pytest.mark.parametrize("private", [False, True], ids=["plain", "private"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "lenet", "resnet", "embedding", "lstm", "transformer"])
def test_a_trajectory_is_that_of_the_reference(name: str, private: bool) -> None:
    found = worker().run(cuda_steps.train, name, private, STEPS, ("reference", "cuda")).value
    expected, have = found["reference"], found["cuda"]
    np.testing.assert_allclose(have.losses, expected.losses, rtol=2e-5)
    for parameter, values in expected.parameters.items():
        np.testing.assert_allclose(
            have.parameters[parameter], values, rtol=0, atol=2e-5 * np.abs(values).max(), err_msg=parameter
        )
