"""``fluidc compile`` and ``dump`` of models that Paddle 1.8.5 saved."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result
from trees import GOLDENS, golden

from fluidc.frontend.cli import main
from fluidc.frontend.formats.state import encode_state
from fluidc.runtime.artifact import Artifact

FILES = GOLDENS / "files"
REFERENCE = ("--target", "reference")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


@pytest.mark.parametrize("form", ["folder", "file", "combined"])
def test_an_inference_model_predicts(form: str, tmp_path: Path) -> None:
    source = {
        "folder": (FILES / "infer_cnn",),
        "file": (FILES / "infer_cnn" / "__model__",),
        "combined": (FILES / "infer_cnn_combined" / "model", "--params", "params"),
    }[form]
    wanted = golden("files")["infer_cnn"]
    output = wanted["combined" if form == "combined" else "separate"]
    done = run("compile", *source, *REFERENCE, "-o", tmp_path / "cnn.fluidc")
    assert done.exit_code == 0, done.output
    np.savez(tmp_path / "x.npz", **wanted["feed"])
    asked = [part for name in output["fetches"] for part in ("--fetch", name)]
    told = run("predict", tmp_path / "cnn.fluidc", "--data", tmp_path / "x.npz", *asked, "-o", tmp_path / "y.npz")
    assert told.exit_code == 0, told.output
    with np.load(tmp_path / "y.npz") as predicted:
        for name, value in zip(output["fetches"], output["outputs"], strict=True):
            np.testing.assert_allclose(predicted[name], value, rtol=1e-5, atol=1e-6)


def test_it_goes_out_as_onnx(tmp_path: Path) -> None:
    out, file = tmp_path / "mlp.fluidc", tmp_path / "mlp.onnx"
    assert run("compile", FILES / "infer_mlp", *REFERENCE, "-o", out).exit_code == 0
    assert run("dump", out, "--format", "onnx", "--function", "infer", "-o", file).exit_code == 0
    wanted = golden("files")["infer_mlp"]
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs = session.run(wanted["separate"]["fetches"], wanted["feed"])
    np.testing.assert_allclose(outputs[0], wanted["separate"]["outputs"][0], rtol=1e-5, atol=1e-6)


def test_it_is_fine_tuned(tmp_path: Path) -> None:
    out, trained = tmp_path / "mlp.fluidc", tmp_path / "trained.fluidc"
    stated = ("--loss", "softmax_with_cross_entropy", "--optimizer", "sgd:learning_rate=0.5", "--trainable", "fc_1*")
    done = run("compile", FILES / "infer_mlp", *stated, *REFERENCE, "-o", out)
    assert done.exit_code == 0, done.output
    assert "18 in 2 variables" in done.output
    assert "warning: infer_mlp ends in a Softmax" in done.output
    x = golden("files")["infer_mlp"]["feed"]["x"]
    np.savez(tmp_path / "data.npz", x=x, label=np.arange(len(x)).reshape(-1, 1) % 3)
    told = run("run", out, "--data", tmp_path / "data.npz", "--epochs", 3, "-o", trained)
    assert told.exit_code == 0, told.output
    before, after = Artifact.read(out).state, Artifact.read(trained).state
    assert np.array_equal(before["fc_0.w_0"], after["fc_0.w_0"])
    assert not np.array_equal(before["fc_1.w_0"], after["fc_1.w_0"])


def test_a_training_program_goes_on(tmp_path: Path) -> None:
    """``fluid.save`` of Paddle's: program, parameters and optimizer state; the next loss is the one Paddle computes."""
    done = run("compile", FILES / "static.pdmodel", *REFERENCE, "-o", tmp_path / "static.fluidc")
    assert done.exit_code == 0, done.output
    wanted = golden("files")["static"]
    np.savez(tmp_path / "data.npz", **wanted["feed"])
    told = run(
        "run", tmp_path / "static.fluidc", "--data", tmp_path / "data.npz", "--steps", 1, "--sampler", "sequential"
    )
    assert told.exit_code == 0, told.output
    said = re.search(r"mean_0.tmp_0 of the last step: (\S+)", told.output)
    assert said is not None
    assert float(said[1]) == pytest.approx(wanted["next_losses"][0].item(), rel=1e-5)


def test_paddles_dpsgd_is_replaced(tmp_path: Path) -> None:
    shutil.copy(FILES / "train_dpsgd_main.pb", tmp_path / "train.pdmodel")
    values = golden("files")["train_dpsgd"]["initial"]
    (tmp_path / "train.pdparams").write_bytes(b"".join(encode_state(values, "values")))
    stated = ("--dataset-size", 100, "--delta", "1e-3", "--max-steps", 5)
    done = run("compile", tmp_path / "train.pdmodel", *stated, "--target", "reference", "-o", tmp_path / "p.fluidc")
    assert done.exit_code == 0, done.output
    assert "is replaced by differentially private SGD" in done.output
    assert "C = 0.5, L = 8, σ = 1.5, q = 0.08, T = 5" in done.output
    assert run("inspect", tmp_path / "p.fluidc", "--verify").exit_code == 0


def test_dump_shows_the_ops_of_the_file() -> None:
    told = run("dump", FILES / "infer_mlp", "--function", "step")
    assert told.exit_code == 0, told.output
    assert "%fc_0.tmp_2 = unary.tanh(%fc_0.tmp_1) : f32[N,5] loc(__model__:4 tanh)" in told.output


def _empty(folder: Path) -> tuple[Path, ...]:
    (folder / "empty").mkdir()
    return (folder / "empty",)


def _alone(folder: Path) -> tuple[Path, ...]:
    shutil.copy(FILES / "static.pdmodel", folder / "static.pdmodel")
    return (folder / "static.pdmodel",)


@pytest.mark.parametrize(
    ("source", "more", "code", "text"),
    [
        (_empty, (), 2, "has no __model__"),
        (_alone, (), 1, "static.pdmodel has no values for @LR_DECAY_COUNTER@, batch_norm_0.b_0"),
        (lambda _: (FILES / "static.pdmodel",), ("--params", "all"), 2, "it is for a folder that Paddle wrote"),
        (lambda _: (FILES / "infer_mlp",), ("--params", "fc_0.w_0"), 1, "the file holds 1 tensors, 4 are wanted"),
        (lambda _: (FILES / "infer_mlp",), ("--loss", "none"), 2, "none"),
        (lambda _: (FILES / "infer_embedding",), ("--loss", "mse_loss", "--optimizer", "sgd:learning_rate=1",
                                                  "--trainable", "x"), 1, "trainable names 'x'"),
    ],
)  # fmt: skip
def test_mistakes(source, more: tuple[str, ...], code: int, text: str, tmp_path: Path) -> None:
    done = run("compile", *source(tmp_path), *more, *REFERENCE, "-o", tmp_path / "out.fluidc")
    assert done.exit_code == code, done.output
    assert text in done.output
    assert not (tmp_path / "out.fluidc").exists()
