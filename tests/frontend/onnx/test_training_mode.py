"""Ops that do something else while a model trains: batch normalisation and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto
from onnx_models import FLOAT, Array, model, node

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.compat.onnx import OnnxModel, import_model

RNG = np.random.default_rng(3)
X = RNG.normal(2.0, 3.0, size=(6, 2, 3, 3)).astype(np.float32)
INITIAL: dict[str, Array] = {
    "scale": np.array([1.5, -0.5], np.float32),
    "bias": np.array([0.25, 1.0], np.float32),
    "mean": np.array([1.0, 3.0], np.float32),
    "var": np.array([4.0, 0.5], np.float32),
}


def batch_norm(**attributes: Any) -> ModelProto:
    outputs = ["y", "mean_out", "var_out"] if attributes else ["y"]
    inputs = ["x", "scale", "bias", "mean", "var"]
    return model(
        [node("BatchNormalization", inputs, outputs, epsilon=1e-3, momentum=0.8, **attributes)],
        {"x": (FLOAT, ["batch", 2, 3, 3])},
        ["y"],
        INITIAL,
    )


def normalised(mean: Array, var: Array) -> Array:
    column = (1, 2, 1, 1)
    y = (X - mean.reshape(column)) / np.sqrt(var.reshape(column) + 1e-3)
    return y * INITIAL["scale"].reshape(column) + INITIAL["bias"].reshape(column)


class Run:
    """A model with a loss that is trained by SGD, its test clone, and a scope."""

    def __init__(self, proto: ModelProto, optimizer: str = "SGD", **options: Any) -> None:
        self.model: OnnxModel = import_model(proto)
        with fluid.program_guard(self.model.program, self.model.startup), fluid.unique_name.guard():
            self.test = self.model.program.clone(for_test=True)
            loss = fluid.layers.mean(fluid.layers.square(self.model.outputs[0]))
            getattr(fluid.optimizer, optimizer)(0.0, **options).minimize(loss)
        self.scope, self.exe = fluid.Scope(), fluid.Executor(target="reference")
        self.exe.run(self.model.startup, scope=self.scope)

    def step(self, program: fluid.Program, x: Array = X) -> Array:
        return self.exe.run(program, feed={"x": x}, fetch_list=["y"], scope=self.scope)[0]

    def value(self, name: str) -> Array:
        variable = self.scope.find_var(name)
        assert variable is not None
        return np.array(variable.get_tensor().array)


def test_statistics_of_the_file_stay_where_it_is_made_for_inference() -> None:
    run = Run(batch_norm())
    for program in (run.model.program, run.test):
        np.testing.assert_allclose(run.step(program), normalised(INITIAL["mean"], INITIAL["var"]), rtol=1e-5, atol=1e-5)
    assert [p.name for p in run.model.parameters] == ["scale", "bias"]
    np.testing.assert_array_equal(run.value("mean"), INITIAL["mean"])


def test_a_model_in_training_mode_normalises_by_the_batch_and_moves_its_statistics() -> None:
    run = Run(batch_norm(training_mode=1))
    mean, var = X.mean(axis=(0, 2, 3)), X.var(axis=(0, 2, 3))
    np.testing.assert_allclose(run.step(run.model.program), normalised(mean, var), rtol=1e-4, atol=1e-5)
    moved = {"mean": 0.8 * INITIAL["mean"] + 0.2 * mean, "var": 0.8 * INITIAL["var"] + 0.2 * var}
    for name, value in moved.items():
        np.testing.assert_allclose(run.value(name), value, rtol=1e-5)
    np.testing.assert_allclose(run.step(run.test), normalised(moved["mean"], moved["var"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run.value("mean"), moved["mean"], rtol=1e-5)


@pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")
def test_private_training_takes_only_statistics_that_stay() -> None:
    stated = {"clip": 1.0, "batch_size": 6.0, "sigma": 1.0}
    stored = Run(batch_norm(), "Dpsgd", **stated)
    assert np.isfinite(stored.step(stored.model.program)).all()
    run = Run(batch_norm(training_mode=1), "Dpsgd", **stated)
    with pytest.raises(PrivacyError, match="BatchNormalization"):
        run.step(run.model.program)


def dropout(trains: bool) -> ModelProto:
    return model(
        [node("Dropout", ["h", "ratio", "trains"], ["dropped"]), node("Mul", ["x", "w"], ["h"]),
         node("Identity", ["dropped"], ["y"])],
        {"x": (FLOAT, ["batch", 400])},
        ["y"],
        {"w": np.ones(400, np.float32), "ratio": np.array(0.25, np.float32), "trains": np.array(trains)},
    )  # fmt: skip


def test_dropout_drops_where_the_model_trains_and_not_in_a_clone_for_testing() -> None:
    run, ones = Run(dropout(trains=True)), np.ones((50, 400), np.float32)
    y = run.step(run.model.program, ones)
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
    assert abs((y == 0).mean() - 0.25) < 0.02
    np.testing.assert_array_equal(run.step(run.test, ones), ones)


def test_dropout_of_a_model_for_inference_is_nothing() -> None:
    run, ones = Run(dropout(trains=False)), np.ones((2, 400), np.float32)
    np.testing.assert_array_equal(run.step(run.model.program, ones), ones)
