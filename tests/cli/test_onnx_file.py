"""Single ONNX files from the command line, and the example that trains them without fluidc."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from fluidc.compiler.codegen.onnx import defaults
from fluidc.frontend.cli import main

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train_with_onnxruntime.py"
SCRIPT = """
import sys
import numpy as np
import fluidc.frontend as fluid
x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1])
loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(fluid.layers.fc(x, 3, act="tanh"), 1) - y))
if sys.argv[1] == "plain":  # and a variable that no step reads
    seen = fluid.layers.create_global_var([1], 0.0, "float32", persistable=True, name="seen")
    fluid.layers.assign(fluid.layers.mean(x), seen)
    fluid.optimizer.Momentum(0.1, 0.9).minimize(loss)
else:
    fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=16.0, sigma=1.1, max_steps=30, **eval(sys.argv[2])).minimize(loss)
exe = fluid.Executor(fluid.CPUPlace(), target="reference")
exe.run(fluid.default_startup_program())
exe.run(feed={"x": np.zeros((16, 4), "f4"), "y": np.zeros((16, 1), "f4")}, fetch_list=[loss])
"""
POISSON = "dict(dataset_size=200)"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def compiled(folder: Path, output: str, *arguments: str, options: tuple[str, ...] = ()) -> Path:
    (folder / "script.py").write_text(SCRIPT)
    done = run("compile", folder / "script.py", "-o", folder / output, *options, "--", *arguments)
    assert done.exit_code == 0, done.output
    return folder / output


def trained(model: Path, steps: int) -> subprocess.CompletedProcess[str]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    arrays = {"x": x, "y": 2 * x.sum(1, keepdims=True)}
    np.savez(model.parent / "data.npz", allow_pickle=False, **arrays)
    command = [sys.executable, EXAMPLE, model, model.parent / "data.npz", str(steps)]
    return subprocess.run(command, cwd=model.parent, capture_output=True, text=True, check=False)


def notes(model: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(model).metadata_props}


@pytest.mark.parametrize("arguments", [("plain",), ("private", POISSON)], ids=["plain", "private"])
def test_the_example_trains_it(arguments: tuple[str, ...], tmp_path: Path) -> None:
    model = compiled(tmp_path, "step.onnx", *arguments, options=("--seed", "3"))
    first = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer}
    done = trained(model, 20)
    assert done.returncode == 0, done.stderr
    state = dict(np.load(tmp_path / "trained.npz"))
    assert ("seen" in state) == (arguments[0] == "plain")
    assert trained(model, 1).returncode == 0
    once = dict(np.load(tmp_path / "trained.npz"))
    for name in ("fc_0.w_0", "fc_1.b_0"):
        assert np.isfinite(state[name]).all()
        assert (once[name] != first[name]).all()
    if arguments[0] == "plain":  # steps that begin with the file's values get no further than the first
        far, near = (np.abs(found["fc_1.w_0"] - first["fc_1.w_0"]).max() for found in (state, once))
        assert far > 2 * near


def test_a_private_step_has_room_for_whole_lots(tmp_path: Path) -> None:
    graph = onnx.load(compiled(tmp_path, "step.onnx", "private", POISSON)).graph
    (mask,) = (value for value in graph.input if value.name == "@mask")
    assert mask.type.tensor_type.shape.dim[0].dim_value == 48
    done = run(
        "compile", tmp_path / "script.py", "-o", tmp_path / "small.onnx", "--batch", "16", "--", "private", POISSON
    )
    assert "lots of 16 rows on average may exceed 16" in done.stderr


@pytest.mark.parametrize(
    ("options", "steps", "said"),
    [
        ("{}", 1, "the step is to get others"),
        ("dict(dataset_size=160, delta=1e-3, sampler='shuffle')", 1, "the step is to get others"),
        (POISSON, 31, "the privacy of 30 steps is accounted for, not of 31"),
    ],
    ids=["no rate", "shuffled", "steps"],
)
def test_lots_that_the_example_does_not_draw(options: str, steps: int, said: str, tmp_path: Path) -> None:
    done = trained(compiled(tmp_path, "step.onnx", "private", options), steps)
    assert done.returncode == 1
    assert said in done.stderr


def test_what_is_behind_the_values_of_a_trained_program_is_noted(tmp_path: Path) -> None:
    model = compiled(tmp_path, "step.onnx", "private", POISSON)
    assert "fluidc.trained" not in notes(model)
    artifact = compiled(tmp_path, "step.fluidc", "private", POISSON, options=("--target", "reference"))
    trained(model, 1)  # writes the data
    done = run("run", artifact, "--data", tmp_path / "data.npz", "--steps", "3", "--insecure-noise-key", "ab" * 8,
               "-o", tmp_path / "trained.fluidc")  # fmt: skip
    assert done.exit_code == 0, done.output
    again = tmp_path / "again.onnx"
    assert run("dump", tmp_path / "trained.fluidc", "--format", "onnx", "-o", again).exit_code == 0
    found = notes(again)
    assert json.loads(found["fluidc.trained"])["steps"] == 3
    assert found["fluidc.insecure_noise_key"] == "true"


def test_a_file_that_would_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State counts where the function reads it."""
    artifact = compiled(tmp_path, "step.fluidc", "plain", options=("--target", "reference"))
    infer = tmp_path / "infer.onnx"
    assert run("dump", artifact, "--format", "onnx", "--function", "infer", "-o", infer).exit_code == 0
    monkeypatch.setattr(defaults, "LIMIT", 2 * infer.stat().st_size)  # a step is several times as large
    done = run("dump", artifact, "--format", "onnx", "--function", "infer", "-o", tmp_path / "infer.onnx")
    assert done.exit_code == 0, done.output
    done = run("dump", artifact, "--format", "onnx", "-o", tmp_path / "step.onnx")
    assert done.exit_code == 1
    assert "more than the 2 GB of one ONNX file" in done.stderr


