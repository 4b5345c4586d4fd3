"""Executor: what one compiled step may be used for, and what a run leaves in the scope."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.driver import Compiled, Source
from fluidc.frontend import compiled_code
from fluidc.runtime.cuda import cudart, libraries
from fluidc.runtime.errors import EngineError

pytestmark = pytest.mark.usefixtures("_fresh_names")


@pytest.fixture
def _fresh_names() -> object:
    with fluid.unique_name.guard():
        yield


TARGET = "reference"


@pytest.fixture(autouse=True, params=["reference", "onnx"])
def _target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TARGET", request.param)


def executor() -> fluid.Executor:
    return fluid.Executor(target=TARGET)


def add(constant: list[float]) -> tuple[fluid.Program, fluid.Variable]:
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()), fluid.unique_name.guard():
        x = fluid.data("x", [-1, 2])
        return main, x + fluid.layers.assign(np.array(constant, "f4"))


def test_constants_belong_to_their_program() -> None:
    exe, scope = executor(), fluid.Scope()
    for constant in ([5.0, 7.0], [1.0, 2.0]):  # under the same generated name
        main, y = add(constant)
        for _ in range(2):
            (found,) = exe.run(main, feed={"x": np.zeros((1, 2), "f4")}, fetch_list=[y], scope=scope)
            np.testing.assert_array_equal(found, [constant])
    assert scope.local_var_names() == [], "constants are nothing that a scope has to keep"


def test_a_variable_may_be_fetched_twice() -> None:
    main, y = add([1.0, 2.0])
    first, second = executor().run(
        main, feed={"x": np.zeros((1, 2), "f4")}, fetch_list=[y, y.name], scope=fluid.Scope()
    )
    np.testing.assert_array_equal(first, second)


def given_weights() -> tuple[fluid.Program, fluid.Program, fluid.Variable, np.ndarray]:
    main, startup = fluid.Program(), fluid.Program()
    weights = np.arange(6, dtype="f4").reshape(3, 2)
    with fluid.program_guard(main, startup):
        x = fluid.layers.data("x", [3])
        given = fluid.initializer.NumpyArrayInitializer(weights)
        loss = fluid.layers.mean(fluid.layers.fc(x, 2, param_attr=fluid.ParamAttr("w", initializer=given)))
        fluid.optimizer.SGD(0.1).minimize(loss)
    return main, startup, loss, weights


@pytest.mark.parametrize("again", ["same executor", "new executor"])
def test_startup_run_again_resets_given_arrays(again: str) -> None:
    main, startup, loss, weights = given_weights()
    exe, scope = executor(), fluid.Scope()
    exe.run(startup, scope=scope)
    w = scope.var("w").get_tensor()
    np.testing.assert_array_equal(np.array(w), weights)
    exe.run(main, feed={"x": np.ones((4, 3), "f4")}, fetch_list=[loss], scope=scope)
    assert (np.array(w) != weights).any()
    (exe if again == "same executor" else executor()).run(startup, scope=scope)
    np.testing.assert_array_equal(np.array(w), weights)


def test_a_startup_that_fails_leaves_given_arrays_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    main, startup, loss, _ = given_weights()
    exe, scope = executor(), fluid.Scope()
    exe.run(startup, scope=scope)
    exe.run(main, feed={"x": np.ones((4, 3), "f4")}, fetch_list=[loss], scope=scope)
    trained = np.array(scope.var("w").get_tensor())

    def fault(*_: object) -> None:
        raise RuntimeError("fault")

    monkeypatch.setattr(ReferenceEngine, "call", fault)
    with pytest.raises(RuntimeError, match="fault"):
        exe.run(startup, scope=scope)
    np.testing.assert_array_equal(np.array(scope.var("w").get_tensor()), trained)


def test_no_two_steps_share_a_dropout_mask() -> None:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup):
        x = fluid.layers.data("x", [64])
        kept = fluid.layers.dropout(x, 0.5)
        loss = fluid.layers.mean(fluid.layers.fc(kept, 1))
        fluid.optimizer.SGD(0.1).minimize(loss)
    main.random_seed = 3  # set before the layer is built it would fix one mask for all steps, as in Paddle
    exe, scope = executor(), fluid.Scope()
    exe.run(startup, scope=scope)
    masks: list[bytes] = []
    for rows, fetched in ((1, [kept]), (1, [kept, loss]), (2, [kept]), (1, [kept]), (1, [kept, loss])):
        found = exe.run(main, feed={"x": np.ones((rows, 64), "f4")}, fetch_list=fetched, scope=scope)
        masks.append((found[0][0] != 0).tobytes())
    assert len(set(masks)) == len(masks)


def test_each_open_size_gets_its_own_step() -> None:
    main, exe = fluid.Program(), executor()
    with fluid.program_guard(main, fluid.Program()):
        x = fluid.data("x", [-1, -1])
        y = fluid.layers.scale(x, 2.0)
    for shape in ((2, 3), (2, 4), (2, 3)):
        fed = np.arange(np.prod(shape), dtype="f4").reshape(shape)
        (found,) = exe.run(main, feed={"x": fed}, fetch_list=[y], scope=fluid.Scope())
        np.testing.assert_array_equal(found, 2 * fed)


def test_a_name_can_be_assigned_several_arrays() -> None:
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()), fluid.unique_name.guard():
        x = fluid.layers.data("x", [2])
        held = fluid.layers.create_tensor("float32")
        fluid.layers.assign(np.array([1, 2], "float32"), output=held)
        first = x + held
        fluid.layers.assign(np.array([3, 4], "float32"), output=held)
        second = x + held
    exe = fluid.Executor(fluid.CPUPlace(), target="reference")
    with fluid.scope_guard(fluid.Scope()):
        found = exe.run(main, feed={"x": np.zeros((1, 2), "float32")}, fetch_list=[first, second])
    np.testing.assert_array_equal(found, [[[1, 2]], [[3, 4]]])


def test_two_hundred_batch_sizes_are_three_compilations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two sizes get code of their own, one build serves the rest; the sums show that it does."""
    compiled: list[int] = []
    original = compiled_code.compile_source

    def counted(source: Source, *, batch: int = 0, **rest: Any) -> Compiled:
        compiled.append(batch)
        return original(source, batch=batch, **rest)

    monkeypatch.setattr(compiled_code, "compile_source", counted)
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()):
        total = fluid.layers.reduce_sum(fluid.data("x", [-1, 3]))
    exe = fluid.Executor()
    for rows in range(1, 201):
        (found,) = exe.run(main, feed={"x": np.ones((rows, 3), "f4")}, fetch_list=[total])
        assert found == 3 * rows
    assert compiled == [1, 2, 0]


