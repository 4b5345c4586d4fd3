"""Schedules of dygraph: the rates, states and counting of Paddle 1.8.5, to the last bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from trees import golden

import fluidc.frontend as fluid
from fluidc.frontend.dygraph.learning_rate_scheduler import LearningRateDecay
from fluidc.frontend.errors import ProgramError, UnsupportedError

D, L = fluid.dygraph, fluid.layers
CASES: dict[str, dict[str, Any]] = golden("decays")["cases"]
STEPS, SAVED = 12, 5


def build(spec: dict[str, Any]) -> Any:
    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return build(node["decay"]) if "decay" in node else lambda epoch: node["lambda"] ** epoch

    return getattr(D, spec["class"])(*map(value, spec["args"]), **spec["kwargs"])


class Run:
    """SGD by a schedule on one parameter whose gradient is 1."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.decay = build(spec)
        one = fluid.initializer.Constant(1.0)
        self.w = L.create_parameter([1], "float32", default_initializer=one)
        self.sgd = fluid.optimizer.SGD(self.decay, parameter_list=[self.w])

    def step(self, i: int) -> float:
        """Step i, from 1 on; gives the rate that it used."""
        loss = L.reduce_sum(self.w)
        loss.backward()
        self.sgd.minimize(loss)
        self.sgd.clear_gradients()
        rate = self.sgd.current_step_lr()
        if i in self.spec.get("epoch_after", []):
            self.decay.epoch()
        if "losses" in self.spec:
            self.decay.step(D.to_variable(np.array([self.spec["losses"][i - 1]], np.float32)))
        return rate


def saved(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.numpy() if hasattr(value, "numpy") else value for key, value in state.items()}


