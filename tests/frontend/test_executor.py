"""Executor: what one compiled step may be used for, and what a run leaves in the scope."""

from __future__ import annotations

import numpy as np
import pytest

import fluidc.frontend as fluid

pytestmark = pytest.mark.usefixtures("_fresh_names")


@pytest.fixture
def _fresh_names() -> object:
    with fluid.unique_name.guard():
        yield


def executor() -> fluid.Executor:
    return fluid.Executor(target="reference")


def test_each_open_size_gets_its_own_step() -> None:
    main, exe = fluid.Program(), executor()
    with fluid.program_guard(main, fluid.Program()):
        x = fluid.data("x", [-1, -1])
        y = fluid.layers.scale(x, 2.0)
    for shape in ((2, 3), (2, 4), (2, 3)):
        fed = np.arange(np.prod(shape), dtype="f4").reshape(shape)
        (found,) = exe.run(main, feed={"x": fed}, fetch_list=[y], scope=fluid.Scope())
        np.testing.assert_array_equal(found, 2 * fed)
