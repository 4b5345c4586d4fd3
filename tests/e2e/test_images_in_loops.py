"""Images that convolutions keep with their channels innermost, where loops and branches read or make them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import Source, compile_source
from fluidc.frontend.bench.step import state, take_steps, weights
from fluidc.frontend.framework import Variable
from fluidc.frontend.lower import lower

pytest.importorskip("tvm")

ROWS = 5
layers = fluid.layers


def branch(images: Variable) -> Variable:
    level = layers.create_parameter([1], "float32", attr=fluid.ParamAttr(name="level.b"))
    below = layers.less_than(level, layers.fill_constant([1], "float32", 100.0))
    return layers.cond(below, lambda: layers.tanh(images) * 2.0, lambda: images * 3.0)


def recurrence(images: Variable, *, convolve: bool) -> Variable:
    series = layers.stack([images, images * 0.5, layers.tanh(images)], axis=0)
    rnn = layers.StaticRNN()
    with rnn.step():
        now = rnn.step_input(series)
        before = rnn.memory(shape=[-1, 4, 8, 6], batch_ref=now)
        if convolve:
            now = layers.conv2d(now, 4, 3, padding=1, param_attr="inner.w", bias_attr=False)
        after = layers.tanh(now + before)
        rnn.update_memory(before, after)
        rnn.step_output(after)
    outputs = rnn()
    assert isinstance(outputs, Variable)
    return layers.reshape(layers.slice(outputs, axes=[0], starts=[2], ends=[3]), [-1, 4, 8, 6])


def program(middle: Callable[[Variable], Variable]) -> Source:
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 1
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x, label = layers.data("x", [3, 8, 6]), layers.data("label", [1], dtype="int64")
        images = middle(layers.conv2d(x, 4, 3, padding=1, param_attr="first.w", bias_attr="first.b"))
        images = layers.relu(layers.conv2d(images, 5, 3, stride=2, param_attr="last.w", bias_attr="last.b"))
        scores = layers.fc(images, 3, param_attr="out.w", bias_attr="out.b")
        loss = layers.mean(layers.softmax_with_cross_entropy(scores, label))
        fluid.optimizer.SGD(0.1).minimize(loss)
    return lower(main, startup=startup, fetches=(loss.name,), infer_fetches=(loss.name,))


@pytest.mark.parametrize(
    "middle",
    [
        pytest.param(branch, id="cond"),
        pytest.param(lambda images: recurrence(images, convolve=False), id="StaticRNN"),
        pytest.param(lambda images: recurrence(images, convolve=True), id="StaticRNN-with-conv2d"),
    ],
)
def test_steps_agree_with_reference(middle: Callable[[Variable], Variable]) -> None:
    source, rng = program(middle), np.random.default_rng(0)
    feeds = {
        "x": rng.normal(size=(ROWS, 3, 8, 6)).astype(np.float32),
        "label": rng.integers(0, 3, (ROWS, 1)),
    }
    given, losses, changes = weights(source), [], []
    for target in ("reference", "cpu"):
        compiled = compile_source(source, target=target, batch=ROWS, options=BuildOptions(threads=2))
        values = state(compiled.manifest, given)
        step = take_steps(compiled.manifest, compiled.built.engine(), values, feeds)
        losses.append([step() for _ in range(3)])
        changes.append({name: values[name].array - before for name, before in given.items()})
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for name, expected in changes[0].items():
        np.testing.assert_allclose(changes[1][name], expected, atol=1e-4 * np.abs(expected).max() + 1e-9, err_msg=name)
