"""Layers with their gradients on every target: what Paddle's numbers hold the reference to, the others equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import layer_programs
import numpy as np
import pytest
from fluid_programs import compared_names, feed_value

import fluidc.frontend as fluid


def run(case: str, target: str) -> Mapping[str, Any]:
    """All results, and the state after the step."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 3
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        layer_programs.CASES[case](fluid)
    names, scope = compared_names(main), fluid.Scope()
    data = [v for v in main.list_vars() if v.is_data]
    feed = {v.name: feed_value(v.name, v.shape, v.dtype.numpy.name, 0, case, 0) for v in data}
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        if startup.global_block().ops:
            exe.run(startup)
        found = dict(zip(names, exe.run(main, feed=feed, fetch_list=names)))
        return found | {v.name: np.array(scope.var(v.name).get_tensor()) for v in main.list_vars() if v.persistable}


FEW_ON_CPU = ("layer_spectral_norm", "layer_dygraph_losses")


@pytest.mark.parametrize(
    ("case", "target"),
    [*((case, "onnx") for case in sorted(layer_programs.CASES)), *((case, "cpu") for case in FEW_ON_CPU)],
)
def test_target_equals_reference(case: str, target: str) -> None:
    oracle = run(case, "reference")
    for name, value in run(case, target).items():
        np.testing.assert_allclose(value, oracle[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.nightly
@pytest.mark.parametrize("case", sorted(set(layer_programs.CASES) - set(FEW_ON_CPU)))
def test_cpu_equals_reference(case: str) -> None:
    test_target_equals_reference(case, "cpu")
