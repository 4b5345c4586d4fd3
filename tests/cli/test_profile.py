"""`fluidc run --profile`: the same training, with a table and a file of times."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fluidc.frontend.cli import main
from fluidc.runtime.__main__ import main as runtime
from fluidc.runtime.artifact import Artifact

SCRIPT = """
import fluidc.frontend as fluid

program, startup = fluid.Program(), fluid.Program()
program.random_seed = startup.random_seed = 3
with fluid.program_guard(program, startup):
    x, y = fluid.data("x", [None, 24]), fluid.data("y", [None, 1], dtype="int64")
    hidden = fluid.layers.fc(x, 16, act="relu")
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(hidden, 3), y))
    fluid.optimizer.{optimizer}.minimize(loss)
"""
DPSGD = "Dpsgd(learning_rate=0.1, clip=1.0, batch_size=16.0, sigma=1.0, dataset_size=100, delta=1e-3, max_steps=60)"


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def out(*arguments: object) -> str:
    result = fluidc(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = fluidc(*arguments)
    assert result.exit_code == 1, result.output
    return result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain and a private artifact, one for the reference target, and data."""
    made = tmp_path_factory.mktemp("profile")
    for name, optimizer in (("plain", "Adam(0.01)"), ("private", DPSGD)):
        (made / f"{name}.py").write_text(SCRIPT.format(optimizer=optimizer))
        out("compile", made / f"{name}.py", "-o", made / f"{name}.fluidc")
    out("compile", made / "plain.py", "-o", made / "reference.fluidc", "--target", "reference")
    rng = np.random.default_rng(0)
    np.savez(made / "d.npz", x=rng.normal(size=(100, 24)).astype(np.float32), y=rng.integers(0, 3, (100, 1)))
    return made


@pytest.mark.parametrize("name", ["plain", "private"])
def test_training_is_the_same_and_its_times_are_told(folder: Path, tmp_path: Path, name: str) -> None:
    # The last batch of an epoch is smaller; lots of more than 16 rows are accumulated.
    run = ["run", folder / f"{name}.fluidc", "--data", folder / "d.npz", "--steps", 40, "--threads", 2]
    if name == "private":
        run += ["--insecure-noise-key", "00ff"]
    out(*run, "-o", tmp_path / "a.fluidc", "--run-dir", tmp_path / "a")
    file = tmp_path / "p.json"
    told = out(*run, "-o", tmp_path / "b.fluidc", "--run-dir", tmp_path / "b", "--profile", file)
    expected, found = (Artifact.read(tmp_path / f"{which}.fluidc").state for which in "ab")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(value, found[key])
    data = json.loads(file.read_text())
    functions = {function["name"]: function for function in data["functions"]}
    assert set(functions) == ({"step"} if name == "plain" else {"step", "accumulate", "apply"})
    kernels = {kernel["at"] for kernel in functions["step"]["kernels"] if kernel["op"] == "linear.matmul"}
    assert kernels == {f"{name}.py:8 fc", f"{name}.py:9 fc"}
    mark = "NOT PRIVATE" if name == "private" else ""
    assert data["mark"] == mark
    assert re.search(rf"^profile of {name}\.fluidc on \d+ threads?{f'  .{mark}.' if mark else ''}$", told, re.M)
    assert re.search(r"^ +[\d.]+ .* linear\.matmul \+\d+ +\w+\.py:8 fc$", told, re.M)
    assert f"wrote {file}" in told


def test_the_plot_is_written(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "p.png"
    out("run", folder / "plain.fluidc", "--data", folder / "d.npz", "--steps", 12, "--profile", file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_the_runtime_alone_profiles_too(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.json"
    plain, data = str(folder / "plain.fluidc"), str(folder / "d.npz")
    assert runtime(["run", plain, "--data", data, "--steps", "12", "--profile", str(file)]) == 0
    assert "GFLOP/s" in capsys.readouterr().out
    assert file.exists()


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    data = ("--data", folder / "d.npz", "--steps", 20)
    file = tmp_path / "p.json"
    plain, private = folder / "plain.fluidc", folder / "private.fluidc"
    assert refused("run", plain, *data, "--profile", tmp_path / "p.txt") == (
        f"error: a profile is a plot or data, not .txt\n  at --profile {tmp_path}/p.txt\n"
        "  name a file that ends in one of .png, .svg, .pdf, .json\n"
    )
    assert refused("run", private, *data, "--run-dir", tmp_path / "r", "--private-report", "--profile", file) == (
        "error: a profile is made of times, and a private report leaves out what is not private\n"
        "  at --private-report, --profile\n"
        "  give one of them; `fluidc run` without --private-report marks times as not private\n"
    )
    assert refused("run", folder / "reference.fluidc", *data, "--profile", file) == (
        "error: artifacts for the target reference have no kernels that could be clocked\n"
        "  at --profile\n  compile with --target cpu\n"
    )
    older = Artifact.read(plain)
    object.__setattr__(older, "kernels", None)
    older.write(tmp_path / "older.fluidc")
    assert refused("run", tmp_path / "older.fluidc", *data, "--profile", file) == (
        "error: the artifact was written before artifacts held the table of their kernels\n"
        "  at member kernels.json\n  compile the script again\n"
    )
    assert not (tmp_path / "r").exists(), "no step was counted"
    assert not file.exists()


def test_a_run_too_short_is_refused_before_it_spends_anything(folder: Path, tmp_path: Path) -> None:
    for name in ("plain", "private"):
        told = refused(
            "run", folder / f"{name}.fluidc", "--data", folder / "d.npz", "--steps", 5, "--run-dir", tmp_path / "r",
            "--profile", tmp_path / "p.json",
        )  # fmt: skip
        assert told == (
            "error: a run of 5 steps is too short to profile\n"
            "  at --steps, --profile\n  take at least 6 steps; the first 4 are not counted\n"
        )
    assert not (tmp_path / "r").exists()


def test_a_run_that_turns_out_too_short_keeps_what_it_learned(folder: Path, tmp_path: Path) -> None:
    trained = tmp_path / "t.fluidc"
    told = refused(
        "run", folder / "plain.fluidc", "--data", folder / "d.npz", "--epochs", 1, "--batch", 50, "-o", trained,
        "--profile", tmp_path / "p.json",
    )  # fmt: skip
    assert told.endswith(
        "error: the run was too short to profile: 2 calls of its longest function\n"
        "  at --profile\n  take at least 6 steps; the first 4 are not counted\n"
    )
    assert trained.exists()
