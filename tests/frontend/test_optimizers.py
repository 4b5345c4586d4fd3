"""Every update rule through a Program, against three steps that make_optimizer_golden.py saw on Paddle 1.8.5."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid

L, rules = fluid.layers, fluid.optimizer
GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "ops" / "golden" / "optimizers.json").read_text())
STEPS, SHAPE = 3, (4, 3)
MAKE: dict[str, Callable[..., Any]] = {
    "sgd": lambda **k: rules.SGD(0.1, **k),
    "momentum": lambda **k: rules.Momentum(0.1, 0.9, **k),
    "nesterov": lambda **k: rules.Momentum(0.1, 0.9, use_nesterov=True, **k),
    "lars_momentum": lambda **k: rules.LarsMomentum(0.1, 0.9, **k),
    "adagrad": lambda **k: rules.Adagrad(0.1, **k),
    "decayed_adagrad": lambda **k: rules.DecayedAdagrad(0.1, **k),
    "adam": lambda **k: rules.Adam(0.1, **k),
    "adamax": lambda **k: rules.Adamax(0.1, **k),
    "lamb": lambda **k: rules.Lamb(0.1, **k),
    "adadelta": lambda **k: rules.Adadelta(0.1, **k),
    "rmsprop": lambda **k: rules.RMSProp(0.1, momentum=0.5, **k),
    "centered_rmsprop": lambda **k: rules.RMSProp(0.1, momentum=0.5, centered=True, **k),
    "ftrl": lambda **k: rules.Ftrl(0.1, l1=0.2, l2=0.2, **k),
    "ftrl_power": lambda **k: rules.Ftrl(0.1, l1=0.2, l2=0.2, lr_power=-0.3, **k),
}


def start() -> np.ndarray:
    return (np.arange(12).reshape(SHAPE) / 7 - 0.8).astype(np.float32)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_three_steps_equal_paddle(target: str) -> None:
    """One parameter for each rule, whose gradient is the feed; all its state is what Paddle's is."""
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.scope_guard(scope), fluid.program_guard(main, startup), fluid.unique_name.guard():
        x = fluid.data("x", list(SHAPE), "float32")
        initial = fluid.initializer.NumpyArrayInitializer(start())
        weights = {rule: L.create_parameter(list(SHAPE), "float32", rule, default_initializer=initial) for rule in MAKE}
        losses = {rule: L.reduce_sum(w * x) for rule, w in weights.items()}
        for rule, make in MAKE.items():
            make(parameter_list=[weights[rule]]).minimize(losses[rule])
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        exe.run(startup)
        for step, feed in enumerate(np.random.RandomState(0).randn(STEPS, *SHAPE).astype(np.float32)):
            exe.run(main, feed={"x": feed})
            for rule in MAKE:
                for name, expected in GOLDEN[rule][step].items():
                    if name.startswith("learning_rate"):
                        continue
                    mine = scope.find_var(rule + name.removeprefix("w"))
                    assert mine is not None, name
                    value = np.array(mine.get_tensor(), np.float32).ravel()
                    np.testing.assert_allclose(value, expected, rtol=5e-6, atol=5e-7, err_msg=f"{rule} {name} {step}")


def test_state_is_what_paddle_keeps() -> None:
    """Names of accumulators: none is missing, and none more than Paddle has."""
    for rule, make in MAKE.items():
        with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
            x = fluid.data("x", list(SHAPE), "float32")
            w = L.create_parameter(list(SHAPE), "float32", "w")
            optimizer = make()
            optimizer.minimize(L.reduce_sum(w * x))
            assert {"w", "learning_rate_0", *optimizer.get_opti_var_name_list()} == set(GOLDEN[rule][0]), rule


def test_lamb_without_decay_for_some() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        h = L.fc(fluid.data("x", [2, 3], "float32"), 4)
        lamb = rules.Lamb(0.1, exclude_from_weight_decay_fn=lambda p: p.name.endswith("b_0"))
        updates, _ = lamb.minimize(L.mean(h))
        assert [op.attr("weight_decay") for op in updates] == [0.0, 0.01]


def test_ftrl_tells_of_the_decay_that_it_does_not_use() -> None:
    with pytest.warns(UserWarning, match=r"Ftrl: l2=0.3 has no effect: Paddle 1.8.5 uses l1=0.1 in its place"):
        rules.Ftrl(0.1, l1=0.1, l2=0.3)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: rules.RMSProp(0.1, rho=1.0), "RMSProp: rho is 1.0"),
        (lambda: rules.Adamax(0.1, beta2=1.5), "Adamax: beta2 is 1.5"),
        (lambda: rules.Lamb(0.1, beta1=-0.1), "Lamb: beta1 is -0.1"),
        (lambda: rules.Adadelta(0.1, rho=2), "Adadelta: rho is 2"),
        (lambda: rules.DecayedAdagrad(0.1, decay=1), "DecayedAdagrad: decay is 1"),
        (lambda: rules.Adam(0.1, beta1=1), "Adam: beta1 is 1"),
    ],
)
def test_shares_of_the_past(make: Callable[[], object], what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        make()
    assert "from 0 to 1, 1 excluded" in str(caught.value)
