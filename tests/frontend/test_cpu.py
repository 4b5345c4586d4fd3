"""Programs of several kinds, through the Executor: compiled for the CPU they equal the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid

L = fluid.layers
rng = np.random.default_rng(7)
IMAGES = rng.random((5, 1, 8, 8)).astype(np.float32)
LABELS = rng.integers(0, 10, (5, 1))


def classify(features: fluid.Variable) -> fluid.Variable:
    label = L.data("y", [1], dtype="int64")
    return L.mean(L.softmax_with_cross_entropy(L.fc(features, 10), label))


def convolution() -> tuple[list[Any], dict[str, Any]]:
    """Convolution, batch_norm and pooling, flattened into a product.

    No bias before batch_norm: its gradient is rounding alone, of which Adagrad would take only the sign.
    """
    x = L.data("x", [1, 8, 8])
    h = L.pool2d(L.batch_norm(L.conv2d(x, 4, 3, padding=1, bias_attr=False), act="relu"), 2, "max", 2)
    loss = classify(h)
    fluid.optimizer.Adagrad(0.1).minimize(loss)
    return [loss, "conv2d_0.w_0", "batch_norm_0.w_1"], {"x": IMAGES, "y": LABELS}


def schedule() -> tuple[list[Any], dict[str, Any]]:
    """A branch inside a branch: a warm-up over a piecewise rate."""
    x = L.data("x", [64])
    loss = classify(x)
    rate = L.linear_lr_warmup(L.piecewise_decay([3], [0.1, 0.01]), 2, 0.0, 0.1)
    clip = fluid.clip.GradientClipByGlobalNorm(0.5)
    fluid.optimizer.Momentum(rate, 0.9, regularization=fluid.regularizer.L2Decay(1e-3), grad_clip=clip).minimize(loss)
    return [loss, rate, "fc_0.w_0@GRAD"], {"x": IMAGES.reshape(5, 64), "y": LABELS}


def sequences() -> tuple[list[Any], dict[str, Any]]:
    """Sequences of different lengths, one of them empty."""
    words = L.data("words", [1], dtype="int64", lod_level=1)
    loss = classify(L.sequence_pool(L.embedding(words, [20, 6]), "average"))
    fluid.optimizer.Adam(0.05).minimize(loss)
    ids = fluid.create_lod_tensor(np.arange(9).reshape(9, 1), [[2, 3, 0, 1, 3]], fluid.CPUPlace())
    return [loss, "embedding_0.w_0"], {"words": ids, "y": LABELS}


def loop() -> tuple[list[Any], dict[str, Any]]:
    """A while loop that carries a batch."""
    x = L.data("x", [64])
    i, n = L.fill_constant([1], "int64", 0), L.fill_constant([1], "int64", 3)
    total = L.fill_constant_batch_size_like(x, [-1, 64], "float32", 0.0)
    goes_on = L.less_than(i, n)
    with L.While(goes_on).block():
        L.assign(total + x, total)
        L.increment(i)
        L.less_than(i, n, cond=goes_on)
    # Something to initialise, so that there is a startup program to run.
    L.create_global_var([1], 0.0, "float32", persistable=True)
    return [total], {"x": IMAGES.reshape(5, 64)}


def attention() -> tuple[list[Any], dict[str, Any]]:
    """Attention of several heads over the rows of an image."""
    x = L.data("x", [8, 8])
    context = fluid.nets.scaled_dot_product_attention(L.fc(x, 8, num_flatten_dims=2), x, x, num_heads=4)
    loss = classify(L.layer_norm(context, begin_norm_axis=2))
    fluid.optimizer.SGD(0.1).minimize(loss)
    return [loss, "fc_0.w_0"], {"x": IMAGES.reshape(5, 8, 8), "y": LABELS}


@pytest.mark.parametrize("build", [convolution, schedule, sequences, loop, attention])
def test_cpu_equals_reference(build: Callable[[], tuple[list[Any], dict[str, Any]]]) -> None:
    found: dict[str, list[list[np.ndarray]]] = {}
    for target in ("reference", "cpu"):
        main, startup = fluid.Program(), fluid.Program()
        main.random_seed = startup.random_seed = 3
        with fluid.unique_name.guard(), fluid.program_guard(main, startup):
            fetches, feed = build()
        with fluid.scope_guard(fluid.Scope()):
            exe = fluid.Executor(fluid.CPUPlace(), target=target)
            exe.run(startup)
            found[target] = [exe.run(main, feed=feed, fetch_list=fetches) for _ in range(3)]
    for ours, oracle in zip(found["cpu"], found["reference"]):
        for a, b in zip(ours, oracle):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