def test_state_of_inference_is_constant(tmp_path: Path) -> None:
    artifact = compiled(tmp_path, "step.fluidc", "plain", options=("--target", "reference"))
    for function, constant in (("step", False), ("infer", True)):
        file = tmp_path / f"{function}.onnx"
        assert run("dump", artifact, "--format", "onnx", "--function", function, "-o", file).exit_code == 0
        model = onnx.load(file)
        held = {tensor.name for tensor in model.graph.initializer}
        told = {each["name"]: each["input"] for each in json.loads(notes(file)["fluidc.inputs"])}
        assert {"fc_0.w_0", "fc_1.b_0"} <= held
        assert held.isdisjoint(value.name for value in model.graph.input) == constant
        assert (told["fc_0.w_0"] == "") == constant


def test_a_model_of_given_values_alone_runs(tmp_path: Path) -> None:
    """There is nothing that a startup function would make."""
    model, out = Path(__file__).parents[1] / "frontend" / "onnx" / "models" / "cnn.ts.onnx", tmp_path / "cnn.fluidc"
    assert run("compile", model, "--target", "onnx", "-o", out).exit_code == 0
    (given,) = (value.name for value in onnx.load(model).graph.input)
    np.savez(tmp_path / "x.npz", **{given: np.zeros((3, 1, 14, 14), np.float32)}, allow_pickle=False)
    done = run("predict", out, "--data", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    assert done.exit_code == 0, done.output
    assert [array.shape for array in np.load(tmp_path / "y.npz").values()] == [(3, 5)]


def test_a_private_file_says_so(tmp_path: Path) -> None:
    artifact = compiled(tmp_path, "step.fluidc", "private", POISSON, options=("--target", "reference"))
    for function, private in (("step", True), ("accumulate", True), ("infer", False)):
        file = tmp_path / f"{function}.onnx"
        assert run("dump", artifact, "--format", "onnx", "--function", function, "-o", file).exit_code == 0
        graph = onnx.load(file).graph
        assert ("nobody but the caller answers for" in graph.doc_string) == private
        docs = {value.name: value.doc_string for value in graph.output}
        assert docs.pop("mean_0.tmp_0").startswith("NOT PRIVATE: exact")
        assert {doc.partition(":")[0] for doc in docs.values()} == (
            {"NOT PRIVATE"} if function == "accumulate" else {""} if docs else set()
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "onnx", "--batch", "8", "-o", "x.onnx"), "--batch: it says how to compile"),
        (("--format", "onnx", "--stage", "grad", "-o", "x.onnx"), "--stage: it says how to compile"),
        (("--format", "onnx", "--delta", "1e-5", "-o", "x.onnx"), "--delta: it says how to compile"),
        (("--self-contained",), "--self-contained: it belongs to --format onnx"),
        (("--format", "onnx"), "an ONNX file is not text"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    artifact = compiled(tmp_path, "step.fluidc", "plain", options=("--target", "reference"))
    done = run("dump", artifact, *options)
    assert done.exit_code == 2
    assert said in done.output


def test_files_that_are_taken_for_others(tmp_path: Path) -> None:
    model = compiled(tmp_path, "step.onnx", "plain")
    done = run("inspect", model)
    assert done.exit_code == 1
    assert "a forward model becomes one: fluidc compile MODEL.onnx" in done.output
    done = run("compile", f"{model}:main", "-o", tmp_path / "x.fluidc")
    assert done.exit_code == 1
    assert "a model holds no program called main" in done.output
    told = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.startswith("Train an exported step with ONNX Runtime alone")
