"""Accuracy: the example on the handwritten digits, and the anchors of the accuracy benchmark."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "digits.py"
SEEDS = range(1, 6)


@pytest.mark.nightly
def test_digits_plain_and_private() -> None:
    """At least 0.95 plainly, and 0.93 at epsilon = 8, delta = 1e-4."""
    found: dict[str, list[float]] = {"plain": [], "private": []}
    for seed in SEEDS:
        output = subprocess.run(
            [sys.executable, "-W", "ignore", SCRIPT, "--seed", str(seed)],
            env=os.environ | {"TVM_NUM_THREADS": "2"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "ε = 8.00 (δ = 1e-4) after 100 of 100 steps" in output
        for name, accuracy in re.findall(r"(plain|private) +test accuracy (\S+)", output):
            found[name].append(float(accuracy))
    means = {name: sum(values) / len(SEEDS) for name, values in found.items()}
    print(means)
    assert means["plain"] >= 0.95
    assert means["private"] >= 0.93


def anchors(*arguments: str) -> str:
    """What the accuracy benchmark prints; it fails where a mean is below its gate."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "benchmarks" / "privacy_accuracy.py", *arguments],
        env=os.environ | {"TVM_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_one_model_reaches_its_anchors() -> None:
    """Breast cancer, three fixed seeds with a fixed noise key: not private and at epsilon 1, 2 and 8."""
    assert anchors("--seeds", "3", "breast-cancer").count("| pass |") == 4


@pytest.mark.nightly
def test_every_model_reaches_its_anchors() -> None:
    """Mean of ten seeds >= anchor - 4 sd sqrt(0.2) - 0.005 (false alarm <= 5e-6 per gate)."""
    assert anchors().count("| pass |") == 12
