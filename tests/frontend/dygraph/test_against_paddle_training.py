"""Twenty steps of eager models against Paddle 1.8.5 (tests/golden/make_paddle185/training.py says more)."""

from typing import Any

import pytest
from paddle_models import TRAINED, optimizer_of
from trees import assert_same, golden

import fluidc.frontend as fluid

GOLDEN = golden("training")


def plain(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.numpy() if hasattr(value, "numpy") else value for key, value in state.items()}


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_twenty_steps(name: str) -> None:
    spec = GOLDEN["cases"][name]
    model = GOLDEN["models"][spec["model"]]
    with fluid.dygraph.guard():
        net = TRAINED[spec["model"]](fluid)
        assert {key: p.name for key, p in net.state_dict().items()} == model["names"]
        net.set_dict(model["initial"])
        optimizer = optimizer_of(fluid, spec, net.parameters())
        assert list(optimizer.state_dict()) == spec["state_before"]
        losses = []
        for i in range(len(spec["losses"])):
            loss = net(*map(fluid.dygraph.to_variable, model["batches"][i % 4]))
            loss.backward()
            optimizer.minimize(loss)
            net.clear_gradients()
            losses.append(float(loss))
        assert_same(losses, spec["losses"], rtol=2e-5)
        assert_same(plain(net.state_dict()), spec["after"], rtol=1e-4, atol=2e-6)
        assert_same(plain(optimizer.state_dict()), spec["state"], rtol=1e-4, atol=2e-6)
