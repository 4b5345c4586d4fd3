"""``Dpsgd(mechanism="paddle")``: Paddle's own kernel from script to artifact, and that nobody takes it for private."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.cli import main
from fluidc.frontend.cli.engines import choose_engine
from fluidc.runtime import Session, stepper
from fluidc.runtime.artifact import Artifact

OBSERVED = json.loads((Path(__file__).parent.parent / "ops" / "golden" / "dpsgd.json").read_text())["training"]
FEEDS = {name: np.asarray(value, np.float32) for name, value in OBSERVED["feeds"].items()}
STEPS = [{name: np.asarray(value, np.float32) for name, value in step.items()} for step in OBSERVED["parameters"]]

SCRIPT = """
import sys
import warnings
import numpy as np
import fluidc.frontend as fluid

warnings.simplefilter("ignore", fluid.PrivacyWarning)
x, y = fluid.data("x", [-1, 5], "float32"), fluid.data("y", [-1, 1], "float32")
hidden = fluid.layers.fc(x, 4, act="relu")
loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(hidden, 1) - y))
optimizer = fluid.optimizer.Dpsgd(0.1, clip=0.5, batch_size=8.0, sigma=2.0, mechanism="paddle")
optimizer._seed = 7
optimizer.minimize(loss)
"""


def trained(target: str, seed: int | None, steps: int = 3, **stated: Any) -> list[dict[str, np.ndarray]]:
    """The parameters after each step, from Paddle's initial ones."""
    program, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.scope_guard(scope), fluid.program_guard(program, startup), fluid.unique_name.guard():
        x, y = fluid.data("x", [-1, 5], "float32"), fluid.data("y", [-1, 1], "float32")
        hidden = fluid.layers.fc(x, 4, act="relu")
        loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(hidden, 1) - y))
        made = {"clip": 0.5, "batch_size": 8.0, "sigma": 2.0, **stated}
        with pytest.warns(fluid.PrivacyWarning, match="no differential privacy"):
            optimizer = fluid.optimizer.Dpsgd(0.1, **made, mechanism="paddle")
        optimizer._seed = seed
        optimizer.minimize(loss)
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        exe.run(startup)
        for name, value in STEPS[0].items():
            scope.var(name).get_tensor().set(value, exe.place)
        found = []
        for _ in range(steps):
            exe.run(program, feed=FEEDS, fetch_list=[loss])
            found.append({name: np.array(scope.var(name).get_tensor()) for name in STEPS[0]})
        return found


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_training_equals_paddles(target: str) -> None:
    for found, expect in zip(trained(target, seed=7), STEPS[1:], strict=True):
        for name, value in expect.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_without_a_seed_the_clock_seeds_every_execution(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    now = 1_700_000_000.9
    monkeypatch.setattr(stepper.time, "time", lambda: now)
    found = trained(target, None)
    for step, seeded in zip(found, trained(target, 1_700_000_000), strict=True):
        for name in step:
            np.testing.assert_allclose(step[name], seeded[name], rtol=1e-6)
    now += 1
    assert not np.allclose(trained(target, None, 1)[0]["fc_1.b_0"], found[0]["fc_1.b_0"])


def test_all_parameters_of_a_step_get_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Departure 4 of the documentation: differences between coordinates carry no noise at all."""
    monkeypatch.setattr(stepper.time, "time", lambda: 42.0)
    noisy, without = trained("reference", None, 1)[0], trained("reference", None, 1, sigma=0.0)[0]
    shifts = np.concatenate([(noisy[name] - without[name]).reshape(-1) for name in noisy])
    np.testing.assert_allclose(shifts, 0.1 * 2.0 * 1.6336993 / 8.0, rtol=1e-4)


@pytest.mark.parametrize(
    "asked", [{"epsilon": 3.0, "max_steps": 10, "dataset_size": 80, "delta": 1e-3}, {"clipping": "automatic"}]
)
def test_what_the_kernel_cannot_do_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError, match="Paddle's own kernel, which is not private"):
        fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=8.0, **asked, mechanism="paddle")


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_artifacts_say_that_it_is_not_private(tmp_path: Path, target: str) -> None:
    script, path, data = tmp_path / "script.py", tmp_path / "net.fluidc", tmp_path / "data.npz"
    script.write_text(SCRIPT)
    np.savez(data, x=FEEDS["x"], y=FEEDS["y"])
    told: list[str] = []
    for arguments in (
        ["compile", script, "-o", path, "--target", target],
        ["inspect", path],
        ["run", path, "--data", data, "--batch", "8", "--steps", "2", "-o", tmp_path / "trained.fluidc"],
        ["run", path, "--data", data, "--batch", "8", "--steps", "2", "--report", tmp_path / "page.html"],
        ["inspect", tmp_path / "trained.fluidc"],
    ):
        result = CliRunner().invoke(main, [str(word) for word in arguments])
        assert result.exit_code == 0, result.output
        assert "NOT PRIVATE: Dpsgd(mechanism='paddle')" in result.stdout
        told.append(result.stderr)
        # What is promised elsewhere is promised nowhere here.
        assert "ε =" not in result.output
        assert "an ordinary program" not in result.output
    assert "warning: NOT PRIVATE" in told[2]
    page = (tmp_path / "page.html").read_text()
    assert "NOT PRIVATE: Dpsgd(mechanism=&#x27;paddle&#x27;)" in page
    assert "no epsilon holds" in page
    assert "ε" not in page
    artifact = Artifact.read(path)
    assert artifact.manifest.privacy is None
    with pytest.warns(fluid.PrivacyWarning, match="NOT PRIVATE"):
        session = Session.load(artifact, choose_engine(artifact, None))
    assert not session.model.private
