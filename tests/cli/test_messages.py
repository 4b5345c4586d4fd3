"""What the command line says to a user who made a mistake; every message is pinned in tests/golden/errors."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from fluidc.frontend.cli import main

SCRIPT = """
import numpy as np
import fluidc.frontend as fluid

main, startup = fluid.Program(), fluid.Program()
with fluid.program_guard(main, startup), fluid.unique_name.guard():
    x = fluid.layers.data("x", [4])
    hidden = fluid.layers.fc(x, 3)
    loss = fluid.layers.mean(hidden)
    {minimize}
exe = fluid.Executor(target="reference")
"""
PLAIN = "fluid.optimizer.SGD(0.1).minimize(loss)"
DPSGD = "fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=8.0, sigma=1.0{more}).minimize(loss)"
BATCH_NORM = """hidden = fluid.layers.batch_norm(hidden)
    loss = fluid.layers.mean(hidden)
    fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=8.0, sigma=1.0).minimize(loss)"""
COMPILE = ("compile", "script.py", "-o", "out.fluidc", "--target", "reference")

# Name of the golden file, the script after its imports and model, the command line, the exit code.
MISTAKES: list[tuple[str, str, tuple[str, ...], int]] = [
    ("no_such_script", "", ("compile", "other.py", "-o", "out.fluidc"), 2),
    ("no_output", "", ("compile", "script.py"), 2),
    ("output_in_no_folder", "", ("compile", "script.py", "-o", "nowhere/out.fluidc"), 2),
    ("unknown_command", "", ("compil", "script.py"), 2),
    ("unknown_target", "", (*COMPILE[:-1], "tpu"), 1),
    ("chip_of_another_target", "", (*COMPILE[:-1], "cpu", "--arch", "sm_90"), 2),
    ("artifacts_in_another_folder", "", ("compile", "script.py", "--target", "ort-artifacts", "-o", "."), 2),
    ("artifacts_on_a_file", "", ("compile", "script.py", "--target", "ort-artifacts", "-o", "good.ir"), 2),
    ("artifacts_named_onnx", "", ("compile", "script.py", "--target", "ort-artifacts", "-o", "out.onnx"), 2),
    ("target_of_files", "exe = fluid.Executor(target='ort-artifacts')", COMPILE, 1),
    ("syntax_error", "if True print('x')", COMPILE, 1),
    ("script_fails", "values = {}\nvalues['rate']", COMPILE, 1),
    ("script_exits", "import sys\nsys.exit(3)", COMPILE, 1),
    ("no_program_of_that_name", "", ("compile", "script.py:model", *COMPILE[2:]), 1),
    ("no_such_fetch", "", (*COMPILE, "--fetch", "accuracy"), 1),
    ("no_such_feed", "", (*COMPILE, "--feed", "image=N,4"), 1),
    ("feed_of_another_shape", "", (*COMPILE, "--feed", "x=N,5"), 1),
    ("feed_not_a_shape", "", (*COMPILE, "--feed", "x=4xN"), 2),
    ("batch_zero", "", (*COMPILE, "--batch", "0"), 2),
    ("privacy_of_a_plain_program", "", (*COMPILE, "--epsilon", "8"), 1),
    ("unfed_before_training", "exe.run(main.clone(for_test=True), feed={}, fetch_list=[loss])", COMPILE, 1),
    ("startup_not_run", "exe.run(main.clone(for_test=True), feed={'x': np.ones((2, 4), 'f4')})", COMPILE, 1),
    ("dump_no_such_function", "", ("dump", "script.py", "--function", "train"), 2),
    ("dump_no_such_stage", "", ("dump", "script.py", "--stage", "final"), 2),
    ("opt_no_such_pass", "", ("opt", "good.ir", "-p", "fuse"), 2),
    ("opt_no_such_option", "", ("opt", "good.ir", "-p", "specialise{rows=3}"), 2),
    ("opt_backwards", "", ("opt", "good.ir", "--to", "captured"), 1),
    ("opt_malformed", "", ("opt", "bad.ir"), 1),
    ("opt_not_text", "", ("opt", "bytes.ir"), 1),
    ("opt_pass_of_a_later_stage", "", ("opt", "good.ir", "-p", "update"), 1),
    ("ops_no_such_family", "", ("ops", "matmul"), 2),
]

PRIVATE_MISTAKES: list[tuple[str, str, tuple[str, ...], int]] = [
    ("epsilon_too_small", ", sample_rate=1.0, delta=1e-5, max_steps=4, epsilon=1.0", COMPILE, 1),
    ("epsilon_without_delta", ", sample_rate=0.1, max_steps=4", (*COMPILE, "--epsilon", "3"), 1),
    ("sampler_and_adjacency", "", (*COMPILE, "--sampler", "shuffle", "--adjacency", "add-remove"), 1),
]

MODULE = """module {stage = core} {
  func @step(feed "x" %x: f32[N,4]) {
    %h = unary.square(%x) : f32[N,4]
    return "h" = %h
  }
}
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``said(script, command line, exit code)``: what goes to standard error."""
    monkeypatch.chdir(tmp_path)
    Path("good.ir").write_text(MODULE)
    Path("bad.ir").write_text(MODULE.replace("square(%x)", "square(%y)"))
    Path("bytes.ir").write_bytes(b"\xff\xfe\x00")

    def run(script: str, arguments: tuple[str, ...], code: int) -> str:
        Path("script.py").write_text(script)
        result = CliRunner().invoke(main, list(arguments), prog_name="fluidc")
        assert result.exit_code == code, result.output
        assert not Path("out.fluidc").exists()
        return "".join(line for line in result.stderr.splitlines(True) if not line.startswith("running "))

    return run


@pytest.mark.parametrize(("name", "text", "arguments", "code"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_mistakes(
    name: str, text: str, arguments: tuple[str, ...], code: int, said: Callable[..., str], golden: Callable[..., None]
) -> None:
    script = SCRIPT.format(minimize=PLAIN) + textwrap.dedent(text)
    golden(f"errors/cli_{name}.txt", said(script, arguments, code))


@pytest.mark.parametrize(
    ("name", "more", "arguments", "code"), PRIVATE_MISTAKES, ids=[case[0] for case in PRIVATE_MISTAKES]
)
def test_private_mistakes(
    name: str, more: str, arguments: tuple[str, ...], code: int, said: Callable[..., str], golden: Callable[..., None]
) -> None:
    script = SCRIPT.format(minimize=DPSGD.format(more=more))
    golden(f"errors/cli_{name}.txt", said(script, arguments, code))


def test_a_layer_that_mixes_examples(said: Callable[..., str], golden: Callable[..., None]) -> None:
    golden("errors/cli_batch_norm_under_dpsgd.txt", said(SCRIPT.format(minimize=BATCH_NORM), COMPILE, 1))
