"""nvcc: the compiler as a program of a toolkit."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .....errors import TargetError
from .architectures import Architecture
from .compiler import PRECISION, refused

OLDEST = (12, 0)
_FILE = "kernels.cu"
_SECONDS = 1800.0  # what no module takes


@dataclass(frozen=True)
class Nvcc:
    """nvcc.

    Attributes:
        path: Of the program.
        version: Major and minor.
        known: See `Compiler.known`.
    """

    path: str
    version: tuple[int, int]
    known: tuple[int, ...]

    @property
    def title(self) -> str:
        return f"nvcc {self.version[0]}.{self.version[1]}"

    def translate(self, text: str, architectures: Sequence[Architecture]) -> tuple[bytes, str]:
        single = len(architectures) == 1 and not architectures[0].virtual
        options = [
            "--cubin" if single else "--fatbin",
            *PRECISION,
            "--disable-warnings",
            "--std=c++17",
            "-Xptxas",
            "-v",
        ]
        for architecture in architectures:
            options += ["-gencode", f"arch={architecture.compute},code={architecture}"]
        # What the headers take away from float16 and bfloat16 for the sake of other libraries.
        options += [
            f"-U__CUDA_NO_{kind}_{what}__" for kind in ("HALF", "BFLOAT16") for what in ("OPERATORS", "CONVERSIONS")
        ]
        with tempfile.TemporaryDirectory(prefix="fluidc-") as folder:
            Path(folder, _FILE).write_text(text, encoding="utf-8")
            done = _run([self.path, *options, "-o", "kernels.image", _FILE], folder)
            log = done.stdout + done.stderr
            if done.returncode:
                raise refused(self.title, text, log, _FILE)
            return Path(folder, "kernels.image").read_bytes(), log


def load(path: str) -> Nvcc:
    """The nvcc of a file; raises TargetError when it does not run, or is too old."""
    stated = _run([path, "--version"]).stdout
    match = re.search(r"release (\d+)\.(\d+)", stated)
    if match is None:
        raise TargetError("nvcc does not tell its version", path, "install the CUDA toolkit again")
    version = (int(match[1]), int(match[2]))
    if version < OLDEST:
        raise TargetError(
            f"nvcc {version[0]}.{version[1]} is too old", path, "a CUDA toolkit of version 12.0 or later is needed"
        )
    known = {int(number) for number in re.findall(r"sm_(\d+)\b", _run([path, "--list-gpu-code"]).stdout)}
    return Nvcc(path, version, tuple(sorted(known)))


def _run(command: Sequence[str], folder: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError("nvcc does not run", command[0], f"{error}; install the CUDA toolkit again") from None
