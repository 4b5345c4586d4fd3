"""Learning rate decays of eager mode against Paddle 1.8.5 (tests/golden/make_paddle185/decays.py says more)."""

from typing import Any

import numpy as np
import pytest
from trees import assert_same, golden

import fluidc.frontend as fluid

GOLDEN = golden("decays")
STEPS = 12
# Decays within a warm-up, which are no part of Paddle's state; here they go on.
RESTARTED_BY_PADDLE = {"warmup_noam", "warmup_piecewise"}


def build(spec: Any) -> Any:
    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return build(node["decay"]) if "decay" in node else lambda epoch: node["lambda"] ** epoch

    return getattr(fluid.dygraph, spec["class"])(*map(value, spec["args"]), **spec["kwargs"])


class Run:
    """SGD with the decay on one parameter w and the loss sum(w), whose gradient is 1."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.decay = build(spec)
        self.layer = fluid.dygraph.Layer("one")
        one = fluid.initializer.Constant(1.0)
        self.layer.w = self.layer.create_parameter([1], default_initializer=one)
        self.sgd = fluid.optimizer.SGD(self.decay, parameter_list=self.layer.parameters())

    def step(self, i: int) -> float:
        loss = fluid.layers.reduce_sum(self.layer.w)
        loss.backward()
        self.sgd.minimize(loss)
        self.layer.clear_gradients()
        rate = float(self.sgd.current_step_lr())
        if i in self.spec.get("epoch_after", []):
            self.decay.epoch()
        if "losses" in self.spec:
            self.decay.step(fluid.dygraph.to_variable(np.array([self.spec["losses"][i - 1]], np.float32)))
        return rate

    def state(self) -> dict[str, Any]:
        return {key: value.numpy() if key == "global_step" else value for key, value in self.sgd.state_dict().items()}


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_rates_and_states(name: str) -> None:
    spec = GOLDEN["cases"][name]
    with fluid.dygraph.guard():
        if spec["before"] is not None:
            assert Run(spec).sgd.current_step_lr() == pytest.approx(spec["before"], rel=1e-6)
        run = Run(spec)
        states = [run.state()]
        rates, parameter = [], []
        saved: Any = None
        for i in range(1, STEPS + 1):
            rates.append(run.step(i))
            parameter.append(float(run.layer.w))
            if i == 5:
                saved = run.sgd.state_dict()
                states.append(run.state())
        states.append(run.state())
        assert_same(rates, spec["rates"])
        assert_same(parameter, spec["parameter"])
        assert_same(states, spec["states"])
        resumed = Run(spec)
        resumed.sgd.set_dict(saved)
        again = [resumed.step(i) for i in range(6, STEPS + 1)]
        assert_same(again, rates[5:])
        if name not in RESTARTED_BY_PADDLE:
            assert_same(again, spec["resumed"])


def test_the_functions_of_layers_make_decays() -> None:
    layers = fluid.layers
    with fluid.dygraph.guard():
        made = {
            "noam_decay": layers.noam_decay(16, 4, 0.5),
            "exponential_decay": layers.exponential_decay(0.1, 4, 0.5, True),
            "natural_exp_decay": layers.natural_exp_decay(0.1, 4, 0.5, True),
            "inverse_time_decay": layers.inverse_time_decay(0.1, 4, 0.5, True),
            "polynomial_decay": layers.polynomial_decay(0.1, 5, 0.01, 2.0, True),
            "piecewise_decay": layers.piecewise_decay([3, 6], [0.1, 0.05, 0.01]),
            "cosine_decay": layers.cosine_decay(0.1, 3, 4),
            "linear_lr_warmup": layers.linear_lr_warmup(0.1, 4, 0.0, 0.1),
        }
        for name, want in GOLDEN["functions"].items():
            decay: Any = made[name]
            assert type(decay).__name__ == want["class"]
            assert_same([float(decay()) for _ in range(4)], want["rates"], where=name)
