"""run, predict and inspect, on artifacts that the compiler made."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import POISSON
from numpy.typing import NDArray

from fluidc.frontend.cli import main
from fluidc.runtime import commands
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.commands import RunArguments
from fluidc.runtime.errors import BudgetError, DataError, LedgerError
from fluidc.runtime.ledger import read_ledger
from fluidc.runtime.progress import at_least

SCRIPT = """
import numpy as np
import fluidc.frontend as fluid

program, startup = fluid.Program(), fluid.Program()
program.random_seed = startup.random_seed = 3
with fluid.program_guard(program, startup):
    x = fluid.layers.data(name="x", shape=[5], dtype="float32")
    label = fluid.layers.data(name="label", shape=[1], dtype="int64")
    hidden = fluid.layers.fc(x, size=8, act="relu")
    logits = fluid.layers.fc(hidden, size=3)
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
    fluid.optimizer.{optimizer}.minimize(loss)

exe = fluid.Executor(fluid.CPUPlace())
exe.run(startup)
with np.load({data!r}) as archive:
    data = dict(archive)
for start in range(0, 90, 30):
    feed = {{name: data[name][start : start + 30] for name in ("x", "label")}}
    print("loss", exe.run(program, feed=feed, fetch_list=[loss])[0].item())
print("weights", *fluid.global_scope().find_var("fc_0.w_0").get_tensor().array.ravel().tolist())
"""
ADAM = "Adam(learning_rate=0.05)"
DPSGD = "Dpsgd(learning_rate=0.5, clip=1.0, batch_size=16.0, sigma=1.0, max_steps=12)"
ACCOUNTED = DPSGD[:-1] + ", dataset_size=90, delta=1e-3)"
PRIVATE = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def ok(*arguments: object) -> str:
    result = fluidc(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def make_data(path: Path, rows: int = 90, **changed: NDArray[Any]) -> Path:
    random = np.random.default_rng(1)
    x = random.normal(size=(rows, 5)).astype(np.float32)
    label = np.argmax(x[:, :3] + 0.3 * x[:, 2:], axis=1)[:, None]
    np.savez(path, **{"x": x, "label": label, **changed})  # pyright: ignore[reportArgumentType]
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two artifacts, the data, and the script."""
    folder = tmp_path_factory.mktemp("made")
    data = make_data(folder / "data.npz")
    for name, optimizer in (("plain", ADAM), ("private", DPSGD)):
        script = folder / f"{name}.py"
        script.write_text(SCRIPT.format(optimizer=optimizer, data=str(data)))
        fetch = ("--fetch", "mean_0.tmp_0", "--fetch", "fc_1.tmp_1")
        ok("compile", script, "-o", folder / f"{name}.fluidc", "--target", "reference", *fetch)
    return folder


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as archive:
        return dict(archive)


def state_of(path: Path) -> dict[str, NDArray[Any]]:
    return dict(Artifact.read(path).state)


# -- plain ------------------------------------------------------------------------------------------------------------


def test_run_trains_evaluates_and_writes_what_predict_reads(made: Path, tmp_path: Path) -> None:
    trained, out = tmp_path / "trained.fluidc", tmp_path / "out.npz"
    data = made / "data.npz"
    text = ok("run", made / "plain.fluidc", "--data", data, "--epochs", 30, "--eval", data, "-o", trained)
    assert text.startswith("trained 90 steps in")
    assert "evaluation on" in text
    loss = float(text.split("mean_0.tmp_0: ")[1].split()[0])
    assert "NOT PRIVATE" not in text

    untrained = fluidc("predict", made / "plain.fluidc", "--data", data, "-o", out)
    assert "note: this artifact has not been trained" in untrained.stderr
    predicted = fluidc("predict", trained, "--data", data, "-o", out)
    assert "not been trained" not in predicted.stderr
    assert "fc_1.tmp_1: float32[90, 3]" in predicted.stdout
    arrays, state = arrays_of(data), state_of(trained)
    hidden = np.maximum(arrays["x"].astype(np.float64) @ state["fc_0.w_0"] + state["fc_0.b_0"], 0)
    logits = hidden @ state["fc_1.w_0"] + state["fc_1.b_0"]
    np.testing.assert_allclose(arrays_of(out)["fc_1.tmp_1"], logits, rtol=1e-4, atol=1e-5)
    shifted = logits - logits.max(1, keepdims=True)
    nll = np.log(np.exp(shifted).sum(1)) - np.take_along_axis(shifted, arrays["label"], 1)[:, 0]
    np.testing.assert_allclose(loss, nll.mean(), rtol=1e-4)
    assert nll.mean() < 0.4


