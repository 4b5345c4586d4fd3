"""Files that Paddle 1.8.5 wrote, and what is in them (tests/golden/make_paddle185/files.py says more)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paddle_models import INFERRED, Static, optimizer_of, set_parameters, trained_with_momentum, two_layers
from saved_files import write_files
from trees import GOLDENS, assert_same, golden, read_tree

import fluidc.frontend as fluid
from fluidc.frontend import PrivacyWarning

GOLDEN = golden("files")
FILES = GOLDENS / "files"
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
        loss = fluid.layers.mean(fluid.layers.square(net(x)))
        losses.append(loss.numpy())
        loss.backward()
        adam.minimize(loss)
        net.clear_gradients()
    return losses


@pytest.mark.parametrize("name", MADE)
def test_load_dygraph(name: str) -> None:
    tree = GOLDEN[name]
    with fluid.dygraph.guard():
        parameters, state = fluid.load_dygraph(str(GOLDENS / tree["prefix"]))
        assert_same(parameters, tree["parameters"], rtol=0, atol=0)
        assert_same(state, tree["optimizer"], rtol=0, atol=0)
        named, _ = fluid.load_dygraph(str(GOLDENS / tree["prefix"]), keep_name_table=True)
        assert named["StructuredToParameterName@@"] == tree["names"]
        net = two_layers(fluid)
        net.set_dict(parameters)
        assert_same(net(fluid.dygraph.to_variable(tree["x"])).numpy(), tree["out"])


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


def test_fluid_load() -> None:
    tree = GOLDEN["static"]
    s, loss = static()
    with s:
        assert_same(s.persistables(), tree["initial"])
        fluid.load(s.main, str(GOLDENS / tree["prefix"]), s.exe)
        assert_same(s.persistables(), tree["persistables"], rtol=0, atol=0)
        for want in tree["next_losses"]:
            assert_same(s.exe.run(s.main, feed=tree["feed"], fetch_list=[loss])[0], want)


def test_program_state() -> None:
    tree = GOLDEN["static"]
    state = fluid.load_program_state(str(GOLDENS / tree["prefix"]))
    assert_same(dict(sorted(state.items())), tree["persistables"], rtol=0, atol=0)
    s, _ = static()
    with s:
        fluid.set_program_state(s.main, state)
        assert_same(s.persistables(), tree["persistables"], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["params", "persistables"])
@pytest.mark.parametrize("filename", [None, "all"])
def test_load_of_an_executor(kind: str, filename: str | None) -> None:
    tree = GOLDEN["static"]
    folder = f"save_{kind}" if filename is None else f"save_{kind}_combined"
    s, _ = static()
    with s:
        before = s.persistables()
        getattr(fluid.io, "load_" + kind)(s.exe, str(FILES / folder), s.main, filename=filename)
        loaded = tree[f"save_{kind}"]
        want = {key: tree["persistables"][key] if key in loaded else before[key] for key in before}
        assert_same(s.persistables(), want, rtol=0, atol=0)


def test_the_program_beside_saved_values_trains() -> None:
    tree = GOLDEN["static"]
    main = fluid.io.load_program(GOLDENS / (tree["prefix"] + ".pdmodel")).program
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(fluid.CPUPlace())
        fluid.load(main, str(GOLDENS / tree["prefix"]), exe)
        for want in tree["next_losses"]:
            (got,) = exe.run(main, feed=tree["feed"], fetch_list=[tree["fetch"][0]])
            assert_same(got, want)


@pytest.mark.parametrize("name", INFERRED)
@pytest.mark.parametrize("together", [False, True])
def test_load_inference_model(name: str, together: bool) -> None:
    tree = GOLDEN["infer_" + name]
    folder = FILES / ("infer_" + name + "_combined" * together)
    files = ("model", "params") if together else ()
    want = tree["combined" if together else "separate"]
    scope = fluid.Scope()
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        program, feeds, fetches = fluid.io.load_inference_model(str(folder), exe, *files)
        assert feeds == want["feeds"]
        assert [v.name for v in fetches] == want["fetches"]
        assert [list(v.shape) for v in fetches] == want["shapes"]
        for key, value in tree["parameters"].items():
            assert_same(np.array(scope.find_var(key).get_tensor()), value, rtol=0, atol=0)
        assert_same(exe.run(program, feed=tree["feed"], fetch_list=fetches), want["outputs"])


def run(tree: Any, mechanism: str) -> tuple[list[Any], list[Any], Any]:
    main, startup = (str(GOLDENS / tree["files"][kind]) for kind in ("main", "startup"))
    loaded = fluid.io.load_program(main, startup, mechanism=mechanism)
    scope = fluid.Scope()
    losses, after = [], []
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace())
        exe.run(loaded.startup)
        initial = {key: np.array(scope.find_var(key).get_tensor()) for key in tree["initial"]}
        for _ in tree["losses"]:
            losses.append(exe.run(loaded.program, feed=tree["feed"], fetch_list=loaded.losses)[0])
            after.append({key: np.array(scope.find_var(key).get_tensor()) for key in tree["initial"]})
    return losses, after, initial


def test_a_training_program() -> None:
    tree = GOLDEN["train_adam"]
    losses, after, initial = run(tree, "gaussian")
    assert_same(initial, tree["initial"])
    assert_same(losses, tree["losses"])
    assert_same(after, tree["after"], rtol=2e-5, atol=2e-6)


def test_a_training_program_with_paddles_dpsgd() -> None:
    """Its seed was set, so Paddle's kernel drew one scalar, the same at each step."""
    tree = GOLDEN["train_dpsgd"]
    with pytest.warns(PrivacyWarning):
        losses, after, initial = run(tree, "paddle")
    assert_same(initial, tree["initial"])
    assert_same(losses, tree["losses"])
    assert_same(after, tree["after"], rtol=2e-5, atol=2e-6)


@pytest.mark.filterwarnings("ignore::fluidc.frontend.PrivacyWarning")
def test_paddles_dpsgd_becomes_private(capsys: pytest.CaptureFixture[str]) -> None:
    tree = GOLDEN["train_dpsgd"]
    losses, after, initial = run(tree, "gaussian")
    assert "dpsgd" in capsys.readouterr().out
    assert_same(initial, tree["initial"])
    assert_same(losses[0], tree["losses"][0])
    for key in ("fc_0.w_0", "fc_1.w_0"):
        step = after[0][key] - initial[key]
        assert len(np.unique(step)) == step.size, "noise of its own in every element"


def test_what_is_written_here_is_read_here(tmp_path: Path) -> None:
    """The folder that tests/golden/make_paddle185 --check reads with Paddle."""
    written = write_files(fluid, tmp_path)
    tree = read_tree(tmp_path / "expected")
    assert list(tree) == list(written)
    with fluid.dygraph.guard():
        for name in ("dygraph_adam", "dygraph_decay", "cnn"):
            parameters, state = fluid.load_dygraph(str(tmp_path / name))
            assert_same(parameters, tree[name]["parameters"], rtol=0, atol=0)
            assert_same(state, tree[name]["optimizer"], rtol=0, atol=0)
    s, loss = static()
    with s:
        fluid.load(s.main, str(tmp_path / "static"), s.exe)
        assert_same(s.persistables(), tree["static"]["persistables"], rtol=0, atol=0)
        for want in tree["static"]["next_losses"]:
            assert_same(s.exe.run(s.main, feed=tree["static"]["feed"], fetch_list=[loss])[0], want)
