"""The same program, the same seed, the same trajectory: on every target, and in both ways of use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from digits_programs import PARAMETERS, Programs, batches, digits, private_digits

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.frontend.lower import lower
from fluidc.runtime import Session

STEPS = 100
SECRET = b"agreement"


def trained(programs: Programs, target: str, steps: int = STEPS) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Losses and parameters after ``steps`` steps through the Executor."""
    exe, scope = fluid.Executor(fluid.CPUPlace(), target=target), fluid.Scope()
    with fluid.scope_guard(scope):
        exe.run(programs.startup)
        losses = [exe.run(programs.main, feed=feed, fetch_list=[programs.loss])[0] for feed in batches(steps)]
        found = {name: np.array(scope.var(name).get_tensor()) for name in PARAMETERS}
    return np.concatenate([np.ravel(loss) for loss in losses]), found


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Parameters within 1e-4 of the largest of their tensor."""
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= 1e-4 * np.abs(value).max(), name


@pytest.fixture(scope="module")
def compiled_run() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return trained(digits(), "cpu")


def test_cpu_equals_reference(compiled_run: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    losses, parameters = trained(digits(), "reference")
    np.testing.assert_allclose(compiled_run[0], losses, rtol=1e-5, atol=1e-7)
    assert_close(compiled_run[1], parameters)


def test_onnx_equals_reference() -> None:
    losses, parameters = trained(digits(), "reference")
    found = trained(digits(), "onnx")
    np.testing.assert_allclose(found[0], losses, rtol=1e-5, atol=1e-7)
    assert_close(found[1], parameters)


@pytest.mark.filterwarnings("ignore::fluidc.frontend.PrivacyWarning")
def test_all_targets_agree_under_privacy() -> None:
    found: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
    for target in ("cpu", "onnx", "reference"):
        with fluid.privacy.insecure_noise_key(SECRET):
            found[target] = trained(private_digits(), target)
    for target in ("cpu", "onnx"):
        np.testing.assert_allclose(found[target][0], found["reference"][0], rtol=1e-5, atol=1e-6)
        assert_close(found[target][1], found["reference"][1])


def test_artifact_equals_executor(compiled_run: tuple[np.ndarray, dict[str, np.ndarray]], tmp_path: Path) -> None:
    programs = digits()
    source = lower(programs.main, startup=programs.startup, fetches=(programs.loss,))
    compile_source(source).artifact().write(tmp_path / "digits.fluidc")
    with Session.load(tmp_path / "digits.fluidc") as session:
        losses = [session.run(feed)[programs.loss] for feed in batches(STEPS)]
        parameters = {name: np.array(session.model.state[name]) for name in PARAMETERS}
    np.testing.assert_allclose(np.ravel(losses), compiled_run[0], rtol=1e-5, atol=1e-7)
    assert_close(parameters, compiled_run[1])


def test_reference_never_runs_inside_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled steps do not call numpy rules: every ``evaluate`` raises, and the run still works."""
    from fluidc.compiler.ops import OPS

    programs = digits()
    exe = fluid.Executor(fluid.CPUPlace())
    with fluid.scope_guard(fluid.Scope()):
        exe.run(programs.startup)

        def refuse(*_: object) -> object:
            raise AssertionError("a numpy rule ran inside a compiled step")

        for op in OPS:
            monkeypatch.setattr(op, "evaluate", refuse)
        (loss,) = exe.run(programs.main, feed=next(batches(1)), fetch_list=[programs.loss])
    assert np.isfinite(loss).all()
