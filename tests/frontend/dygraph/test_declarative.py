"""`declarative`, `ProgramTranslator` and `dygraph_to_static_func`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.dygraph import FC, Layer, Linear, ProgramTranslator, declarative, to_static, to_variable
from fluidc.frontend.dygraph.jit import dygraph_to_static_func
from fluidc.runtime.errors import FluidcError

L = fluid.layers


@pytest.fixture(autouse=True)
def translator() -> Iterator[ProgramTranslator]:
    with fluid.scope_guard(fluid.Scope()), fluid.unique_name.guard():
        ProgramTranslator.reset()
        yield ProgramTranslator()
        ProgramTranslator.reset()


@pytest.fixture
def guarded() -> Iterator[None]:
    with fluid.dygraph.guard(target="reference"):
        yield


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Net(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(3, 2)

    @declarative
    def forward(self, x: Any, scale: float = 1.0) -> Any:
        y = self.linear(to_variable(x)) * scale
        return y, L.mean(y)


@declarative
def shifted(x: Any) -> Any:
    """Above zero one more, else one less."""
    x = to_variable(x)
    return x + 1 if L.mean(x) > 0 else x - 1


def run(program: fluid.Program, fetches: Any, **feed: np.ndarray) -> list[np.ndarray]:
    return fluid.Executor(target="reference").run(program, feed=feed, fetch_list=fetches)


def test_a_decorated_function_computes_and_is_differentiated_as_the_bare_one(guarded: None) -> None:
    net, x = Net(), floats(4, 3)
    y, loss = net(to_variable(x), scale=2.0)
    np.testing.assert_allclose(y.numpy(), 2 * (x @ net.linear.weight.numpy()), rtol=1e-6)
    loss.backward()
    np.testing.assert_allclose(net.linear.weight.gradient(), np.tile(x.mean(0)[:, None], 2), rtol=1e-5)
    assert net.forward.__name__ == "forward"
    assert shifted.__doc__ == "Above zero one more, else one less."


def test_arrays_become_variables(guarded: None) -> None:
    doubled = to_static(lambda x: L.scale(x, 2.0))
    np.testing.assert_array_equal(doubled(np.ones((1, 2), np.float32)).numpy(), [[2, 2]])
    np.testing.assert_array_equal(shifted(np.ones((1, 2), np.float32)).numpy(), [[2, 2]])
    np.testing.assert_array_equal(shifted(-np.ones((1, 2), np.float32)).numpy(), [[-2, -2]])


def test_outside_dygraph_arrays_are_computed_with() -> None:
    result = shifted(np.ones((1, 2), np.float32))
    assert not fluid.dygraph.enabled()
    np.testing.assert_array_equal(result.numpy(), [[2, 2]])


def test_outside_dygraph_variables_are_appended_to_their_program() -> None:
    with fluid.dygraph.guard(target="reference"):
        net = Net()
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup):
        x = fluid.data("x", [None, 3])
        _, loss = net(x)
        fluid.optimizer.SGD(0.5).minimize(loss)
        assert [p.name for p in main.all_parameters()] == ["linear_0.w_0", "linear_0.b_0"]
        bias = net.linear.bias
        assert bias is not None
        before = bias.numpy()
        exe = fluid.Executor(target="reference")
        exe.run(startup)
        exe.run(main, feed={"x": floats(4, 3)})
    np.testing.assert_allclose(bias.numpy(), before - 0.25, rtol=1e-6)


def test_a_function_builds_a_program() -> None:
    @dygraph_to_static_func
    def build(x: Any) -> Any:
        return L.fc(to_variable(x), 3)

    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup):
        out = build(fluid.data("x", [None, 2]))
        fluid.Executor(target="reference").run(startup)
        assert run(main, [out], x=floats(5, 2))[0].shape == (5, 3)
    with fluid.dygraph.guard(target="reference"):
        assert build(floats(4, 2)).numpy().shape == (4, 3)


def test_a_function_is_had_as_a_program(guarded: None, translator: ProgramTranslator) -> None:
    net, x = Net(), floats(4, 3)
    main, startup, inputs, outputs = translator.get_program(net.forward, x, 3.0)
    assert (len(inputs), len(outputs)) == (1, 2)
    assert inputs[0].shape == (-1, 3)
    assert not startup.global_block().ops
    y, loss = run(main, outputs, feed_0=x)
    expected, mean = net(to_variable(x), 3.0)
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(loss, mean.numpy(), rtol=1e-6)
    by_object = translator.get_program(net, to_variable(x))
    assert len(by_object[3]) == 2


def test_parameters_that_a_function_creates_are_initialised_by_its_startup(translator: ProgramTranslator) -> None:
    def build(x: Any) -> Any:
        return L.fc(x, 3)

    main, startup, _, outputs = translator.get_program(build, floats(4, 2))
    assert [p.name for p in main.all_parameters()] == ["fc_0.w_0", "fc_0.b_0"]
    fluid.Executor(target="reference").run(startup)
    assert run(main, outputs, feed_0=floats(6, 2))[0].shape == (6, 3)


def test_programs_are_kept_by_function_object_mode_and_types(guarded: None, translator: ProgramTranslator) -> None:
    one, other = Net(), Net()
    programs = [translator.get_program(one.forward, floats(rows, 3))[0] for rows in (4, 7)]
    assert programs[0] is programs[1]
    assert translator.get_program(other.forward, floats(4, 3))[0] is not programs[0]
    assert translator.get_program(one.forward, floats(4, 3), 2.0)[0] is not programs[0]
    one.eval()
    assert translator.get_program(one.forward, floats(4, 3))[0] is not programs[0]
    assert len(translator.get_program_cache()) == 4
    ProgramTranslator.reset()
    assert len(translator.get_program_cache()) == 0


def test_a_fixed_batch_is_stated_at_the_decorator(translator: ProgramTranslator) -> None:
    @declarative(fixed=True)
    def summed(x: Any) -> Any:
        return sum((x[i] for i in range(1, x.shape[0])), x[0])

    main, _, (x,), (total,) = translator.get_program(summed, floats(4, 3))
    assert x.shape == (4, 3)
    np.testing.assert_allclose(run(main, [total], feed_0=floats(4, 3))[0], floats(4, 3).sum(0), rtol=1e-5)
    assert translator.get_program(summed, floats(5, 3))[2][0].shape == (5, 3)


def test_layers_that_are_sized_by_their_input_keep_parameters_of_dygraph(
    guarded: None, translator: ProgramTranslator
) -> None:
    net, x = FC("fc", 2), floats(4, 3)
    main, startup, _, outputs = translator.get_program(net, x)
    assert not startup.global_block().ops
    assert isinstance(net.weight.numpy(), np.ndarray)
    np.testing.assert_allclose(run(main, outputs, feed_0=x)[0], net(to_variable(x)).numpy(), rtol=1e-6)


def test_control_flow_by_a_value_has_no_program(translator: ProgramTranslator) -> None:
    with pytest.raises(FluidcError) as caught:
        translator.get_program(shifted, floats(4, 3))
    message = str(caught.value)
    assert "the value of" in message
    assert Path(__file__).name in message
    assert "functions under @declarative and Layers that are traced are not translated" in message
    assert "fluid.layers.cond" in message

    @declarative
    def by_layers(x: Any) -> Any:
        return L.cond(L.mean(x) > 0, lambda: x + 1, lambda: x - 1)

    main, _, _, outputs = translator.get_program(by_layers, floats(4, 3))
    np.testing.assert_array_equal(run(main, outputs, feed_0=np.ones((1, 3), np.float32))[0], [[2, 2, 2]])
    np.testing.assert_array_equal(run(main, outputs, feed_0=-np.ones((1, 3), np.float32))[0], [[-2, -2, -2]])


def test_what_was_called_last_is_saved(guarded: None, translator: ProgramTranslator, tmp_path: Path) -> None:
    with pytest.raises(FluidcError, match="no program was traced yet"):
        translator.save_inference_model(tmp_path)
    net, x = Net(), floats(4, 3)
    loss = net(to_variable(x))[1]
    loss.backward()
    fluid.optimizer.SGD(0.1, parameter_list=net.parameters()).minimize(loss)
    translator.save_inference_model(tmp_path, fetch=[0])
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(target="reference")
        program, feeds, targets = fluid.io.load_inference_model(str(tmp_path), exe)
        (found,) = exe.run(program, feed={feeds[0]: x}, fetch_list=targets)
    np.testing.assert_allclose(found, net(to_variable(x))[0].numpy(), rtol=1e-6)
    assert translator.get_program_cache().last().feeds[0].name == "feed_0"


def test_disabled_it_calls_the_function(guarded: None, translator: ProgramTranslator) -> None:
    translator.enable(False)
    x = to_variable(np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(shifted(x).numpy(), [[2, 2]])
    np.testing.assert_array_equal(translator.get_program(shifted, x).numpy(), [[2, 2]])
    assert translator.get_func(len) is len
    with pytest.raises(FluidcError, match="enable_declarative is 1"):
        translator.enable(1)  # type: ignore[arg-type]


def test_there_is_one_translator_with_the_source_of_functions(translator: ProgramTranslator) -> None:
    assert ProgramTranslator() is ProgramTranslator.get_instance() is translator
    code = translator.get_code(shifted)
    assert code.startswith("# fluidc traces this function as it is")
    assert "return x + 1 if L.mean(x) > 0 else x - 1" in code
    assert callable(translator.get_func(shifted))
    with pytest.raises(FluidcError, match="int cannot be called"):
        translator.get_output(3)  # type: ignore[arg-type]
    with pytest.raises(FluidcError, match="int cannot be called"):
        declarative(3)  # type: ignore[call-overload]


def test_a_traced_layer_may_have_a_decorated_forward(guarded: None) -> None:
    net, x = Net(), floats(4, 3)
    (y, _), layer = fluid.dygraph.TracedLayer.trace(net, [to_variable(x)])
    np.testing.assert_allclose(layer([x])[0], y.numpy(), rtol=1e-6)
