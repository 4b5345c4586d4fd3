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
from fluidc.compiler.ops import dp, dp_noise, grid
from fluidc.frontend.audit.canary import least_noise, mu_bound
from fluidc.frontend.audit.checks import FOR_MUTANTS
from fluidc.frontend.audit.mechanism import Compiled, Group
from fluidc.frontend.audit.neighbours import distance
from fluidc.frontend.audit.noise import responses, unrounded
from fluidc.frontend.audit.rows import Rows
from fluidc.frontend.audit.run import checks_of
from fluidc.frontend.cli import main
from fluidc.frontend.cli.engines import choose_engine
from fluidc.runtime import stepper
from fluidc.runtime.artifact import Artifact

SCRIPT = """
import fluidc.frontend as fluid

x = fluid.layers.data(name="x", shape=[5], dtype="float32")
label = fluid.layers.data(name="label", shape=[1], dtype="int64")
hidden = fluid.layers.fc(x, size=8, act="tanh")
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(hidden, size=3), label))
fluid.optimizer.{optimizer}.minimize(loss)
"""
STATED = "batch_size=16.0, sigma=1.0, max_steps=12, dataset_size=90, delta=1e-3)"
DPSGD = "Dpsgd(learning_rate=0.5, clip=0.7, " + STATED
GROUPS = (
    "DpOptimizer(fluid.optimizer.Momentum(0.1, 0.9), clip={'fc_0.*': 0.5, 'fc_1.*': 1.0}, clipping='per-group', "
    + STATED
)
QUANTILE = "DpOptimizer(fluid.optimizer.Adam(0.01), clip=0.7, clipping='quantile', " + STATED
DISCRETE = DPSGD[:-1] + ", mechanism='discrete')"
COARSE = DPSGD[:-1] + ", mechanism='discrete', clipping_options={'grid_bits': 5})"
ADAGRAD = "DpOptimizer(fluid.optimizer.Adagrad(0.01), clip=0.7, " + STATED

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
    assert next(iter(verdicts(report))) == "certificate"
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


@pytest.mark.parametrize("target", ["reference", "onnx"])
def test_artifacts_for_other_targets_are_audited_too(target: str, tmp_path: Path) -> None:
    artifact = Artifact.read(compiled(tmp_path, target=target))
    mechanism = Compiled(artifact, choose_engine(artifact, None))
    found = responses(mechanism, np.random.default_rng(0))
    # SGD: the parameter moves by -rate / L of the noisy sum.
    assert {name: r and r.state for name, r in found.items()} == {name: name for name in found}
    assert [r and r.gain for r in found.values()] == pytest.approx([-0.5 / 16] * 4, rel=1e-5)


def test_groups_and_the_velocity_of_momentum_are_measured(tmp_path: Path) -> None:
    path = compiled(tmp_path, GROUPS)
    artifact = Artifact.read(path)
    mechanism = Compiled(artifact, choose_engine(artifact, None))
    assert [(sorted(group.parameters), group.clip) for group in mechanism.groups] == [
        (["fc_0.b_0", "fc_0.w_0"], 0.5), (["fc_1.b_0", "fc_1.w_0"], 1.0),
    ]  # fmt: skip
    assert [group.std for group in mechanism.groups] == pytest.approx([0.5 * 2**0.5, 2**0.5])
    found = responses(mechanism, np.random.default_rng(0))
    # A bias starts at zero, so it moves as exactly as its velocity does.
    assert all(r is not None and (name.endswith("b_0") or "velocity" in r.state) for name, r in found.items())
    code, report, shown = audited(path)
    assert code == 0, shown
    assert set(verdicts(report).values()) <= {"passed", "not measured"}
    assert verdicts(report)["noise variance"] == verdicts(report)["canary"] == "passed"


def test_quantile_clipping_is_measured_with_the_noise_of_its_count(tmp_path: Path) -> None:
    path = compiled(tmp_path, QUANTILE)
    artifact = Artifact.read(path)
    mechanism = Compiled(artifact, choose_engine(artifact, None))
    gradients, count = mechanism.groups
    assert (gradients.clip, count.clip) == (pytest.approx(0.7), 0.5)
    # Together they cost what sigma alone would.
    assert (gradients.clip / gradients.std) ** 2 + (count.clip / count.std) ** 2 == pytest.approx(1.0)
    found = responses(mechanism, np.random.default_rng(0))
    assert all(r is not None for r in found.values())
    assert sum(r is not None and "moment1" in r.state for r in found.values()) == 4
    code, report, shown = audited(path)
    assert code == 0, shown
    assert verdicts(report)["noise variance"] == verdicts(report)["canary"] == "passed"


