"""Optimizers in dygraph: what they update, what they keep, and going on from what they kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paddle_models import TRAINED, optimizer_of
from trees import golden

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.errors import ArgumentTypeError, ProgramError

D, L = fluid.dygraph, fluid.layers
Optimizer = fluid.optimizer.Optimizer
Make = Callable[..., Optimizer]
X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(4, 3)
Y = np.array([[0.2], [-0.4], [1.0], [0.1]], np.float32)


def adam(**options: Any) -> Optimizer:
    return fluid.optimizer.Adam(0.1, **options)


def noam(**options: Any) -> Optimizer:
    return fluid.optimizer.Adam(L.noam_decay(16, 4), **options)


class Model:
    """Two layers, made of parameters alone."""

    def __init__(self, prefix: str = "", hidden: int = 5, **attr: Any) -> None:
        values = np.random.RandomState(0)
        self.w, self.v = (
            L.create_parameter(
                shape,
                "float32",
                attr=fluid.ParamAttr(
                    name=f"{prefix}{name}",
                    initializer=fluid.initializer.NumpyArrayInitializer(values.randn(*shape).astype(np.float32) * 0.5),
                    **attr,
                ),
            )
            for name, shape in (("w", [3, hidden]), ("v", [hidden, 1]))
        )

    @property
    def parameters(self) -> list[Any]:
        return [self.w, self.v]

    def loss(self) -> Any:
        h = L.tanh(L.matmul(D.to_variable(X), self.w))
        return L.mean(L.square(L.matmul(h, self.v) - D.to_variable(Y)))

    def step(self, optimizer: Optimizer, **options: Any) -> list[Any]:
        loss = self.loss()
        loss.backward()
        _, pairs = optimizer.minimize(loss, **options)
        optimizer.clear_gradients()
        return pairs

    def values(self) -> list[np.ndarray]:
        return [p.numpy() for p in self.parameters]


def arrays(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.numpy() if hasattr(value, "numpy") else value for key, value in state.items()}


def assert_equal(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


RULES: dict[str, Make] = {
    "sgd": lambda **k: fluid.optimizer.SGD(0.1, **k),
    "momentum": lambda **k: fluid.optimizer.Momentum(0.1, 0.9, **k),
    "adagrad": lambda **k: fluid.optimizer.Adagrad(0.1, initial_accumulator_value=0.1, **k),
    "adam": adam,
    "adam_noam": noam,
    "adam_named": lambda **k: fluid.optimizer.Adam(0.1, name="mine", **k),
    "decayed_adagrad": lambda **k: fluid.optimizer.DecayedAdagrad(0.1, **k),
    "adadelta": lambda **k: fluid.optimizer.Adadelta(0.1, **k),
    "adamax": lambda **k: fluid.optimizer.Adamax(0.1, **k),
    "rmsprop": lambda **k: fluid.optimizer.RMSProp(0.1, momentum=0.5, centered=True, **k),
    "ftrl": lambda **k: fluid.optimizer.Ftrl(0.1, l1=0.01, **k),
    "lamb": lambda **k: fluid.optimizer.Lamb(0.1, **k),
    "lars": lambda **k: fluid.optimizer.LarsMomentum(0.1, 0.9, **k),
}


def trained_by(program: bool, make: Make, steps: int, **attr: Any) -> list[np.ndarray]:
    """The parameters after some steps, of a Program or in dygraph."""
    if not program:
        with D.guard(target="reference"):
            model = Model(**attr)
            optimizer = make()
            for _ in range(steps):
                model.step(optimizer)
            return model.values()
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.scope_guard(scope), fluid.program_guard(main, startup), fluid.unique_name.guard():
        model = Model(**attr)
        x, y = fluid.data("x", [4, 3], "float32"), fluid.data("y", [4, 1], "float32")
        loss = L.mean(L.square(L.matmul(L.tanh(L.matmul(x, model.w)), model.v) - y))
        make().minimize(loss)
        exe = fluid.Executor(fluid.CPUPlace(), target="reference")
        exe.run(startup)
        for _ in range(steps):
            exe.run(main, feed={"x": X, "y": Y})
        return [np.array(scope.find_var(p.name).get_tensor()) for p in model.parameters]  # type: ignore[union-attr]


@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_that_of_a_program(rule: str) -> None:
    for mine, theirs in zip(trained_by(False, RULES[rule], 5), trained_by(True, RULES[rule], 5), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        lambda: {"grad_clip": fluid.clip.GradientClipByGlobalNorm(0.05)},
        lambda: {"grad_clip": fluid.clip.GradientClipByNorm(0.05)},
        lambda: {"grad_clip": fluid.clip.GradientClipByValue(0.01)},
        lambda: {"regularization": fluid.regularizer.L2Decay(0.1)},
        lambda: {
            "regularization": fluid.regularizer.L1Decay(0.1),
            "grad_clip": fluid.clip.GradientClipByGlobalNorm(0.05),
        },
    ],
)
def test_clip_and_decay_are_those_of_a_program(options: Callable[[], dict[str, Any]]) -> None:
    def make() -> Optimizer:
        return fluid.optimizer.SGD(0.1, **options())

    attr = {"learning_rate": 0.5, "regularizer": None}
    plain = trained_by(False, lambda: fluid.optimizer.SGD(0.1), 3, **attr)
    mine, theirs = trained_by(False, make, 3, **attr), trained_by(True, make, 3, **attr)
    for one, other, unlike in zip(mine, theirs, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
        assert np.abs(one - unlike).max() > 1e-4


def test_options_of_parameters() -> None:
    attr = {"learning_rate": 0.25, "regularizer": fluid.regularizer.L2Decay(0.5)}
    theirs = trained_by(True, lambda: fluid.optimizer.SGD(0.1), 3, **attr)
    for one, other in zip(trained_by(False, lambda: fluid.optimizer.SGD(0.1), 3, **attr), theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("clip", [None, fluid.clip.GradientClipByValue(1e-3)])
def test_what_minimize_returns_and_leaves(clip: Any) -> None:
    """Pairs in the list's order, with the gradients before clip and decay, which stay what they are."""
    with D.guard(target="reference"):
        model = Model()
        decay = fluid.regularizer.L2Decay(10.0)
        sgd: Any = fluid.optimizer.SGD(0.1, parameter_list=[model.v, model.w], regularization=decay)
        loss = model.loss()
        loss.backward()
        before = [model.v.gradient(), model.w.gradient()]
        ops, pairs = sgd.minimize(loss, grad_clip=clip)
        assert ops == []
        assert [p.name for p, _ in pairs] == ["v", "w"]
        assert_equal([g.numpy() for _, g in pairs], before)
        assert_equal([model.v.gradient(), model.w.gradient()], before)


