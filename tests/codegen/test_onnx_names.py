"""Variables that are called like what an ONNX file holds beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid

L: Any = fluid.layers
X = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)


def run(target: str, feed: str, weight: str) -> list[np.ndarray]:
    """What two steps fetch, the feed and the weight among it."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 3
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        x = fluid.data(feed, [None, 4])
        hidden = L.fc(x, 3, param_attr=fluid.ParamAttr(name=weight), bias_attr=fluid.ParamAttr(name="b"))
        loss = L.mean(L.elementwise_mul(hidden, L.uniform_random([3], min=0.5, max=1.0)))
        fluid.optimizer.SGD(0.1).minimize(loss)
    scope, executor = fluid.Scope(), fluid.Executor(fluid.CPUPlace(), target=target)
    executor.run(startup, scope=scope)
    executor.run(main, feed={feed: X}, scope=scope)
    return executor.run(main, feed={feed: X}, fetch_list=[loss, x, weight, "b"], scope=scope)


@pytest.mark.parametrize(
    ("feed", "weight"),
    [
        ("w@NEXT", "w"),
        ("x", "b@NEXT"),
        ("x", "x@FETCH"),
        ("@rng_key", "@rng_counter"),
        ("@key", "size/N"),
        ("N", "[0]"),
    ],
)
def test_names_that_a_file_has_for_something_else(feed: str, weight: str) -> None:
    for found, expected in zip(run("onnx", feed, weight), run("reference", feed, weight), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
