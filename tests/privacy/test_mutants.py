"""Mutants of the mechanism that are quick to run; `make mutants-privacy` runs all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MUTANTS = Path(__file__).with_name("mutants.py")


def test_quick_mutants_are_noticed() -> None:
    # Engines of other tests in this process have left the number of their threads in its environment.
    own = {name: value for name, value in os.environ.items() if name != "TVM_NUM_THREADS"}
    command = [sys.executable, MUTANTS, "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().splitlines()[-1].startswith("9 of 9 mutants killed")


def test_all_ways_of_the_specification_are_listed() -> None:
    done = subprocess.run([sys.executable, MUTANTS, "--list"], capture_output=True, text=True, check=True)
    names = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert len(names) == len(set(names)) == 40
