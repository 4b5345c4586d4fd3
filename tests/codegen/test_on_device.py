"""On-device artifacts: ONNX Runtime's training API trains them, and comes to what fluidc's own session comes to."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from on_device import JOBS, MODELS, STEPS, Job, Trained, by_ort, by_session, dpsgd, mlp
from onnx import helper

import fluidc.frontend as fluid
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.on_device.checkpoint import check_training_api
from fluidc.compiler.codegen.onnx.on_device.in_place import ALWAYS, inputs, written_in_place
from fluidc.compiler.codegen.onnx.on_device.models import OnDevice, build
from fluidc.compiler.errors import FluidcError, TargetError
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.frontend.cli import ort_artifacts
from fluidc.frontend.cli.writing import replace_folder

L: Any = fluid.layers
Array = np.ndarray[Any, Any]

training_api = pytest.mark.skipif(
    not hasattr(importlib.import_module("onnxruntime.capi._pybind_state"), "save_checkpoint"),
    reason="onnxruntime-training is for Python before 3.12",
)


@training_api
@pytest.mark.filterwarnings("ignore::fluidc.runtime.PrivacyWarning")
@pytest.mark.parametrize("name", JOBS)
def test_ort_comes_to_what_the_session_comes_to(name: str, tmp_path: Path) -> None:
    job = JOBS[name]
    expected = check(job, tmp_path)
    losses = [value for fetched in expected.fetches for fetch, value in fetched.items() if fetch.startswith("mean")]
    assert losses[-1] < losses[0] or name.startswith("private")
    inference = onnx.load(tmp_path / "out.onnx")
    assert [value.name for value in inference.graph.input] == ["x"]
    row = job.feeds(STEPS)["x"]
    (values,) = ort.InferenceSession(inference.SerializeToString()).run(None, {"x": row})
    np.testing.assert_allclose(values, expected.evaluation[inference.graph.output[0].name], rtol=1e-5, atol=1e-6)


@training_api
@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::fluidc.runtime.PrivacyWarning")
@pytest.mark.parametrize("name", MODELS)
def test_benchmark_models(name: str, tmp_path: Path) -> None:
    check(MODELS[name], tmp_path)


def check(job: Job, folder: Path, *, ort_training: bool = False) -> Trained:
    """What the session comes to; AssertionError unless ONNX Runtime comes to the same."""
    compiled = job.compiled()
    expected = by_session(job, compiled)
    found = by_ort(job, compiled, folder, without_torch=True, ort_training=ort_training)
    for step in range(STEPS):
        for fetch, value in expected.fetches[step].items():
            np.testing.assert_allclose(np.ravel(found.fetches[step][fetch]), np.ravel(value), rtol=1e-5, atol=2e-6)
    for variable, value in found.state.items():
        # Biases under batch normalisation have no gradient but rounding errors.
        np.testing.assert_allclose(value, expected.state[variable], rtol=0, atol=1e-5 * max(0.01, np.abs(value).max()))
    for fetch, value in expected.evaluation.items():
        np.testing.assert_allclose(np.ravel(found.evaluation[fetch]), np.ravel(value), rtol=1e-5, atol=2e-6)
    return expected


@training_api
def test_with_kernels_of_onnxruntime_training(tmp_path: Path) -> None:
    check(JOBS["cnn"], tmp_path, ort_training=True)


def built(job: Job, **options: Any) -> OnDevice:
    return build(job.compiled().module, BuildOptions(**options))


@pytest.mark.parametrize("name", ["sgd", "momentum", "private adam, quantile"])
def test_models_keep_the_rules_of_onnx_runtime(name: str) -> None:
    made = built(JOBS[name])
    for model in made.models.values():
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version <= 10
        assert next(o.version for o in model.opset_import if not o.domain) <= 21
    training, evaluation = (made.models[f"{kind}_model.onnx"].graph for kind in ("training", "eval"))
    held = made.training.state
    assert [v.name for v in training.input if v.name in held] == [v.name for v in evaluation.input if v.name in held]
    assert [v.name for v in evaluation.input if v.name in held] == list(held)
    assert training.input[-1].name == "lazy_reset_grad"
    # The fetches are a list (x, softmax, loss); ONNX Runtime takes the first output for the loss.
    assert training.output[0].name.startswith("mean")
    assert evaluation.output[0].name == training.output[0].name
    buffers = [v.name for v in training.input if v.name.endswith("_grad.accumulation.buffer")]
    done = [v.name for v in training.output if v.name.endswith("_grad.accumulation.out")]
    assert len(buffers) == len(done) == len(made.training.trained) == 4


def test_who_applies_the_gradient() -> None:
    """ONNX Runtime's SGD and Adam, where they are the program's rule; else the step does, and says why."""
    reasons = {name: built(JOBS[name]).training.optimizer.reason for name in ("sgd", "adam", "momentum", "schedule")}
    assert reasons == {
        "sgd": "",
        "adam": "",
        "momentum": "fc_0.w_0 is updated by optim.momentum",
        "schedule": "the learning rate changes in the step",
    }
    rates: Any = lambda: L.fc(  # noqa: E731
        L.data("x", [8]), 4, param_attr=fluid.ParamAttr(learning_rate=2.0), bias_attr=fluid.ParamAttr(learning_rate=1.0)
    )
    job = Job(lambda: (L.mean(rates()), L.reduce_sum(L.data("y", [1]))), lambda: fluid.optimizer.SGD(0.1))
    assert built(job).training.optimizer.reason == "the learning rate changes in the step"


def test_adam_begins_as_onnx_runtime_does() -> None:
    made = built(JOBS["adam"])
    state = {name: np.zeros(1, np.float32) for name in made.training.state}
    state |= {name: np.full(1, value, np.float32) for name, value in made.training.optimizer.first.items()}
    assert set(made.checkpoint(state)[0]) == set(made.training.trained)
    moment = next(name for name in made.training.optimizer.first if "moment1" in name)
    with pytest.raises(TargetError, match=f"{moment} begins with other numbers than 0"):
        made.checkpoint(state | {moment: np.ones(1, np.float32)})


# Variables that the training model changes itself ---------------------------------------------------------------


def test_a_write_waits_for_the_readers_of_the_old_value() -> None:
    nodes = [
        helper.make_node("Reshape", ["v", "shape"], ["view"]),
        helper.make_node("MatMul", ["view", "view"], ["late"]),
        helper.make_node("Add", ["v", "x"], ["v@NEXT"]),
        helper.make_node("Mul", ["w", "x"], ["w@NEXT"]),
    ]
    made = written_in_place(nodes, {"v": "v@NEXT", "w": "w@NEXT"})
    writes = {node.input[0]: node for node in made if node.op_type == "InPlaceAccumulatorV2"}
    assert writes["w"].input[2] == ALWAYS
    waited = {writes["v"].input[2]}
    for node in reversed(made):
        if waited.intersection(node.output):
            waited |= inputs(node)
    assert {"late", "view"} <= waited
    assert "w" not in waited


def run_in_place(nodes: list[onnx.NodeProto], new: Mapping[str, str], state: dict[str, Array], **given: Array) -> Any:
    """What an output ``out`` is, and the state after one run of the model with the state bound to it."""
    made = written_in_place(nodes, new)
    constants = [onnx.numpy_helper.from_array(np.ones(1, np.bool_), ALWAYS)]
    constants.append(onnx.numpy_helper.from_array(np.array([2, 2]), "shape"))
    arrays = {name: array.copy() for name, array in {**state, **given}.items()}  # ONNX Runtime writes into them
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info(name, 1, array.shape) for name, array in arrays.items()],
        [helper.make_tensor_value_info("out", 1, None)],
        constants,
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, ir_version=9, opset_imports=domains)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_output("out")
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0], {name: arrays[name] for name in state}


def test_a_write_waits_for_what_may_be_the_old_value_itself() -> None:
    """ONNX Runtime leaves out arithmetic that changes nothing, and readers of its result then read the variable."""
    nodes = [
        helper.make_node("Mul", ["v", "1"], ["same"]),
        helper.make_node("Exp", ["same"], ["late"]),
        helper.make_node("Add", ["v", "late@"], ["v@NEXT"]),
    ]
    made = written_in_place(nodes, {"v": "v@NEXT"})
    assert any(node.op_type == "Cast" and "late" in node.input for node in made)


@training_api
def test_readers_see_the_old_value() -> None:
    v, x = np.arange(4, dtype=np.float32), np.full(4, 10, np.float32)
    nodes = [
        helper.make_node("Add", ["v", "x"], ["v@NEXT"]),
        helper.make_node("Sqrt", ["x"], ["slow"]),
        helper.make_node("Reshape", ["slow", "shape"], ["left"]),
        helper.make_node("Reshape", ["v", "shape"], ["view"]),
        helper.make_node("MatMul", ["left", "view"], ["out"]),
    ]
    out, state = run_in_place(nodes, {"v": "v@NEXT"}, {"v": v}, x=x)
    np.testing.assert_allclose(out, np.sqrt(x).reshape(2, 2) @ v.reshape(2, 2), rtol=1e-6)
    np.testing.assert_array_equal(state["v"], v + x)


@training_api
def test_variables_that_change_places() -> None:
    a, b = np.arange(4, dtype=np.float32), np.full(4, 10, np.float32)
    nodes = [
        helper.make_node("Identity", ["a"], ["b@NEXT"]),
        helper.make_node("Identity", ["b"], ["a@NEXT"]),
        helper.make_node("Add", ["a", "b"], ["out"]),
    ]
    out, state = run_in_place(nodes, {"a": "a@NEXT", "b": "b@NEXT"}, {"a": a, "b": b})
    np.testing.assert_array_equal(out, a + b)
    np.testing.assert_array_equal(state["a"], b)
    np.testing.assert_array_equal(state["b"], a)


# What is refused, and the folder --------------------------------------------------------------------------------


def refusal(job: Job) -> str:
    with pytest.raises(FluidcError) as caught:
        built(job)
    return "\n".join(filter(None, (caught.value.what, caught.value.hint)))


def counting() -> tuple[Any, ...]:
    """The classifier, and a table of integers that changes in every step."""
    table = L.create_global_var([3], 0, "int64", persistable=True)
    L.assign(L.elementwise_add(table, L.fill_constant([3], "int64", 1)), table)
    return mlp()


def test_integers_that_change() -> None:
    said = refusal(Job(counting, lambda: fluid.optimizer.SGD(0.1)))
    assert said == (
        "_generated_var_0 is i64[3] and changes in the step: ONNX Runtime's training API changes float32 tensors only\n"
        "leave out what keeps such numbers (auc and other metrics), or use --target onnx"
    )


def test_float64_parameters() -> None:
    """fluid's learning rates are float32, so no layer makes such a program; the API of the IR can."""
    module = JOBS["sgd"].compiled().module
    wide = TensorType(DType.F64, (8, 16))
    changed = tuple(replace(d, type=wide) if d.name == "fc_0.w_0" else d for d in module.state)
    with pytest.raises(TargetError, match=r"fc_0.w_0 is f64\[8,16\]: ONNX Runtime's optimizers update float32 only"):
        build(replace(module, state=changed), BuildOptions())


