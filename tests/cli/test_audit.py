"""fluidc audit: a sound artifact passes, and builds broken in one place each fail the check that is about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import dp
from fluidc.frontend.audit.canary import least_noise, mu_bound
from fluidc.frontend.audit.checks import FOR_MUTANTS
from fluidc.frontend.audit.mechanism import Compiled
from fluidc.frontend.audit.noise import responses
from fluidc.frontend.cli import main
from fluidc.frontend.cli.engines import choose_engine
from fluidc.runtime.artifact import Artifact

SCRIPT = """
import fluidc.frontend as fluid

x = fluid.layers.data(name="x", shape=[5], dtype="float32")
label = fluid.layers.data(name="label", shape=[1], dtype="int64")
hidden = fluid.layers.fc(x, size=8, act="tanh")
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(hidden, size=3), label))
fluid.optimizer.{optimizer}.minimize(loss)
"""
DPSGD = "Dpsgd(learning_rate=0.5, clip=0.7, batch_size=16.0, sigma=1.0, max_steps=12, dataset_size=90, delta=1e-3)"

pytest.importorskip("tvm")


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def compiled(folder: Path, optimizer: str = DPSGD, target: str = "cpu") -> Path:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(optimizer=optimizer))
    made = fluidc("compile", script, "-o", folder / "made.fluidc", "--target", target)
    assert made.exit_code == 0, made.output
    return folder / "made.fluidc"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("sound"))


def audited(artifact: Path, *options: object) -> tuple[int, dict[str, Any], str]:
    """Exit code, report, and what was shown."""
    report = artifact.with_suffix(".json")
    done = fluidc("audit", artifact, "-o", report, *options)
    assert done.exit_code in (0, 1), done.output
    assert not isinstance(done.exception, Exception), done.exception
    return done.exit_code, json.loads(report.read_text()), done.output


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in report["checks"]}


def test_a_sound_artifact_passes_and_every_broken_copy_is_caught(sound: Path) -> None:
    code, report, shown = audited(sound)
    assert code == 0, shown
    assert report["passed"]
    assert not report["not_private"]
    assert set(verdicts(report).values()) == {"passed"}
    values = {check["name"]: check["values"] for check in report["checks"]}
    assert 0.999 < values["one example's change"]["largest"] <= 1 + 2**-11
    assert values["one example's change"]["at_bound"] > 20
    assert values["canary"]["mu"] <= values["canary"]["bound"] == pytest.approx(1 + 2**-10)
    assert 0.4 < values["canary"]["detectable"] < 1
    assert len(report["mutants"]) == 14
    assert all(mutant["killed_by"] and not mutant["survived"] for mutant in report["mutants"])
    assert "broken copies: 14 of 14 caught" in shown
    assert shown.rstrip().endswith("passed")


def test_an_audit_leaves_artifact_and_ledger_alone(sound: Path) -> None:
    before = sound.read_bytes()
    audited(sound)
    assert sound.read_bytes() == before
    assert not sound.with_name(sound.name + ".run").exists()


def test_rows_of_a_data_set_mark_the_report(sound: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x, label = random.normal(size=(40, 5)).astype(np.float32), random.integers(0, 3, (40, 1))
    np.savez(tmp_path / "data.npz", x=x, label=label)
    code, report, shown = audited(sound, "--data", tmp_path / "data.npz")
    assert code == 0
    assert report["not_private"]
    assert "NOT PRIVATE" in shown
    np.savez(tmp_path / "bad.npz", x=x)
    refused = fluidc("audit", sound, "--data", tmp_path / "bad.npz")
    assert refused.exit_code == 1
    assert "'label' is not fed" in refused.stderr


def test_a_reference_artifact_is_audited_too(tmp_path: Path) -> None:
    artifact = Artifact.read(compiled(tmp_path, target="reference"))
    mechanism = Compiled(artifact, choose_engine(artifact, None))
    found = responses(mechanism, np.random.default_rng(0))
    # SGD: the parameter moves by -rate / L of the noisy sum.
    assert {name: r and r.state for name, r in found.items()} == {name: name for name in found}
    assert [r and r.gain for r in found.values()] == pytest.approx([-0.5 / 16] * 4, rel=1e-5)


def test_a_plain_artifact_is_refused(tmp_path: Path) -> None:
    result = fluidc("audit", compiled(tmp_path, "SGD(learning_rate=0.1)", "reference"))
    assert result.exit_code == 1
    assert "error: this is an ordinary program: there is no private mechanism to audit" in result.stderr
    assert "Dpsgd" in result.stderr


# -- broken builds ----------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def half_the_noise(patch: pytest.MonkeyPatch) -> None:
    rule = dp.AddNoise.to_tvm
    patch.setattr(dp.AddNoise, "to_tvm", lambda op, *args: rule(replace(op, sigma=op.sigma / 2), *args))


def one_stream(patch: pytest.MonkeyPatch) -> None:
    rule = dp.AddNoise.to_tvm
    patch.setattr(dp.AddNoise, "to_tvm", lambda op, *args: rule(replace(op, tensor=0), *args))


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    rule = dp.ClipFactor.to_tvm
    patch.setattr(dp.ClipFactor, "to_tvm", lambda op, *args: rule(replace(op, clip=1e6), *args))


def too_loose(patch: pytest.MonkeyPatch) -> None:
    """By one part in a thousand: twice what the slack of the sums allows."""
    rule = dp.ClipFactor.to_tvm
    patch.setattr(dp.ClipFactor, "to_tvm", lambda op, *args: rule(replace(op, clip=op.clip * 1.001), *args))


def every_row_lives(patch: pytest.MonkeyPatch) -> None:
    def to_tvm(op: dp.ClipFactor, t: Any, terms: Any, mask: Any) -> Any:
        return t.pointwise(lambda live: t.const(0.01, DType.F32), mask, dtype=DType.F32)

    patch.setattr(dp.ClipFactor, "to_tvm", to_tvm)


def one_key(patch: pytest.MonkeyPatch) -> None:
    """The noise follows the number of the draw alone."""
    rule = dp.AddNoise.to_tvm

    def to_tvm(op: dp.AddNoise, t: Any, total: Any, c: Any, key: Any, draw: Any) -> Any:
        known = t.compute((8,), op.key.type.dtype, lambda i: t.const(0, op.key.type.dtype))
        return rule(op, t, total, c, known, draw)

    patch.setattr(dp.AddNoise, "to_tvm", to_tvm)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (half_the_noise, "noise variance"),
        (one_stream, "noise independence"),
        (no_clipping, "one example's change"),
        (too_loose, "one example's change"),
        (every_row_lives, "masked rows"),
        (one_key, "repeated noise"),
    ],
)
def test_a_broken_build_fails(broken: Patch, check: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        broken(patch)
        artifact = compiled(tmp_path)
    code, report, shown = audited(artifact)
    assert code == 1
    assert not report["passed"]
    assert verdicts(report)[check] == "failed", shown
    assert shown.splitlines()[-1].startswith("FAILED: ")
    assert check in shown.splitlines()[-1]
    assert not report["mutants"]


# -- the bound of the canary ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "share"), [(1.0, 1.0), (2.0, 1.0), (4.0, 1.0)])
def test_the_bound_on_mu_holds_for_sound_noise_and_catches_half_of_it(sigma: float, share: float) -> None:
    random = np.random.default_rng(3)

    def bound(noise: float) -> float:
        n = 20_000
        alarms = int((random.normal(0, noise, n) > 0.5).sum())
        misses = int((random.normal(1, noise, n) <= 0.5).sum())
        return mu_bound(alarms, misses, n)

    assert bound(sigma * share) <= 1 / sigma
    assert bound(sigma / 2) > 1 / sigma
    assert 0.5 < least_noise(sigma, 1.0, 20_000) < 1.0


def test_without_noise_mu_is_as_large_as_the_releases_can_tell() -> None:
    assert mu_bound(0, 0, 2_000) == pytest.approx(4.9, abs=0.2)
    assert mu_bound(2_000, 2_000, 2_000) < -4
    assert FOR_MUTANTS.trials == 1_000
