"""Attacks on what the runtime releases: a white-box audit with one canary, and an audit of one run with a thousand.

Sources: Nasr et al. (USENIX Security'23) for the bound on μ; Steinke, Nasr, Jagielski (NeurIPS'23), Theorem 5.2, for
many canaries in one run.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import broken
import numpy as np
import pytest
from private_runs import MASTER, Program_, classifier, compiled, dpsgd
from scipy import stats

import fluidc.frontend as fluid
from fluidc.frontend.audit.canary import canary_check
from fluidc.frontend.audit.checks import FULL
from fluidc.frontend.audit.mechanism import Compiled
from fluidc.frontend.audit.noise import responses
from fluidc.frontend.audit.rows import Rows
from fluidc.runtime.errors import PrivacyWarning
from fluidc.runtime.keystream import insecure_key
from fluidc.runtime.session import Session

L: Any = fluid.layers
CANARIES, DELTA, EPSILON = 1000, 1e-5, 1.0


# -- one canary -------------------------------------------------------------------------------------------------------


def canary(sigma: float, trials: int) -> Any:
    """The canary check of ``fluidc audit`` on the classifier with this noise."""
    program = compiled(classifier, "cpu", 16, dpsgd(sigma=sigma))
    mechanism = Compiled(program.artifact, program.engine())
    random = np.random.default_rng(5)
    rows = Rows(program.artifact.manifest, mechanism.batch, random, None)
    effort = dataclasses.replace(FULL, trials=trials)
    (found,) = canary_check(mechanism, rows, responses(mechanism, random), effort, random)
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_a_canary_tells_no_more_than_was_accounted(sigma: float) -> None:
    """20,000 releases with and as many without: half the noise would show for all three σ."""
    found = canary(sigma, 20_000)
    assert found.verdict == "passed", found
    assert found.values["mu"] <= 1.0 / sigma * (1 + 2**-10)
    assert found.values["detectable"] > 0.5
    assert found.values["strength"] > 0.99


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("sigma", "share", "trials"),
    [
        (1.0, 0.5**0.5, 20_000),
        (2.0, 0.5**0.5, 20_000),
        (4.0, 0.5, 20_000),
        (1.0, 0.9, 200_000),
        (2.0, 0.9, 200_000),
    ],
)
def test_a_canary_finds_builds_with_less_noise(
    sigma: float, share: float, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = broken.AddNoise.to_tvm
    monkeypatch.setattr(
        broken.AddNoise, "to_tvm", lambda op, *args: lower(dataclasses.replace(op, sigma=op.sigma * share), *args)
    )
    assert canary(sigma, trials).verdict == "failed"


# -- one run ----------------------------------------------------------------------------------------------------------


def dirac(sigma: float | None) -> Program_:
    """One parameter of a thousand numbers; the gradient of example i is a multiple of the i-th unit vector."""

    def build() -> Any:
        x = L.data("x", [CANARIES])
        return L.mean(L.fc(x, 1, bias_attr=False, param_attr=fluid.initializer.Constant(0.0)))

    def optimizer() -> Any:
        noise: dict[str, Any] = {"epsilon": EPSILON} if sigma is None else {"sigma": sigma}
        return fluid.optimizer.Dpsgd(
            1.0, 1.0, 500.0, dataset_size=1000, delta=DELTA, max_steps=4, **noise
        )  # fmt: skip

    return compiled(build, "cpu", 512, optimizer)


def epsilon_bound(guesses: int, right: int, delta: float, confidence: float, canaries: int) -> float:
    """The largest ε that ``right`` of ``guesses`` refute, for (ε, δ) (Theorem 5.2 with its term in δ)."""

    def probability(epsilon: float) -> float:
        """An upper bound on the chance of so many right guesses."""
        p = 1 / (1 + math.exp(-epsilon))
        tail = float(stats.binom.sf(right - 1, guesses, p))
        alpha, total = 0.0, 0.0
        for i in range(1, right + 1):
            total += float(stats.binom.pmf(right - i, guesses, p))
            alpha = max(alpha, total / i)
            if i > 400:
                break
        return tail + 2 * canaries * delta * alpha

    low, high = 0.0, 30.0
    if probability(0.0) >= 1 - confidence:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < 1 - confidence else (low, middle)
    return low


def one_run(program: Program_, seed: int, run_dir: Path, secret: bytes | None) -> tuple[int, int]:
    """Train once on a random half of the canaries; guess those of the largest and smallest weights, 100 each."""
    included = np.random.default_rng(seed).random(CANARIES) < 0.5
    data = {"x": 5 * np.eye(CANARIES, dtype=np.float32)[included]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrivacyWarning)
        session = Session.load(program.artifact, program.engine(), seed=1, insecure_noise_key=secret)
        session.train(data, run_dir=run_dir)
    spec = session.model.manifest.privacy
    assert spec is not None
    moved = -session.model.state[spec.parameters[0]].ravel()
    order = np.argsort(moved)
    right = int(included[order[-100:]].sum()) + int((~included[order[:100]]).sum())
    return 200, right


@pytest.fixture(scope="module")
def sound() -> Program_:
    return dirac(None)


def test_one_run_refutes_nothing_that_was_promised(sound: Program_, tmp_path: Path) -> None:
    """The calibrated build at ε = 1: wrong with probability 1e-6 only."""
    guesses, right = one_run(sound, 0, tmp_path, insecure_key(MASTER, "step", 1))
    assert epsilon_bound(guesses, right, DELTA, 1 - 1e-6, CANARIES) <= EPSILON


def test_the_bound_of_one_run() -> None:
    """No guess refutes ε = 0 where half are right; all of 200 refute every ε up to -log(0.05^(-1/200) - 1)."""
    assert epsilon_bound(200, 100, 0.0, 0.95, CANARIES) == 0.0
    assert epsilon_bound(200, 200, 0.0, 0.95, CANARIES) == pytest.approx(-math.log(0.05 ** (-1 / 200) - 1), rel=1e-3)


@pytest.mark.nightly
def test_one_run_twenty_times(sound: Program_, tmp_path: Path) -> None:
    for seed in range(20):
        guesses, right = one_run(sound, seed, tmp_path / str(seed), None)
        assert epsilon_bound(guesses, right, DELTA, 1 - 1e-6, CANARIES) <= EPSILON, seed


def without_noise(patch: pytest.MonkeyPatch) -> None:
    lower = broken.AddNoise.to_tvm
    patch.setattr(
        broken.AddNoise, "to_tvm", lambda op, *args: lower(dataclasses.replace(op, sigma=op.sigma * 1e-6), *args)
    )


@pytest.mark.parametrize("change", [without_noise, broken.no_clip], ids=["no noise", "no clip"])
@pytest.mark.parametrize("seeds", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_one_run_finds_broken_builds(change: broken.Patch, seeds: int, tmp_path: Path) -> None:
    """Gradients are five and more times the bound where they are not clipped."""
    with pytest.MonkeyPatch.context() as patch:
        change(patch)
        program = dirac(None)
    found = 0
    for seed in range(seeds):
        secret = None if seeds == 20 else insecure_key(MASTER, "step", seed)
        guesses, right = one_run(program, seed, tmp_path / str(seed), secret)
        found += epsilon_bound(guesses, right, DELTA, 0.95, CANARIES) > EPSILON
    assert found >= 0.9 * seeds