def test_discrete_noise() -> None:
    assert refusal(Job(mlp, lambda: dpsgd(mechanism="discrete"))).startswith(
        "the noise of mechanism='discrete' is drawn by fluidc's runtime"
    )


@pytest.mark.parametrize("name", ["image_grad", "lazy_reset_grad"])
def test_names_of_gradients(name: str) -> None:
    job = Job(lambda: (L.mean(L.fc(L.data(name, [8]), 4)),), lambda: fluid.optimizer.SGD(0.1))
    assert f"takes what is called {name} for a gradient" in refusal(job)


def test_variables_that_are_called_like_a_gradient() -> None:
    job = Job(
        lambda: (L.mean(L.fc(L.data("x", [8]), 4, param_attr="w", bias_attr="w_grad")),),
        lambda: fluid.optimizer.SGD(0.1),
    )
    assert "the variable w_grad has the name of what a training model computes" in refusal(job)


def test_metric_counters_of_a_private_program() -> None:
    module = JOBS["private adam, quantile"].compiled().module
    counting = tuple(replace(d, kind="diagnostic") if d.name == "dp_clip_0" else d for d in module.state)
    with pytest.raises(TargetError, match="dp_clip_0 counts what is not private"):
        build(replace(module, state=counting), BuildOptions())


def test_nothing_to_train() -> None:
    module = JOBS["sgd"].compiled().module
    with pytest.raises(TargetError, match="the program has no training step"):
        build(replace(module, functions=()), BuildOptions())
    frozen = replace(module, state=tuple(replace(d, trainable=False) for d in module.state))
    with pytest.raises(TargetError, match="the step trains no parameter"):
        build(frozen, BuildOptions())


