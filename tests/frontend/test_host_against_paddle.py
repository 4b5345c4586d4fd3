"""Ops that run on the host, and whole translations, against what Paddle 1.8.5 makes of the same programs."""

from __future__ import annotations

from typing import Any

import host_programs
import numpy as np
import pytest
from trees import golden

import fluidc.frontend as fluid
from fluidc.frontend import hosted
from fluidc.frontend.host_types import HOST_TYPES

BUILDS = {**host_programs.CASES, **host_programs.PROGRAMS}


@pytest.fixture
def nothing_compiled_that_need_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ops run on the host that could be compiled."""
    rules = hosted.rules()
    monkeypatch.setattr(hosted, "rules", lambda: {k: v for k, v in rules.items() if k not in HOST_TYPES})


def _same(found: list[dict[str, Any]], name: str) -> None:
    expected = golden("host")[name]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours["lod"] == theirs["lod"]
        assert ours["array"].dtype == theirs["array"].dtype
        np.testing.assert_allclose(ours["array"], theirs["array"], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("nothing_compiled_that_need_not_be")
@pytest.mark.parametrize("name", sorted(BUILDS))
def test_values_and_lod(name: str) -> None:
    _same(host_programs.values(fluid, BUILDS[name], target="reference"), name)


@pytest.mark.parametrize("name", ["translation", "translation_parents"])
def test_translation_by_compiled_segments(name: str) -> None:
    _same(host_programs.values(fluid, BUILDS[name]), name)


@pytest.mark.parametrize("name", sorted(host_programs.SAVED))
def test_programs_that_paddle_saved(name: str) -> None:
    saved = golden("host")["saved"][name]
    program = fluid.Program.parse_from_string(saved["program"].tobytes())
    found = host_programs.run_saved(fluid, program, saved, host_programs.SAVED[name])
    _same(found, name)


@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize("name", sorted(host_programs.SESSIONS))
def test_steps_of_programs(name: str) -> None:
    found = host_programs.session(fluid, name, target="reference")
    for ours, theirs in zip(found, golden("host")["sessions"][name], strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_metrics_outside_of_programs() -> None:
    for ours, theirs in zip(host_programs.metrics(fluid), golden("host")["metrics"], strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
