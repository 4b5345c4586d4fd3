"""Readers, data parallel programs, files of samples and wrapped optimizers give what Paddle 1.8.5 gives.

The scripts are those of tests/support/running_programs.py; what Paddle made of them is in
tests/golden/paddle185/wrappers.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running_programs import READERS, RUNNING, WRAPPERS

import fluidc.frontend as fluid

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "paddle185" / "wrappers.json").read_text(encoding="utf-8")
)
Script = Callable[[Any, Path], Any]
TRAINING = [*WRAPPERS, *RUNNING]


def same(found: Any, expected: Any, at: str) -> None:
    """Nested lists of equal lengths, whose numbers agree to 1e-4."""
    if isinstance(expected, list):
        assert isinstance(found, list), at
        assert len(found) == len(expected), f"{at}: {found} is not {expected}"
        for number, (mine, theirs) in enumerate(zip(found, expected)):
            same(mine, theirs, f"{at}[{number}]")
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6, err_msg=at)
    else:
        assert found == expected, at


def compare(script: Script, folder: Path) -> None:
    same(json.loads(json.dumps(script(fluid, folder))), GOLDEN[script.__name__], script.__name__)


@pytest.fixture
def _reference(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fluid.Executor.__init__

    def on_reference(self: fluid.Executor, place: Any = None) -> None:
        made(self, place, target="reference")

    monkeypatch.setattr(fluid.Executor, "__init__", on_reference)


@pytest.mark.usefixtures("_reference")
@pytest.mark.filterwarnings("ignore:fluid.layers", "ignore:Exponential", "ignore:Executor.run")
@pytest.mark.parametrize("script", [*READERS, *TRAINING], ids=lambda script: script.__name__)
def test_numbers_are_paddles(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CPU_NUM", raising=False)
    compare(script, tmp_path)


@pytest.mark.filterwarnings("ignore:Exponential")
@pytest.mark.parametrize("script", TRAINING, ids=lambda script: script.__name__)
def test_compiled_numbers_are_paddles(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CPU_NUM", raising=False)
    compare(script, tmp_path)


def test_nothing_of_the_golden_is_left_out() -> None:
    assert sorted(GOLDEN) == sorted(script.__name__ for script in [*READERS, *TRAINING])
