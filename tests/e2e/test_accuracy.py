"""Accuracy on the handwritten digits, mean over five seeds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "digits.py"
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
