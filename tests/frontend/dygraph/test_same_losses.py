"""One model in dygraph, as a Program, and traced: the same losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paddle_models import conv_net, labels, linear_net, lstm_net, set_parameters, uniform

import fluidc.frontend as fluid

L = fluid.layers
STEPS = 50
Batch = tuple[np.ndarray, np.ndarray]


def linear_program(x: fluid.Variable, y: fluid.Variable) -> fluid.Variable:
    out = L.fc(L.fc(x, 8, act="relu"), 1)
    return L.mean(L.square_error_cost(out, y))


def conv_program(image: fluid.Variable, label: fluid.Variable) -> fluid.Variable:
    hidden = L.batch_norm(L.conv2d(image, 4, 3, bias_attr=False), act="relu")
    logits = L.fc(L.pool2d(hidden, 2, "max", 2), 3)
    return L.mean(L.softmax_with_cross_entropy(logits, label))


def lstm_program(ids: fluid.Variable, label: fluid.Variable) -> fluid.Variable:
    rows = fluid.embedding(ids, [12, 4])
    h = c = L.fill_constant_batch_size_like(rows, [-1, 5], "float32", 0.0)
    for t in range(ids.shape[1]):
        gates = L.fc(
            L.concat([rows[:, t], h], axis=1),
            20,
            param_attr=fluid.ParamAttr(name="fc.cell.w"),
            bias_attr=fluid.ParamAttr(name="fc.cell.b"),
        )
        i, f, o, candidate = L.split(gates, 4, dim=1)
        c = L.sigmoid(f) * c + L.sigmoid(i) * L.tanh(candidate)
        h = L.sigmoid(o) * L.tanh(c)
    return L.mean(L.softmax_with_cross_entropy(L.fc(h, 3), label))


def numbers(seed: int) -> Batch:
    x = uniform(seed, 5, 6)
    return x, x[:, :1] - x[:, 1:2]


def images(seed: int) -> Batch:
    return uniform(seed, 5, 1, 8, 8), labels(seed, 5, 1)


def words(seed: int) -> Batch:
    return labels(seed, 5, 4, classes=12), labels(seed, 5, 1)


MODELS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[[int], Batch]]] = {
    "linear": (linear_net, linear_program, numbers),
    "cnn": (conv_net, conv_program, images),
    "lstm": (lstm_net, lstm_program, words),
}
OPTIMIZERS: dict[str, Callable[..., fluid.optimizer.Optimizer]] = {
    "SGD": lambda **given: fluid.optimizer.SGD(0.1, **given),
    "Momentum": lambda **given: fluid.optimizer.Momentum(0.05, 0.9, **given),
    "Adam": lambda **given: fluid.optimizer.Adam(L.noam_decay(100, 20), **given),
}


def in_dygraph(net: Any, optimizer: Callable[..., Any], batches: Callable[[int], Batch]) -> list[float]:
    losses: list[float] = []
    minimizer = optimizer(parameter_list=net.parameters())
    for step in range(STEPS):
        loss = net(*map(fluid.dygraph.to_variable, batches(step)))
        loss.backward()
        minimizer.minimize(loss)
        net.clear_gradients()
        losses.append(float(loss))
    return losses


def of_program(program: fluid.Program, feeds: list[str], loss: Any, batches: Any, target: str) -> list[float]:
    exe = fluid.Executor(target=target)
    fed = (dict(zip(feeds, batches(step), strict=True)) for step in range(STEPS))
    return [exe.run(program, feed=feed, fetch_list=[loss])[0].item() for feed in fed]


def as_program(values: list[np.ndarray], build: Any, optimizer: Any, batches: Any, target: str) -> list[float]:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(fluid.Scope()):
        first, second = batches(0)
        x = fluid.data("x", [None, *first.shape[1:]], first.dtype.name)
        y = fluid.data("y", [None, *second.shape[1:]], second.dtype.name)
        loss = build(x, y)
        optimizer().minimize(loss)
        exe = fluid.Executor(target="reference")
        exe.run(startup)
        parameters = main.all_parameters()
        assert len(parameters) == len(values)
        for parameter, value in zip(parameters, values, strict=True):
            fluid.global_scope().var(parameter.name).get_tensor().set(value)
        return of_program(main, ["x", "y"], loss, batches, target)


def traced(net: Any, optimizer: Callable[..., Any], batches: Callable[[int], Batch], target: str) -> list[float]:
    example = [fluid.dygraph.to_variable(each) for each in batches(0)]
    before = [parameter.numpy() for parameter in net.parameters()]
    _, layer = fluid.dygraph.TracedLayer.trace(net, example)
    for parameter, value in zip(net.parameters(), before, strict=True):
        parameter.set_value(value)  # the call updated running statistics
    startup = fluid.Program()
    with fluid.program_guard(layer.program, startup), fluid.scope_guard(layer.scope):
        loss = layer.program.global_block().var(layer.fetch_names[0])
        optimizer().minimize(loss)
        fluid.Executor().run(startup)
        return of_program(layer.program, layer.feed_names, loss, batches, target)


def check(model: str, optimizer: str, target: str) -> None:
    make, build, batches = MODELS[model]
    with fluid.dygraph.guard(target=target):
        net = make(fluid)
        set_parameters(net)
        values = [parameter.numpy() for parameter in net.parameters()]
        reference = in_dygraph(net, OPTIMIZERS[optimizer], batches)
        for parameter, value in zip(net.parameters(), values, strict=True):
            parameter.set_value(value)
        by_trace = traced(net, OPTIMIZERS[optimizer], batches, target)
    by_program = as_program(values, build, OPTIMIZERS[optimizer], batches, target)
    assert reference[-1] != reference[0]
    np.testing.assert_allclose(by_trace, reference, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(by_program, reference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_the_losses_are_the_same(model: str, optimizer: str) -> None:
    check(model, optimizer, "reference")


@pytest.mark.filterwarnings("ignore:INSECURE")
@pytest.mark.parametrize("model", ["linear", "lstm"])
def test_the_losses_of_private_training_are_the_same(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one noise key, of which parameters take streams in the order of their names.  batch_norm trains nowhere."""
    monkeypatch.setitem(OPTIMIZERS, "Dpsgd", lambda **given: fluid.optimizer.Dpsgd(0.1, 1.0, 5.0, 0.5, **given))
    with fluid.privacy.insecure_noise_key(b"key"):
        check(model, "Dpsgd", "reference")


def test_the_losses_are_the_same_when_compiled() -> None:
    check("linear", "Adam", "cpu")


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["cpu", "onnx"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_all_losses_are_the_same_when_compiled(model: str, optimizer: str, target: str) -> None:
    check(model, optimizer, target)