def test_without_backward_nothing_changes() -> None:
    with D.guard(target="reference"):
        model, optimizer = Model(), noam()
        before = model.values()
        with pytest.warns(UserWarning, match=r"no parameter has a gradient.*call loss.backward\(\) first") as told:
            assert optimizer.minimize(model.loss()) == ([], [])
        assert told[0].filename == __file__
        assert_equal(model.values(), before)
        assert list(optimizer.state_dict()) == ["LR_Scheduler", "global_step"]
        # As in Paddle the schedule counts the call.
        assert optimizer.state_dict()["LR_Scheduler"] == {"step_num": 2}
        model.step(optimizer)
        after = model.values()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it was said
            assert optimizer.minimize(model.loss()) == ([], []), "the gradients were cleared"
        assert_equal(model.values(), after)


def test_cleared_gradients_are_zeros_for_a_list() -> None:
    """As in Paddle: with `parameter_list` momentum goes on without a new backward."""
    with D.guard(target="reference"):
        model = Model()
        optimizer: Any = fluid.optimizer.Momentum(0.1, 0.9, parameter_list=model.parameters)
        with pytest.warns(UserWarning, match="no parameter has a gradient"):
            assert optimizer.minimize(model.loss()) == ([], [])
        model.step(optimizer)
        before, velocity = model.w.numpy(), arrays(optimizer.state_dict())["w_velocity_0"]
        _, pairs = optimizer.minimize(model.loss())
        assert [float(np.abs(g.numpy()).max()) for _, g in pairs] == [0.0, 0.0]
        np.testing.assert_allclose(model.w.numpy(), before - 0.09 * velocity, rtol=1e-6)


