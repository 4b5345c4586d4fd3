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

from ....runtime.processor import machine as here
from ...errors import TargetError


def linker(machine: str | None = None) -> list[str]:
    """The command of an ELF linker for a machine, this one if None; raises TargetError when there is none."""
    own = machine in (None, here())
    ld = shutil.which("ld" if own else f"{machine}-linux-gnu-ld")
    if ld is not None:
        return [ld]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "ld.lld"]
    if own:
        raise TargetError(
            "no linker found: neither `ld` on PATH nor the Python package `ziglang`",
            hint="install binutils, or `pip install ziglang` (the extra `link` of this package)",
        )
    raise TargetError(
        f"no linker for {machine} found: neither `{machine}-linux-gnu-ld` on PATH nor the Python package `ziglang`",
        hint="`pip install ziglang` (the extra `link` of this package), or install binutils for that machine",
    )


def has_linker() -> bool:
    """Whether this machine can link its own code."""
    try:
        linker()
    except TargetError:
        return False
    return True


def link(objects: Sequence[str], machine: str | None, path: Path) -> bytes:
    """Object files as the bytes of one shared library, written to ``path``; raises TargetError if linking fails."""
    command = linker(machine)
    arguments = [*command, "-shared", "--build-id=none", "-o", str(path), *objects]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetError(f"the linker {command[0]} failed", hint=done.stderr.strip()[-2000:] or None)
    return path.read_bytes()


def shared_library(executable: Any, machine: str | None = None) -> bytes:
    """A compiled Relax executable as the bytes of one shared library; raises TargetError if linking fails."""
    linker(machine)

    def link_all(output: str, objects: Sequence[str], options: object = None, **_: object) -> None:
        link(objects, machine, Path(output))

    link_all.output_format = "so"  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="fluidc-") as folder:
        path = Path(folder) / "module.so"
        executable.export_library(str(path), fcompile=link_all, workspace_dir=folder)
        return path.read_bytes()
