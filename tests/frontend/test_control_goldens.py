"""Loops, branches and structured losses against Paddle 1.8.5 (tests/golden/make_paddle185/control.py says more)."""

from __future__ import annotations

import control_programs
import pytest
from trees import assert_same, golden

import fluidc.frontend as fluid


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("name", control_programs.CASES)
def test_as_paddle(name: str, target: str) -> None:
    want = golden("control")[name]
    got = control_programs.run(fluid, name, fluid.Executor(fluid.CPUPlace(), target=target))
    assert_same(got["outs"], want["outs"], rtol=1e-5, atol=1e-6)
    assert got["lods"] == want["lods"]
    assert_same(got["grads"], want["grads"], rtol=1e-4, atol=1e-5)