def test_a_value_is_fetched_twice() -> None:
    main, y = add([1.0, 2.0])
    found = executor().run(main, feed={"x": np.ones((1, 2), "f4")}, fetch_list=[y, "x", y])
    np.testing.assert_array_equal(found, [[[2, 3]], [[1, 1]], [[2, 3]]])


def test_integers_are_divided_as_paddle_divides_them() -> None:
    """Towards zero, whatever the layer is called; the remainder has the sign of what is divided."""
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()):
        x, y = fluid.data("x", [None], "int64"), fluid.data("y", [None], "int64")
        results = [x // y, x % y, fluid.layers.elementwise_div(x, y)]
    feed = {"x": np.array([-7, 7, -3, 5, -8]), "y": np.array([3, -3, 2, 5, 2])}
    whole, rest, quotient = executor().run(main, feed=feed, fetch_list=results)
    np.testing.assert_array_equal(whole, [-2, -2, -1, 1, -4])
    np.testing.assert_array_equal(rest, [-1, 1, -1, 0, 0])
    np.testing.assert_array_equal(quotient, whole)


def test_without_a_driver_the_place_is_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "load", lambda _: None)
    cudart.runtime.cache_clear()
    built = SimpleNamespace(spec=SimpleNamespace(kind="cuda"), members=lambda: {"module.so": b""})
    with pytest.raises(EngineError) as caught:
        compiled_code.engine_at(fluid.CUDAPlace(0), cast("Any", SimpleNamespace(built=built)))
    assert str(caught.value) == (
        "this machine has no NVIDIA driver: libcuda.so.1 is not found\n  at CUDAPlace(0)\n"
        "  use fluid.CPUPlace(); fluid.is_compiled_with_cuda() tells whether a GPU can be used"
    )
