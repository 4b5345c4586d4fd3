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
from fluidc.frontend.bench.peers import Peer
from fluidc.frontend.bench.report import Report, table
from fluidc.frontend.cli import main
from fluidc.runtime.errors import FluidcError

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
        ('"unbalanced', "error: the peer does not start: No closing quotation"),
    ],
)
def test_peers_that_are_none(command: str, message: str) -> None:
    run = bench("embedding", "--private", "--batch", 8, "--skip", "fluidc Dpsgd", "--with", command)
    assert run.exit_code == 1
    assert run.stderr.startswith(message), run.stderr
    assert f"  at {command or '--with'}" in run.stderr


OFFER = '{"versions": {}, "contestants": [{"label": "other", "private": true}]}'


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        (("5",), "contestants"),
        (("[]",), "contestants"),
        (('{"contestants": []}',), "contestants"),
        (('{"versions": {}, "contestants": [7]}',), "contestants"),
        ((OFFER, "null"), "load"),
        ((OFFER, '{"losses": 1.5}'), "load"),
        ((OFFER, '{"losses": [1.5]}', '{"seconds": "long"}'), "time"),
        ((OFFER, '{"losses": [1.5]}', '{"seconds": 0}'), "time"),
        ((OFFER, '{"losses": [1.5]}', '{"seconds": 1e9}', "[]"), "forget"),
    ],
)
def test_answers_of_another_kind(tmp_path: Path, answers: tuple[str, ...], asked: str) -> None:
    script = tmp_path / "peer.py"
    script.write_text(f"import sys\nfor line, said in zip(sys.stdin, {answers!r}):\n    print(said, flush=True)\n")
    command = f"{sys.executable} {script}"

    def ask() -> None:
        with Peer(command, 1) as peer:
            for _ in peer.contestants("mlp"):
                peer.load("other", "mlp", "arrays.npz")
                peer.time("other", 0.1)
                peer.forget()

    with pytest.raises(FluidcError) as caught:
        ask()
    assert caught.value.what == f"the peer was asked to {asked} and answered {answers[-1]}"
    assert caught.value.where == command
    assert "protocol.py" in (caught.value.hint or "")


def test_wrong_usage(tmp_path: Path) -> None:
    run = bench("alexnet")
    assert run.exit_code == 2
    assert "there is no model 'alexnet'; there are mlp, cnn, lenet" in run.stderr
    run = bench("mlp", "-o", tmp_path / "none" / "bench.json")
    assert run.exit_code == 2
    assert "there is no folder" in run.stderr


def test_what_could_not_be_written_is_refused_before_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("measured first")

    monkeypatch.setattr("fluidc.frontend.bench.compare.compare", measured)
    for option in ("-o", "--plot"):
        run = bench("mlp", option, tmp_path)
        assert run.exit_code == 2
        assert f"Invalid value for {option}: {str(tmp_path)!r} is a folder; name a file" in run.stderr
    monkeypatch.setattr("fluidc.frontend.cli.writing.os.access", lambda path, mode: False)
    run = bench("mlp", "-o", tmp_path / "bench.json")
    assert run.exit_code == 2
    assert "bench.json' cannot be written" in run.stderr
    monkeypatch.undo()
    monkeypatch.setattr("fluidc.frontend.bench.compare.compare", measured)
    run = bench("mlp", "--plot", tmp_path / "x.txt")
    assert run.exit_code == 1
    assert "error: a plot is not written as .txt" in run.stderr
    assert "ends in one of .png, .svg, .pdf" in run.stderr
    monkeypatch.setattr("fluidc.frontend.bench.report.find_spec", lambda name: None)
    run = bench("mlp", "--plot", tmp_path / "x.png")
    assert run.exit_code == 1
    assert "error: matplotlib is not installed" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_labels_that_nobody_has(tmp_path: Path) -> None:
    run = bench("embedding", "--skip", "fluid")
    assert run.exit_code == 2
    assert "Invalid value for --skip: there is no contestant 'fluid'; there are fluidc, fluidc Dpsgd\n" in run.stderr
    run = bench("mlp", "--skip", "numpy", "--skip", "torch", "--with", peer(tmp_path, 1.0))
    assert run.exit_code == 2
    assert "there is no contestant 'torch'; there are absent, fluidc, fluidc Dpsgd, numpy\n" in run.stderr


def test_the_table_marks_a_noisy_machine() -> None:
    shown = io.StringIO()
    Console(width=140, file=shown).print(table(Report({}, Machine("a cpu", [], 2, 2, 3.5, True, {}))))
    assert "a cpu, 2 threads, load 3.5; NOISY: other work was running" in shown.getvalue()