def assert_states_equal(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert mine.keys() == theirs.keys()
    assert list(mine["LR_Scheduler"]) == list(theirs["LR_Scheduler"])
    for key, value in theirs["LR_Scheduler"].items():
        own = mine["LR_Scheduler"][key]
        # Paddle's rates are numbers of float32 as soon as a step used them.
        assert own == value if value is None else np.float32(own) == np.float32(value), key
    if "global_step" in theirs:
        assert mine["global_step"].dtype == np.int32
        np.testing.assert_array_equal(mine["global_step"], theirs["global_step"])


@pytest.mark.parametrize("name", CASES)
def test_rates_parameters_and_states_are_paddles(name: str) -> None:
    spec = CASES[name]
    with D.guard(target="reference"):
        run = Run(spec)
        if spec["before"] is not None:
            assert np.float32(run.sgd.current_step_lr()) == np.float32(spec["before"])
        states = [saved(run.sgd.state_dict())]
        for i in range(1, STEPS + 1):
            assert run.step(i) == spec["rates"][i - 1], f"step {i}"
            np.testing.assert_allclose(run.w.numpy()[0], spec["parameter"][i - 1], rtol=1e-6, atol=1e-7)
            if i == SAVED:
                states.append(saved(run.sgd.state_dict()))
        states.append(saved(run.sgd.state_dict()))
        for mine, theirs in zip(states, spec["states"], strict=True):
            assert_states_equal(mine, theirs)


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_goes_on_from_a_state_of_paddle(name: str) -> None:
    spec = CASES[name]
    nested = any(isinstance(value, dict) and "decay" in value for value in spec["args"])
    with D.guard(target="reference"):
        run = Run(spec)
        run.sgd.set_dict(spec["states"][1])
        rates = [run.step(i) for i in range(SAVED + 1, STEPS + 1)]
    # In Paddle a schedule inside a warm-up starts afresh; here it goes on.
    assert rates == (spec["rates"][SAVED:] if nested else spec["resumed"])


@pytest.mark.parametrize("name", golden("decays")["functions"])
def test_functions_of_layers_give_schedules(name: str) -> None:
    arguments = {
        "noam_decay": (16, 4, 0.5),
        "polynomial_decay": (0.1, 5, 0.01, 2.0, True),
        "piecewise_decay": ([3, 6], [0.1, 0.05, 0.01]),
        "cosine_decay": (0.1, 3, 4),
        "linear_lr_warmup": (0.1, 4, 0.0, 0.1),
    }
    expected = golden("decays")["functions"][name]
    make = getattr(L, name)
    with D.guard():
        decay = make(*arguments.get(name, (0.1, 4, 0.5, True)))
        assert type(decay).__name__ == expected["class"]
        rates = [decay() for _ in range(4)]
        assert all(isinstance(rate, fluid.Variable) and rate.shape == (1,) for rate in rates)
        assert [float(rate) for rate in rates] == expected["rates"]
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        assert isinstance(make(*arguments.get(name, (0.1, 4, 0.5, True))), fluid.Variable)


def test_a_schedule_of_ones_own() -> None:
    """As scripts derive it: numbers, or Variables of layers; an optimizer follows either."""

    class Halving(LearningRateDecay):
        def step(self) -> float:
            return 0.5**self.step_num

    class Cubed(LearningRateDecay):
        def step(self) -> Any:
            return self.create_lr_var(0.5) ** float(self.step_num)

    for schedule, rates in ((Halving(begin=1), [0.5, 0.25, 0.125]), (Cubed(step=3), [1.0, 0.125, 0.015625])):
        with D.guard(target="reference"):
            w = L.create_parameter([1], "float32", default_initializer=fluid.initializer.Constant(1.0))
            sgd = fluid.optimizer.SGD(schedule)
            assert sgd.current_step_lr() == rates[0]
            for rate in rates:
                loss = L.reduce_sum(w)
                loss.backward()
                sgd.minimize(loss)
                assert sgd.current_step_lr() == rate
            assert w.numpy()[0] == 1.0 - sum(rates)


def test_steps_of_a_schedule_are_one_function() -> None:
    """Rates are given to the compiled step, not compiled into it."""
    with D.guard():
        w = L.create_parameter([2, 1], "float32")
        x = D.to_variable(np.ones((64, 2), np.float32))
        adam = fluid.optimizer.Adam(L.noam_decay(16, 4))
        recorder = D.base.eager_program().recorder

        def train(steps: int) -> None:
            for _ in range(steps):
                loss = L.reduce_mean(L.square(L.matmul(x, w)))
                loss.backward()
                adam.minimize(loss)
                adam.clear_gradients()

        # The last step of each round is looked at after its loss is gone: a function of its own.
        before = w.numpy()
        for _ in range(3):
            train(4)
            before = w.numpy()
        compiled = recorder.compiled
        train(50)
        assert not np.array_equal(w.numpy(), before)
        assert recorder.compiled == compiled


def test_rates_of_float64() -> None:
    with D.guard():
        decay = D.NoamDecay(16, 4, dtype="float64")
        rate = decay()
        assert rate.numpy().dtype == np.float64
        assert rate.numpy()[0] == pytest.approx(0.25 * 4**-1.5, rel=1e-15)


def test_a_rate_that_is_a_variable() -> None:
    """The rate to begin with may be a Variable of dygraph; a Variable of a Program has no value."""
    with D.guard():
        start = D.to_variable(np.array([0.1], np.float32))
        assert D.ExponentialDecay(start, 2, 0.5).step() == pytest.approx(0.1)
        assert D.ReduceLROnPlateau(start).rate() == pytest.approx(0.1)
        assert fluid.optimizer.SGD(start).current_step_lr() == pytest.approx(0.1)
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        rate = L.fill_constant([1], "float32", 0.1)
        with pytest.raises(
            ProgramError, match=r"ExponentialDecay: learning_rate is fill_constant_\d+.tmp_0 of a Program"
        ):
            D.ExponentialDecay(rate, 2, 0.5).step()


def test_a_schedule_by_epochs_inside_a_warm_up_keeps_its_own_state() -> None:
    with D.guard():
        inside = D.StepDecay(0.1, 2)
        warm = D.LinearLrWarmup(inside, 3, 0.0, 0.1)
        with pytest.warns(UserWarning, match="the state does not hold that of the StepDecay inside"):
            warm.set_dict({"step_num": 7})
        assert warm.step_num == 7
        assert inside.epoch_num == 0


def test_plateau_tells_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with D.guard():
        decay = D.ReduceLROnPlateau(0.5, patience=0, verbose=True)
        for loss in (1.0, 2.0):
            decay.step(D.to_variable(np.array([loss], np.float32)))
    assert "Epoch 2: reducing learning rate from 0.5 to 0.05" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "error", "what"),
    [
        (lambda: D.NoamDecay(0, 4), ValueError, "NoamDecay: d_model is 0"),
        (lambda: D.NoamDecay(16, 4, begin=0).step(), ValueError, "NoamDecay: step_num is 0"),
        (lambda: D.NoamDecay(16, 4, dtype="int32"), ValueError, "NoamDecay: dtype is int32"),
        (lambda: D.ExponentialDecay(0.1, 0, 0.5), ValueError, "ExponentialDecay: decay_steps is 0"),
        (lambda: D.PolynomialDecay(0.1, -1), ValueError, "PolynomialDecay: decay_steps is -1"),
        (lambda: D.CosineDecay(0.1, 0, 3), ValueError, "CosineDecay: step_each_epoch is 0"),
        (lambda: D.CosineDecay(0.1, "3", 3), TypeError, "CosineDecay: step_each_epoch is str"),
        (lambda: D.PiecewiseDecay([1], [0.1], 0), ValueError, "PiecewiseDecay: 1 boundaries and 1 values"),
        (lambda: D.LinearLrWarmup(0.1, 3, 0.1, 0.1), ValueError, "LinearLrWarmup: end_lr 0.1 is not above start_lr"),
        (lambda: D.LinearLrWarmup("fast", 3, 0.0, 0.1), TypeError, "LinearLrWarmup: learning_rate is str"),
        (lambda: D.StepDecay(0.1, 2.5), TypeError, "StepDecay: step_size is float"),
        (lambda: D.StepDecay(0.1, 0), ValueError, "StepDecay: step_size is 0"),
        (lambda: D.StepDecay(-0.1, 2), ValueError, "StepDecay: learning_rate is -0.1"),
        (lambda: D.StepDecay(0.1, 2, 1.0), ValueError, "StepDecay: decay_rate is 1.0"),
        (lambda: D.MultiStepDecay(0.1, 3), TypeError, "MultiStepDecay: milestones is int"),
        (lambda: D.MultiStepDecay(0.1, [3, 3]), ValueError, r"MultiStepDecay: the milestones \[3, 3\] do not rise"),
        (lambda: D.LambdaDecay(0.1, 0.5), TypeError, "LambdaDecay: lr_lambda is float"),
        (lambda: D.LambdaDecay(0.1, lambda epoch: None), TypeError, "LambdaDecay: what lr_lambda returned is NoneType"),
        (lambda: D.ReduceLROnPlateau(0.1, mode="least"), ValueError, "ReduceLROnPlateau: mode is 'least'"),
        (lambda: D.ReduceLROnPlateau(0.1, decay_rate=2), ValueError, "ReduceLROnPlateau: decay_rate is 2"),
        (lambda: D.ReduceLROnPlateau(0.1).step(0.5), TypeError, "ReduceLROnPlateau.step: loss is float"),
        (lambda: D.NoamDecay(16, 4)(), ValueError, "NoamDecay is called outside dygraph"),
        (lambda: LearningRateDecay().step(), NotImplementedError, "LearningRateDecay does not say its rate"),
        (
            lambda: D.NoamDecay(16, 4).set_dict({}),
            ValueError,
            "NoamDecay.set_dict: the state has no step_num, but nothing",
        ),
        (lambda: D.NoamDecay(16, 4).set_dict([1]), TypeError, "NoamDecay.set_dict: the state is list"),
        (lambda: D.NoamDecay(16, 4).set_dict({"step_num": 1.5}), ValueError, "step_num of the state is 1.5"),
        (lambda: D.NoamDecay(16, 4).set_dict({"step_num": None}), TypeError, "step_num of the state is NoneType"),
        (
            lambda: D.StepDecay(0.1, 2).set_dict({"epoch_num": 1, "learning_rate": "0.1"}),
            TypeError,
            "StepDecay: learning_rate of the state is str",
        ),
        (
            lambda: L.linear_lr_warmup(D.NoamDecay(16, 4), 3, 0.0, 0.1),
            ValueError,
            "linear_lr_warmup: NoamDecay is a learning rate of dygraph",
        ),
    ],
)
def test_what_is_refused(make: Callable[[], object], error: type[Exception], what: str) -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()), pytest.raises(error, match=what):
        make()


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    decay = D.ReduceLROnPlateau(0.1)
    before = decay.state_dict()
    with pytest.raises(TypeError):
        decay.set_dict({**before, "num_bad_epochs": 3, "learning_rate": []})
    assert decay.state_dict() == before


def test_values_of_another_schedule_are_told() -> None:
    decay = D.NoamDecay(16, 4)
    with pytest.warns(UserWarning, match="NoamDecay.set_dict: the state also holds epoch_num, which is not used"):
        decay.set_dict({"step_num": 3, "epoch_num": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decay.set_dict({"step_num": 3})


@pytest.mark.parametrize("make", [lambda: D.NoamDecay(16, 4), lambda: D.StepDecay(0.1, 2)])
def test_in_a_program_there_are_functions_instead(make: Callable[[], Any]) -> None:
    decay = make()
    with pytest.raises(UnsupportedError, match=f"{type(decay).__name__} is a learning rate of dygraph") as caught:
        fluid.optimizer.Adam(decay)
    assert "use fluid.layers" in (caught.value.hint or "")
    with D.guard():
        adam = fluid.optimizer.Adam(decay)
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        pytest.raises(UnsupportedError, match="this is a Program"),
    ):
        adam.minimize(L.mean(L.fc(fluid.data("x", [2, 3], "float32"), 1)))
