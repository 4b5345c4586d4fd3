"""Code of dygraph as Programs: what is recorded, whose memory it has, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paddle_models import lstm_net

import fluidc.frontend as fluid
from fluidc.frontend.dygraph import Layer, Linear, TracedLayer, to_variable
from fluidc.runtime.errors import FluidcError

L = fluid.layers
HERE = Path(__file__).name


@pytest.fixture(autouse=True)
def scope() -> Iterator[fluid.Scope]:
    """A global scope for each test: a trace lends the parameters' memory to it."""
    with fluid.scope_guard(fluid.Scope()):
        yield fluid.global_scope()


@pytest.fixture
def guarded() -> Iterator[None]:
    with fluid.dygraph.guard(target="reference"):
        yield


def bias_of(net: Linear) -> np.ndarray:
    assert net.bias is not None
    return net.bias.numpy()


def values_of(layer: TracedLayer, name: str) -> np.ndarray:
    return np.asarray(layer.scope.var(name).get_tensor(), np.float32)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Function(Layer):
    """A Layer that computes a function of it and of its inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.linear = Linear(3, 2)
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self, *inputs)


def traced(function: Callable[..., Any], *inputs: np.ndarray, fixed: Any = False) -> TracedLayer:
    return TracedLayer.trace(Function(function), [to_variable(each) for each in inputs], fixed=fixed)[1]


def refusal(function: Callable[..., Any], *inputs: np.ndarray) -> str:
    with pytest.raises(FluidcError) as caught:
        traced(function, *(inputs or (floats(4, 3),)))
    return str(caught.value)


def types_of(program: fluid.Program) -> list[str]:
    return [op.type for op in program.global_block().ops]


def executor() -> fluid.Executor:
    return fluid.Executor(target="reference")


# What is recorded.


def test_a_layer_becomes_a_program_of_any_batch(guarded: None) -> None:
    net, x = Linear(3, 2, act="tanh"), floats(4, 3)
    output, layer = TracedLayer.trace(net, [to_variable(x)])
    assert types_of(layer.program) == ["matmul", "elementwise_add", "tanh"]
    assert layer.feed_names == ["feed_0"]
    np.testing.assert_allclose(layer([x])[0], output.numpy(), rtol=1e-6)
    for rows in (1, 7, 64):
        x = floats(rows, 3, seed=rows)
        np.testing.assert_allclose(layer([to_variable(x)])[0], net(to_variable(x)).numpy(), rtol=1e-6, atol=1e-7)


def test_one_input_needs_no_list_and_results_keep_their_structure(guarded: None) -> None:
    net = Function(lambda self, x: {"y": [self.linear(x), x], "w": self.linear.weight, "n": 3})
    output, layer = TracedLayer.trace(net, floats(4, 3))
    assert set(output) == {"y", "w", "n"}
    y, x, w = layer([floats(5, 3)])
    assert (y.shape, x.shape, w.shape) == ((5, 2), (5, 3), (3, 2))
    np.testing.assert_array_equal(x, floats(5, 3))
    np.testing.assert_array_equal(w, net.linear.weight.numpy())


def test_code_that_states_the_number_of_rows_is_opened(guarded: None) -> None:
    def function(self: Function, x: Any) -> Any:
        rows = x.shape[0]
        start = L.fill_constant([rows, 2], "float32", 2.0)
        zeros = to_variable(np.zeros([2, rows], np.float32))
        flat = L.reshape(self.linear(x), x.shape[:1] + [-1, 1])  # noqa: RUF005 - joined with a list
        joined = L.reshape(L.reshape(flat, [rows * 2]), [rows, 2])
        return joined[0:rows] * start + L.transpose(zeros, [1, 0])

    layer = traced(function, floats(4, 3))
    assert "fill_constant_batch_size_like" in types_of(layer.program)
    assert layer([floats(9, 3)])[0].shape == (9, 2)
    x = floats(4, 3)
    weight, bias = values_of(layer, "linear_0.w_0"), values_of(layer, "linear_0.b_0")
    np.testing.assert_allclose(layer([x])[0], 2 * (x @ weight + bias), rtol=1e-5)


def test_axes_of_known_extent_are_counted_and_iterated_over(guarded: None) -> None:
    layer = traced(lambda self, x: sum(self.linear(x)[:, i] for i in range(len(self.linear.weight[0]))), floats(4, 3))
    assert layer([floats(6, 3)])[0].shape == (6,)
    layer = traced(lambda self, x: [x + row for row in self.linear.weight + 0][0:3:2], floats(4, 2))
    first, last = layer([floats(6, 2)])
    weight = values_of(layer, layer.program.all_parameters()[0].name)
    np.testing.assert_allclose(last - first, np.tile(weight[2] - weight[0], (6, 1)), rtol=1e-5, atol=1e-6)


def test_every_result_is_a_variable_of_its_own(guarded: None) -> None:
    def function(self: Function, xs: Any, unused: Any) -> Any:
        del unused
        y = self.linear(xs[0]) + self.linear(xs[1])
        return [y] * 2

    x = to_variable(floats(4, 3))
    outputs, layer = TracedLayer.trace(Function(function), [[x, x], to_variable(floats(4, 7))])
    assert len(set(layer.fetch_names)) == 2
    first, second = layer([x, x, floats(4, 7)])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, outputs[0].numpy(), rtol=1e-6)


def test_loops_of_layers_are_recorded_with_what_they_capture(guarded: None) -> None:
    times, step = to_variable(np.array([3], np.int64)), to_variable(np.ones([1, 2], np.float32))

    def function(self: Function, x: Any) -> Any:
        def body(i: Any, h: Any) -> Any:
            return i + 1, h * 0.5 + step

        start = L.fill_constant([1], "int64", 0)
        return L.while_loop(lambda i, h: i < times, body, [start, self.linear(x)])[1]

    net, x = Function(function), floats(4, 3)
    output, layer = TracedLayer.trace(net, [to_variable(x)])
    assert layer.program.num_blocks == 2
    np.testing.assert_allclose(layer([x])[0], output.numpy(), rtol=1e-6)
    assert layer([floats(9, 3)])[0].shape == (9, 2)


def test_random_starts_have_the_batch_of_the_input(guarded: None) -> None:
    layer = traced(lambda self, x: self.linear(x) + L.gaussian_random([x.shape[0], 2]), floats(4, 3))
    assert layer([floats(6, 3)])[0].shape == (6, 2)
    assert not np.array_equal(layer([floats(6, 3)])[0], layer([floats(6, 3)])[0])


def test_an_lstm_that_starts_from_zeros_has_any_batch(guarded: None) -> None:
    net = lstm_net(fluid)
    ids, labels = np.arange(12).reshape(3, 4), np.array([[0], [1], [2]])
    loss, layer = TracedLayer.trace(net, [to_variable(ids), to_variable(labels)])
    np.testing.assert_allclose(layer([ids, labels])[0], loss.numpy(), rtol=1e-6)
    twice = np.concatenate([ids, ids]), np.concatenate([labels, labels])
    np.testing.assert_allclose(layer(list(twice))[0], loss.numpy(), rtol=1e-6)


def test_a_fixed_batch_is_stated(guarded: None) -> None:
    def time_major(self: Function, x: Any) -> Any:
        state = self.linear(x[0])
        for t in range(1, x.shape[0]):
            state = state + self.linear(x[t])
        return state

    layer = traced(time_major, floats(5, 2, 3), fixed=True)
    assert layer.program.global_block().var("feed_0").shape == (5, 2, 3)
    assert types_of(layer.program).count("matmul") == 5
    both = traced(lambda self, x, w: L.matmul(self.linear(x), w), floats(4, 3), floats(2, 6), fixed=[1])
    assert [both.program.global_block().var(name).shape for name in both.feed_names] == [(-1, 3), (2, 6)]
    assert both([floats(7, 3), floats(2, 6)])[0].shape == (7, 6)


def test_a_single_row_is_traced_as_a_batch(guarded: None) -> None:
    layer = traced(lambda self, x: self.linear(x), floats(1, 3))
    assert layer([floats(8, 3)])[0].shape == (8, 2)


def test_parameters_keep_their_options(guarded: None) -> None:
    decay = fluid.regularizer.L2Decay(0.1)
    net = Linear(
        3,
        2,
        param_attr=fluid.ParamAttr(name="weight", learning_rate=3.0, regularizer=decay),
        bias_attr=fluid.ParamAttr(name="bias", trainable=False),
    )
    _, layer = TracedLayer.trace(net, [to_variable(floats(4, 3))])
    weight, bias = layer.program.all_parameters()
    assert (weight.name, weight.learning_rate, weight.regularizer, weight.trainable) == ("weight", 3.0, decay, True)
    assert (bias.name, bias.trainable, bias.stop_gradient) == ("bias", False, True)


def test_values_that_are_no_parameters_are_constants(guarded: None) -> None:
    shift = to_variable(np.array([1.0, 2.0], np.float32))
    layer = traced(lambda self, x: self.linear(x) * 0 + shift + shift, floats(4, 3))
    assert types_of(layer.program).count("assign_value") == 1
    shift.set_value(np.zeros(2, np.float32))
    np.testing.assert_array_equal(layer([floats(1, 3)])[0], [[2, 4]])


def test_gradients_stop_in_a_program_where_they_stop_in_dygraph(guarded: None) -> None:
    def function(self: Function, x: Any) -> Any:
        with fluid.dygraph.no_grad():
            still = self.linear(x)
        return L.reduce_sum(still + self.linear(x).detach() + self.linear(x) * 2)

    net, x = Function(function), floats(4, 3)
    loss, layer = TracedLayer.trace(net, [to_variable(x)])
    loss.backward()
    with fluid.program_guard(layer.program), fluid.scope_guard(layer.scope):
        ((_, grad), *_) = fluid.append_backward(layer.program.global_block().var(layer.fetch_names[0]))
        (found,) = executor().run(layer.program, feed={"feed_0": x}, fetch_list=[grad])
    np.testing.assert_allclose(found, net.linear.weight.gradient(), rtol=1e-6)


def test_evaluation_is_traced_as_evaluation_and_trains_all_the_same(guarded: None) -> None:
    net = Function(lambda self, x: L.dropout(self.linear(x), 0.5))
    net.eval()
    _, layer = TracedLayer.trace(net, [to_variable(floats(4, 3))])
    (dropout,) = (op for op in layer.program.global_block().ops if op.type == "dropout")
    assert dropout.attr("is_test") is True
    assert not layer.program.global_block().var(layer.fetch_names[0]).stop_gradient


def test_a_clone_for_test_evaluates(guarded: None) -> None:
    class Net(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.norm = fluid.dygraph.BatchNorm(3)
            self.dropout = fluid.dygraph.Dropout(0.5)

        def forward(self, x: Any) -> Any:
            return self.dropout(self.norm(x))

    net, x = Net(), floats(8, 3)
    _, layer = TracedLayer.trace(net, [to_variable(x)])
    test = layer.program.clone(for_test=True)
    (found,) = executor().run(test, feed={"feed_0": x}, fetch_list=layer.fetch_names)
    net.eval()
    np.testing.assert_allclose(found, net(to_variable(x)).numpy(), rtol=1e-5)


def test_branches_of_layers_are_recorded(guarded: None) -> None:
    def function(self: Function, x: Any) -> Any:
        total = L.reduce_sum(x)
        return L.cond(total > 0, lambda: self.linear(x), lambda: self.linear.weight[0] + x[:, 0:2])

    layer, x = traced(function, floats(4, 3)), np.ones((4, 3), np.float32)
    weight, bias = values_of(layer, "linear_0.w_0"), values_of(layer, "linear_0.b_0")
    np.testing.assert_allclose(layer([x])[0], x @ weight + bias, rtol=1e-6)
    np.testing.assert_allclose(layer([-x])[0], weight[0] - x[:, 0:2], rtol=1e-6)


def test_layers_appended_to_a_traced_program_get_names_of_their_own(guarded: None) -> None:
    layer = traced(lambda self, x: L.mean(self.linear(x)), floats(4, 3))
    out = layer.program.global_block().var(layer.fetch_names[0])
    assert out.name == "mean_0.tmp_0"
    with fluid.program_guard(layer.program, fluid.Program()), fluid.unique_name.guard():
        assert L.mean(out).name == "mean_1.tmp_0"
        assert [p.name for p in layer.program.all_parameters()] == ["linear_0.w_0", "linear_0.b_0"]
        assert Linear(1, 2).full_name() == "linear_1"


# Whose memory it has.


def trained(layer: TracedLayer, rate: float = 0.5) -> Callable[[np.ndarray], float]:
    """A step of gradient descent on the mean of the traced output."""
    startup = fluid.Program()
    with fluid.program_guard(layer.program, startup):
        loss = L.mean(layer.program.global_block().var(layer.fetch_names[0]))
        fluid.optimizer.SGD(rate).minimize(loss)
    exe = executor()
    exe.run(startup)
    return lambda x: exe.run(layer.program, feed={"feed_0": x}, fetch_list=[loss])[0].item()


def test_a_program_trains_the_parameters_of_the_layer(guarded: None) -> None:
    net, x = Linear(3, 2), floats(4, 3)
    _, layer = TracedLayer.trace(net, [to_variable(x)])
    before = net.weight.numpy()
    step = trained(layer)
    step(x)
    expected = before - 0.5 * np.repeat(x.mean(axis=0)[:, None], 2, axis=1) / 2
    np.testing.assert_allclose(net.weight.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(net(to_variable(x)).numpy(), x @ expected + bias_of(net), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer([x])[0], net(to_variable(x)).numpy(), rtol=1e-6)


def test_a_program_sees_what_dygraph_still_has_to_run(guarded: None) -> None:
    net, x = Linear(3, 2), floats(4, 3)
    _, layer = TracedLayer.trace(net, [to_variable(x)])
    before = net.weight.numpy()
    L.mean(net(to_variable(x))).backward()
    fluid.optimizer.SGD(1.0, parameter_list=net.parameters()).minimize(L.mean(net(to_variable(x))))
    (after,) = layer([x])
    weight = values_of(layer, "linear_0.w_0")
    assert np.abs(weight - before).max() > 0.01
    np.testing.assert_allclose(after, x @ weight + bias_of(net), rtol=1e-5, atol=1e-6)
    net.weight.set_value(np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(layer([x])[0], np.broadcast_to(bias_of(net), (4, 2)), rtol=1e-6)


def test_values_of_dygraph_from_before_a_step_of_the_program_stay(guarded: None) -> None:
    net, x = Linear(3, 2), floats(4, 3)
    _, layer = TracedLayer.trace(net, [to_variable(x)])
    step = trained(layer)
    before = net.weight.numpy()
    output = net(to_variable(x))
    loss, held = L.reduce_sum(output * output), net.weight + 0.0
    early = net.weight * 1.0
    np.testing.assert_array_equal(early.numpy(), before)
    step(x)
    loss.backward()
    np.testing.assert_array_equal(held.numpy(), before)
    np.testing.assert_allclose(net.weight.gradient(), 2 * x.T @ (x @ before), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(net.weight.numpy(), before)


def test_a_graph_that_has_run_keeps_the_values_that_its_gradient_reads(guarded: None) -> None:
    net, x = Linear(3, 2, bias_attr=False), floats(4, 3)
    _, layer = TracedLayer.trace(net, [to_variable(x)])
    step = trained(layer)
    before = net.weight.numpy()
    loss = L.reduce_sum(L.square(net(to_variable(x))))
    float(loss)
    step(x)
    loss.backward()
    np.testing.assert_allclose(net.weight.gradient(), 2 * x.T @ (x @ before), rtol=1e-4, atol=1e-5)


def test_a_failed_step_changes_nothing(guarded: None) -> None:
    net = Linear(3, 2)
    _, layer = TracedLayer.trace(net, [to_variable(floats(4, 3))])
    step, before = trained(layer), net.weight.numpy()
    with pytest.raises(FluidcError):
        step(np.zeros((4, 5), np.float32))
    np.testing.assert_array_equal(net.weight.numpy(), before)


def test_a_program_needs_no_startup_and_runs_in_any_scope(guarded: None) -> None:
    net, x = Linear(3, 2), floats(4, 3)
    _, layer = TracedLayer.trace(net, [to_variable(x)])
    exe = executor()
    expected = net(to_variable(x)).numpy()
    for each in (None, layer.scope, fluid.Scope()):
        (found,) = exe.run(layer.program, feed={"feed_0": x}, fetch_list=layer.fetch_names, scope=each)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_tensor_of_a_scope_is_the_parameter(guarded: None, scope: fluid.Scope) -> None:
    net = Linear(3, 2)
    TracedLayer.trace(net, [to_variable(floats(4, 3))])
    tensor = scope.var("linear_0.w_0").get_tensor()
    older = net.weight + 0.0
    before = net.weight.numpy()
    tensor.set(np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(net.weight.numpy(), np.ones((3, 2)))
    np.testing.assert_array_equal(older.numpy(), before)
    with pytest.raises(FluidcError, match=r"float32\[3, 2\], the array float32\[2, 2\]"):
        tensor.set(np.ones((2, 2), np.float32))


def test_models_whose_parameters_have_the_same_names_do_not_mix() -> None:
    x, layers, nets = floats(4, 3), [], []
    for _ in range(2):
        with fluid.dygraph.guard(target="reference"):
            nets.append(Linear(3, 2))
            layers.append(TracedLayer.trace(nets[-1], [to_variable(x)])[1])
    exe = executor()
    for number in (0, 1, 0):
        (found,) = exe.run(layers[number].program, feed={"feed_0": x}, fetch_list=layers[number].fetch_names)
        with fluid.dygraph.guard(target="reference"):
            np.testing.assert_allclose(found, nets[number](to_variable(x)).numpy(), rtol=1e-6)


def test_a_value_of_the_same_name_in_a_scope_is_not_overwritten(guarded: None, scope: fluid.Scope) -> None:
    scope.var("linear_0.w_0").get_tensor().set(np.zeros((3, 2), np.float32))
    layer = traced(lambda self, x: self.linear(x), floats(4, 3))
    with pytest.raises(FluidcError, match=r"linear_0\.w_0 is a variable of dygraph, and the scope holds another"):
        executor().run(layer.program, feed={"feed_0": floats(4, 3)}, fetch_list=layer.fetch_names)
    np.testing.assert_array_equal(scope.var("linear_0.w_0").get_tensor().array, np.zeros((3, 2)))
    assert layer([floats(4, 3)])[0].shape == (4, 2)


def test_a_call_predicts_when_the_program_trains(guarded: None) -> None:
    net, x = Linear(3, 2), floats(4, 3)
    _, layer = TracedLayer.trace(net, [to_variable(x)])
    trained(layer)
    before = net.weight.numpy()
    layer([x])
    np.testing.assert_array_equal(net.weight.numpy(), before)


def test_the_program_outlives_the_layer(guarded: None) -> None:
    layer, x = traced(lambda self, x: self.linear(x), floats(4, 3)), floats(4, 3)
    first = layer([x])[0]
    Linear(3, 2)  # may take the name
    np.testing.assert_array_equal(layer([x])[0], first)


def test_saved_models_are_those_of_the_layer(guarded: None, tmp_path: Path) -> None:
    net = Function(lambda self, x, y: (self.linear(x), y * 2, L.mean(x)))
    (first, second, _), layer = TracedLayer.trace(net, [to_variable(floats(4, 3)), to_variable(floats(4, 1))])
    assert layer.save_inference_model(tmp_path / "all") is None
    layer.save_inference_model(tmp_path / "part", feed=[0], fetch=[0])
    with fluid.scope_guard(fluid.Scope()):
        exe = executor()
        program, feeds, targets = fluid.io.load_inference_model(str(tmp_path / "part"), exe)
        assert feeds == ["feed_0"]
        (found,) = exe.run(program, feed={"feed_0": floats(4, 3)}, fetch_list=targets)
        np.testing.assert_allclose(found, first.numpy(), rtol=1e-6)
        program, feeds, targets = fluid.io.load_inference_model(str(tmp_path / "all"), exe)
        assert (feeds, len(targets)) == (["feed_0", "feed_1"], 3)
    with pytest.raises(FluidcError, match=r"fetch holds 3"):
        layer.save_inference_model(tmp_path / "none", fetch=[3])
    assert second.shape == (4, 1)


# What is refused.


def test_values_of_dygraph_in_a_program_are_refused_outside_a_trace(guarded: None) -> None:
    net = Linear(3, 2)
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        x = fluid.data("x", [None, 3])
        with pytest.raises(FluidcError, match="is a value of dygraph, and the op is recorded into a static Program"):
            net(x)
        with pytest.raises(FluidcError, match=r"TracedLayer.trace\(layer, inputs\)"):
            _ = net.weight * 2


LOOKS: dict[str, Callable[..., Any]] = {
    "numpy: the value": lambda self, x: self.linear(x).numpy() if x.block.program.captures else x,
    "float: the value": lambda self, x: float(L.reduce_sum(x)) * x,
    "a number of times, or an index": lambda self, x: x + [0, 1, 2][L.cast(L.reduce_sum(x) * 0, "int64")],
    "the value of": lambda self, x: x if L.reduce_sum(x) > 0 else -x,
    "set_value: ": lambda self, x: (self.linear(x).set_value(1), x)[1] if x.block.program.captures else x,
    "backward: ": lambda self, x: (L.mean(self.linear(x)).backward(), x)[1],
    "gradient: ": lambda self, x: (x.gradient(), x)[1],
    "clear_gradient: ": lambda self, x: (x.clear_gradient(), x)[1],
    "as an array: ": lambda self, x: x + np.asarray(x).sum(),
}


@pytest.mark.parametrize("told", LOOKS)
def test_looking_at_a_value_in_traced_code_is_refused_at_the_users_line(guarded: None, told: str) -> None:
    message = refusal(LOOKS[told])
    assert message.startswith(told)
    assert "fluid.layers.cond" in message
    assert "not translated" in message
    assert HERE in message


def test_gradients_in_traced_code_are_those_of_programs(guarded: None) -> None:
    def function(self: Function, x: Any) -> Any:
        return fluid.dygraph.grad(self.linear(x), self.linear.weight)[0]

    assert "fluid.gradients" in refusal(function)


BY_ROWS: dict[str, Callable[..., Any]] = {
    "records 16 ops for 4 rows and 32 for 8": lambda self, x: sum(
        (self.linear(x)[i : i + 1] for i in range(x.shape[0])), 0.0
    ),
    "scale has scale 0.25 for 4 and 0.125 for 8": lambda self, x: L.scale(x, 1 / x.shape[0]),
    "records 8 ops for 4 rows and 16 for 8; [] is the first": lambda self, x: sum((row for row in x), 0.0),
    "reshape has shape [4, 2, -1]": lambda self, x: L.reshape(L.transpose(self.linear(x), [1, 0]), [x.shape[0], 2, -1]),
    "expand has expand_times": lambda self, x: L.expand(self.linear.weight[0:1], [x.shape[0], 1]),
    "an array [4, 2] for 4 and [8, 2]": lambda self, x: (
        self.linear(x) + to_variable(np.arange(2 * x.shape[0]).reshape(-1, 2).astype("f4"))
    ),
    "fill_constant has shape [5]": lambda self, x: L.fill_constant([x.shape[0] + 1], "float32", 0.0),
    "has ends [3]": lambda self, x: x[0 : x.shape[0] - 1],
    "records other ops for 4 rows than for 8": lambda self, x: L.relu(x) if x.shape[0] == 4 else L.tanh(x),
    "is possible for 4 rows, but for 8: ": lambda self, x: L.reshape(x, [4, 3]),
}


@pytest.mark.parametrize("told", BY_ROWS)
def test_what_does_not_follow_from_the_rows_is_refused(guarded: None, told: str) -> None:
    message = refusal(BY_ROWS[told])
    assert told in message
    assert "fixed=True" in message
    assert HERE in message


def test_arguments_that_do_not_fit_are_refused(guarded: None) -> None:
    x = to_variable(floats(4, 3))
    with pytest.raises(FluidcError, match="layer is function"):
        TracedLayer.trace(lambda x: x, [x])  # type: ignore[arg-type]
    with pytest.raises(FluidcError, match="different first extents"):
        traced(lambda self, x, y: x, floats(4, 3), floats(5, 3))
    with pytest.raises(FluidcError, match="numbers of inputs from 0 to 0"):
        traced(lambda self, x: x, floats(4, 3), fixed=[1])
    with pytest.raises(FluidcError, match="returned no Variable"):
        traced(lambda self, x: 3, floats(4, 3))
    with pytest.raises(FluidcError, match=r"fc makes a new parameter .* whenever it is called"):
        traced(lambda self, x: L.fc(x, 2), floats(4, 3))
    layer = traced(lambda self, x: self.linear(x), floats(4, 3))
    with pytest.raises(FluidcError, match="the inputs are EagerVariable"):
        layer(x)  # type: ignore[arg-type]
    with pytest.raises(FluidcError, match="2 inputs are given, 1 were traced"):
        layer([x, x])
    assert layer.set_strategy(build_strategy=None) is None


def test_a_trace_outside_dygraph_is_refused() -> None:
    with fluid.dygraph.guard():
        net = Linear(3, 2)
    with pytest.raises(FluidcError, match="outside dygraph"):
        TracedLayer.trace(net, [floats(4, 3)])


def test_two_parameters_of_one_name_are_refused() -> None:
    nets = []
    for _ in range(2):
        with fluid.dygraph.guard(target="reference"):
            nets.append(Linear(3, 3))
    with fluid.dygraph.guard(target="reference"), pytest.raises(FluidcError, match=r"are called linear_0\.w_0"):
        TracedLayer.trace(fluid.dygraph.Sequential(*nets), [to_variable(floats(4, 3))])


def test_examples_of_a_lot_do_not_become_constants(guarded: None) -> None:
    net = Linear(3, 2)
    optimizer = fluid.optimizer.Dpsgd(
        0.1,
        clip=1.0,
        batch_size=4.0,
        sigma=1.0,
        parameter_list=net.parameters(),
        dataset_size=4,
        max_steps=1,
        delta=1e-5,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lot = to_variable(next(iter(fluid.privacy.poisson_batches({"x": floats(4, 3)}, optimizer))))
    message = refusal(lambda self, x: self.linear(x) + L.reduce_sum(lot["x"]))
    assert "would hold its examples as a constant" in message
    assert "as an argument" in message


def test_a_failed_trace_leaves_dygraph_as_it_was(guarded: None) -> None:
    refusal(lambda self, x: x if L.reduce_sum(x) > 0 else -x)
    assert fluid.dygraph.enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal((to_variable(floats(2)) * 2).numpy(), floats(2) * 2)