def test_the_script_itself_and_run_take_the_same_steps(made: Path, tmp_path: Path) -> None:
    # As a plain script, on the cpu target; the artifact runs in numpy.
    done = subprocess.run([sys.executable, made / "plain.py"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    trained = tmp_path / "trained.fluidc"
    text = ok(
        "run", made / "plain.fluidc", "--data", made / "data.npz", "--epochs", 1, "--batch", 30,
        "--sampler", "sequential", "-o", trained,
    )  # fmt: skip
    weights = np.array([float(word) for word in lines[-1].split()[1:]])
    np.testing.assert_allclose(state_of(trained)["fc_0.w_0"].ravel(), weights, rtol=1e-5, atol=1e-6)
    loss = float(text.split("mean_0.tmp_0 of the last step: ")[1].split()[0])
    np.testing.assert_allclose(loss, float(lines[-2].split()[1]), rtol=1e-5)


def test_a_resumed_run_ends_in_the_same_bits(made: Path, tmp_path: Path) -> None:
    run = ("run", made / "plain.fluidc", "--data", made / "data.npz", "--batch", "20")
    ok(*run, "--epochs", 4, "-o", tmp_path / "whole.fluidc")
    kept = ("--checkpoint", tmp_path / "kept")
    ok(*run, "--steps", 7, *kept, "--checkpoint-every", 3)
    text = ok(*run, "--epochs", 4, *kept, "--resume", "-o", tmp_path / "resumed.fluidc")
    assert text.startswith("trained 13 steps")
    whole, resumed = state_of(tmp_path / "whole.fluidc"), state_of(tmp_path / "resumed.fluidc")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name])


def test_sigterm_ends_the_step_writes_a_checkpoint_and_exits_with_1(made: Path, tmp_path: Path) -> None:
    run = ["run", str(made / "plain.fluidc"), "--data", str(made / "data.npz"), "--checkpoint", str(tmp_path / "kept")]
    command = [sys.executable, "-m", "fluidc.frontend.cli", *run]
    with subprocess.Popen(
        [*command, "--steps", "10000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # the first step was taken
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "stopped after step" in out
    (path,) = (tmp_path / "kept").glob("step-*")
    step = int(path.stem[5:])
    assert f"stopped after step {step}; --resume goes on from {path}" in out
    ok(*run, "--steps", step + 2, "--resume", "-o", tmp_path / "resumed.fluidc")
    ok(*run[:-2], "--steps", step + 2, "-o", tmp_path / "whole.fluidc")
    whole, resumed = state_of(tmp_path / "whole.fluidc"), state_of(tmp_path / "resumed.fluidc")
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name])


# -- private ----------------------------------------------------------------------------------------------------------


def test_a_private_run_keeps_its_ledger_beside_the_artifact(made: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "private.fluidc"
    artifact.write_bytes((made / "private.fluidc").read_bytes())
    data = made / "data.npz"
    refused = fluidc("run", artifact, "--data", data)
    assert refused.exit_code == 1  # no dataset_size: no sampling rate to draw lots with
    assert "the sampling rate is not stated" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_private_run_shows_both_epsilons_and_stops_at_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = tmp_path / "linear.fluidc", tmp_path / "data.npz"
    linear_artifact(PRIVATE, 16).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]
    arguments = RunArguments(path, data, steps=60, evaluate=data, output=tmp_path / "trained.fluidc")
    assert commands.run(arguments, lambda *_: LinearEngine(PRIVATE)) == 0
    out = capsys.readouterr()
    at_60, at_100 = PRIVATE.epsilon(60, 1e-5), PRIVATE.epsilon(100, 1e-5)
    assert f"privacy: ε {at_60:.4g} so far, budget {at_100:.4g} (δ=1e-05); 60 of 100 steps counted" in out.out
    assert "loss of the last step: " in out.out
    assert "(NOT PRIVATE)" in out.out
    assert "(NOT PRIVATE if any of these rows is private)" in out.out
    assert "step 60/60  [NOT PRIVATE: loss" in out.err
    assert read_ledger(tmp_path / "linear.fluidc.run")[1].totals.steps == 60

    assert commands.run(replace(arguments, steps=None), lambda *_: LinearEngine(PRIVATE)) == 0
    assert "100 of 100 steps counted" in capsys.readouterr().out
    assert not Artifact.read(tmp_path / "trained.fluidc").manifest.insecure_noise_key