def test_without_a_list_all_that_have_a_gradient_are_updated() -> None:
    with D.guard(target="reference"):
        used, unused = Model("a."), Model("b.")
        frozen = Model("c.", trainable=False)
        before = [unused.values(), frozen.values()]
        pairs = used.step(adam())
        assert [p.name for p, _ in pairs] == ["a.v", "a.w"]
        for model, values in zip((unused, frozen), before, strict=True):
            assert_equal(model.values(), values)


def test_gradients_of_an_earlier_guard_are_another_training() -> None:
    with D.guard(target="reference"):
        old = Model()
        old.loss().backward()
        before = old.values()
    with D.guard(target="reference"):
        model = Model()
        assert {id(p) for p, _ in model.step(adam())} == {id(p) for p in model.parameters}
        assert_equal(old.values(), before)
    with D.guard(target="reference"):
        # A model of an earlier guard trains in a later one.
        assert len(old.step(adam())) == 2


def test_lists_of_names_and_of_others() -> None:
    with D.guard(target="reference"):
        model = Model()
        assert [p.name for p, _ in model.step(adam(parameter_list=["v"]))] == ["v"]
        listed = adam(parameter_list=(p for p in model.parameters))
        for _ in range(2):
            assert [p.name for p, _ in model.step(listed)] == ["w", "v"]
        assert [p.name for p, _ in model.step(adam(), parameter_list=[model.w])] == ["w"]
        assert [p.name for p, _ in model.step(adam(), no_grad_set={"v"})] == ["w"]
        with pytest.raises(ArgumentTypeError, match="Adam: parameter_list holds EagerVariable, not a parameter"):
            model.step(adam(parameter_list=[D.to_variable(X)]))


def test_two_optimizers_count_their_accumulators() -> None:
    with D.guard(target="reference"):
        model = Model()
        first, second = adam(), fluid.optimizer.Adam(0.1, name="mine")
        for optimizer in (first, second, adam()):
            model.step(optimizer)
        assert list(first.state_dict())[:3] == ["v_moment1_0", "w_moment1_0", "v_moment2_0"]
        assert first.get_opti_var_name_list()[:3] == ["v_moment1_0", "v_moment2_0", "v_beta1_pow_acc_0"]
        assert "w_mine_moment1_0" in second.state_dict()
        assert list(optimizer.state_dict())[1] == "w_moment1_1"


@pytest.mark.parametrize("rule", RULES)
def test_going_on_from_a_state_is_going_on(rule: str) -> None:
    """Five steps and five more are ten, whether accumulators exist when the state arrives or not."""
    with D.guard(target="reference"):
        model = Model()
        optimizer = RULES[rule](parameter_list=model.parameters)
        for _ in range(5):
            model.step(optimizer)
        middle, state = model.values(), arrays(optimizer.state_dict())
        for _ in range(5):
            model.step(optimizer)
        end = model.values()
    for steps_before in (0, 2):
        with D.guard(target="reference"):
            again = Model()
            optimizer = RULES[rule](parameter_list=again.parameters)
            for _ in range(steps_before):
                again.step(optimizer)
            optimizer.set_dict(state)
            np.testing.assert_equal(arrays(optimizer.state_dict()), state)
            for param, value in zip(again.parameters, middle, strict=True):
                param.set_value(value)
            for _ in range(5):
                again.step(optimizer)
            assert arrays(optimizer.state_dict()).keys() == state.keys()
            assert_equal(again.values(), end)


