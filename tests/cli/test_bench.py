"""fluidc bench: what is measured, beside a peer that takes the same step, and one that does not."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from imports import ROOT
from rich.console import Console

from fluidc.frontend.bench.machine import Machine
from fluidc.frontend.bench.report import Report, table
from fluidc.frontend.cli import main

PEER = """
import sys

sys.path.insert(0, {folder!r})
import numpy as np
from protocol import Contestant, limit_threads, serve


def numpy_step(model, arrays):
    def step():
        logits = arrays["words.w"][arrays["x"]].mean(1) @ arrays["out.w"] + arrays["out.b"]
        scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return {factor} * -float(np.take_along_axis(scores, arrays["label"], 1).mean())

    return step


def absent(model, arrays):
    raise ImportError("no such library")


limit_threads()
here = frozenset({{"embedding"}})
contestants = [Contestant("numpy", True, here, numpy_step), Contestant("absent", False, here, absent)]
serve(contestants, {{"numpy of the peer": np.__version__}})
"""


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments), "--threads", "1", "--rounds", "2"])


def peer(folder: Path, factor: float) -> str:
    script = folder / "peer.py"
    script.write_text(PEER.format(folder=str(ROOT / "benchmarks" / "peers"), factor=factor))
    return f"{sys.executable} {script}"


def test_contestants_take_turns(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    run = bench("embedding", "--batch", 8, "--with", peer(tmp_path, 1.0), "-o", out, "--plot", plot)
    assert run.exit_code == 0, run.output + str(run.exception)
    for label in ("fluidc", "fluidc Dpsgd", "numpy"):
        assert label in run.stdout
    assert "embedding: no absent: ImportError: no such library" in run.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    report = Report.from_json(out.read_text())
    assert report.to_json() == out.read_text()
    model = report.models["embedding"]
    assert model.batch == 8
    assert {label: c.private for label, c in model.contestants.items()} == {
        "fluidc": False,
        "fluidc Dpsgd": True,
        "numpy": True,
    }
    for contestant in model.contestants.values():
        assert len(contestant.seconds) == 2
        assert 0 < contestant.best <= contestant.median
    plain = model.contestants["fluidc"]
    assert len(plain.losses) == 2
    assert plain.losses[0] == pytest.approx(model.contestants["numpy"].losses[0], rel=1e-5)
    # Forward and weight gradients of 8 x 64 x 64 lookups at least, and of the products.
    assert plain.flops is not None
    assert plain.flops > 2 * 8 * 64 * 64
    assert report.machine.threads == 1
    assert {"fluidc", "apache-tvm", "numpy of the peer"} <= report.machine.versions.keys()
    assert set(json.loads(out.read_text())) == {"models", "machine"}


def test_a_peer_that_takes_another_step_is_told(tmp_path: Path) -> None:
    run = bench("embedding", "--private", "--batch", 8, "--with", peer(tmp_path, 1.01))
    assert run.exit_code == 1
    assert "error: numpy computes another first loss than fluidc Dpsgd: 0.7" in run.stderr
    assert "  at model embedding" in run.stderr
    assert "--skip 'numpy'" in run.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/no/such/python", "error: the peer does not start: No such file or directory"),
        (f"{sys.executable} -c pass", "error: the peer ended or answered no JSON when asked to contestants"),
        ("", "error: the peer does not start: there is no command"),
    ],
)
def test_peers_that_are_none(command: str, message: str) -> None:
    run = bench("embedding", "--plain", "--batch", 8, "--with", command)
    assert run.exit_code == 1
    assert run.stderr.startswith(message), run.stderr


def test_wrong_usage(tmp_path: Path) -> None:
    run = bench("alexnet")
    assert run.exit_code == 2
    assert "there is no model 'alexnet'; there are mlp, cnn, lenet" in run.stderr
    run = bench("mlp", "-o", tmp_path / "none" / "bench.json")
    assert run.exit_code == 2
    assert "there is no folder" in run.stderr


def test_the_table_marks_a_noisy_machine() -> None:
    shown = io.StringIO()
    Console(width=140, file=shown).print(table(Report({}, Machine("a cpu", [], 2, 2, 3.5, True, {}))))
    assert "a cpu, 2 threads, load 3.5; NOISY: other work was running" in shown.getvalue()