def test_nothing_is_resumed_in_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data, kept = tmp_path / "linear.fluidc", tmp_path / "data.npz", tmp_path / "mistyped"
    linear_artifact(PRIVATE, 16).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]
    resumed = RunArguments(path, data, steps=5, run_dir=kept, resume=True)

    def train(arguments: RunArguments) -> str:
        assert commands.run(arguments, lambda *_: LinearEngine(PRIVATE)) == 0
        return capsys.readouterr().err

    for what in ("is missing", "has no privacy ledger"):
        with pytest.raises(LedgerError, match=rf"{what}[\s\S]*mistyped[\s\S]*leave --resume out for a first run"):
            train(resumed)
        assert "spends budget" not in capsys.readouterr().err
        kept.mkdir(exist_ok=True)
    assert not list(kept.iterdir()), "a refused run counts nothing"
    assert "note: this run spends budget and keeps nothing" in train(replace(resumed, resume=False))
    lost = "note: steps counted in {} already: {}, of them in the parameters: {}; the others cost budget"
    ahead = train(replace(resumed, output=tmp_path / "trained.fluidc", steps=10))
    assert "spends budget" not in ahead
    assert "no checkpoint yet; starting at the beginning" in ahead
    assert lost.format(kept, 5, 0) in ahead
    assert "to go on from them, run what they trained (-o)" in ahead
    assert read_ledger(kept)[1].totals.steps == 15
    with pytest.raises(BudgetError):
        train(replace(resumed, resume=False, steps=86))
    assert "spends budget" not in capsys.readouterr().err
    assert "no checkpoint yet" in train(replace(resumed, run_dir=None)), "the default folder may be a new one"


def test_counted_steps_that_are_not_in_the_parameters_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data, kept = tmp_path / "linear.fluidc", tmp_path / "data.npz", tmp_path / "rd"
    linear_artifact(PRIVATE, 16).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]
    first = RunArguments(path, data, steps=40, run_dir=kept, output=tmp_path / "a.fluidc")

    def train(arguments: RunArguments) -> str:
        assert commands.run(arguments, lambda *_: LinearEngine(PRIVATE)) == 0
        return capsys.readouterr().err

    assert "steps counted" not in train(first)
    again = train(replace(first, steps=10, output=tmp_path / "b.fluidc", private_report=True))
    assert (
        f"note: steps counted in {kept} already: 40, of them in the parameters: 0; the others cost budget and are not "
        "in this result; to go on from them, --resume from a checkpoint, or run what they trained (-o)"
    ) in again
    trained = replace(first, artifact=tmp_path / "b.fluidc", steps=5, output=tmp_path / "c.fluidc")
    assert f"steps counted in {kept} already: 50, of them in the parameters: 10" in train(trained)

    checked = replace(first, run_dir=tmp_path / "other", checkpoint_every="20")
    assert "steps counted" not in train(checked)
    assert "steps counted" not in train(replace(checked, resume=True, steps=60))
    (tmp_path / "other" / "checkpoints" / "step-000060.safetensors").unlink()
    (line,) = (line for line in train(replace(checked, resume=True, steps=70)).splitlines() if "steps counted" in line)
    assert line.endswith(
        "already: 60, of them in the parameters: 40; the others cost budget and are not in this result"
    )