def test_a_state_of_paddle_goes_on() -> None:
    """From the parameters and accumulators of Paddle's twenty steps, the next is that which follows our own twenty."""
    case = golden("training")["cases"]["linear_adam_noam"]
    given = golden("training")["models"]["linear"]
    after = []
    for steps in (20, 0):
        with D.guard(target="reference"):
            model = TRAINED["linear"](fluid)
            model.set_dict(given["initial"] if steps else case["after"])
            optimizer = optimizer_of(fluid, case, model.parameters())
            if not steps:
                optimizer.set_dict(case["state"])
            for i in range(20 - steps, 21):
                loss = model(*map(D.to_variable, given["batches"][i % 4]))
                loss.backward()
                optimizer.minimize(loss)
                model.clear_gradients()
            assert optimizer.state_dict()["LR_Scheduler"] == {"step_num": 22}
            after.append([p.numpy() for p in model.parameters()])
    for one, other in zip(*after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_documented_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with D.guard():
        emb = D.Embedding("emb", [10, 10])
        state_dict = emb.state_dict()
        fluid.save_dygraph(state_dict, "paddle_dy")
        adam = fluid.optimizer.Adam(learning_rate=L.noam_decay(100, 10000))
        state_dict = adam.state_dict()
        fluid.save_dygraph(state_dict, "padle_dy")
        para_state_dict, opti_state_dict = fluid.load_dygraph("paddle_dy")
        with pytest.warns(UserWarning, match="no optimizer state") as told:
            adam.set_dict(opti_state_dict)
    assert [str(each.message) for each in told] == ["no optimizer state in paddle_dy; found padle_dy.pdopt"]
    assert told[0].filename == __file__
    assert para_state_dict is not None
    np.testing.assert_array_equal(para_state_dict["weight"], emb.weight.numpy())
    assert fluid.optimizer.Adam(0.001).state_dict() == {}


@pytest.mark.parametrize("rule", ["sgd", "adam", "adam_noam"])
def test_the_round_trip_through_files(rule: str, tmp_path: Path) -> None:
    """Parameters and optimizer state under one prefix: the same values, and the same training from there."""
    path = str(tmp_path / "model")
    with D.guard(target="reference"):
        model, optimizer = Model(), RULES[rule]()
        for _ in range(3):
            model.step(optimizer)
        fluid.save_dygraph(dict(zip("wv", model.parameters)), path)
        fluid.save_dygraph(optimizer.state_dict(), path)
        state = arrays(optimizer.state_dict())
        for _ in range(3):
            model.step(optimizer)
    with D.guard(target="reference"):
        again, optimizer = Model(), RULES[rule]()
        params, kept = fluid.load_dygraph(path)
        assert params is not None
        np.testing.assert_equal(kept, state)
        for param, name in zip(again.parameters, "wv", strict=True):
            param.set_value(params[name])
        optimizer.set_dict(kept)
        for _ in range(3):
            again.step(optimizer)
        assert_equal(again.values(), model.values())


def test_a_state_is_the_variables_themselves() -> None:
    with D.guard():
        model, optimizer = Model(), noam()
        assert optimizer.state_dict().keys() == {"LR_Scheduler", "global_step"}
        model.step(optimizer)
        state = optimizer.state_dict()
        before = state["w_moment1_0"].numpy()
        model.step(optimizer)
        assert not np.array_equal(state["w_moment1_0"].numpy(), before)
        step = state["global_step"]
        assert (step.name, step.shape, step.numpy().dtype) == ("global_step", (1,), np.int32)
        assert step.numpy() == state["LR_Scheduler"]["step_num"] == 2


def test_outside_dygraph_a_state_is_empty_before_the_first_step() -> None:
    assert fluid.optimizer.Adam(0.001).state_dict() == {}
    assert fluid.optimizer.SGD(0.001).state_dict() == {}
    with D.guard(target="reference"):
        model, optimizer = Model(), noam()
        model.step(optimizer)
    assert arrays(optimizer.state_dict())["global_step"] == [2]


def test_no_state_is_a_warning() -> None:
    with D.guard(target="reference"):
        optimizer = noam()
        with pytest.warns(UserWarning, match="no optimizer state"):
            optimizer.set_dict(None)
        assert optimizer.state_dict()["LR_Scheduler"] == {"step_num": 1}


def changed(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**state, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            {"w_moment1_0": np.zeros((3, 4), np.float32)},
            r"holds w_moment1_0 as float32\[3, 4\], but it is float32\[3, 5\]",
        ),
        (
            {"w_moment1_0": np.zeros((3, 5), np.float64)},
            r"holds w_moment1_0 as float64\[3, 5\], but it is float32\[3, 5\]",
        ),
        ({"w_moment1_0": [[0.0] * 5] * 3}, "w_moment1_0 is list"),
        ({"w_moment1_0": ..., "v_moment2_0": ...}, "the state has no w_moment1_0, v_moment2_0"),
        ({"w_velocity_0": np.zeros((3, 5), np.float32)}, "the state holds w_velocity_0, which Adam does not keep"),
        ({"weight": np.zeros((3, 5), np.float32)}, "the state holds weight, which Adam does not keep"),
        (
            {"LR_Scheduler": ..., "global_step": ...},
            "the state has no LR_Scheduler, so it does not say where NoamDecay",
        ),
        ({"LR_Scheduler": {}}, "NoamDecay.set_dict: the state has no step_num, but nothing"),
        ({"global_step": np.array([1, 2])}, r"global_step has shape \[2\]"),
        ({"global_step": np.array([1.5])}, "global_step of the state is 1.5"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, Any], what: str) -> None:
    with D.guard(target="reference"):
        model, optimizer = Model(), noam()
        model.step(optimizer)
        before = arrays(optimizer.state_dict())
        good = {name: value + 1 if isinstance(value, np.ndarray) else {"step_num": 7} for name, value in before.items()}
        with pytest.raises(FluidcError, match=what) as caught:
            optimizer.set_dict(changed(good, **change))
        assert caught.value.hint
        np.testing.assert_equal(arrays(optimizer.state_dict()), before)
        optimizer.set_dict(good)
        np.testing.assert_equal(arrays(optimizer.state_dict())["w_moment1_0"], good["w_moment1_0"])


