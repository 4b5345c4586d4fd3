"""Trainings with every rule, regularizer and clip, and every schedule, step by step against Paddle 1.8.5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_programs import SCHEDULED, SCHEDULES, STEPS, TRAININGS, feeds, listed, start
from trees import golden

import fluidc.frontend as fluid

GOLDEN = golden("rules")
COMPILED = ("plain_ftrl", "plain_lamb", "rmsprop_decayed_value", "clip_some", "groups", "errors", "scheduled")


def check(name: str, target: str, rtol: float, atol: float) -> None:
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        TRAININGS[name](fluid)
    wanted: dict[str, Any] = GOLDEN["trainings"][name]
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        exe.run(startup)
        for p in main.all_parameters():
            scope.var(p.name).get_tensor().set(start(p.name, p.shape), fluid.CPUPlace())
        assert {v.name for v in main.list_vars() if v.persistable} == set(wanted)
        for step in range(STEPS):
            exe.run(main, feed=feeds(step))
            for variable, values in wanted.items():
                found: Any = np.array(scope.var(variable).get_tensor())
                np.testing.assert_allclose(found, values[step], rtol=rtol, atol=atol, err_msg=f"{variable} {step}")


@pytest.mark.parametrize("name", sorted(TRAININGS))
@pytest.mark.filterwarnings("ignore:Ftrl", "ignore:set_gradient_clip")
def test_training_is_paddles(name: str) -> None:
    check(name, "reference", 1e-4, 1e-5)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.filterwarnings("ignore:Ftrl", "ignore:set_gradient_clip")
def test_compiled_training_is_paddles(name: str) -> None:
    check(name, "cpu", 1e-4, 1e-5)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedule_is_paddles(name: str) -> None:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        outs = listed(SCHEDULES[name](fluid))
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(fluid.CPUPlace(), target="reference")
        exe.run(startup)
        steps = [exe.run(main, fetch_list=outs) for _ in range(SCHEDULED)]
    for column, values in zip(zip(*steps, strict=True), GOLDEN["schedules"][name], strict=True):
        assert np.stack(column).dtype == values.dtype
        np.testing.assert_allclose(np.stack(column), values, rtol=1e-6, atol=1e-8)
