"""Models that PyTorch exported, by both of its exporters: they compute what PyTorch does, and train."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx_models import MODELS, Array

import fluidc.frontend as fluid

pytestmark = pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")

NAMES = ("mlp", "cnn", "residual", "transformer", "lstm", "gru")
FILES = [f"{name}.{exporter}" for name in NAMES for exporter in ("ts", "dynamo")]


def example(file: str) -> tuple[Array, Array]:
    """What PyTorch was given, and what it computed."""
    with np.load(MODELS / f"{file.split('.')[0]}.npz") as kept:
        return kept["x"], kept["y"]


def computed(file: str) -> Array:
    x, _ = example(file)
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        model, scope = fluid.io.load_onnx(MODELS / f"{file}.onnx"), fluid.Scope()
        exe = fluid.Executor(target="reference")
        exe.run(model.startup, scope=scope)
        return exe.run(feed={model.feeds[0].name: x}, fetch_list=model.outputs, scope=scope)[0]


@pytest.mark.parametrize("file", FILES)
def test_outputs_are_those_of_pytorch(file: str) -> None:
    np.testing.assert_allclose(computed(file), example(file)[1], rtol=1e-5, atol=1e-6)


def trained(file: str, target: str, optimizer: Callable[[], fluid.optimizer.Optimizer]) -> list[float]:
    """Losses of 20 steps on the example, whose labels are made up."""
    x, y = example(file)
    labels = (np.arange(len(x)) % y.shape[1]).reshape(-1, 1)
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        model, scope = fluid.io.load_onnx(MODELS / f"{file}.onnx"), fluid.Scope()
        label = fluid.data("label", [None, 1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(model.outputs[0], label))
        optimizer().minimize(loss)
        exe = fluid.Executor(target=target)
        exe.run(model.startup, scope=scope)
        feed = {model.feeds[0].name: x, "label": labels}
        with fluid.privacy.insecure_noise_key(bytes(32)):
            return [float(exe.run(feed=feed, fetch_list=[loss], scope=scope)[0][0]) for _ in range(20)]


def adam() -> fluid.optimizer.Optimizer:
    return fluid.optimizer.Adam(0.01)


def dpsgd() -> fluid.optimizer.Optimizer:
    return fluid.optimizer.Dpsgd(0.1, clip=5.0, batch_size=3.0, sigma=0.01)


@pytest.mark.parametrize("optimizer", [adam, dpsgd])
@pytest.mark.parametrize("file", FILES)
def test_models_train(file: str, optimizer: Callable[[], fluid.optimizer.Optimizer]) -> None:
    losses = trained(file, "reference", optimizer)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("file", "optimizer"),
    [("residual.ts", adam), ("transformer.dynamo", adam), ("gru.ts", adam), ("cnn.ts", dpsgd), ("lstm.ts", dpsgd)],
)
def test_models_train_on_cpu_as_in_numpy(file: str, optimizer: Callable[[], fluid.optimizer.Optimizer]) -> None:
    want, found = (trained(file, target, optimizer) for target in ("reference", "cpu"))
    np.testing.assert_allclose(found, want, rtol=1e-4)


@pytest.mark.parametrize("optimizer", [adam, dpsgd])
@pytest.mark.parametrize("file", FILES[1::2])
def test_models_train_in_onnx_runtime(file: str, optimizer: Callable[[], fluid.optimizer.Optimizer]) -> None:
    """In from ONNX, differentiated, and out as an ONNX training step."""
    want, found = (trained(file, target, optimizer) for target in ("reference", "onnx"))
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_a_model_exported_in_training_mode() -> None:
    """Its clone for testing computes what PyTorch's evaluation does; a step moves the running mean as PyTorch's."""
    with np.load(MODELS / "training.npz") as kept:
        x, y, moved = kept["x"], kept["y"], kept["moved"]
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        model, scope = fluid.io.load_onnx(MODELS / "training.ts.onnx"), fluid.Scope()
        exe = fluid.Executor(target="reference")
        exe.run(model.startup, scope=scope)
        test = model.program.clone(for_test=True)
        names = [var.name for var in model.outputs]
        np.testing.assert_allclose(exe.run(test, {"x": x}, names, scope=scope)[0], y, rtol=1e-5, atol=1e-6)
        assert abs(exe.run(model.program, {"x": x}, names, scope=scope)[0] - y).max() > 1e-2
    variable = scope.find_var("1.running_mean")
    assert variable is not None
    np.testing.assert_allclose(np.asarray(variable.get_tensor().array, np.float32), moved, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("file", FILES)
def test_what_is_trained_are_the_weights(file: str) -> None:
    """Not the numbers that exporters keep as initialisers beside them."""
    with np.load(MODELS / f"{file.split('.')[0]}.npz") as kept:
        weights = int(kept["weights"])
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        found = {p.name: p.shape for p in fluid.io.load_onnx(MODELS / f"{file}.onnx").parameters}
    # Batch normalisation is folded into the convolution before it: scale and shift of 8 channels become its bias.
    folded = 8 if file.startswith("residual") else 0
    assert sum(int(np.prod(shape)) for shape in found.values()) == weights - folded, found