def test_states_of_other_kinds() -> None:
    with D.guard(target="reference"):
        with pytest.raises(ArgumentTypeError, match=r"Adam\.set_dict: the state is list"):
            adam().set_dict([1])  # pyright: ignore[reportArgumentType]
        with pytest.raises(ProgramError, match="which SGD does not keep") as caught:
            fluid.optimizer.SGD(0.1).set_dict({"w_moment1_0": X})
        assert "it keeps nothing for a parameter" in (caught.value.hint or "")
        # A table of names is in every file of Paddle's; before 1.8 a step was all that was kept of a schedule.
        optimizer = noam()
        optimizer.set_dict({"StructuredToParameterName@@": {}, "global_step": np.array([9])})
        assert optimizer.state_dict()["LR_Scheduler"] == {"step_num": 9}
        with pytest.warns(UserWarning, match="where a schedule of the learning rate stood, which is not used") as told:
            adam().set_dict({"LR_Scheduler": {"step_num": 3}, "global_step": np.array([3])})
        with pytest.warns(UserWarning, match="also holds epoch_num") as again:
            optimizer.set_dict({"LR_Scheduler": {"step_num": 3, "epoch_num": 1}})
        assert {each.filename for each in (*told, *again)} == {__file__}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            adam().set_dict({})


def test_names_that_were_restored_and_are_others_now() -> None:
    """Found when accumulators are created: nothing starts from zero without a word, and nothing is half done."""
    with D.guard(target="reference"):
        model, optimizer = Model(), adam()
        model.step(optimizer)
        state = arrays(optimizer.state_dict())
    with D.guard(target="reference"):
        other, optimizer = Model("x."), adam()
        optimizer.set_dict(state)
        with pytest.raises(
            ProgramError, match=r"given to set_dict has no x.v_moment1_0, .* and 5 more, but v_moment1_0"
        ):
            other.step(optimizer)
        np.testing.assert_equal(arrays(optimizer.state_dict()), state)
    with D.guard(target="reference"):
        wider, optimizer = Model(hidden=6), adam()
        optimizer.set_dict(state)
        with pytest.raises(ProgramError, match=r"v_moment1_0 as float32\[5, 1\], but it is float32\[6, 1\]"):
            wider.step(optimizer)
        # The same optimizer, given a state that fits, goes on.
        optimizer.set_dict({})
        assert len(wider.step(optimizer)) == 2