@pytest.mark.parametrize("there", ["nothing", "onnxruntime"])
def test_without_the_training_api(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def imported(name: str) -> object:
        if there == "nothing":
            raise ImportError(name)
        return object()  # an ONNX Runtime for inference: no save_checkpoint in it

    monkeypatch.setattr(importlib, "import_module", imported)
    with pytest.raises(TargetError, match=r"onnxruntime-training, which is not installed") as caught:
        check_training_api()
    assert "pip install onnxruntime-training==1.19.2" in str(caught.value.hint)


@training_api
def test_the_index(tmp_path: Path) -> None:
    job = JOBS["private"]
    ort_artifacts.write(tmp_path / "made", job.compiled(), BuildOptions(), 1)
    index = json.loads((tmp_path / "made" / "artifacts.json").read_text())
    assert index["learning_rate"] == 0.5
    inputs_ = {value["name"]: value for value in index["training"]["inputs"]}
    assert inputs_["@mask"]["shape"] == inputs_["x"]["shape"][:1] == [48]
    assert inputs_["@key"]["dtype"] == "uint32"
    assert "secret" in inputs_["@key"]["what"]
    assert [value["name"] for value in index["eval"]["inputs"]] == ["x", "y"]
    assert index["eval"]["inputs"][0]["shape"] == ["N", 8]
    assert index["privacy"]["sigma"] == 0.8
    model = onnx.load(tmp_path / "made" / "training_model.onnx")
    assert "new and secret @key in every call" in model.graph.doc_string
    assert "fluidc.privacy" in {notes.key for notes in model.metadata_props}
    assert not any(name.startswith("@bits") for name in inputs_)


def test_keys_of_private_dropout() -> None:
    told = {
        value.name: value.doc_string
        for value in built(JOBS["private dropout"]).models["training_model.onnx"].graph.input
    }
    assert told["@rng_key"] == "key of the model's random numbers, new and secret in every step"
    told = {value.name: value.doc_string for value in built(JOBS["dropout"]).models["training_model.onnx"].graph.input}
    assert told["@rng_key"] == "key of the model's random numbers"
    assert "@rng_counter" in told


def test_room_for_lots() -> None:
    source = JOBS["private"].source()  # lots of 16
    assert ort_artifacts.rows(source) == 48
    assert ort_artifacts.rows(source, 64) == 64
    with pytest.warns(UserWarning, match=r"lots of 16 rows on average may exceed 16.*--batch 48 has room"):
        assert ort_artifacts.rows(source, 16) == 16
    assert ort_artifacts.rows(JOBS["sgd"].source()) is None


def test_a_folder_that_cannot_be_filled(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "old").write_text("kept")

    def failing(new: Path) -> None:
        (new / "half").write_text("written")
        raise OSError(28, "No space left on device")

    with pytest.raises(FluidcError, match="the folder cannot be written: No space left on device"):
        replace_folder(folder, failing)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert (folder / "old").read_text() == "kept"
    assert replace_folder(folder, lambda new: (new / "a").write_text("12345")) == 5
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@training_api
def test_artifacts_replace_artifacts_only(tmp_path: Path) -> None:
    made = tmp_path / "made"
    compiled = JOBS["sgd"].compiled()
    for _ in range(2):
        ort_artifacts.check(made)
        ort_artifacts.write(made, compiled, BuildOptions(), 1)
    assert {path.name for path in tmp_path.iterdir()} == {"made"}
    assert {path.name for path in made.iterdir()} == {
        "training_model.onnx", "eval_model.onnx", "optimizer_model.onnx", "checkpoint", "artifacts.json",
    }  # fmt: skip
    first = (made / "checkpoint").read_bytes()
    ort_artifacts.write(tmp_path / "again", compiled, BuildOptions(), 1)
    assert (tmp_path / "again" / "checkpoint").read_bytes() == first