def test_a_compiled_private_program_spends_its_budget_and_no_more(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("tvm_ffi")
    script, data = tmp_path / "accounted.py", made / "data.npz"
    script.write_text(SCRIPT.format(optimizer=ACCOUNTED, data=str(data)))
    for target in ("cpu", "onnx", "reference"):
        ok("compile", script, "-o", tmp_path / f"{target}.fluidc", "--target", target)
    spec = Artifact.read(tmp_path / "cpu.fluidc").manifest.privacy
    assert spec is not None
    shown = at_least(spec.epsilon(12, 1e-3))

    run = ("run", tmp_path / "cpu.fluidc", "--data", data)
    first = ok(*run, "--steps", 5, "--checkpoint-every", 5)
    assert f"budget {shown} (δ=0.001); 5 of 12 steps counted" in first
    rest = ok(*run, "--resume")
    assert rest.startswith("trained 7 steps")
    assert f"ε {shown} so far, budget {shown} (δ=0.001); 12 of 12 steps counted" in rest
    spent = fluidc(*run, "--checkpoint", tmp_path / "other")
    assert spent.exit_code == 1
    assert "the privacy budget of 12 steps is used up" in spent.stderr

    # The same noise on all targets: where the key is known, they end in the same place.
    for target in ("cpu", "onnx", "reference"):
        ok(
            "run", tmp_path / f"{target}.fluidc", "--data", data, "--insecure-noise-key", "07",
            "--run-dir", tmp_path / f"{target}.seeded", "-o", tmp_path / f"{target}.trained",
        )  # fmt: skip
    for target in ("cpu", "onnx"):
        state = state_of(tmp_path / f"{target}.trained")
        for name, value in state_of(tmp_path / "reference.trained").items():
            np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-5 * np.abs(value).max())


def test_a_trained_artifact_goes_on_in_the_run_directory_of_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data, trained = tmp_path / "linear.fluidc", tmp_path / "data.npz", tmp_path / "trained.fluidc"
    linear_artifact(PRIVATE, 16).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]

    def train(arguments: RunArguments) -> str:
        assert commands.run(arguments, lambda *_: LinearEngine(PRIVATE)) == 0
        return capsys.readouterr().out

    train(RunArguments(path, data, steps=60, output=trained))
    (line,) = (line for line in ok("inspect", trained).splitlines() if line.startswith("  trained "))
    assert re.fullmatch(r"  trained 60 steps, counted in its ledger up to record \d+", line)
    assert "  trained " not in ok("inspect", path)
    again = RunArguments(trained, data, steps=20, output=tmp_path / "again.fluidc")
    with pytest.raises(LedgerError, match=r"does not count[\s\S]*trained.fluidc.run[\s\S]*--run-dir"):
        train(again)
    assert not (tmp_path / "trained.fluidc.run").exists()
    run_dir = tmp_path / "linear.fluidc.run"
    assert "80 of 100 steps counted" in train(replace(again, run_dir=run_dir))
    assert "trained 80 steps" in ok("inspect", tmp_path / "again.fluidc")
    with pytest.raises(BudgetError, match="21 steps are wanted, the privacy budget has 20 of 100 left"):
        train(replace(again, run_dir=run_dir, steps=21))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_private_run_between_steps_with_its_ledger_closed(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(LinearEngine):
        """Sends the signal in the middle of its fourth lot."""

        lots = 0

        def call(self, function: str, arguments: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
            self.lots += function == "step"
            if self.lots == 4:
                os.kill(os.getpid(), number)
                self.lots += 1
            return super().call(function, arguments)

    path, data = tmp_path / "linear.fluidc", tmp_path / "data.npz"
    linear_artifact(PRIVATE, 64).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]
    before = signal.getsignal(number)
    assert commands.run(RunArguments(path, data, steps=60), lambda *_: Interrupted(PRIVATE)) == 1
    assert signal.getsignal(number) is before
    run_dir = tmp_path / "linear.fluidc.run"
    (checkpoint,) = (run_dir / "checkpoints").glob("step-*")
    step = int(checkpoint.stem[5:])
    assert f"stopped after step {step}; --resume goes on from {checkpoint}" in capsys.readouterr().out
    reading = read_ledger(run_dir)[1]
    assert reading.records[-1].kind == "close"
    assert reading.totals.steps == step >= 4


def test_a_known_key_is_marked_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data, trained = tmp_path / "linear.fluidc", tmp_path / "data.npz", tmp_path / "trained.fluidc"
    linear_artifact(PRIVATE, 16).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]
    arguments = RunArguments(path, data, steps=2, output=trained, insecure_noise_key="00ff")
    assert commands.run(arguments, lambda *_: LinearEngine(PRIVATE)) == 0
    out = capsys.readouterr()
    assert "warning: the noise comes from a known key" in out.err
    assert "privacy: ε none (seeded); 2 of 100 steps counted" in out.out
    assert "epsilon none (seeded)" in ok("inspect", trained)
    with pytest.raises(DataError, match="is not a hexadecimal number"):
        commands.run(replace(arguments, insecure_noise_key="xyz"))


