"""What importing loads: a script starts in a moment, and heavy libraries come when they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tvm", "tvm_ffi", "onnx", "onnxruntime", "dp_accounting", "scipy", "sklearn", "matplotlib")


def loaded(code: str, *arguments: str) -> set[str]:
    """Top-level names, and modules of fluidc, in a fresh process after ``code``."""
    tail = "\nimport sys\nprint('LOADED', *sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    line = run.stdout.splitlines()[-1].split()
    assert line[0] == "LOADED"
    return {name if name.startswith("fluidc") else name.split(".")[0] for name in line[1:]}


def fluidc(*arguments: str) -> str:
    """Code that runs a command line of fluidc in the process itself."""
    return f"""
import runpy, sys
sys.argv = ["fluidc", *{arguments!r}]
try:
    runpy.run_module("fluidc.frontend.cli", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
"""


def test_importing_the_frontend_loads_no_compiler_and_no_engine() -> None:
    names = loaded("import fluidc.frontend")
    assert names.isdisjoint(HEAVY)
    rooms = {name for name in names if name.startswith(("fluidc.compiler.", "fluidc.runtime."))}
    light = ("compiler.errors", "runtime.buffers", "runtime.errors", "runtime.files", "runtime.limits")
    assert rooms == {f"fluidc.{name}" for name in light}


def test_importing_the_runtime_loads_no_engine() -> None:
    names = loaded("import fluidc.runtime")
    assert names.isdisjoint(HEAVY)
    assert not any(name.startswith(("fluidc.compiler", "fluidc.frontend")) for name in names)


@pytest.mark.parametrize("command", ["run", "predict", "inspect", "bundle", "compile", "dump", "opt", "ops", "privacy"])
def test_help_loads_neither_compiler_nor_engine(command: str) -> None:
    names = loaded(fluidc(command, "--help"))
    assert names.isdisjoint(HEAVY)
    assert not any(name.startswith(("fluidc.compiler.passes", "fluidc.compiler.codegen")) for name in names)


def test_the_compiler_loads_a_target_when_it_is_asked_for() -> None:
    names = loaded("import fluidc.compiler.driver")
    assert names.isdisjoint(HEAVY)
