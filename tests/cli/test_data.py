"""Tables, folders and logs on both command lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from linear_engine import LinearEngine, linear_artifact, linear_data

from fluidc.frontend.cli import main
from fluidc.runtime import commands
from fluidc.runtime.__main__ import main as runtime_main
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.engine import Engine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an artifact and its data in every form; the working directory."""
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)

    def engine(artifact: Artifact, threads: int | None = None, device: int | None = None) -> Engine:
        return LinearEngine()

    monkeypatch.setattr("fluidc.frontend.cli.run.choose_engine", engine)
    monkeypatch.setattr("fluidc.frontend.cli.predict.choose_engine", engine)
    monkeypatch.setattr(commands.run, "__defaults__", (engine,))
    data = linear_data(90)
    linear_artifact().write(tmp_path / "linear.fluidc")
    np.savez(tmp_path / "data.npz", **data)  # pyright: ignore[reportArgumentType]
    rows = [[*x, y, label] for x, y, label in zip(data["x"], data["y"][:, 0], data["label"][:, 0], strict=True)]
    lines = [",".join(str(value) for value in row) for row in rows]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,c,target,class", *lines]))
    return tmp_path


COLUMNS = ("--columns", "x=a..c", "--columns", "y=target", "--columns", "label=class")


def fluidc(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), prog_name="fluidc")
    assert result.exit_code == 0, result.output
    return result.stdout


def values(path: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in Artifact.read(path).state.items()}


def test_a_table_a_folder_and_an_archive_train_the_same(folder: Path) -> None:
    told = fluidc("data", "convert", "linear.fluidc", "data.csv", "-o", "made", *COLUMNS)
    assert "x: float32[90, 3]" in told
    assert "wrote made, 90 rows, 2,160 bytes" in told
    for name, data in {"npz": ["data.npz"], "csv": ["data.csv", *COLUMNS], "made": ["made"]}.items():
        fluidc("run", "linear.fluidc", "--data", *data, "--steps", "20", "-o", f"{name}.fluidc", "--eval", "data.npz")
    assert values(folder / "npz.fluidc") == values(folder / "csv.fluidc") == values(folder / "made.fluidc")
    told = fluidc("predict", "csv.fluidc", "--data", "data.csv", *COLUMNS, "-o", "out.npz")
    assert "wrote out.npz" in told
    code = runtime_main(["run", "linear.fluidc", "--data", "data.csv", *COLUMNS, "--steps", "20", "-o", "r.fluidc"])
    assert code == 0
    assert values(folder / "r.fluidc") == values(folder / "npz.fluidc")


def test_what_is_wrong_is_said_before_anything_runs(folder: Path) -> None:
    for arguments, told in (
        (("--data", "data.csv"), "the table has no column 'x', nor 'x0' to 'x2'"),
        (("--data", "data.npz", "--columns", "x=a"), "columns are named, and the data is no table"),
        (("--data", "data.csv", "--columns", "x"), "'x' does not say which columns a feed is made of"),
        (("--data", "."), "the folder holds no .npy file"),
    ):
        result = CliRunner().invoke(main, ["run", "linear.fluidc", *arguments, "--steps", "1"])
        assert result.exit_code == 1
        assert told in result.stderr


def test_a_log_and_a_report_tell_of_themselves(folder: Path) -> None:
    pytest.importorskip("tensorboardX")
    told = fluidc("run", "linear.fluidc", "--data", "data.npz", "--steps", "5", "--log", "logs/1", "--report", "r.html")
    assert "wrote logs/1: tensorboard --logdir logs/1" in told
    assert list((folder / "logs" / "1").iterdir())
    page = (folder / "r.html").read_text()
    assert "fluidc run linear.fluidc --data data.npz --steps 5 --report r.html --log 1" in page


def test_help_shows_examples() -> None:
    told = fluidc("run", "--help")
    assert "fluidc run mlp.fluidc --data train.csv --columns x=p0..p783 --columns y=label --steps 500" in told
    assert "convert" in fluidc("data", "--help")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-o", "."), "the folder exists already"),
        (("-o", "none/made"), "there is no folder that it could be put into"),
        (("-o", "made", "--function", "stop"), "its functions are startup, step, infer"),
    ],
)
def test_what_cannot_be_converted_is_refused_before_it_is_read(
    folder: Path, options: tuple[str, ...], told: str
) -> None:
    result = CliRunner().invoke(main, ["data", "convert", "linear.fluidc", "data.npz", *options])
    assert result.exit_code == 1
    assert told in result.output
    assert not (folder / "made").exists()
