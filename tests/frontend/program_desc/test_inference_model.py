"""Inference models: Paddle's are read, ours are written as Paddle's; nothing is half saved or half loaded.

The files are Paddle 1.8.5's own (``tests/golden/make_paddle185``), with the outputs that it computes from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import GOLDENS, golden

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.compat.program_desc.errors import ProgramDescError
from fluidc.frontend.compat.program_desc.reading import parse_desc
from fluidc.frontend.errors import ProgramError
from fluidc.frontend.formats.errors import StateFileError

MODELS = ("infer_mlp", "infer_cnn", "infer_embedding")
FILES = GOLDENS / "files"


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    with (
        fluid.scope_guard(fluid.Scope()),
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
    ):
        yield


@pytest.fixture
def exe() -> fluid.Executor:
    return fluid.Executor(fluid.CPUPlace(), target="reference")


def classifier(exe: fluid.Executor) -> tuple[Any, Any, Any]:
    """A trained program with a branch that prediction does not need; its image, prediction and loss."""
    image = fluid.data("image", [None, 6])
    label = fluid.data("label", [None, 1], dtype="int64")
    hidden = fluid.layers.dropout(fluid.layers.batch_norm(fluid.layers.fc(image, 5)), 0.5)
    prediction = fluid.layers.fc(hidden, 3, act="softmax")
    loss = fluid.layers.mean(fluid.layers.cross_entropy(prediction, label))
    fluid.optimizer.Adam(0.1).minimize(loss)
    exe.run(fluid.default_startup_program())
    return image, prediction, loss


def feed() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {"image": rng.normal(size=(4, 6)).astype("float32"), "label": np.array([[0], [2], [1], [1]])}


@pytest.mark.parametrize("form", ["separate", "combined"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_paddles_models_predict_what_paddle_predicts(name: str, form: str, target: str) -> None:
    wanted = golden("files")[name]
    combined = form == "combined"
    names = ("model", "params") if combined else ()
    executor = fluid.Executor(target=target)
    model = fluid.io.load_inference_model(FILES / (f"{name}_combined" if combined else name), executor, *names)
    program, feeds, targets = model
    assert feeds == wanted[form]["feeds"]
    assert [var.name for var in targets] == wanted[form]["fetches"]
    outputs = executor.run(program, feed=wanted["feed"], fetch_list=targets)
    for value, known in zip(outputs, wanted[form]["outputs"], strict=True):
        np.testing.assert_allclose(value, known, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_saved_as_paddle_saved_it(name: str, exe: fluid.Executor, tmp_path: Path) -> None:
    """Loaded and saved again, values are the same bytes, and so is the second program of the first."""
    program, feeds, targets = fluid.io.load_inference_model(FILES / name, exe)
    fluid.io.save_inference_model(tmp_path / "a", feeds, targets, exe, program)
    for file in (FILES / name).iterdir():
        if file.name != "__model__":
            assert (tmp_path / "a" / file.name).read_bytes() == file.read_bytes()
    assert len(list((tmp_path / "a").iterdir())) == len(list((FILES / name).iterdir()))
    fluid.io.save_inference_model(tmp_path / "b", feeds, targets, exe, program)
    assert (tmp_path / "a" / "__model__").read_bytes() == (tmp_path / "b" / "__model__").read_bytes()
    fluid.io.save_inference_model(tmp_path / "c", feeds, targets, exe, program, "model", "params")
    assert (tmp_path / "c" / "params").read_bytes() == (FILES / f"{name}_combined" / "params").read_bytes()


@pytest.mark.parametrize("together", [None, "params"])
def test_a_trained_program_round_trips(exe: fluid.Executor, tmp_path: Path, together: str | None) -> None:
    image, prediction, loss = classifier(exe)
    for _ in range(3):
        exe.run(feed=feed(), fetch_list=[loss])
    test = fluid.default_main_program().clone(for_test=True)
    (before,) = exe.run(test, feed=feed(), fetch_list=[prediction])
    version = fluid.default_main_program().version
    names = fluid.io.save_inference_model(tmp_path, [image.name], [prediction], exe, params_filename=together)
    assert names == ["save_infer_model/scale_0.tmp_0"]
    assert fluid.default_main_program().version == version  # the program itself is not touched
    values = {"fc_0.w_0", "fc_0.b_0", "batch_norm_0.w_0", "batch_norm_0.b_0", "batch_norm_0.w_1", "batch_norm_0.w_2"}
    values |= {"fc_1.w_0", "fc_1.b_0"}
    assert {file.name for file in tmp_path.iterdir()} == {"__model__"} | (values if together is None else {"params"})
    with fluid.scope_guard(fluid.Scope()):
        program, feeds, targets = fluid.io.load_inference_model(tmp_path, exe, params_filename=together)
        (after,) = exe.run(program, feed={feeds[0]: feed()["image"]}, fetch_list=targets)
        assert set(fluid.global_scope().local_var_names()) >= values
    np.testing.assert_array_equal(before, after)
    kinds = {p.name: p.trainable for p in program.all_parameters()}
    assert kinds == {name: name not in ("batch_norm_0.w_1", "batch_norm_0.w_2") for name in values}


def test_the_file_is_what_paddle_writes(exe: fluid.Executor, tmp_path: Path) -> None:
    image, prediction, _ = classifier(exe)
    fluid.io.save_inference_model(tmp_path, [image.name], [prediction, prediction], exe, program_only=True)
    assert [file.name for file in tmp_path.iterdir()] == ["__model__"]
    desc = parse_desc((tmp_path / "__model__").read_bytes(), "it")
    assert desc.version.version == 1008005
    (block,) = desc.blocks
    types = [op.type for op in block.ops]
    assert " ".join(types) == (
        "feed mul elementwise_add batch_norm dropout mul elementwise_add softmax scale scale fetch fetch"
    )
    attrs = {op.type: {attr.name: attr for attr in op.attrs} for op in block.ops}
    assert attrs["dropout"]["is_test"].b
    assert attrs["batch_norm"]["is_test"].b
    assert attrs["fetch"]["col"].i == 1
    described = {var.name: var for var in block.vars}
    assert described["feed"].type.type == 9
    assert described["fetch"].type.type == 10
    assert described["feed"].persistable
    assert list(described["image"].type.lod_tensor.tensor.dims) == [-1, 6]
    assert described["image"].need_check_feed
    assert described["fc_1.w_0"].persistable
    assert "label" not in described
    assert not any("moment" in name for name in described)


def test_a_loaded_model_is_fine_tuned(exe: fluid.Executor) -> None:
    program, feeds, targets = fluid.io.load_inference_model(FILES / "infer_cnn", exe)
    images = golden("files")["infer_cnn"]["feed"]["image"]
    before = np.array(fluid.global_scope().var("batch_norm_0.w_1").get_tensor())
    startup = fluid.Program()
    with fluid.program_guard(program, startup):
        head = fluid.layers.fc(targets[0], 2)  # its names are new, though the model has an fc_0 too
        label = fluid.data("label", [None, 1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(head, label))
        fluid.optimizer.Adam(0.05).minimize(loss)
    exe.run(startup)
    given = {feeds[0]: images, "label": np.array([[0], [1]])}
    losses = [exe.run(program, feed=given, fetch_list=[loss])[0].item() for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert {p.name for p in program.all_parameters()} >= {"fc_0.w_0", "fc_1.w_0"}
    np.testing.assert_array_equal(before, np.array(fluid.global_scope().var("batch_norm_0.w_1").get_tensor()))


def test_what_is_not_fed_is_named(exe: fluid.Executor, tmp_path: Path) -> None:
    image, prediction, loss = classifier(exe)
    with pytest.raises(ProgramError, match="depend on label, which is not fed"):
        fluid.io.save_inference_model(tmp_path, [image.name], [loss], exe)
    with pytest.raises(ProgramError, match=r"nothing is fed"):
        fluid.io.save_inference_model(tmp_path, ["nothing"], [prediction], exe)
    with pytest.raises(ProgramError, match=r"fc_0.w_0@GRAD is a target"):
        fluid.io.save_inference_model(tmp_path, [image.name], ["fc_0.w_0@GRAD"], exe)
    with pytest.raises(ProgramError, match="there are no target_vars"):
        fluid.io.save_inference_model(tmp_path, [image.name], [], exe)
    with pytest.raises(TypeError, match="target_vars holds int"):
        fluid.io.save_inference_model(tmp_path, [image.name], [3], exe)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="the program is str"):
        fluid.io.save_inference_model(tmp_path, [image.name], [prediction], exe, "main")  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_a_hidden_layer_can_be_fed(exe: fluid.Executor, tmp_path: Path) -> None:
    _, prediction, _ = classifier(exe)
    fluid.io.save_inference_model(tmp_path, ["batch_norm_0.tmp_2"], [prediction], exe)
    program, feeds, targets = fluid.io.load_inference_model(tmp_path, exe)
    assert feeds == ["batch_norm_0.tmp_2"]
    hidden = np.ones((2, 5), "float32")
    (value,) = exe.run(program, feed={feeds[0]: hidden}, fetch_list=targets)
    assert value.shape == (2, 3)


def test_saving_without_values_leaves_the_old_model(exe: fluid.Executor, tmp_path: Path) -> None:
    image, prediction, _ = classifier(exe)
    fluid.io.save_inference_model(tmp_path, [image.name], [prediction], exe)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with (
        fluid.scope_guard(fluid.Scope()),
        pytest.raises(ProgramError, match=r"variable 'fc_0\.\w_0' has no value in this scope"),
    ):
        fluid.io.save_inference_model(tmp_path, [image.name], [prediction], exe)
    (tmp_path / "fc_1.w_0").unlink()
    (tmp_path / "fc_1.w_0").mkdir()  # nothing can be written there
    fluid.global_scope().var("fc_0.w_0").get_tensor().set(np.zeros((6, 5), "float32"))
    with pytest.raises(StateFileError):
        fluid.io.save_inference_model(tmp_path, [image.name], [prediction], exe)
    assert {file.name for file in tmp_path.iterdir()} == kept.keys()
    for name, data in kept.items():
        assert name == "fc_1.w_0" or (tmp_path / name).read_bytes() == data


def _shorten(folder: Path) -> None:
    (folder / "fc_1.w_0").write_bytes((folder / "fc_1.w_0").read_bytes()[:-1])


def _swap(folder: Path) -> None:
    shutil.copy(folder / "fc_0.w_0", folder / "fc_1.w_0")


def _cut(folder: Path) -> None:
    (folder / "__model__").write_bytes((folder / "__model__").read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "error", "text"),
    [
        (_shorten, StateFileError, "should take"),
        (_swap, StateFileError, r"fc_1\.w_0 has shape \[4, 5\] in the file, the program declares \[5, 3\]"),
        (lambda folder: (folder / "fc_1.w_0").unlink(), StateFileError, r"the folder has no file for fc_1\.w_0"),
        (lambda folder: (folder / "__model__").unlink(), ProgramDescError, "cannot be read"),
        (_cut, ProgramDescError, "this is no ProgramDesc"),
        (lambda folder: shutil.rmtree(folder), ProgramDescError, "there is no folder"),
    ],
)
def test_nothing_is_half_loaded(
    tmp_path: Path, exe: fluid.Executor, damage: Callable[[Path], None], error: type[FluidcError], text: str
) -> None:
    shutil.copytree(FILES / "infer_mlp", tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(error, match=text):
        fluid.io.load_inference_model(tmp_path / "model", exe)
    assert not fluid.global_scope().local_var_names()


def test_a_name_that_would_leave_the_folder(exe: fluid.Executor, tmp_path: Path) -> None:
    x = fluid.data("x", [None, 2])
    y = fluid.layers.fc(x, 2, param_attr="../../w", bias_attr="deep/b")
    exe.run(fluid.default_startup_program())
    with pytest.raises(ProgramError, match="is no file's inside the folder"):
        fluid.io.save_inference_model(tmp_path / "m", ["x"], [y], exe)
    fluid.io.save_inference_model(tmp_path / "m", ["x"], [y], exe, params_filename="params")
    fluid.io.load_inference_model(tmp_path / "m", exe, params_filename="params")
    with pytest.raises(ProgramError, match="is no file's inside the folder"):
        fluid.io.load_inference_model(tmp_path / "m", exe)


def test_a_private_model_predicts(exe: fluid.Executor, tmp_path: Path) -> None:
    x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1])
    prediction = fluid.layers.fc(x, 1)
    loss = fluid.layers.mean(fluid.layers.square_error_cost(prediction, y))
    fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=4, sigma=1.0, sample_rate=0.1).minimize(loss)
    exe.run(fluid.default_startup_program())
    fluid.io.save_inference_model(tmp_path, ["x"], [prediction], exe)
    program, feeds, targets = fluid.io.load_inference_model(tmp_path, exe)
    assert exe.run(program, feed={feeds[0]: np.ones((2, 4), "float32")}, fetch_list=targets)[0].shape == (2, 1)


def test_a_name_that_no_file_has(exe: fluid.Executor, tmp_path: Path) -> None:
    x = fluid.data("x", [None, 2])
    out = fluid.layers.fc(x, 1, param_attr="w" * 300, bias_attr=False)
    exe.run(fluid.default_startup_program())
    with pytest.raises(ProgramError, match="no file's inside the folder"):
        fluid.io.save_inference_model(tmp_path / "model", ["x"], [out], exe)
    fluid.io.save_inference_model(tmp_path / "model", ["x"], [out], exe, params_filename="params")
    with pytest.raises(ProgramError, match="no file's inside the folder"):
        fluid.io.load_inference_model(tmp_path / "model", exe)


@pytest.mark.parametrize("names", [("same", "same"), (None, "__model__"), ("w", None)])
def test_the_program_does_not_take_the_file_of_values(
    names: tuple[str | None, str | None], exe: fluid.Executor, tmp_path: Path
) -> None:
    out = fluid.layers.fc(fluid.data("x", [None, 2]), 1, param_attr="w")
    exe.run(fluid.default_startup_program())
    with pytest.raises(ProgramError, match="would be the file of the program and of values"):
        fluid.io.save_inference_model(tmp_path / "model", ["x"], [out], exe, None, *names)
    assert not (tmp_path / "model").exists()