def test_rates_of_dygraph() -> None:
    with D.guard(target="reference"):
        model = Model()
        optimizer = fluid.optimizer.Adam(0.1)
        assert optimizer.current_step_lr() == 0.1
        model.step(optimizer)
        assert optimizer.current_step_lr() == 0.1
        optimizer = noam()
        model.step(optimizer)
        assert optimizer.current_step_lr() == 1 / 32
        # After a state was restored, the rate of the step to come.
        optimizer.set_dict({**optimizer.state_dict(), "global_step": np.array([3], np.int32)})
        assert optimizer.current_step_lr() == 3 / 32
        plateau = D.ReduceLROnPlateau(0.5, patience=0)
        optimizer = fluid.optimizer.SGD(plateau)
        for loss, rate in ((1.0, 0.5), (2.0, 0.5), (2.0, np.float32(0.05)), (0.5, np.float32(0.005))):
            model.step(optimizer)
            assert optimizer.current_step_lr() == pytest.approx(rate)
            plateau.step(D.to_variable(np.array([loss], np.float32)))


def test_rates_as_variables() -> None:
    """As scripts of before 1.8 ask for them."""
    with D.guard(target="reference"):
        model = Model()
        for optimizer, rate in ((fluid.optimizer.SGD(0.25), 0.25), (noam(), 1 / 32)):
            assert optimizer._global_learning_rate() is None
            model.step(optimizer)
            held: Any = optimizer._global_learning_rate()
            assert held.shape == (1,)
            assert held.numpy()[0] == rate
        given = D.to_variable(np.array([0.5], np.float32))
        assert fluid.optimizer.SGD(given)._global_learning_rate() is given
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        sgd = fluid.optimizer.SGD(0.1)
        sgd.minimize(L.mean(L.fc(fluid.data("x", [2, 3], "float32"), 1)))
        held = sgd._global_learning_rate()
        assert held.name == "learning_rate_0"
        assert sgd._global_learning_rate(fluid.Program()) is None


def test_rates_of_a_program() -> None:
    scope = fluid.Scope()
    with fluid.scope_guard(scope), fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        loss = L.mean(L.fc(fluid.data("x", [2, 3], "float32"), 1))
        sgd = fluid.optimizer.SGD(0.1)
        assert sgd.current_step_lr() == 0.1
        sgd.minimize(loss)
        assert sgd.current_step_lr() == 0.1
        exe = fluid.Executor(fluid.CPUPlace(), target="reference")
        exe.run(fluid.default_startup_program())
        scope.find_var("learning_rate_0").get_tensor().set(np.array([0.3], np.float32))  # type: ignore[union-attr]
        assert sgd.current_step_lr() == pytest.approx(0.3)
        momentum = fluid.optimizer.Momentum(0.1, 0.9)
        momentum.minimize(loss)
        with pytest.raises(ProgramError, match=r"Momentum\.state_dict is for dygraph") as caught:
            momentum.state_dict()
        assert "fluid.save" in (caught.value.hint or "")
        computed = fluid.optimizer.SGD(L.noam_decay(16, 4))
        with pytest.raises(ProgramError, match="is computed by its Program in each step") as caught:
            computed.current_step_lr()
        assert "fetch_list" in (caught.value.hint or "")


def test_states_of_dygraph_and_programs_do_not_mix() -> None:
    with D.guard(target="reference"):
        model, optimizer = Model(), adam()
        model.step(optimizer)
        state = arrays(optimizer.state_dict())
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        optimizer = adam()
        optimizer.set_dict(state)
        with pytest.raises(ProgramError, match="Adam: set_dict brought a state of dygraph, and this is a Program"):
            optimizer.minimize(L.mean(L.fc(fluid.data("x", [2, 3], "float32"), 1)))
    with D.guard(target="reference"):
        loss = Model().loss()
        loss.backward()
    with pytest.raises(ProgramError, match=r"Adam\.minimize is called outside dygraph"):
        adam().minimize(loss)
