"""Artifacts for ONNX Runtime from compiling to predicting: plain and private training, checkpoints, the commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from private_runs import STATED, classifier, compiled, rows

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.frontend.cli import main
from fluidc.frontend.cli.engines import choose_engine
from fluidc.frontend.lower import lower
from fluidc.runtime import onnx_engine, onnx_profile
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.errors import DataError, EngineError, NumericsError
from fluidc.runtime.ledger import read_ledger
from fluidc.runtime.session import Checkpoints, Session

L: Any = fluid.layers
Arrays = dict[str, np.ndarray[Any, Any]]
DATA = rows(90)
SECRET = b"onnx sessions"


@cache
def artifact(target: str, private: bool, batch: int) -> Artifact:
    if private:
        return compiled(
            classifier, target, batch, lambda: fluid.optimizer.Dpsgd(0.5, 0.7, 16.0, 1.0, **STATED)
        ).artifact
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        x, label = L.data("x", [5]), L.data("label", [1], dtype="int64")
        logits = L.fc(L.dropout(L.fc(x, 8, act="tanh"), 0.2), 3)
        loss = L.mean(L.softmax_with_cross_entropy(logits, label))
        fluid.optimizer.Adam(0.05).minimize(loss)
    fetched = {"fetches": (loss.name,), "infer_fetches": (loss.name, logits.name)}
    return compile_source(lower(main, startup=startup, **fetched), target=target, keep_ir=True).artifact()


def load(target: str, private: bool = False, batch: int = 0, **options: Any) -> Session:
    made = artifact(target, private, batch)
    return Session.load(made, choose_engine(made, 1), **{"seed": 3, **options})


def assert_near(found: Session, expected: Session, rtol: float = 1e-4) -> None:
    for name, value in expected.model.state.items():
        np.testing.assert_allclose(
            found.model.state[name], value, rtol=rtol, atol=rtol * np.abs(value).max(initial=0), err_msg=name
        )


def assert_same(found: Session, expected: Session) -> None:
    for name, value in expected.model.state.items():
        np.testing.assert_array_equal(found.model.state[name], value, err_msg=name)


def test_startup_and_training_are_those_of_the_reference() -> None:
    found, expected = load("onnx"), load("reference")
    assert_near(found, expected, rtol=1e-6)
    for session in (found, expected):
        session.train(DATA, steps=25, batch=20)  # the last batch of each epoch is smaller
    assert_near(found, expected)
    ours, theirs = found.evaluate(DATA).values, expected.evaluate(DATA).values
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path: Path) -> None:
    whole, first, second = load("onnx"), load("onnx"), load("onnx", seed=77)
    whole.train(DATA, steps=23, batch=20)
    first.train(DATA, steps=13, batch=20, checkpoints=Checkpoints(tmp_path, every_steps=4))
    second.train(DATA, steps=23, resume=True, checkpoints=Checkpoints(tmp_path))
    assert_same(second, whole)
    assert first.model.step == 13


@pytest.mark.parametrize("steps", [4, 5])
def test_what_is_saved_exported_and_predicted_is_the_newest_state(steps: int, tmp_path: Path) -> None:
    session, expected = load("onnx"), load("reference")
    for each in (session, expected):
        for _ in range(steps):  # odd or even: the newest values are away or at home
            each.run(DATA)
    predicted = session.predict_all(DATA)
    for name, value in expected.predict_all(DATA).items():
        np.testing.assert_allclose(predicted[name], value, rtol=1e-4, atol=1e-5)
    session.save(tmp_path / "saved")
    session.run(DATA)
    session.resume(tmp_path / "saved")
    assert_near(session, expected)
    session.run(DATA)
    expected.run(DATA)
    session.export(tmp_path / "trained.fluidc")
    again = Session.load(tmp_path / "trained.fluidc", threads=1)
    assert_near(again, expected)
    assert sorted(again.model.artifact.modules) == ["infer.onnx", "startup.onnx", "step.onnx"]


def test_a_step_that_makes_nan_is_undone() -> None:
    data = {**DATA, "x": DATA["x"].copy()}
    data["x"][50] = np.nan
    session, expected = load("onnx"), load("onnx")
    with pytest.raises(NumericsError, match="became NaN"):
        session.train(data, steps=20, batch=10, sampler="sequential", check_numerics=True)
    expected.train(data, steps=5, batch=10, sampler="sequential")
    assert_same(session, expected)


@pytest.mark.filterwarnings("ignore::fluidc.runtime.PrivacyWarning")
@pytest.mark.parametrize("batch", [4, 16, 64])
def test_private_training_takes_the_same_steps_on_every_target(batch: int, tmp_path: Path) -> None:
    found, expected = (
        load(target, private=True, batch=batch, insecure_noise_key=SECRET) for target in ("onnx", "reference")
    )
    for name, session in (("onnx", found), ("reference", expected)):
        session.train(DATA, steps=12, run_dir=tmp_path / name)
    assert_near(found, expected)
    assert read_ledger(tmp_path / "onnx")[1].totals.steps == 12
    engine: Any = found.model.stepper._engine
    assert bool(engine._functions["apply"]._words) == (batch < 64), "lots are larger than most batches"
    streams = [words.array for function in engine._functions.values() for words in function._words.values()]
    assert streams
    assert not any(words.any() for words in streams)


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_a_lot_that_fails_half_way_leaves_state_as_it_was(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    session, expected = (load("onnx", private=True, batch=4) for _ in range(2))
    lot, key = rows(11, seed=4), bytes(32)
    original: Callable[[Any, Any], None] = onnx_engine._Function._run
    calls: list[Any] = []

    def fail(function: Any, io: Any) -> None:
        calls.append(function)
        original(function, io)  # what it writes must not be seen
        if len(calls) == failing + 1:
            raise EngineError("told to fail", "here", "do not")

    for number in range(3):
        session.model.stepper.run_lot(lot, key=key, draw=number)
        expected.model.stepper.run_lot(lot, key=key, draw=number)
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(onnx_engine._Function, "_run", fail)
            with pytest.raises(EngineError, match="told to fail"):
                session.model.stepper.run_lot(lot, key=key, draw=99)
        if number == 1:
            assert_same(session, expected)
    assert_same(session, expected)


@pytest.mark.filterwarnings("ignore::fluidc.runtime.PrivacyWarning")
def test_a_private_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole, first, second = (load("onnx", private=True, batch=16, insecure_noise_key=SECRET) for _ in range(3))
    whole.train(DATA, steps=9, run_dir=tmp_path / "whole")
    first.train(DATA, steps=9, run_dir=tmp_path / "run", checkpoints=Checkpoints(tmp_path / "c", every_steps=3))
    assert_same(first, whole)
    result = second.train(
        DATA, steps=12, run_dir=tmp_path / "run", resume=True, checkpoints=Checkpoints(tmp_path / "c")
    )
    assert (result.step, result.taken) == (12, 3)
    assert read_ledger(tmp_path / "run")[1].totals.steps == 12


def test_a_private_artifact_that_cannot_be_executed_is_refused_before_a_step_is_counted(tmp_path: Path) -> None:
    made = artifact("onnx", True, 16)
    broken = replace(made, modules={**made.modules, "apply.onnx": made.modules["apply.onnx"][:-300]})
    broken.write(tmp_path / "a.fluidc")
    np.savez(tmp_path / "d.npz", **DATA)  # pyright: ignore[reportArgumentType]
    refused = fluidc("run", tmp_path / "a.fluidc", "--data", tmp_path / "d.npz", "--steps", 3)
    assert refused.exit_code == 1
    assert "does not load the model" in refused.stderr
    assert "at apply.onnx" in refused.stderr
    assert not (tmp_path / "a.fluidc.run").exists()


SCRIPT = """
import fluidc.frontend as fluid

