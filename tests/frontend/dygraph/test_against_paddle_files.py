"""Files that Paddle 1.8.5 wrote, and what is in them (tests/golden/make_paddle185/files.py says more)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paddle_models import Static, layer_of, optimizer_of, set_parameters, trained_with_momentum, two_layers
from saved_files import write_files
from trees import GOLDENS, assert_same, golden, read_tree

import fluidc.frontend as fluid

GOLDEN = golden("files")
MADE = {
    "dygraph_adam": {"optimizer": "Adam", "args": [0.01], "kwargs": {}},
    "dygraph_decay": {"optimizer": "Adam", "args": [{"decay": ["NoamDecay", 16, 4]}], "kwargs": {}},
}


def arrays(state: dict[str, Any]) -> dict[str, Any]:
    """A state dict of eager mode with arrays for variables, without Paddle's table of names."""
    return {key: value.numpy() if hasattr(value, "numpy") else value for key, value in state.items()}


def trained_on(tree: Any, net: Any, adam: Any, steps: int) -> list[Any]:
    x = fluid.dygraph.to_variable(tree["x"])
    losses = []
    for _ in range(steps):
        loss: Any = fluid.layers.mean(fluid.layers.square(net(x)))
        losses.append(loss.numpy())
        loss.backward()
        adam.minimize(loss)
        net.clear_gradients()
    return losses


@pytest.mark.parametrize("name", MADE)
def test_training_goes_on_from_paddles_files(name: str) -> None:
    """Three steps agree with Paddle's, and three more are the same whether they go on from memory or from its files."""
    tree = GOLDEN[name]
    with fluid.dygraph.guard():
        net = two_layers(fluid)
        set_parameters(net)
        assert_same(arrays(net.state_dict()), tree["initial"], rtol=0, atol=0)
        adam = optimizer_of(fluid, MADE[name], net.parameters())
        assert_same(trained_on(tree, net, adam, 3), tree["losses"])
        assert_same(arrays(net.state_dict()), tree["parameters"])
        assert_same(arrays(adam.state_dict()), tree["optimizer"])
        straight_on = trained_on(tree, net, adam, 3)
    with fluid.dygraph.guard():
        parameters, state = fluid.load_dygraph(str(GOLDENS / tree["prefix"]))
        assert parameters is not None
        net = two_layers(fluid)
        net.set_dict(parameters)
        adam = optimizer_of(fluid, MADE[name], net.parameters())
        adam.set_dict(state)
        assert_same(trained_on(tree, net, adam, 3), straight_on)


def static() -> tuple[Static, Any]:
    s = Static(fluid)
    with s:
        loss, _ = trained_with_momentum(fluid)
        s.exe.run(s.startup)
    return s, loss


def test_the_program_beside_saved_values_trains() -> None:
    tree = GOLDEN["static"]
    main = fluid.io.load_program(GOLDENS / (tree["prefix"] + ".pdmodel")).program
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(fluid.CPUPlace())
        fluid.load(main, str(GOLDENS / tree["prefix"]), exe)
        for want in tree["next_losses"]:
            (got,) = exe.run(main, feed=tree["feed"], fetch_list=[tree["fetch"][0]])
            assert_same(got, want)


def values(scope: Any, names: Any) -> dict[str, Any]:
    return {name: np.array(scope.find_var(name).get_tensor()) for name in names}


def test_a_training_program() -> None:
    tree = GOLDEN["train_adam"]
    loaded = fluid.io.load_program(*(str(GOLDENS / tree["files"][kind]) for kind in ("main", "startup")))
    scope = fluid.Scope()
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(loaded.startup)
        assert_same(values(scope, tree["initial"]), tree["initial"])
        for loss, after in zip(tree["losses"], tree["after"], strict=True):
            assert_same(exe.run(loaded.program, feed=tree["feed"], fetch_list=loaded.losses)[0], loss)
            assert_same(values(scope, after), after, rtol=2e-5, atol=2e-6)


def test_what_is_written_here_is_read_here(tmp_path: Path) -> None:
    """The folder that tests/golden/make_paddle185 --check reads with Paddle."""
    written = write_files(fluid, tmp_path)
    tree = read_tree(tmp_path / "expected")
    assert list(tree) == list(written)
    with fluid.dygraph.guard():
        for name in ("dygraph_adam", "dygraph_decay", "dygraph_epochs", "dygraph_plateau", "cnn"):
            parameters, state = fluid.load_dygraph(str(tmp_path / name))
            assert_same(parameters, tree[name]["parameters"], rtol=0, atol=0)
            assert_same(state, tree[name]["optimizer"], rtol=0, atol=0)
    s, loss = static()
    with s:
        fluid.load(s.main, str(tmp_path / "static"), s.exe)
        assert_same(s.persistables(), tree["static"]["persistables"], rtol=0, atol=0)
        for want in tree["static"]["next_losses"]:
            assert_same(s.exe.run(s.main, feed=tree["static"]["feed"], fetch_list=[loss])[0], want)


def test_a_traced_layer_keeps_its_statistics_trainable(tmp_path: Path) -> None:
    spec = golden("layers")["cases"]["batch_norm_trainable_statistics"]
    with fluid.dygraph.guard():
        layer = layer_of(fluid, spec)
        layer.set_dict(spec["values"])
        layer.eval()
        _, traced = fluid.dygraph.TracedLayer.trace(layer, [fluid.dygraph.to_variable(spec["inputs"][0])])
        traced.save_inference_model(str(tmp_path))
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(fluid.CPUPlace())
        program, feeds, fetches = fluid.io.load_inference_model(str(tmp_path), exe)
        (got,) = exe.run(program, feed={feeds[0]: spec["inputs"][0]}, fetch_list=fetches)
    assert_same(got, spec["evaluated"][0], rtol=2e-5)
