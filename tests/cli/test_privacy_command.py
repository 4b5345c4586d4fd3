"""``fluidc privacy``: numbers of the accountant, from the command line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from manifests import POISSON

from fluidc.frontend.cli import main
from fluidc.runtime.ledger import Ledger


def privacy(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["privacy", *map(str, arguments)], prog_name="fluidc")


def out(*arguments: object) -> str:
    result = privacy(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def number(text: str, after: str) -> float:
    found = re.search(re.escape(after) + r"\s*([\d.]+)", text)
    assert found is not None, text
    return float(found[1])


# Full-batch steps are one Gaussian, whose epsilon has a closed form: sigma 1, 4 steps, delta 1e-5 gives 9.9973
# (Balle & Wang, ICML'18); with the slack of float32 steps 10.0093.
GAUSSIAN = ("--sample-rate", 1, "--sigma", 1, "--steps", 4, "--delta", 1e-5)


def test_epsilon() -> None:
    assert number(out("epsilon", *GAUSSIAN), "epsilon") == pytest.approx(9.9973, abs=1e-3)
    assert number(out("epsilon", *GAUSSIAN, "--slack", 2**-10), "epsilon") == pytest.approx(10.0093, abs=1e-3)
    assert "replace-one" in out("epsilon", *GAUSSIAN, "--adjacency", "replace-one")


def test_sigma_is_the_inverse_of_epsilon() -> None:
    text = out("sigma", "--sample-rate", 1, "--epsilon", 9.9973, "--steps", 4, "--delta", 1e-5)
    assert number(text, "sigma") == pytest.approx(1.0, abs=1e-3)
    assert number(text, "epsilon") <= 9.9973


def test_wrong_numbers() -> None:
    result = privacy("epsilon", "--sample-rate", 1, "--sigma", 1, "--steps", 4, "--delta", 2)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: delta=2.0 is outside the range")
    assert privacy("epsilon", "--sigma", 1).exit_code == 2
    assert privacy("epsilon", *GAUSSIAN, "--sampler", "shuffle", "--adjacency", "add-remove").exit_code == 1


def spend(folder: Path, steps: int, **changes: object) -> Path:
    """A run directory in which ``steps`` steps were counted."""
    spec = replace(POISSON, q_num=1 << 32, sigma=1.0, slack=0.0, **changes)  # type: ignore[arg-type]
    with Ledger.open(folder, spec) as ledger:
        for _ in range(steps):
            ledger.step()
    return folder


def test_compose_adds_up_runs(tmp_path: Path) -> None:
    first, second = spend(tmp_path / "a", 1), spend(tmp_path / "b", 3)
    text = out("compose", first, second / "ledger.jsonl", "--delta", 1e-5)
    # One step and three steps of sigma 1 are four.
    assert number(text, "together: ε =") == pytest.approx(9.9973, abs=1e-3)
    assert f"{first}: 1 steps" in text
    # 4 steps of sigma 1 are one of sigma 1/2: mu = 2.
    assert number(text, f"{second / 'ledger.jsonl'}: 3 steps, ε =") < 9.9973


def test_compose_refuses_runs_without_epsilon(tmp_path: Path) -> None:
    folder = spend(tmp_path / "a", 1)
    with Ledger.open(folder, replace(POISSON, q_num=1 << 32, sigma=1.0, slack=0.0), void="user-fed") as ledger:
        ledger.step()
    result = privacy("compose", folder, "--delta", 1e-5)
    assert result.exit_code == 1
    assert "no epsilon holds for this ledger: lots were fed by the caller" in result.stderr
    assert privacy("compose", tmp_path / "none", "--delta", 1e-5).exit_code == 2
    (tmp_path / "empty").mkdir()
    assert "cannot be read" in privacy("compose", tmp_path / "empty", "--delta", 1e-5).stderr


def test_compose_counts_no_ledger_twice_and_knows_an_artifact(tmp_path: Path) -> None:
    folder = spend(tmp_path / "a", 1)
    for again in (folder, folder / "ledger.jsonl", tmp_path / "b" / ".." / "a"):
        (tmp_path / "b").mkdir(exist_ok=True)
        twice = privacy("compose", folder, again, "--delta", 1e-5)
        assert twice.exit_code == 1
        assert "a ledger is named twice" in twice.stderr
    artifact = tmp_path / "x.fluidc"
    artifact.write_bytes(b"PK")
    wrong = privacy("compose", artifact, "--delta", 1e-5)
    assert wrong.exit_code == 1
    assert "this file is no ledger" in wrong.stderr
    assert "x.fluidc.run" in wrong.stderr


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "e.svg"
    text = out("plot", *GAUSSIAN, "-o", path)
    assert number(text, "ε =") == pytest.approx(9.9973, abs=1e-3)
    assert path.read_text().startswith("<?xml")
    result = privacy("plot", *GAUSSIAN, "-o", tmp_path / "e.nothing")
    assert result.exit_code == 1
    assert "name a .svg, .png or .pdf file" in result.stderr


def test_plot_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    result = privacy("plot", *GAUSSIAN, "-o", tmp_path / "e.svg")
    assert result.exit_code == 1
    assert "pip install matplotlib" in result.stderr