program, startup = fluid.Program(), fluid.Program()
program.random_seed = startup.random_seed = 3
with fluid.program_guard(program, startup):
    x, label = fluid.layers.data("x", [5]), fluid.layers.data("label", [1], dtype="int64")
    logits = fluid.layers.fc(x, 3)
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
    fluid.optimizer.SGD(0.5).minimize(loss)
"""


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def ok(*arguments: object) -> str:
    result = fluidc(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("private", [False, True])
def test_a_profile_tells_the_times_of_nodes_and_changes_nothing(private: bool, tmp_path: Path) -> None:
    path, data, file = tmp_path / "a.fluidc", tmp_path / "d.npz", tmp_path / "p.json"
    artifact("onnx", private, 16 if private else 0).write(path)
    np.savez(data, **DATA)  # pyright: ignore[reportArgumentType]
    run = ("run", path, "--data", data, "--steps", 24, "--seed", 3, "--threads", 2)
    run += ("--insecure-noise-key", "07") if private else ()
    ok(*run, "-o", tmp_path / "plain", "--run-dir", tmp_path / "r1")
    told = ok(*run, "-o", tmp_path / "profiled", "--run-dir", tmp_path / "r2", "--profile", file)
    for name, value in Artifact.read(tmp_path / "plain").state.items():
        np.testing.assert_array_equal(Artifact.read(tmp_path / "profiled").state[name], value)
    found = json.loads(file.read_text())
    assert found["threads"] == 2
    assert found["mark"] == ("NOT PRIVATE" if private else "")
    functions = {function["name"]: function for function in found["functions"]}
    assert set(functions) == ({"step", "accumulate", "apply"} if private else {"step"})
    assert private or functions["step"]["calls"] == 20  # the first four are not counted
    for function in functions.values():
        assert 0 < function["seconds_in_nodes"] < function["seconds"] * 1.5
        assert {"name", "op", "inside", "seconds", "runs"} == set(function["nodes"][0])
    step = functions["step"]["nodes"]
    assert any("linear.matmul:" in node["name"] and "Gemm" in node["op"] for node in step)
    assert all(node["runs"] == 1 for node in step if not node["inside"])
    assert re.search(rf"^step: [\d,.]+ µs a call, mean of {functions['step']['calls']} calls$", told, re.M)
    assert f"wrote {file}" in told


def test_nodes_inside_loops_are_counted_with_them(tmp_path: Path) -> None:
    def event(name: str, start: int, length: int, op: str = "") -> dict[str, Any]:
        return {"cat": "Node", "name": name, "ts": start, "dur": length, "args": {"op_name": op}}

    events = [event("session_initialization", 0, 9)]
    for call in range(6):
        start = 100 * call + 10
        events += [
            event("model_run", start, 50),
            event("inner_kernel_time", start + 3, 5, "Add"), event("inner_kernel_time", start + 9, 7, "Add"),
            event("loop_kernel_time", start + 2, 20, "Loop"), event("loop_fence_before", start + 2, 0, "Loop"),
            event("relu_kernel_time", start + 22, 10, "Relu"),
        ]  # fmt: skip
    found = onnx_profile._summarised("step", events)
    assert found is not None
    assert (found.calls, found.seconds) == (2, pytest.approx(50e-6))
    assert found.in_nodes == pytest.approx(30e-6)
    assert [(n.name, n.op, n.inside, n.runs) for n in found.nodes] == [
        ("loop", "Loop", "", 1), ("inner", "Add", "loop", 2), ("relu", "Relu", "", 1),
    ]  # fmt: skip
    assert [round(n.seconds * 1e6) for n in found.nodes] == [20, 12, 10]
    assert onnx_profile._summarised("step", events[:21]) is None
    lines = list(onnx_profile.NodeReport("a", (found,), 1).lines())
    assert lines[0] == "profile of a on 1 thread"
    assert any(line.endswith("inner  (in loop)") for line in lines)
    assert "3 nodes take 30.0 µs; +20.0 µs of a call" in lines[-3]
    with pytest.raises(DataError, match="the profile cannot be written"):
        onnx_profile.NodeReport("a", (found,), 1).write(tmp_path / "none" / "p.json")


def test_profiles_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "a.fluidc", tmp_path / "d.npz"
    artifact("onnx", False, 0).write(path)
    np.savez(data, **DATA)  # pyright: ignore[reportArgumentType]
    plot = fluidc("run", path, "--data", data, "--steps", 24, "--profile", tmp_path / "p.svg")
    assert plot.exit_code == 1
    assert plot.stderr == (
        "error: the times of ONNX Runtime's nodes are written as data, not as a plot\n"
        f"  at --profile {tmp_path}/p.svg\n  name a file that ends in .json\n"
    )
    short = fluidc("run", path, "--data", data, "--epochs", 1, "--batch", 50, "--profile", tmp_path / "p.json")
    assert short.exit_code == 1
    assert "error: the run was too short to profile: 2 calls of its longest function" in short.stderr


def test_the_commands_run_on_artifacts_for_onnx(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    data = tmp_path / "d.npz"
    np.savez(data, **DATA)  # pyright: ignore[reportArgumentType]
    for target in ("onnx", "reference"):
        fetch = ("--fetch", "fc_0.tmp_1", "--fetch", "mean_0.tmp_0")
        ok("compile", tmp_path / "s.py", "-o", tmp_path / f"{target}.fluidc", "--target", target, *fetch)
        told = ok("run", tmp_path / f"{target}.fluidc", "--data", data, "--epochs", 5, "--eval", data,
                  "-o", tmp_path / f"{target}-trained.fluidc")  # fmt: skip
        assert "evaluation on" in told
        ok("predict", tmp_path / f"{target}-trained.fluidc", "--data", data, "-o", tmp_path / f"{target}.npz")
    assert "for onnx" in ok("inspect", tmp_path / "onnx-trained.fluidc").splitlines()[0]
    with np.load(tmp_path / "onnx.npz") as ours, np.load(tmp_path / "reference.npz") as theirs:
        np.testing.assert_allclose(ours["fc_0.tmp_1"], theirs["fc_0.tmp_1"], rtol=1e-4, atol=1e-5)

    # The runtime by itself, in a process that never loads a compiler.
    code = (
        "import sys\nfrom fluidc.runtime.__main__ import main\nstatus = main(sys.argv[1:])\n"
        "assert not {'tvm', 'fluidc.compiler', 'fluidc.frontend'} & set(sys.modules)\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", tmp_path / "onnx.fluidc", "--data", data, "--epochs", "5", "--threads", "1",
         "-o", tmp_path / "alone.fluidc"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trained = Artifact.read(tmp_path / "onnx-trained.fluidc").state
    for name, value in Artifact.read(tmp_path / "alone.fluidc").state.items():
        np.testing.assert_allclose(value, trained[name], rtol=1e-4, atol=1e-6)