def test_integers_are_measured_in_units_of_the_grid(tmp_path: Path) -> None:
    path = compiled(tmp_path, DISCRETE)
    artifact = Artifact.read(path)
    mechanism = Compiled(artifact, choose_engine(artifact, None))
    (group,) = mechanism.groups
    assert (group.clip, group.std) == (2.0**20, 2.0**20)
    code, report, shown = audited(path)
    assert code == 0, shown
    assert set(verdicts(report).values()) == {"passed"}
    values = {check["name"]: check["values"] for check in report["checks"]}
    assert 1 - 2**-9 < values["one example's change"]["largest"] <= values["one example's change"]["bound"] == 1
    assert values["influence on other rows"]["bound"] == 0
    assert values["canary"]["mu"] <= values["canary"]["bound"] == 1
    assert all(mutant["killed_by"] for mutant in report["mutants"])
    assert "broken copies: 14 of 14 caught" in shown


def test_the_noise_of_a_coarse_grid_has_the_law_of_the_rounded_gaussian(tmp_path: Path) -> None:
    """At 2^5 units, sigma 1: rounding to whole units is far from a Gaussian, and passes; other integers do not."""
    artifact = Artifact.read(compiled(tmp_path, COARSE, "reference"))
    mechanism = Compiled(artifact, choose_engine(artifact, None))
    rows = Rows(mechanism.manifest, mechanism.batch, np.random.default_rng(0), None)
    found = {check.name: check for check in checks_of(mechanism, rows, FOR_MUTANTS)}
    assert {check.verdict for check in found.values()} == {"passed"}, found
    assert "stretches of 10 values" in found["repeated noise"].measured


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0, 32.0])
def test_rounded_noise_is_held_to_its_own_law(scale: float) -> None:
    random, stats = np.random.default_rng(1), pytest.importorskip("scipy.stats")
    exact = np.rint(scale * random.normal(size=200_000)) / scale
    assert stats.kstest(unrounded(exact, scale, random), "norm").pvalue > 1e-9
    assert stats.kstest(exact, "norm").pvalue < 1e-9
    assert stats.kstest(unrounded(np.trunc(exact * scale * 0.9) / scale, scale, random), "norm").pvalue < 1e-9


def test_lengths_of_integers_are_exact() -> None:
    group = Group(("w",), 2.0**30, 1.0)
    zeros = {"w": np.zeros(2, np.int64)}
    for values, length in (([2**30, 0], 2.0**30), ([2**30, 1], 2.0**30 + 1), ([-(2**30), 0], 2.0**30), ([3, 4], 5.0)):
        assert distance({"w": np.array(values)}, zeros, group) == length


def test_an_optimizer_that_hides_its_noise_is_said_to(tmp_path: Path) -> None:
    code, report, shown = audited(compiled(tmp_path, ADAGRAD))
    assert code == 0, shown
    assert verdicts(report)["noise variance"] == verdicts(report)["canary"] == "not measured"
    assert verdicts(report)["apply = program text"] == "passed"
    assert "passed; not measured: noise variance, canary" in shown
    assert sum(bool(mutant["skipped"]) for mutant in report["mutants"]) == 7


def test_a_plain_artifact_is_refused(tmp_path: Path) -> None:
    result = fluidc("audit", compiled(tmp_path, "SGD(learning_rate=0.1)", "reference"))
    assert result.exit_code == 1
    assert "error: this is an ordinary program: there is no private mechanism to audit" in result.stderr
    assert "Dpsgd" in result.stderr


# -- broken builds ----------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def half_the_noise(patch: pytest.MonkeyPatch) -> None:
    rule = dp_noise.AddNoise.to_tvm
    patch.setattr(dp_noise.AddNoise, "to_tvm", lambda op, *args: rule(replace(op, sigma=op.sigma / 2), *args))


def one_stream(patch: pytest.MonkeyPatch) -> None:
    rule = dp_noise.AddNoise.to_tvm
    patch.setattr(dp_noise.AddNoise, "to_tvm", lambda op, *args: rule(replace(op, tensor=0), *args))


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    rule = dp.ClipFactor.to_tvm
    patch.setattr(dp.ClipFactor, "to_tvm", lambda op, *args: rule(replace(op, clip=1e6), *args))


def too_loose(patch: pytest.MonkeyPatch) -> None:
    """By one part in a thousand: twice what the slack of the sums allows."""
    rule = dp.ClipFactor.to_tvm
    patch.setattr(dp.ClipFactor, "to_tvm", lambda op, *args: rule(replace(op, clip=op.clip * 1.001), *args))


def every_row_lives(patch: pytest.MonkeyPatch) -> None:
    def to_tvm(op: dp.ClipFactor, t: Any, terms: Any, mask: Any, bound: Any) -> Any:
        return t.pointwise(lambda live: t.const(0.01, DType.F32), mask, dtype=DType.F32)

    patch.setattr(dp.ClipFactor, "to_tvm", to_tvm)


def one_key(patch: pytest.MonkeyPatch) -> None:
    """The noise follows the number of the draw alone."""
    rule = dp_noise.AddNoise.to_tvm

    def to_tvm(op: dp_noise.AddNoise, t: Any, total: Any, c: Any, key: Any, *rest: Any) -> Any:
        known = t.compute((8,), op.key.type.dtype, lambda i: t.const(0, op.key.type.dtype))
        return rule(op, t, total, c, known, *rest)

    patch.setattr(dp_noise.AddNoise, "to_tvm", to_tvm)


