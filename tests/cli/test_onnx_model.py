"""``fluidc compile MODEL.onnx --loss ... --optimizer ...``: from a forward model to a trained artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result
from onnx_models import FLOAT, MODELS, model, node

import fluidc.frontend as fluid
from fluidc.frontend.cli import main
from fluidc.runtime import Session
from fluidc.runtime.artifact import Artifact

CNN = MODELS / "cnn.ts.onnx"
LOSS = ("--loss", "softmax_with_cross_entropy")
DPSGD = "dpsgd:learning_rate=0.1,clip=1,batch_size=16,sigma=1.1"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(64, 1, 14, 14)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, label=(x.mean(axis=(1, 2, 3)) > 0).astype(np.int64).reshape(-1, 1))
    return tmp_path / "data.npz"


def test_a_model_is_fine_tuned(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "cnn.fluidc"
    done = run("compile", CNN, *LOSS, "--optimizer", "ADAM:learning_rate=1e-2", "--target", "reference", "-o", out)
    assert done.exit_code == 0, done.output
    assert "387 in 6 variables" in done.output
    trained = run("run", out, "--data", data, "--epochs", 20, "-o", tmp_path / "trained.fluidc")
    assert trained.exit_code == 0, trained.output
    assert "accuracy" in trained.output
    state = Artifact.read(tmp_path / "trained.fluidc").state
    assert {"first.weight", "head.bias"} <= state.keys()


def test_a_fine_tuned_model_goes_out_as_onnx_and_in_again(tmp_path: Path, data: Path) -> None:
    tuned, again = tmp_path / "tuned.fluidc", tmp_path / "tuned.onnx"
    stated = ("--optimizer", "adam:learning_rate=1e-2", "--target", "reference", "--fetch", "y")
    assert run("compile", CNN, *LOSS, *stated, "-o", tmp_path / "cnn.fluidc").exit_code == 0
    assert run("run", tmp_path / "cnn.fluidc", "--data", data, "--steps", 5, "-o", tuned).exit_code == 0
    assert run("predict", tuned, "--data", data, "--fetch", "y", "-o", tmp_path / "y.npz").exit_code == 0
    assert run("dump", tuned, "--format", "onnx", "--function", "infer", "-o", again).exit_code == 0
    with np.load(data) as rows, np.load(tmp_path / "y.npz") as predicted:
        feed, want = dict(rows), predicted["y"]
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        found, scope = fluid.io.load_onnx(again), fluid.Scope()
        exe = fluid.Executor(target="reference")
        exe.run(found.startup, scope=scope)
        outputs = [var for var in found.outputs if var.name == "y"]
        (y,) = exe.run(feed=feed, fetch_list=outputs, scope=scope)
    assert len(found.parameters) == 6
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_a_model_is_fine_tuned_privately(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "cnn.fluidc"
    stated = ("--dataset-size", 64, "--delta", "1e-3", "--max-steps", 5)
    done = run("compile", CNN, *LOSS, "--optimizer", DPSGD, *stated, "-o", out)
    assert done.exit_code == 0, done.output
    assert "ε = " in done.output
    assert run("inspect", out, "--verify").exit_code == 0
    weights = "first.bias, first.weight, head.bias, head.weight, second.bias, second.weight"
    assert f"assumed public: {weights}" in run("inspect", out).output
    trained = run("run", out, "--data", data, "--run-dir", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    assert "5 of 5 steps counted" in trained.output


@pytest.mark.parametrize("name", ["mlp", "cnn", "residual", "transformer", "lstm", "gru"])
@pytest.mark.parametrize("exporter", ["ts", "dynamo"])
def test_a_model_goes_back_to_onnx(name: str, exporter: str, tmp_path: Path) -> None:
    """Fine-tuned, it is a forward model again: the scores without the labels, as the artifact predicts them."""
    file, out, back = MODELS / f"{name}.{exporter}.onnx", tmp_path / "model.fluidc", tmp_path / "back.onnx"
    scores, given = (value[0].name for value in _interface(file))
    with np.load(MODELS / f"{name}.npz") as kept:
        x, classes = kept["x"], kept["y"].shape[1]
    label = (np.arange(len(x)) % classes).reshape(-1, 1)
    np.savez(tmp_path / "data.npz", **{given: x, "label": label})
    for command in (
        ("compile", file, *LOSS, "--optimizer", "sgd:learning_rate=0.1", "--target", "onnx", "-o", out),
        ("run", out, "--data", tmp_path / "data.npz", "--steps", 5, "--batch", len(x), "-o", tmp_path / "tuned.fluidc"),
        ("dump", tmp_path / "tuned.fluidc", "--format", "onnx", "--function", "infer", "--fetch", scores, "-o", back),
    ):
        done = run(*command)
        assert done.exit_code == 0, done.output
    onnx.checker.check_model(back, full_check=True)
    session = ort.InferenceSession(back, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs() if value.name not in Artifact.read(out).state] == [given]
    (found,) = session.run([scores], {given: x})
    with Session.load(tmp_path / "tuned.fluidc") as tuned:
        expected = tuned.predict({given: x, "label": label}, [scores])[scores]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found - np.load(MODELS / f"{name}.npz")["y"]).max() > 1e-4, "five steps changed nothing"


def _interface(file: Path) -> tuple[Any, Any]:
    """Outputs and inputs of a model."""
    graph = onnx.load(file).graph
    held = {constant.name for constant in graph.initializer}
    return graph.output, [value for value in graph.input if value.name not in held]


def test_a_model_without_a_loss_is_compiled_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "mlp.fluidc"
    with np.load(MODELS / "mlp.npz") as example:
        x, y = example["x"], example["y"]
    np.savez(tmp_path / "x.npz", x=x)
    assert run("compile", MODELS / "mlp.ts.onnx", "--target", "reference", "-o", out).exit_code == 0
    done = run("predict", out, "--data", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found["y"], y, rtol=1e-5, atol=1e-6)


LOSSES = [
    "softmax_with_cross_entropy", "square_error_cost", "mse_loss", "huber_loss:delta=0.5", "smooth_l1:sigma=2",
    "sigmoid_cross_entropy_with_logits", "softmax_with_cross_entropy:soft_label=true", "kldiv_loss:reduction=mean",
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
def test_losses(loss: str, tmp_path: Path) -> None:
    source = MODELS / "mlp.ts.onnx"
    done = run("dump", source, "--loss", loss, "--optimizer", "sgd:learning_rate=0.1", "--function", "step")
    assert done.exit_code == 0, done.output
    integers = loss == "softmax_with_cross_entropy"
    assert ("%label: i64[N,1]" if integers else "%label: f32[N,4]") in done.output


def test_a_second_softmax_is_warned_of(tmp_path: Path) -> None:
    proto = model([node("Softmax", ["x"], ["y"])], {"x": (FLOAT, ["batch", 3])}, ["y"])
    (tmp_path / "softmax.onnx").write_bytes(proto.SerializeToString())
    assert "ends in a Softmax" in run("dump", tmp_path / "softmax.onnx", *LOSS).stderr
    assert run("dump", tmp_path / "softmax.onnx", "--loss", "cross_entropy").stderr == ""


def test_only_some_weights_are_trained() -> None:
    arguments = ("dump", CNN, *LOSS, "--optimizer", "sgd:learning_rate=0.1", "--trainable", "head.*")
    done = run(*arguments, "--function", "step")
    assert "state @head.weight : f32[5,24] {role=parameter, trainable=true}" in done.output
    assert "optim.sgd(%head.weight" in done.output
    assert "optim.sgd(%first.weight" not in done.output


def test_extents_that_the_model_leaves_open_are_stated(tmp_path: Path) -> None:
    proto = model(
        [node("Reshape", ["x", "flat"], ["h"]), node("MatMul", ["h", "w"], ["y"])],
        {"x": (FLOAT, ["batch", "length", 4])},
        ["y"],
        {"flat": np.array([-1, 8]), "w": np.ones((8, 3), np.float32)},
    )
    (tmp_path / "open.onnx").write_bytes(proto.SerializeToString())
    refused = run("dump", tmp_path / "open.onnx", *LOSS)
    assert refused.exit_code == 1
    assert "--feed x=N,10,4" in refused.output
    stated = run("dump", tmp_path / "open.onnx", *LOSS, "--feed", "x=N,2,4")
    assert stated.exit_code == 0, stated.output
    assert "%y = linear.matmul(%h, %w) : f32[N,3]" in stated.output


# Name of the golden file, the arguments after the model, the exit code.
MISTAKES: list[tuple[str, tuple[str, ...], int]] = [
    ("no_such_loss", ("--loss", "softmax_cross_entropy"), 2),
    ("no_such_optimizer", (*LOSS, "--optimizer", "sdg:learning_rate=0.1"), 2),
    ("no_such_argument", (*LOSS, "--optimizer", "sgd:learning_rat=0.1"), 2),
    ("argument_twice", (*LOSS, "--optimizer", "sgd:learning_rate=0.1,learning_rate=0.2"), 2),
    ("argument_missing", (*LOSS, "--optimizer", "sgd"), 2),
    ("argument_that_the_command_gives", ("--loss", "mse_loss:label=3"), 2),
    ("optimizer_without_a_loss", ("--optimizer", "sgd:learning_rate=0.1"), 2),
    ("value_that_is_refused", (*LOSS, "--optimizer", "dpsgd:clip=-1"), 1),
    ("loss_that_does_not_fit", ("--loss", "softmax_with_cross_entropy:axis=7"), 1),
    ("value_of_another_type", ("--loss", "huber_loss:delta=much"), 2),
    ("nothing_to_train", (*LOSS, "--optimizer", "sgd:learning_rate=0.1", "--trainable", "nothing.*"), 1),
    ("privacy_of_a_plain_model", (*LOSS, "--optimizer", "sgd:learning_rate=0.1", "--delta", "1e-5"), 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "code"), MISTAKES)
def test_mistakes(
    name: str, arguments: tuple[str, ...], code: int, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    done = run("compile", MODELS / "mlp.ts.onnx", *arguments, "-o", tmp_path / "out.fluidc")
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    text = done.stderr.replace(str(MODELS), "MODELS")
    golden(f"errors/cli_onnx_{name}.txt", text)


def test_the_model_itself_is_not_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(CNN.read_bytes())
    done = run("compile", source, *LOSS, "--optimizer", "sgd:learning_rate=0.1", "-o", source)
    assert done.exit_code == 2
    assert "is not to be overwritten" in done.output
    assert source.read_bytes() == CNN.read_bytes()


def test_a_script_states_its_loss_itself(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("")
    done = run("compile", tmp_path / "script.py", *LOSS, "-o", tmp_path / "out.fluidc")
    assert done.exit_code == 2
    assert "a script states it itself" in done.output
