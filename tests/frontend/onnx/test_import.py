"""ONNX models as Programs: what they compute, what their Variables are, and how they train."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto
from onnx_models import FLOAT, model, node, results

import fluidc.frontend as fluid
from fluidc.frontend.compat.onnx import import_model

RNG = np.random.default_rng(7)
W = RNG.normal(size=(4, 5)).astype(np.float32)
BIAS = RNG.normal(size=5).astype(np.float32)
X = RNG.normal(size=(3, 2, 2)).astype(np.float32)


def flattened_gemm() -> ModelProto:
    """``relu(x.reshape(len(x), -1) @ w + b)`` with the shape arithmetic that exporters write."""
    return model(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "zero"], ["rows"]),
            node("Unsqueeze", ["rows", "first"], ["rows1"]),
            node("Concat", ["rows1", "rest"], ["flat_shape"], axis=0),
            node("Reshape", ["x", "flat_shape"], ["flat"]),
            node("Gemm", ["flat", "fc.weight", "fc.bias"], ["h"], name="/fc/Gemm"),
            node("Relu", ["h"], ["y"]),
        ],
        {"x": (FLOAT, ["batch", 2, 2])},
        ["y"],
        {
            "fc.weight": W, "fc.bias": BIAS, "zero": np.array(0), "first": np.array([0]), "rest": np.array([-1]),
        },
    )  # fmt: skip


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_a_model_computes_what_it_says(target: str) -> None:
    (found,) = results(flattened_gemm(), {"x": X}, target)
    np.testing.assert_allclose(found, np.maximum(X.reshape(3, 4) @ W + BIAS, 0), rtol=1e-5, atol=1e-6)


def test_initialisers_become_parameters_under_their_names() -> None:
    found = import_model(flattened_gemm())
    assert [(p.name, p.shape) for p in found.parameters] == [("fc.weight", (4, 5)), ("fc.bias", (5,))]
    assert all(p.trainable for p in found.parameters)


def test_shapes_come_from_the_rules() -> None:
    found = import_model(flattened_gemm())
    block = found.program.global_block()
    assert found.feeds[0].shape == (-1, 2, 2)
    assert block.var("flat").shape == (-1, 4)
    assert found.outputs[0].shape == (-1, 5)
    assert block.var("flat_shape").dtype == fluid.VarType.INT64


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_an_imported_model_trains(target: str) -> None:
    found = import_model(flattened_gemm())
    with fluid.program_guard(found.program, found.startup):
        label = fluid.data("label", [None, 1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(found.outputs[0], label))
        fluid.optimizer.SGD(0.1).minimize(loss)
    exe, scope = fluid.Executor(fluid.CPUPlace(), target=target), fluid.Scope()
    exe.run(found.startup, scope=scope)
    feed = {"x": X, "label": np.array([[0], [1], [2]])}
    losses = [float(exe.run(found.program, feed=feed, fetch_list=[loss], scope=scope)[0][0]) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]