# -- inspect, errors, usage -------------------------------------------------------------------------------------------


def test_inspect_shows_what_is_inside(made: Path) -> None:
    text = ok("inspect", made / "private.fluidc")
    for part in (
        "for reference", "x: f32[N,5]", "label: i64[N,1]  in [0, 3)", "fc_0.w_0: f32[5,8]  parameter",
        "75 trainable numbers", "sigma 1, lot 16", "epsilon unknown: ", "proof stored", "ir/target.ir",
    ):  # fmt: skip
        assert part in text
    assert "none: an ordinary program" in ok("inspect", made / "plain.fluidc")


def test_inspect_verifies(made: Path, tmp_path: Path) -> None:
    """One line per part that holds; of a forgery the first contradiction, and exit code 1."""
    text = ok("inspect", "--verify", made / "private.fluidc")
    assert text.splitlines()[0].endswith("private.fluidc: verified")
    for part in ("✓ members ", "✓ separability", "✓ clipping      1 clip group over 4 parameters", "· not checked: "):
        assert part in text
    artifact = Artifact.read(made / "private.fluidc")
    proof = (artifact.proof or "").replace("unary.relu(example(axis=0)) -> example(axis=0)", "unary.relu -> public")
    assert proof != artifact.proof
    forged = tmp_path / "forged.fluidc"
    replace(artifact, proof=proof).write(forged)
    for result in (fluidc("inspect", forged, "--verify"), runtime("inspect", "--verify", forged, code=1)):
        shown = result.stdout.splitlines()
        assert "NOT verified" in shown[0]
        (line,) = (line for line in shown if line.startswith("✗ [proof] line "))
        assert "'unary.relu -> public" in line
    assert fluidc("inspect", forged, "--verify").exit_code == 1
    assert fluidc("inspect", forged).exit_code == 0
    plain = fluidc("inspect", made / "plain.fluidc", "--verify")
    assert plain.exit_code == 1
    assert "there is nothing to verify" in plain.stderr


def test_errors_have_three_lines_and_no_traceback_unless_asked_for(made: Path, tmp_path: Path) -> None:
    bad = make_data(tmp_path / "bad.npz", label=np.full((90, 1), 3))
    result = fluidc("run", made / "plain.fluidc", "--data", bad, "--steps", 1)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: feed 'label' holds 3 in row 0, values must be in [0, 3)",
        f"  at {bad}, feed 'label', declared i64[N,1], row 0",
        "  correct the data, or build the program for this range of values",
    ]
    for detailed in (
        fluidc("-v", "run", made / "plain.fluidc", "--data", bad, "--steps", 1),
        fluidc("run", made / "plain.fluidc", "--data", bad, "--steps", 1, "-v"),
    ):
        assert detailed.exit_code == 1
        assert "Traceback" in detailed.stderr


