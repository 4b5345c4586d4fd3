"""Outputs and gradients of layers against paddlepaddle 1.8.5 (make_layer_golden.py)."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fluidc.compiler.ir.core import OpBase, Value
from fluidc.compiler.ir.types import DType, TensorType, static_shape
from fluidc.compiler.ops import conv, loss, loss_layers, norm, pool
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.region import evaluate_op, pullback

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "layers.json").read_text())
WRONG_IN_PADDLE = {"group_norm"}
POOL = {"kernel": (3, 2), "strides": (2, 2), "pads": (1, 0, 1, 0), "ceil_mode": True}


def batch_norm(b: OpBuilder, x: Value) -> OpBase:
    channels = (x.tensor.shape[1],)
    one, zero = b.fill(channels, DType.F32, 1.0), b.fill(channels, DType.F32, 0.0)
    return norm.BatchNorm(x, one, zero, zero, one)


# The op behind each layer; scales of inputs that the layer call had are part of it.
LAYERS: dict[str, Callable[..., OpBase]] = {
    "softmax": lambda b, x: loss.Softmax(x),
    "log_softmax": lambda b, x: loss.LogSoftmax(x),
    "softmax_cross_entropy": lambda b, x, y: loss.SoftmaxCrossEntropy(x, y),
    "softmax_cross_entropy_soft": lambda b, x, y: loss_layers.SoftmaxCrossEntropySoft(x, y),
    "cross_entropy": lambda b, p, y: loss.CrossEntropy(p, y),
    "cross_entropy_soft": lambda b, p, y: loss_layers.CrossEntropySoft(p, y),
    "sigmoid_cross_entropy": lambda b, x, y: loss.SigmoidCrossEntropy(x, y),
    "square_error": lambda b, x, y: loss_layers.SquareError(x, y),
    "huber": lambda b, x, y: loss_layers.Huber(x, y, 0.7),
    "smooth_l1": lambda b, x, y: loss_layers.SmoothL1(x, y, sigma=1.5),
    "log_loss": lambda b, p, q: loss_layers.LogLoss(b.scale(p, 0.4), b.scale(q, 0.3)),
    "kldiv_mean": lambda b, x, p: loss_layers.KlDiv(x, p, "mean"),
    "kldiv_batchmean": lambda b, x, p: loss_layers.KlDiv(x, p, "batchmean"),
    "rank": lambda b, p, x, y: loss_layers.RankLoss(b.scale(p, 0.6), x, y),
    "margin_rank": lambda b, p, x, y: loss_layers.MarginRankLoss(p, x, y, 0.1),
    "label_smooth": lambda b, p: loss_layers.LabelSmooth(p, epsilon=0.2),
    "l2_normalize": lambda b, x: loss_layers.L2Normalize(x, 1),
    "cos_sim": lambda b, x, y: loss_layers.CosSim(x, y),
    "layer_norm": lambda b, x: norm.LayerNorm(x, None, None),
    "group_norm": lambda b, x: norm.GroupNorm(x, None, None, 2),
    "instance_norm": lambda b, x: norm.InstanceNorm(x, None, None),
    "batch_norm": batch_norm,
    "conv2d": lambda b, x, w: conv.Conv2d(
        x, w, strides=(2, 1), pads=(1, 2, 0, 1), dilations=(1, 2), groups=2
    ),
    "max_pool": lambda b, x: pool.MaxPool2d(x, **POOL),
    "avg_pool": lambda b, x: pool.AvgPool2d(x, **POOL),
    "avg_pool_inclusive": lambda b, x: pool.AvgPool2d(x, exclusive=False, **POOL),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_output_and_gradient(layer: str) -> None:
    golden = GOLDEN[layer]
    known: dict[Value, Any] = {}
    for name, feed in golden["feeds"].items():
        dtype = np.int64 if name == "label" else np.float32
        array = np.array(feed["data"], dtype).reshape(feed["shape"])
        known[Value(TensorType(DType.of(dtype), array.shape), name)] = array
    inputs = tuple(known)
    b = OpBuilder()
    op = LAYERS[layer](b, *inputs)
    assert isinstance(op, Op)
    results = tuple(op.decompose(b)) if op.has_decomposition else b.emit(op)
    out = results[0]
    ct = Value(out.type, "ct")
    count = int(np.prod(golden["shape"]))
    known[ct] = np.cos(np.arange(count, dtype=np.float32)).reshape(static_shape(out.tensor.shape))
    wanted = [value for value in inputs if value.hint in golden["grads"]]
    grads = pullback(b, tuple(b.ops), [(out, ct)], wanted)
    for emitted in b.ops:
        evaluate_op(emitted, known)
    np.testing.assert_allclose(known[out].ravel(), golden["out"], rtol=2e-5, atol=2e-6)
    for value, grad in zip(wanted, grads, strict=True):
        assert grad is not None
        if layer not in WRONG_IN_PADDLE:
            np.testing.assert_allclose(known[grad].ravel(), golden["grads"][value.hint], rtol=2e-5, atol=4e-6)
    if layer == "batch_norm":
        for have, (_, want) in zip(results[1:3], sorted(golden["state"].items()), strict=True):
            np.testing.assert_allclose(known[have], want, rtol=1e-5, atol=1e-6)


def test_paddles_group_norm_gradient_is_not_one() -> None:
    """A group's outputs do not change when a constant is added to it: its gradient sums to zero. Paddle's does not."""
    grad = np.reshape(GOLDEN["group_norm"]["grads"]["x"], (2, 2, -1))
    assert np.all(np.abs(grad.sum(axis=2)) > 0.05)
