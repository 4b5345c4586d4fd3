"""fluidc run: the report at its end, the page, and private reports, in which nothing depends on the examples."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import POISSON
from numpy.typing import NDArray

from fluidc.frontend.cli import main
from fluidc.runtime import commands
from fluidc.runtime.commands import RunArguments
from fluidc.runtime.errors import DataError
from fluidc.runtime.ledger import Ledger
from fluidc.runtime.progress import Bar, Lines, at_least, display
from fluidc.runtime.session import Session

SPEC = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29, assumed_public=("b",))


class Slow(LinearEngine):
    """Takes its time, so that wall times differ."""

    def call(self, function: str, arguments: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        time.sleep(0.001)
        return super().call(function, arguments)


def trained(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    rows: int = 90,
    engine: type[LinearEngine] = LinearEngine,
    **more: Any,
) -> tuple[str, str, str]:
    """Standard output, standard error and the page of a run of 60 steps."""
    folder.mkdir()
    path, data, page = folder / "linear.fluidc", folder / "data.npz", folder / "page.html"
    linear_artifact(SPEC, 16).write(path)
    np.savez(data, **linear_data(rows))  # pyright: ignore[reportArgumentType]
    arguments = replace(RunArguments(path, data, steps=60, output=folder / "t.fluidc", report=page), **more)
    assert commands.run(arguments, lambda *_: engine(SPEC)) == 0
    told = capsys.readouterr()
    return told.out.replace(str(folder), ""), told.err.replace(str(folder), ""), page.read_text()


def test_the_report_names_the_constants_and_what_is_not_covered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err, page = trained(tmp_path / "run", capsys, evaluate=tmp_path / "run" / "data.npz")
    budget, so_far = at_least(SPEC.epsilon(100, 1e-5)), at_least(SPEC.epsilon(60, 1e-5))
    for text in (out, page):
        for part in (
            f"ε {so_far} so far, budget {budget} (δ=1e-05); 60 of 100 steps counted",
            "60 steps counted, 60 of them are in the parameters",
            "ε so far holds only if the number of steps was fixed before the run, or a crash ended it; "
            "ε so far is rounded up to the next entry of the table in the artifact",
            "assumed public: b",
            "ε does not cover: decisions taken on values marked NOT PRIVATE",
        ):
            assert part in text
    for part in ("σ 0.5", "C 0.7", "L 8", "q 0.125", "δ 1e-05", "sampler poisson", "adjacency add-remove"):
        assert part in out
    # Whatever depends on examples is marked, in the line or cell where it stands.
    assert re.search(r"^loss of the last step: [\d.]+  \(NOT PRIVATE\)$", out, re.MULTILINE)
    assert re.search(r"^trained 60 steps in [\d.]+ s  \(NOT PRIVATE: the time\)$", out, re.MULTILINE)
    assert re.search(r"evaluation on .*: 90 rows  \(NOT PRIVATE if", out)
    cell = r'<td>loss of the last step</td><td class="number">[\d.]+</td><td><span class="mark">NOT PRIVATE</span></td>'
    assert re.search(cell, page)
    assert "<figcaption>loss (NOT PRIVATE)</figcaption>" in page
    assert re.search(r"<figcaption>Time from step to step, .* on average \(NOT PRIVATE\)</figcaption>", page)
    assert "[NOT PRIVATE: loss" in err


def test_the_page_stands_alone_and_draws_epsilon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, page = trained(tmp_path / "run", capsys)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"(src|href)=|https?://(?!www\.w3\.org/2000/svg)|<script", page)
    drawings = re.findall(r"<svg.*?</svg>", page)
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    (drawing,) = (each for each in drawings if "so far" in each)
    curve = re.findall(r'<polyline class="curve c0" points="([^"]*)"', drawing)[0].split()
    heights = [float(point.split(",")[1]) for point in curve]
    assert len(curve) == 1 + len({entry.count for entry in SPEC.table})
    assert heights == sorted(heights, reverse=True)
    assert ">so far<" in drawing
    assert not list((tmp_path / "run").glob(".*"))  # no half-written file is left


def test_a_private_report_is_the_same_whatever_the_examples_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = trained(tmp_path / "a", capsys, private_report=True)
    other = trained(tmp_path / "b", capsys, rows=400, engine=Slow, private_report=True)
    assert told == other
    out, err, page = told
    assert out.startswith("trained 60 steps\n")
    assert [line.split("  ")[0] for line in err.splitlines()] == ["step 1/60", "step 51/60", "step 60/60"]
    for text in told:
        assert "loss" not in text
        assert "NOT PRIVATE" not in text
        assert "examples/s" not in text
    assert "ε does not cover" not in out
    assert "60 of 100 steps counted" in out
    assert "60 of 100 steps counted" in page
    # Without it, the same runs differ.
    assert trained(tmp_path / "c", capsys)[2] != trained(tmp_path / "d", capsys, rows=400)[2]


def test_decisions_on_exact_values_are_told_of_in_a_private_report_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    (folder / "linear.fluidc.run").mkdir(parents=True)
    with Ledger.open(folder / "linear.fluidc.run", SPEC) as ledger:
        ledger.taint("a callback saw values that are not private")
        ledger.step()
    path = folder / "linear.fluidc"
    linear_artifact(SPEC, 16).write(path)
    np.savez(folder / "data.npz", **linear_data(90))  # pyright: ignore[reportArgumentType]
    arguments = RunArguments(path, folder / "data.npz", steps=3, private_report=True)
    assert commands.run(arguments, lambda *_: LinearEngine(SPEC)) == 0
    out = capsys.readouterr().out
    assert "ε does not cover: a callback saw values that are not private" in out
    assert "4 steps counted, 3 of them are in the parameters" in out


def test_what_contradicts_a_private_report_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "linear.fluidc", tmp_path / "data.npz"
    linear_artifact(SPEC, 16).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]
    arguments = RunArguments(path, data, steps=3, private_report=True, evaluate=data)
    with pytest.raises(DataError, match="an evaluation is exact"):
        commands.run(arguments, lambda *_: LinearEngine(SPEC))
    with pytest.raises(DataError, match="cannot be written there"):
        commands.run(
            replace(arguments, evaluate=None, report=tmp_path / "no" / "r.html"), lambda *_: LinearEngine(SPEC)
        )
    with pytest.raises(DataError, match=r"page of HTML, not \.pdf"):
        commands.run(replace(arguments, evaluate=None, report=tmp_path / "page.pdf"), lambda *_: LinearEngine(SPEC))
    assert not (tmp_path / "linear.fluidc.run").exists()
    plain = Session.load(linear_artifact(None, None), LinearEngine(None))
    with pytest.raises(DataError, match="a private report is wanted of an ordinary program"):
        plain.train(linear_data(90), steps=1, private_report=True)


def test_the_session_returns_public_values_only(tmp_path: Path) -> None:
    with Session.load(linear_artifact(SPEC, 16), LinearEngine(SPEC)) as session:
        data = linear_data(90)
        assert "loss" in session.train(data, steps=1, run_dir=tmp_path / "a").fetches
        again = Session.load(linear_artifact(SPEC, 16), LinearEngine(SPEC))
        assert "loss" not in again.train(data, steps=1, run_dir=tmp_path / "b", private_report=True).fetches


def test_an_untimed_display_has_no_clock() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    lines = display(io.StringIO(), untimed=True).shown
    assert isinstance(lines, Lines)
    assert [lines.due() for _ in range(102)].count(True) == 3
    for untimed in (False, True):
        bar = display(Terminal(), untimed=untimed).shown
        assert isinstance(bar, Bar)
        columns = [type(column).__name__ for column in bar._progress.columns]  # pyright: ignore[reportPrivateUsage]
        assert ("TimeRemainingColumn" in columns) == (not untimed)


def test_both_command_lines_have_the_options() -> None:
    text = CliRunner().invoke(main, ["run", "--help"]).stdout
    assert "--private-report" in text
    assert "--report" in text