def groups_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Each of two groups gets the noise of one."""
    rule = dp_noise.AddNoise.to_tvm
    patch.setattr(dp_noise.AddNoise, "to_tvm", lambda op, *args: rule(replace(op, groups=1), *args))


def count_for_free(patch: pytest.MonkeyPatch) -> None:
    """Gradients get sigma, as if the count of quantile clipping cost nothing."""
    rule = dp_noise.AddNoise.to_tvm
    patch.setattr(
        dp_noise.AddNoise,
        "to_tvm",
        lambda op, *args: rule(replace(op, sigma=1.0) if op.bound is not None else op, *args),
    )


def untold(patch: pytest.MonkeyPatch) -> None:
    """The compiled noise is a tenth under an optimizer in whose state it cannot be measured."""
    rule = dp_noise.AddNoise.to_tvm
    patch.setattr(dp_noise.AddNoise, "to_tvm", lambda op, *args: rule(replace(op, sigma=op.sigma / 10), *args))


def half_the_integers(patch: pytest.MonkeyPatch) -> None:
    rule = grid.GridMean.to_tvm

    def to_tvm(op: grid.GridMean, t: Any, total: Any, c: Any, noise: Any) -> Any:
        return rule(op, t, total, c, t.pointwise(lambda y: y // 2, noise, dtype=DType.I64))

    patch.setattr(grid.GridMean, "to_tvm", to_tvm)


def no_check_of_integers(patch: pytest.MonkeyPatch) -> None:
    """Float factors are a little too large, and nobody looks at the integers."""
    no_clipping(patch)
    patch.setattr(grid.GridLive, "to_tvm", lambda op, t, terms, c: t.pointwise(lambda x: x, c, dtype=DType.F32))


def one_unit_too_many(patch: pytest.MonkeyPatch) -> None:
    """Rounding away from zero after the check: the norm passes K by the dimension's share of a unit."""
    patch.setattr(dp.ClipFactor, "to_tvm", _to_the_bound(dp.ClipFactor.to_tvm))
    rule = grid.GridSum.integer_tvm

    def away(op: grid.GridSum, t: Any, g: Any, c: Any) -> Any:
        whole, fits = rule(op, t, g, c)
        return t.select(g > 0.0, whole + 1, whole), fits

    patch.setattr(grid.GridSum, "integer_tvm", away)


def _to_the_bound(rule: Any) -> Any:
    return lambda op, *args: rule(replace(op, clip=op.clip / grid.TARGET * (1 - 1e-7)), *args)


@pytest.mark.parametrize(
    ("broken", "check", "optimizer"),
    [
        (half_the_noise, "noise variance", DPSGD),
        (one_stream, "noise independence", DPSGD),
        (no_clipping, "one example's change", DPSGD),
        (too_loose, "one example's change", DPSGD),
        (every_row_lives, "masked rows", DPSGD),
        (one_key, "repeated noise", DPSGD),
        (groups_forgotten, "noise variance", GROUPS),
        (count_for_free, "noise variance", QUANTILE),
        (untold, "apply = program text", ADAGRAD),
        (half_the_integers, "noise variance", DISCRETE),
        (no_check_of_integers, "one example's change", DISCRETE),
        (one_unit_too_many, "one example's change", DISCRETE),
    ],
)
def test_a_broken_build_fails(broken: Patch, check: str, optimizer: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        broken(patch)
        artifact = compiled(tmp_path, optimizer)
    code, report, shown = audited(artifact)
    assert code == 1
    assert not report["passed"]
    assert verdicts(report)[check] == "failed", shown
    assert shown.splitlines()[-1].startswith("FAILED: ")
    assert check in shown.splitlines()[-1]
    assert not report["mutants"]


Draw = Callable[..., np.ndarray]


def half_as_wide(rule: Draw) -> Draw:
    return lambda key, **fields: rule(key, **{**fields, "scale": fields["scale"] / 2})


def one_tensor(rule: Draw) -> Draw:
    return lambda key, **fields: rule(key, **{**fields, "tensor": 0})


def known_key(rule: Draw) -> Draw:
    return lambda key, **fields: rule(bytes(32), **fields)


def eighths(rule: Draw) -> Draw:
    """Right in variance, wrong in law: every value is a multiple of an eighth of sigma."""
    return lambda key, **fields: rule(key, **{**fields, "scale": 8.0}) * int(fields["scale"] / 8)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (half_as_wide, "noise variance"),
        (one_tensor, "noise independence"),
        (known_key, "repeated noise"),
        (eighths, "noise distribution (KS)"),
    ],
)
def test_integers_that_the_runtime_draws_wrongly_are_noticed(
    broken: Callable[[Draw], Draw], check: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = compiled(tmp_path, DISCRETE, "reference")
    monkeypatch.setattr(stepper, "rounded_gaussian", broken(stepper.rounded_gaussian))
    code, report, shown = audited(path)
    assert code == 1
    assert verdicts(report)[check] == "failed", shown


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
