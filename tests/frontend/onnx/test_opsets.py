"""Forms that operators had in older opsets, and an open batch: what ONNX Runtime computes, fluidc does too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper
from onnx_forms import FIXED, FORMS, Array, Form, built, of_doubles
from onnx_models import results

import fluidc.frontend as fluid
from fluidc.frontend.compat.onnx import import_model


def by_onnxruntime(proto: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


@pytest.mark.parametrize("each", FORMS, ids=lambda each: each.id)
def test_a_form(each: Form) -> None:
    feeds = {f"x{i}": array for i, array in enumerate(each.fed)}
    proto = built(each)
    compared(results(proto, feeds, trainable=()), by_onnxruntime(proto, feeds))


def compared(found: Sequence[Array], wanted: Sequence[Array]) -> None:
    for have, want in zip(found, wanted, strict=True):
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("each", [each for each in FORMS if each.id not in FIXED], ids=lambda each: each.id)
def test_an_open_batch(each: Form) -> None:
    feeds = {f"x{i}": array for i, array in enumerate(each.fed)}
    expected = by_onnxruntime(built(each), feeds)
    compared(results(built(each, open_batch=True), feeds, trainable=()), expected)


INTEGER = {"ArgMax", "ArgMin", "EyeLike", "Hardmax", "Round"}
"""Operators whose results have no slope."""


# Gradients ----------------------------------------------------------------------------------------------------


def as_weights(each: Form) -> ModelProto:
    """The form with its first input as an initialiser."""
    proto = built(each)
    proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(each.fed[0]), "x0"))
    del proto.graph.input[0]
    return proto


@pytest.mark.parametrize(
    "each", [each for each in FORMS if each.fed[0].dtype == np.float32 and each.op not in INTEGER], ids=lambda e: e.id
)
def test_a_gradient(each: Form) -> None:
    """Along one direction, in double precision: the slope of a weighted sum of the results."""
    draw = np.random.default_rng(8)
    x = np.asarray(each.fed[0], np.float64)
    direction = draw.normal(size=x.shape)
    feeds = {f"x{i}": array for i, array in enumerate(of_doubles(each, x).fed[1:], start=1)}
    weights: list[Array] = []

    def value(at: Array) -> float:
        found = results(as_weights(of_doubles(each, at)), feeds, trainable=["x0"])
        if not weights:
            weights.extend(np.asarray(draw.normal(size=y.shape) * (y.dtype.kind == "f"), np.float32) for y in found)
        return sum(float((w * y).sum()) for w, y in zip(weights, found, strict=True))

    step = 1e-6
    value(x)
    slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float((gradient(each, x, feeds, weights) * direction).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-5)


def gradient(each: Form, x: Array, feeds: Mapping[str, Array], weights: Sequence[Array]) -> Array:
    made = import_model(as_weights(of_doubles(each, x)), trainable=["x0"])
    with fluid.program_guard(made.program, made.startup):
        terms = [
            fluid.layers.reduce_sum(
                fluid.layers.elementwise_mul(y, fluid.layers.cast(fluid.layers.assign(w), "float64"))
            )
            for y, w in zip(made.outputs, weights, strict=True)
            if y.dtype == fluid.VarType.FP64
        ]
        (grad,) = fluid.gradients(fluid.layers.sums(terms), made.parameters)
    assert grad is not None
    exe, scope = fluid.Executor(fluid.CPUPlace(), target="reference"), fluid.Scope()
    exe.run(made.startup, scope=scope)
    feed = {var.name: feeds[name] for var, name in zip(made.feeds, feeds, strict=True)}
    return exe.run(made.program, feed=feed, fetch_list=[grad], scope=scope)[0]
