"""Eager mode where one value has several versions, a guard stands in another, or a run failed."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.dygraph.base import eager_program
from fluidc.frontend.errors import ProgramError
from fluidc.runtime.errors import DataError

D: Any = fluid.dygraph
L: Any = fluid.layers
ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


def ones(*shape: int) -> Any:
    return D.to_variable(np.ones(shape, np.float32))


def state(*shape: int, value: float = 0.0) -> Any:
    return L.create_global_var(list(shape), value, "float32", persistable=True)


def test_a_gradient_after_a_look_uses_the_state_that_its_op_read() -> None:
    """One run writes the state twice; what was read between is in no memory after it."""
    with D.guard(target="reference"):
        step, x = state(1, value=1.0), ones(2)
        x.stop_gradient = False
        L.increment(step)
        y = L.reduce_sum(x * step)
        L.increment(step)
        assert y.numpy() == 4.0
        y.backward()
        np.testing.assert_array_equal(x.gradient(), [2.0, 2.0])
        assert step.numpy() == 3.0


def test_a_gradient_after_state_was_written_again_in_a_later_run() -> None:
    with D.guard(target="reference"):
        step, x = state(1, value=1.0), ones(2)
        x.stop_gradient = False
        L.increment(step)
        y = L.reduce_sum(x * step)
        assert y.numpy() == 4.0
        L.increment(step)
        assert step.numpy() == 3.0
        step.set_value(np.array([9.0], np.float32))
        y.backward()
        np.testing.assert_array_equal(x.gradient(), [2.0, 2.0])


def test_a_guard_inside_another_leaves_it_alone() -> None:
    """Its layers and accumulators have the same names and are others."""

    def step(model: Any, optimizer: Any) -> None:
        loss = L.mean(model(ones(2, 3)))
        loss.backward()
        optimizer.minimize(loss)
        model.clear_gradients()

    with D.guard(target="reference"):
        outer = D.Linear(3, 1)
        slow = fluid.optimizer.Momentum(0.1, 0.9, parameter_list=outer.parameters())
        with D.guard(target="onnx"):
            inner = D.Linear(3, 1)
            fast = fluid.optimizer.Momentum(0.1, 0.9, parameter_list=inner.parameters())
            for _ in range(3):
                step(inner, fast)
        assert eager_program().recorder.target == "reference"
        assert eager_program().global_block().var("linear_0.w_0") is outer.weight
        step(outer, slow)
        for name, velocity in slow.state_dict().items():
            np.testing.assert_allclose(velocity.numpy(), 1.0, rtol=1e-6)
            assert velocity is not fast.state_dict()[name]


def test_a_guard_between_backward_and_minimize() -> None:
    with D.guard(target="reference"):
        model, optimizer = D.Linear(3, 1), fluid.optimizer.SGD(0.5)
        before = model.bias.numpy()
        loss = L.mean(model(ones(2, 3)))
        loss.backward()
        with D.guard(target="reference"):
            ones(1).numpy()
        optimizer.minimize(loss)
        np.testing.assert_array_equal(model.bias.numpy(), before - 0.5)


def test_what_a_failed_run_should_have_computed_has_no_value() -> None:
    with D.guard(target="reference"):
        table = D.Embedding([5, 3])
        y = table(D.to_variable(np.array([[7]]))) * 2.0
        with pytest.raises(DataError, match="holds 7"):
            y.numpy()
        with pytest.raises(ProgramError, match="has no value"):
            print(y + 1.0)
        with pytest.raises(ProgramError, match="has no value"):
            y.numpy()
        assert table(D.to_variable(np.array([[1]]))).numpy().shape == (1, 1, 3)


def test_losses_that_are_kept_keep_no_batches() -> None:
    """Also where they were looked at before backward()."""
    with D.guard(target="reference"):
        model = D.Linear(4, 1)
        optimizer = fluid.optimizer.SGD(0.1, parameter_list=model.parameters())
        losses, batches = [], []
        x = None
        for _ in range(3):
            x = D.to_variable(ROWS)
            batches.append(weakref.ref(x.node))
            losses.append(L.mean(model(x)))
            losses[-1].numpy()
            losses[-1].backward()
            optimizer.minimize(losses[-1])
            model.clear_gradients()
        del x
        model.weight.numpy()
        gc.collect()
        assert [ref() for ref in batches] == [None, None, None]


def private(parameters: list[Any]) -> Any:
    return fluid.optimizer.Dpsgd(0.5, 1.0, 16.0, 1.0, parameters)


def test_a_private_step_reads_no_state_that_data_came_into_by_other_state() -> None:
    with D.guard(target="reference"):
        model = D.Linear(4, 1)
        private(model.parameters())
        first, second = state(4), state(4)
        L.assign(L.reduce_mean(D.to_variable(ROWS), dim=0), first)
        first.numpy()
        L.assign(first * 2.0, second)
        second.numpy()
        with pytest.raises(PrivacyError, match=r"reads .* which assign at .* wrote data into"):
            L.mean(model(D.to_variable(ROWS) * second)).backward()


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_numbers_that_change_at_one_line_keep_the_element_type(kind: str) -> None:
    with D.guard(target="reference"):
        x = D.to_variable(np.array([3, 5], kind))
        for number in (0.1, 0.25, 0.7, 2.5):
            scaled, filled = L.scale(x, scale=number), L.fill_constant([2], kind, number)
            np.testing.assert_array_equal(scaled.numpy(), x.numpy() * np.asarray(number, kind))
            np.testing.assert_array_equal(filled.numpy(), np.full(2, number, kind))
