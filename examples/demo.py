"""What `make demo` runs: compile the digits programs, train the artifacts, print their test accuracy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = Path("demo")


def fluidc(*arguments: str | Path) -> None:
    """Run one command line, shown first."""
    print("$ fluidc " + " ".join(map(str, arguments)), flush=True)
    subprocess.run([sys.executable, "-m", "fluidc.frontend.cli", *map(str, arguments)], check=True)


OUT.mkdir(exist_ok=True)
script, data = HERE / "digits.py", OUT / "data"
fluidc("compile", f"{script}:plain", "-o", OUT / "plain.fluidc", "--", "--data", data)
fluidc("run", OUT / "plain.fluidc", "--data", data / "train.npz", "--epochs", "30", "--batch", "64",
       "--eval", data / "test.npz", "-o", OUT / "plain-trained.fluidc")  # fmt: skip
fluidc("compile", script, "-o", OUT / "private.fluidc", "--batch", "512", "--", "--data", data)
fluidc("run", OUT / "private.fluidc", "--data", data / "train.npz", "--eval", data / "test.npz",
       "-o", OUT / "private-trained.fluidc")  # fmt: skip
