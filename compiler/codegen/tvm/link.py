"""Writing a shared library without a compiler: ``ld``, or the linker of the ziglang wheel."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import TargetError


def linker() -> list[str]:
    """The command of an ELF linker; raises TargetError when the machine has none."""
    ld = shutil.which("ld")
    if ld is not None:
        return [ld]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "ld.lld"]
    raise TargetError(
        "no linker found: neither `ld` on PATH nor the Python package `ziglang`",
        hint="install binutils, or `pip install ziglang` (the extra `link` of this package)",
    )


def shared_library(executable: Any) -> bytes:
    """A compiled Relax executable as the bytes of one shared library; raises TargetError if linking fails."""
    command = linker()

    def link(output: str, objects: Sequence[str], options: object = None, **_: object) -> None:
        arguments = [*command, "-shared", "--build-id=none", "-o", output, *objects]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TargetError(f"the linker {command[0]} failed", hint=done.stderr.strip()[-2000:] or None)

    link.output_format = "so"  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="fluidc-") as folder:
        path = Path(folder) / "module.so"
        executable.export_library(str(path), fcompile=link, workspace_dir=folder)
        return path.read_bytes()
