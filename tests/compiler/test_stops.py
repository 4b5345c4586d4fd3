"""Gradients that are told to stop do so under privacy too."""

from __future__ import annotations

import numpy as np
import pytest

import fluidc.frontend as fluid


@pytest.mark.filterwarnings("ignore::fluidc.frontend.PrivacyWarning")
@pytest.mark.parametrize("private", [False, True])
def test_a_stopped_part_of_the_loss_moves_nothing(private: bool) -> None:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x = fluid.layers.data("x", [3])
        w = fluid.layers.create_parameter(
            [3, 1], "float32", name="w", default_initializer=fluid.initializer.Constant(1.0)
        )
        u = fluid.layers.create_parameter(
            [3, 1], "float32", name="u", default_initializer=fluid.initializer.Constant(0.0)
        )
        stopped = fluid.layers.mean(fluid.layers.matmul(x, w))
        kept = fluid.layers.mean(fluid.layers.matmul(x, w) * fluid.layers.matmul(x, u))
        optimizer = (
            fluid.optimizer.Dpsgd(1.0, clip=1e6, batch_size=4.0, sigma=0.0) if private else fluid.optimizer.SGD(1.0)
        )
        optimizer.minimize(stopped + kept, no_grad_set={stopped.name})
    exe, scope = fluid.Executor(fluid.CPUPlace(), target="reference"), fluid.Scope()
    with fluid.scope_guard(scope):
        exe.run(startup)
        exe.run(main, feed={"x": np.ones((4, 3), np.float32)})
        np.testing.assert_array_equal(np.array(scope.var("w").get_tensor()), np.ones((3, 1), np.float32))
        assert np.array(scope.var("u").get_tensor()).any()
