"""The examples, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from fluidc.frontend.cli import main as fluidc

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(script: str, *arguments: str, cwd: Path | None = None) -> str:
    """What the example prints; it must end well."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        cwd=cwd,
        env=os.environ | {"TVM_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def figure(output: str, pattern: str) -> float:
    found = re.search(pattern, output)
    assert found is not None, output
    return float(found[1])


def test_every_example_is_tested() -> None:
    tested = {
        "dpsgd_minimal.py", "digits.py", "fit_a_line.py", "rnn_digits.py", "lstm_private.py", "sequence_pool.py",
        "demo.py", "train_on_device.py", "train_with_onnxruntime.py", "dygraph_digits.py",
    }  # fmt: skip
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


@pytest.mark.parametrize(("program", "steps", "inputs"), [("plain", 200, 2), ("private", 20, 5)])
def test_train_on_device(program: str, steps: int, inputs: int, tmp_path: Path) -> None:
    """The digits as on-device artifacts, from the command line to a model for inference."""
    script, folder = f"{EXAMPLES / 'digits.py'}:{program}", tmp_path / "artifacts"
    told = CliRunner().invoke(
        fluidc,
        [
            "compile",
            script,
            "--target",
            "ort-artifacts",
            "-o",
            str(folder),
            "--seed",
            "3",
            "--",
            "--data",
            str(tmp_path),
        ],
    )
    assert told.exit_code == 0, told.output
    assert ("the count of steps are its caller's part" in told.stderr) == (program == "private")
    assert len(json.loads((folder / "artifacts.json").read_text())["training"]["inputs"]) == inputs
    model = tmp_path / "digits.onnx"
    output = run(
        "train_on_device.py", str(folder), str(tmp_path / "train.npz"), "--steps", str(steps), "-o", str(model)
    )
    assert figure(output, r"mean_0.tmp_0': array\(\[?([\d.e-]+)") < (0.5 if program == "plain" else 2.4)
    assert onnx.load(model).graph.input[0].name == "image"


@pytest.mark.parametrize(("program", "steps", "accuracy"), [("plain", 300, 0.95), ("private", 100, 0.93)])
def test_train_with_onnxruntime(program: str, steps: int, accuracy: float, tmp_path: Path) -> None:
    """The digits as one file, trained by a script that imports nothing of fluidc; the state it leaves is written."""
    script, model, data = f"{EXAMPLES / 'digits.py'}:{program}", tmp_path / "step.onnx", tmp_path / "train.npz"
    arguments = ["compile", script, "-o", str(model), "--batch", "1440", "--", "--data", str(tmp_path)]
    told = CliRunner().invoke(fluidc, arguments if program == "private" else [*arguments[:4], *arguments[6:]])
    assert told.exit_code == 0, told.output
    assert ("note: step.onnx clips and adds noise" in told.output) == (program == "private")
    output = run("train_with_onnxruntime.py", str(model), str(data), str(steps), cwd=tmp_path)
    assert figure(output, r"accuracy_0.tmp_0': array\(\[([\d.]+)\]") >= accuracy
    assert {"fc_0.w_0", "fc_1.b_0"} <= set(np.load(tmp_path / "trained.npz").files)


def test_dpsgd_minimal() -> None:
    assert run("dpsgd_minimal.py") == ""


def test_digits(tmp_path: Path) -> None:
    output = run("digits.py", "--data", str(tmp_path))
    assert figure(output, r"plain +test accuracy (\S+)") >= 0.94
    assert figure(output, r"private +test accuracy (\S+)") >= 0.91
    assert "ε = 8.00 (δ = 1e-4) after 100 of 100 steps" in output
    assert {path.name for path in tmp_path.iterdir()} == {"train.npz", "test.npz"}


def test_dygraph_digits(tmp_path: Path) -> None:
    output = run("dygraph_digits.py", "--folder", str(tmp_path))
    assert figure(output, r"dygraph: test accuracy (0\.\d+)") >= 0.94
    assert figure(output, r"differs by at most (\S+)") <= 1e-5
    assert figure(output, r"after one epoch as a program: test accuracy (0\.\d+)") >= 0.94
    assert {path.name for path in tmp_path.iterdir()} == {"net.pdparams", "net.pdopt", "test.npz"}


def test_fit_a_line() -> None:
    output = run("fit_a_line.py")
    assert figure(output, r"test loss (\S+)") < 0.6 * figure(output, r"mean predicts with (\S+)\)")


def test_lstm_private() -> None:
    output = run("lstm_private.py")
    assert figure(output, r"test accuracy (\S+)") >= 0.87
    assert "ε = 8.00 (δ = 1e-4) after 150 of 150 steps" in output


@pytest.mark.parametrize(("script", "pattern"), [
    ("rnn_digits.py", r"test accuracy (\S+)"),
    ("sequence_pool.py", r"last batch: accuracy (\S+)"),
])  # fmt: skip
def test_sequences(script: str, pattern: str) -> None:
    assert figure(run(script), pattern) >= 0.9