def test_a_truncated_artifact_is_refused(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.fluidc"
    path.write_bytes((made / "plain.fluidc").read_bytes()[:-300])
    for command in (("inspect", path), ("run", path, "--data", made / "data.npz", "--steps", 1)):
        result = fluidc(*command)
        assert result.exit_code == 1
        assert "truncated or damaged" in result.stderr


def test_what_would_fail_after_the_training_is_refused_before_it(made: Path, tmp_path: Path) -> None:
    run = ("run", made / "plain.fluidc", "--data", made / "data.npz", "--steps", 1)
    bad = tmp_path / "bad.npz"
    np.savez(bad, x=np.zeros((3, 5), np.float32))
    for wrong, message in (
        (("-o", tmp_path / "nowhere" / "out.fluidc"), "the output cannot be written there"),
        (("-o", tmp_path), "the output cannot be written there"),
        (("--eval", bad), "'label' is not fed"),
    ):
        result = fluidc(*run, *wrong)
        assert result.exit_code == 1
        assert message in result.stderr
        assert "trained" not in result.stdout


@pytest.mark.parametrize("every", ["0", "0s", "-5", "often", "5m", ""])
def test_a_malformed_checkpoint_interval_is_refused(every: str, made: Path) -> None:
    run = ("run", made / "plain.fluidc", "--data", made / "data.npz", "--steps", 1)
    result = fluidc(*run, f"--checkpoint-every={every}")
    assert result.exit_code == 1
    assert "says neither steps nor seconds" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "{artifact}", "--data", "{data}", "--steps", "1", "--epochs", "1"),
        ("run", "{artifact}", "--data", "{data}", "--steps", "0"),
        ("run", "{artifact}", "--data", "nowhere.npz", "--steps", "1"),
        ("run", "{artifact}", "--data", "{data}", "--steps", "1", "--sampler", "none"),
        ("predict", "{artifact}", "--data", "{data}"),
        ("train",),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], made: Path) -> None:
    filled = [a.format(artifact=made / "plain.fluidc", data=made / "data.npz") for a in arguments]
    assert fluidc(*filled).exit_code == 2


def test_every_command_of_the_table_can_be_listed_without_importing_it() -> None:
    text = ok("--help")
    assert [line.split()[0] for line in text.split("Commands:\n")[1].splitlines()] == list(main.list_commands(None))  # pyright: ignore[reportArgumentType]
    assert "there is no command 'train'; the commands are exec, check, compile, run" in fluidc("train").stderr


# -- the runtime alone -------------------------------------------------------------------------------------------------


def runtime(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """``python -m fluidc.runtime`` where neither click nor the compiler can be imported."""
    program = (
        "import runpy, sys\n"
        "for name in ('click', 'rich', 'tvm', 'fluidc.compiler', 'fluidc.frontend'): sys.modules[name] = None\n"
        "sys.argv = ['fluidc.runtime', *sys.argv[1:]]\n"
        "runpy.run_module('fluidc.runtime', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, "TVM_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_the_runtime_alone_inspects_and_refuses_reference_by_name(made: Path) -> None:
    assert "trainable numbers" in runtime("inspect", made / "plain.fluidc").stdout
    refused = runtime("run", made / "plain.fluidc", "--data", made / "data.npz", "--steps", 1, code=1)
    assert refused.stderr.startswith("error: a reference artifact is executed by the compiler's own engine")
    assert "Traceback" not in refused.stderr
    runtime("run", made / "plain.fluidc", code=2)


def test_the_runtime_alone_trains_and_predicts_compiled_code(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("tvm_ffi")
    artifact, trained, data = tmp_path / "plain.fluidc", tmp_path / "trained.fluidc", made / "data.npz"
    fetch = ("--fetch", "mean_0.tmp_0", "--fetch", "fc_1.tmp_1")
    ok("compile", made / "plain.py", "-o", artifact, "--target", "cpu", *fetch)
    runtime("run", artifact, "--data", data, "--epochs", 5, "--batch", 20, "-o", trained)
    by_reference = tmp_path / "reference.fluidc"
    ok("run", made / "plain.fluidc", "--data", data, "--epochs", 5, "--batch", 20, "-o", by_reference)
    state = state_of(trained)
    for name, value in state_of(by_reference).items():
        np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())
    runtime("predict", trained, "--data", data, "-o", tmp_path / "a.npz")
    ok("predict", by_reference, "--data", data, "-o", tmp_path / "b.npz")
    np.testing.assert_allclose(
        arrays_of(tmp_path / "a.npz")["fc_1.tmp_1"], arrays_of(tmp_path / "b.npz")["fc_1.tmp_1"], rtol=1e-3, atol=1e-4
    )
