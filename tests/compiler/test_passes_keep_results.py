"""Every pass on random modules: the text of its result reads back, and it computes what its input computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import arguments, initial_state, modules
from hypothesis import HealthCheck, given, settings

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops import OPSET
from fluidc.compiler.passes.base import Pass
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import SIMPLIFY, pipeline

slow = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def numbers(module: Module, n: int = 3) -> dict[str, Any]:
    """Fetches and new state of one step."""
    state = initial_state()
    return Reference(module).run("step", arguments(n), state) | state


def same(found: dict[str, Any], wanted: dict[str, Any], rtol: float = 1e-4) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = float(np.max(np.abs(value), initial=1.0))
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=rtol * scale, err_msg=name)


def stages(module: Module) -> list[tuple[str, Module]]:
    """The module after each pass of its pipeline, the input first."""
    seen: list[tuple[str, Module]] = []
    run_passes(module, pipeline(module), observe=lambda number, name, after: seen.append((name, after)))
    return seen


@given(modules())
@slow
def test_forward(module: Module) -> None:
    wanted = numbers(module)
    for _, after in stages(module):
        same(numbers(after), wanted)


@given(modules(composites=True, backward=True))
@slow
def test_with_gradients(module: Module) -> None:
    """From the stage on where every op has ``evaluate``: gradients written out."""
    runnable = [(name, after) for name, after in stages(module) if after.stage >= Stage.PRIVATE]
    (_, first), *later = runnable
    wanted = numbers(first)
    for _, after in later:
        same(numbers(after), wanted)


@given(modules(composites=True, backward=True))
@slow
def test_text_of_every_stage(module: Module) -> None:
    for _, after in stages(module):
        text = to_text(after)
        again = parse(text, OPSET)
        assert to_text(again) == text
        if after.stage >= Stage.PRIVATE:
            same(numbers(again), numbers(after), rtol=0)


@given(modules(backward=True))
@slow
def test_gradients_from_text(module: Module) -> None:
    """A stage's text, compiled on from there, ends in the same module."""
    seen = stages(module)
    target = to_text(seen[-1][1])
    for index, (_, after) in enumerate(seen[:-1]):
        if after.stage < seen[index + 1][1].stage:  # the last module of a stage: the pipeline goes on from there
            assert to_text(stages(parse(to_text(after), OPSET))[-1][1]) == target


@pytest.mark.parametrize("step", SIMPLIFY, ids=lambda step: step.name)
@given(module=modules(backward=True))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_simplifying_twice_changes_nothing(step: Pass, module: Module) -> None:
    ready = run_passes(module, pipeline(module, to=Stage.UPDATE))
    once = run_passes(ready, [step])
    assert to_text(run_passes(once, [step])) == to_text(once)
