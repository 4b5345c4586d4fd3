"""The accountant: reference values, calibration, refusals, the table and its cache."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fluidc.compiler.errors import PrivacyError
from fluidc.compiler.privacy import (
    Cache,
    EpsilonTable,
    Mechanism,
    compose,
    epsilon,
    epsilon_report,
    inclusion_threshold,
    rdp_epsilon,
    resolve,
)
from fluidc.compiler.privacy.cache import user_cache
from fluidc.compiler.privacy.mechanism import RELATIONS, SAMPLERS
from fluidc.compiler.privacy.table import epsilon_table
from fluidc.runtime.privacy import EpsilonEntry, PrivacySpec

NOWHERE = Cache(None)


def poisson(q: float, noise: float, adjacency: str = "add-remove") -> Mechanism:
    return Mechanism("poisson", adjacency, inclusion_threshold(q), noise)  # pyright: ignore[reportArgumentType]


# q, σ, T, δ → ε by RDP, by PLD under add/remove and under replace-one; dp-accounting 0.6.0 called directly on
# events at the default settings.
REFERENCE = [
    (0.01, 4, 10000, 1e-5, 1.0354900661, 0.9469993060, 1.9931943782),
    (0.01, 2, 10000, 1e-5, 2.3529131288, 2.1627736452, 4.3960737332),
    (256 / 60000, 1.1, 14062, 1e-5, 2.5965558698, 2.3816860032, 4.2213577967),
    (64 / 60000, 1.0, 9375, 1e-5, 0.8034885853, 0.4936881327, 0.8211982502),
    (64 / 1437, 1.0, 225, 1e-4, 4.2962880965, 3.7384005980, 5.7857165338),
    (256 / 1437, 2.0, 337, 1e-4, 8.3848273523, 7.6272825117, 16.5190353014),
    (256 / 1437, 1.0, 100, 1e-4, 12.5884518173, 11.1487318765, 18.4653362712),
    (64 / 455, 1.5, 200, 1e-3, 6.0666041221, 5.3275426727, 10.8242827320),
    (1, 5, 100, 1e-5, 10.7255096964, 9.9972561502, 24.3816108839),
    (1, 1, 1, 1e-5, 4.7285070672, 4.3771781000, 9.9972561502),
    (0.01, 1, 1, 1e-5, 0.9555491480, 0.1994504735, 0.2093715765),
    (0.01, 0.5, 1000, 1e-5, 15.4721334182, 13.3608256835, 15.1613613002),
    (0.05, 10, 2000, 1e-6, 1.0222440244, 0.9472867628, 1.9940699555),
    (4096 / 45000, 3, 1156, 1e-5, 5.1529403133, 4.7587979192, 10.3410494225),
    (1e-4, 0.8, 100000, 1e-6, 1.0694926405, 0.2488223445, 0.3820535528),
]


@pytest.mark.parametrize("row", [pytest.param(r, marks=pytest.mark.nightly) if r == 11 else r for r in range(15)])
def test_reference_table_add_remove(row: int) -> None:
    q, sigma, steps, delta, rdp, pld, _ = REFERENCE[row]
    runs = [(poisson(q, sigma), steps)]
    assert epsilon(runs, delta) == pytest.approx(pld, abs=1e-3)
    cross = rdp_epsilon(runs, delta)
    assert cross == pytest.approx(rdp, rel=1e-3)
    assert cross >= pld - 1e-3


@pytest.mark.parametrize(
    "row",
    [r if r in (0, 1, 8, 9, 10, 12) else pytest.param(r, marks=pytest.mark.nightly) for r in range(15)],
)
def test_reference_table_replace_one(row: int) -> None:
    q, sigma, steps, delta, _, _, pld = REFERENCE[row]
    mechanism = poisson(q, sigma, "replace-one")
    assert epsilon([(mechanism, steps)], delta) == pytest.approx(pld, abs=1e-3)
    if q < 1:
        assert rdp_epsilon([(mechanism, steps)], delta) is None


def test_phases_with_different_rates() -> None:
    phases = [(poisson(0.01, 1.0), 500), (poisson(0.02, 1.5), 500)]
    assert epsilon(phases, 1e-5) == pytest.approx(1.8974829555, abs=1e-4)
    assert rdp_epsilon(phases, 1e-5) == pytest.approx(2.1476683416, abs=1e-3)


@pytest.mark.parametrize(
    ("sigma", "epochs", "pld", "rdp"),
    [(1.0, 10, 17.8565868, 19.0535975), (2.0, 10, 7.5112759, 8.0794064), (1.1, 60, 54.0458181, 56.9504532)],
)
def test_shuffle_has_no_amplification(sigma: float, epochs: int, pld: float, rdp: float) -> None:
    mechanism = Mechanism("shuffle", "zero-out", inclusion_threshold(0.05), sigma, steps_per_epoch=20)
    runs = [(mechanism, 20 * epochs)]
    assert epsilon(runs, 1e-5) == pytest.approx(pld, abs=1e-4)
    assert rdp_epsilon(runs, 1e-5) == pytest.approx(rdp, abs=1e-4)


def test_shuffle_under_replace_one_costs_as_half_the_noise() -> None:
    mechanism = Mechanism("shuffle", "replace-one", inclusion_threshold(0.05), 1.0, steps_per_epoch=20)
    bound = epsilon([(mechanism, 200)], 1e-5)
    assert bound == pytest.approx(46.21121, abs=1e-4)
    cross = rdp_epsilon([(mechanism, 200)], 1e-5)
    assert cross is not None
    assert bound < cross < 1.1 * bound


def test_a_begun_epoch_counts() -> None:
    mechanism = Mechanism("balls", "add-remove", inclusion_threshold(0.1), 2.0, steps_per_epoch=10)
    assert [mechanism.releases(n) for n in (0, 1, 10, 11, 20)] == [0, 1, 1, 2, 2]
    assert epsilon([(mechanism, 1)], 1e-5) == epsilon([(mechanism, 10)], 1e-5)
    assert epsilon([(mechanism, 11)], 1e-5) > epsilon([(mechanism, 10)], 1e-5)


def test_closed_form_equals_the_loss_distribution() -> None:
    # A second phase with a rate just below 1 sends both through the PLD; at rate 1 the closed form is used.
    below = Mechanism("poisson", "add-remove", (1 << 32) - 1, 5.0)
    assert epsilon([(poisson(1, 5.0), 100)], 1e-5) == pytest.approx(9.9972561464, abs=1e-6)
    assert epsilon([(poisson(1, 5.0), 99), (below, 1)], 1e-5) == pytest.approx(9.9972561464, abs=1e-3)


def test_epsilon_is_monotone() -> None:
    def of(q: float, noise: float, steps: int, delta: float) -> float:
        return epsilon([(poisson(q, noise), steps)], delta)

    base = of(0.01, 2.0, 1000, 1e-5)
    assert of(0.01, 2.0, 1100, 1e-5) > base
    assert of(0.012, 2.0, 1000, 1e-5) > base
    assert of(0.01, 1.9, 1000, 1e-5) > base
    assert of(0.01, 2.0, 1000, 1e-6) > base


def test_composition_adds_up() -> None:
    mechanism = poisson(0.01, 2.0)
    joint = compose([(mechanism, 400), (mechanism, 600)], 1e-5)
    assert joint == pytest.approx(epsilon([(mechanism, 1000)], 1e-5), abs=1e-4)
    assert joint > epsilon([(mechanism, 600)], 1e-5)
    assert compose([], 1e-5) == 0.0


def test_runs_of_different_adjacencies_do_not_compose() -> None:
    shuffled = Mechanism("shuffle", "zero-out", inclusion_threshold(0.05), 3.0, steps_per_epoch=20)
    runs = [(poisson(0.01, 2.0), 100), (shuffled, 20)]
    with pytest.raises(PrivacyError, match="different adjacencies: add-remove, zero-out"):
        compose(runs, 1e-5)
    joint = compose(runs, 1e-5, "replace-one")
    assert joint > epsilon([(replace(shuffled, adjacency="replace-one"), 20)], 1e-5)


# Arguments → σ, by bisection with dp-accounting to 1e-4.
@pytest.mark.parametrize(
    ("q", "steps", "target", "sigma"),
    [
        (0.01, 1000, 2.0, 0.95920),
        (0.1, 100, 8.0, 0.93595),
        pytest.param(256 / 60000, 14040, 3.0, 0.96809, marks=pytest.mark.nightly),
    ],
)
def test_sigma_is_calibrated(q: float, steps: int, target: float, sigma: float) -> None:
    plan = resolve(clip=1.0, lot=10, sample_rate=q, max_steps=steps, epsilon=target, delta=1e-5, slack=0, cache=NOWHERE)
    assert plan.budget is not None
    assert plan.sigma == pytest.approx(sigma, abs=2e-4)
    assert target * (1 - 1e-3) <= plan.budget.epsilon <= target
    assert plan.budget.epsilon == epsilon([(plan.budget.mechanism, steps)], 1e-5)


@pytest.mark.parametrize("spent", [50, 400])
def test_sigma_leaves_room_for_earlier_runs(spent: int) -> None:
    prior = [(poisson(0.01, 1.0), spent)]
    plan = resolve(
        clip=1.0, lot=10, sample_rate=0.01, max_steps=500, epsilon=2.0, delta=1e-5, slack=0, cache=NOWHERE, prior=prior
    )
    assert plan.budget is not None
    assert plan.joint is not None
    assert plan.joint == epsilon([*prior, (plan.budget.mechanism, 500)], 1e-5)
    assert 2.0 * (1 - 1e-3) <= plan.joint <= 2.0
    assert plan.budget.epsilon == epsilon([(plan.budget.mechanism, 500)], 1e-5) < 2.0


def test_steps_leave_room_for_earlier_runs() -> None:
    def of(prior: list[tuple[Mechanism, int]]):
        plan = resolve(
            clip=1.0, lot=10, sample_rate=0.01, sigma=1.0, epsilon=2.0, delta=1e-5, slack=0, cache=NOWHERE, prior=prior
        )
        assert plan.max_steps is not None
        return plan.max_steps, plan.joint

    alone, none = of([])
    assert none is None
    # The same mechanism as before: what is left is the difference.
    after, joint = of([(poisson(0.01, 1.0), 300)])
    assert after == pytest.approx(alone - 300, rel=2e-3)
    assert joint is not None
    assert 2.0 * (1 - 1e-3) <= joint <= 2.0


def test_earlier_runs_that_used_up_the_budget() -> None:
    def given(prior: list[tuple[Mechanism, int]], sigma: float | None = None):
        return resolve(
            clip=1, lot=9, sample_rate=1, delta=1e-5, epsilon=9, sigma=sigma, max_steps=100, cache=NOWHERE, prior=prior
        )

    with pytest.raises(PrivacyError, match=r"earlier runs alone cost epsilon=9.99.*nothing is left of epsilon=9"):
        given([(poisson(1, 5.0), 100)])
    with pytest.raises(PrivacyError, match=r"costs epsilon=[\d.]+ with the earlier runs at delta=1e-05, more than"):
        given([(poisson(1, 7.0), 100)], sigma=7.0)
    shuffled = Mechanism("shuffle", "zero-out", inclusion_threshold(0.05), 30.0, steps_per_epoch=20)
    with pytest.raises(PrivacyError, match="different adjacencies"):
        given([(shuffled, 20)])


def test_slack_is_paid_for_in_noise() -> None:
    plan = resolve(clip=1.0, lot=10, sample_rate=1, max_steps=100, epsilon=8, delta=1e-4, cache=NOWHERE)
    assert plan.budget is not None
    assert plan.budget.mechanism.noise == plan.sigma / (1 + 2**-10)
    assert plan.sigma == pytest.approx(5.43076 * (1 + 2**-10), rel=1e-4)
    assert plan.budget.epsilon <= 8


def test_full_batch_is_fast() -> None:
    resolve(clip=1.0, lot=9, sample_rate=1, max_steps=9, epsilon=8, delta=1e-4, cache=NOWHERE)  # import
    begin = time.perf_counter()
    plan = resolve(clip=1.0, lot=1437, dataset_size=1437, sigma=5.43, max_steps=100, delta=1e-4, cache=NOWHERE)
    assert plan.budget is not None
    plan.budget.table(NOWHERE)
    assert time.perf_counter() - begin < 3
    assert plan.budget.epsilon == pytest.approx(8.01, abs=0.01)


def test_max_steps_is_the_most_that_fits() -> None:
    plan = resolve(clip=1.0, lot=64, dataset_size=1437, sigma=1.2, epsilon=2, delta=1e-4, cache=NOWHERE)
    assert plan.budget is not None
    assert plan.max_steps == plan.budget.max_steps
    assert plan.budget.epsilon <= 2
    more = math.ceil(plan.budget.max_steps * 1.001) + 1
    assert epsilon([(plan.budget.mechanism, more)], 1e-4) > 2


def test_max_steps_comes_in_whole_epochs() -> None:
    plan = resolve(clip=1, lot=100, dataset_size=1000, sigma=4, epsilon=5, delta=1e-5, sampler="shuffle", cache=NOWHERE)
    assert plan.budget is not None
    assert plan.budget.max_steps % 10 == 0
    assert plan.budget.max_epochs == plan.budget.max_steps // 10
    step = plan.budget.mechanism
    assert epsilon([(step, plan.budget.max_steps)], 1e-5) <= 5
    assert epsilon([(step, plan.budget.max_steps + 1)], 1e-5) > 5


def test_all_three_are_checked_against_each_other() -> None:
    def given(target: float):
        return resolve(clip=1, lot=9, sample_rate=1, sigma=5, max_steps=100, epsilon=target, delta=1e-5, cache=NOWHERE)

    assert given(10.1).sigma == 5
    with pytest.raises(PrivacyError, match=r"sigma=5 over max_steps=100 costs epsilon=10.0.* more than epsilon=9"):
        given(9)


def test_rate_is_accounted_as_it_is_drawn() -> None:
    plan = resolve(clip=1, lot=64, dataset_size=1437, sigma=2, delta=1e-4, max_steps=10, cache=NOWHERE)
    assert plan.q_num == math.ceil(64 / 1437 * 2**32)
    assert plan.budget is not None
    assert plan.budget.mechanism.q >= 64 / 1437


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "unknown: dataset_size, delta and max_steps not stated"),
        ({"delta": 1e-5, "max_steps": 10}, "unknown: dataset_size not stated"),
        ({"dataset_size": 100, "max_steps": 10}, "unknown: delta not stated"),
        ({"dataset_size": 100, "delta": 1e-5}, "unknown: max_steps not stated"),
    ],
)
def test_no_accounting_without_q_delta_and_steps(arguments: dict[str, float], reason: str) -> None:
    plan = resolve(clip=1, lot=10, sigma=1.0, **arguments)  # pyright: ignore[reportArgumentType]
    assert plan.budget is None
    assert plan.reason == reason


def test_documented_defaults_are_accepted_with_warnings() -> None:
    plan = resolve(clip=0.9, lot=0.999)
    assert plan.sigma == 1e-8
    assert len(plan.warnings) == 2
    assert "batch_size=0.999" in plan.warnings[0]
    assert "not private" in plan.warnings[1]


def test_delta_not_below_one_over_n_warns() -> None:
    plan = resolve(clip=1, lot=100, dataset_size=100, sigma=20, delta=0.01, max_steps=10, cache=NOWHERE)
    assert any("1/dataset_size" in text for text in plan.warnings)


@pytest.mark.parametrize(("sigma", "warned"), [(0.45, True), (2.0, False)])
def test_a_large_epsilon_warns(sigma: float, warned: bool) -> None:
    plan = resolve(clip=1, lot=10, dataset_size=100, sigma=sigma, delta=1e-5, max_steps=50, cache=NOWHERE)
    assert plan.budget is not None
    assert (plan.budget.epsilon > 20) is warned
    assert [text.split("=")[0] for text in plan.warnings] == (["epsilon"] if warned else [])


STATED = {"clip": 1, "lot": 10, "dataset_size": 100, "sigma": 2.0, "delta": 1e-5, "max_steps": 10}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": 0}, "clip=0 is not a positive number"),
        ({"lot": -1}, "batch_size=-1 is not a positive number"),
        ({"sigma": -1.0}, "sigma=-1.0 is not a number of at least 0"),
        ({"sigma": math.nan}, "sigma=nan is not"),
        ({"epsilon": math.inf}, "epsilon=inf is not a positive number"),
        ({"max_steps": 1.5}, "max_steps=1.5 is not a whole number"),
        ({"dataset_size": 0}, "dataset_size=0 is not a whole number"),
        ({"dataset_size": 9}, "batch_size=10 is larger than dataset_size=9"),
        ({"sample_rate": 0.0}, r"sample_rate=0.0 is not in \(0, 1\]"),
        ({"sample_rate": 0.2}, "lots of about 20 examples, but batch_size=10"),
        ({"delta": 1e-13}, "delta=1e-13 is outside the range"),
        ({"delta": 1.0}, "delta=1.0 is outside the range"),
        ({"sampler": "random"}, "sampler='random' does not exist"),
        ({"adjacency": "zero"}, "adjacency='zero' does not exist"),
        ({"sampler": "shuffle", "lot": 10.5}, "not a whole number"),
        ({"sigma": 0.0}, "sigma=0 adds no noise"),
        ({"sigma": 0.3, "delta": 1e-7}, "64-bit noise alone costs delta"),
        ({"sigma": 1e-8}, "64-bit noise alone costs delta"),
        ({"sigma": None}, "neither sigma nor epsilon is stated"),
        ({"epsilon": 1.0, "delta": None}, "epsilon=1 was asked for, but delta is not stated"),
        ({"epsilon": 1.0, "max_steps": None, "sigma": None}, "asked for, but max_steps is not stated"),
        ({"epsilon": 1e-3, "max_steps": None, "sigma": 0.7}, "one step at this sigma costs epsilon="),
    ],
)
def test_refusals_say_what_where_and_what_to_do(change: dict[str, object], message: str) -> None:
    arguments = {**STATED, **change, "where": "train.py:7", "cache": NOWHERE}
    with pytest.raises(PrivacyError, match=message) as caught:
        resolve(**arguments)  # pyright: ignore[reportArgumentType]
    assert caught.value.where == "train.py:7"
    assert caught.value.hint
    assert str(caught.value).splitlines()[1] == "  at train.py:7"


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("adjacency", RELATIONS)
def test_sampler_and_adjacency_belong_together(sampler: str, adjacency: str) -> None:
    allowed = {
        ("poisson", "add-remove"),
        ("poisson", "replace-one"),
        ("balls", "add-remove"),
        ("shuffle", "zero-out"),
        ("shuffle", "replace-one"),
        ("sequential", "zero-out"),
        ("sequential", "replace-one"),
    }
    if (sampler, adjacency) in allowed:
        assert resolve(clip=1, lot=10, sigma=1.0, sampler=sampler, adjacency=adjacency).adjacency == adjacency
    else:
        with pytest.raises(PrivacyError, match="cannot be accounted under") as caught:
            resolve(clip=1, lot=10, sigma=1.0, sampler=sampler, adjacency=adjacency)
        assert "goes with" in str(caught.value)


@pytest.mark.parametrize(("noise", "cost"), [(1.0, 3e-17), (0.5, 8e-14), (0.3, 6e-10)])
def test_finite_bit_cost(noise: float, cost: float) -> None:
    assert poisson(0.5, noise).finite_bit_delta(1) == pytest.approx(cost, rel=0.2)
    assert poisson(0.5, noise).finite_bit_delta(7) == 7 * poisson(0.5, noise).finite_bit_delta(1)
    assert poisson(0.5, noise, "replace-one").finite_bit_delta(1) > poisson(0.5, noise).finite_bit_delta(1)


def test_calibration_keeps_the_finite_bit_cost_small() -> None:
    plan = resolve(clip=1, lot=1, sample_rate=1e-6, max_steps=1, epsilon=50, delta=1e-9, cache=NOWHERE)
    assert plan.budget is not None
    assert plan.budget.delta_bits <= 1e-11
    assert plan.budget.mechanism.finite_bit_delta(1) == plan.budget.delta_bits


def privacy_block(table: EpsilonTable, mechanism: Mechanism, max_steps: int, delta: float) -> PrivacySpec:
    return PrivacySpec(
        mechanism="gaussian",
        clipping="flat",
        clip=1.0,
        lot=10.0,
        sigma=mechanism.noise,
        slack=0.0,
        grid_bits=None,
        sampler=mechanism.sampler,
        adjacency=mechanism.adjacency,
        q_num=mechanism.q_num,
        delta=delta,
        max_steps=max_steps,
        steps_per_epoch=None if mechanism.sampler == "poisson" else mechanism.steps_per_epoch,
        max_epochs=None if mechanism.sampler == "poisson" else mechanism.releases(max_steps),
        table=tuple(EpsilonEntry(*entry) for entry in table.entries()),
        accounting="pld",
        reason="",
        accountant="dp-accounting",
        accountant_version="0.6",
        parameters=("w",),
        assumed_public=(),
    )


@pytest.mark.parametrize("sampler", ["poisson", "shuffle"])
def test_table_never_promises_less_than_exact(sampler: str) -> None:
    if sampler == "poisson":
        mechanism = poisson(0.02, 3.0)
    else:
        mechanism = Mechanism("shuffle", "zero-out", inclusion_threshold(0.1), 3.0, steps_per_epoch=10)
    steps, delta = 200, 3e-6
    table = epsilon_table(mechanism, steps, delta, NOWHERE)
    spec = privacy_block(table, mechanism, steps, delta)
    assert delta in table.deltas
    assert len(table.counts) == min(16, mechanism.releases(steps))
    exact = epsilon([(mechanism, steps)], delta)
    assert spec.epsilon(mechanism.releases(steps), delta) == exact
    for taken in (1, 10, 57, 150):
        for asked in (3e-6, 2e-4, 1e-9):
            bound = spec.epsilon(mechanism.releases(taken), asked)
            assert bound >= epsilon([(mechanism, taken)], asked)
    for before, after in zip(table.epsilons, table.epsilons[1:]):
        assert all(a <= b for a, b in zip(before, after))
    assert all(list(row) == sorted(row) for row in table.epsilons)


def test_cache_answers_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {**STATED, "lot": 50, "cache": Cache(tmp_path / "new" / "folder")}
    first = resolve(**arguments)  # pyright: ignore[reportArgumentType]
    assert first.budget is not None
    table = first.budget.table(arguments["cache"])

    def fail(*_: object) -> float:
        raise AssertionError("computed again")

    monkeypatch.setattr("fluidc.compiler.privacy.plan.epsilon_of", fail)
    monkeypatch.setattr("fluidc.compiler.privacy.table.epsilon", fail)
    begin = time.perf_counter()
    assert resolve(**arguments) == first  # pyright: ignore[reportArgumentType]
    assert first.budget.table(arguments["cache"]) == table
    assert time.perf_counter() - begin < 0.5
    with pytest.raises(AssertionError, match="computed again"):
        resolve(**{**arguments, "delta": 2e-5})  # pyright: ignore[reportArgumentType]


def test_cache_survives_damage(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get(("a", 1.5, None), lambda: [[1.0, 2.0]]) == [[1.0, 2.0]]
    (file,) = tmp_path.iterdir()
    stored = file.read_bytes()
    other_question = json.dumps({**json.loads(stored), "key": ["other"]}).encode()
    for damage in (
        b"",
        b"[]",
        b'{"numbers": [[1]]}',
        stored[:-5],
        stored.replace(b"2.0", b'"2"'),
        other_question,
    ):
        file.write_bytes(damage)
        assert cache.get(("a", 1.5, None), lambda: [[3.0]]) == [[3.0]]
    assert cache.get(("a", 1.5, None), lambda: [[4.0]]) == [[3.0]]


def test_cache_of_others_is_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "privacy"
    cache = Cache(folder)
    assert cache.get(("a",), lambda: [[1.0]]) == [[1.0]]
    (file,) = folder.iterdir()
    file.chmod(0o666)
    assert cache.get(("a",), lambda: [[2.0]]) == [[2.0]]
    assert cache.get(("a",), lambda: [[3.0]]) == [[2.0]], "written again"
    file.unlink()
    os.mkfifo(file, 0o600)
    assert cache.get(("a",), lambda: [[4.0]]) == [[4.0]]
    folder.chmod(0o777)
    with pytest.warns(UserWarning, match=r"privacy accounting is not kept: .* can be written by others"):
        assert cache.get(("a",), lambda: [[5.0]]) == [[5.0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was said already
        assert cache.get(("b",), lambda: [[6.0]]) == [[6.0]]
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    cache = Cache(blocked / "fluidc")
    assert cache.get(("a",), lambda: [[1.0]]) == [[1.0]]
    assert cache.get(("a",), lambda: [[2.0]]) == [[2.0]]


def _hammer(folder: Path) -> bool:
    cache = Cache(folder)
    for i in range(50):
        value = float(i % 5)
        for file in folder.glob("*.json"):
            with suppress(FileNotFoundError):  # another writer removed it
                json.loads(file.read_bytes())  # never half a file
                file.unlink()
        if cache.get(("k", value), lambda value=value: [[value] * 500]) != [[value] * 500]:
            return False
    return True


def test_cache_is_safe_under_concurrent_writers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(_hammer, [tmp_path] * 4))
    assert not list(tmp_path.glob(".new-*"))


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache().folder == tmp_path / "fluidc" / "privacy"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache().folder == tmp_path / ".cache" / "fluidc" / "privacy"


def test_report_states_epsilon_cross_check_and_adjacency() -> None:
    text = str(epsilon_report(sample_rate=0.01, sigma=4, steps=10000, delta=1e-5))
    assert "epsilon      0.94700 at delta 1e-05 (PLD, interval 0.0001)" in text
    assert "cross-check  1.03549" in text
    assert "add/remove: neighbouring data sets differ by one example" in text
    text = str(epsilon_report(sample_rate=0.01, sigma=4, steps=100, delta=1e-5, adjacency="replace-one"))
    assert "cross-check  none" in text
    text = str(epsilon_report(sample_rate=0.1, sigma=2, steps=100, delta=1e-5, sampler="shuffle"))
    assert "epsilon      7.51128" in text
    assert "zero gradient" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [({"sample_rate": 2.0}, "sample rate"), ({"sigma": 0.0}, "no epsilon"), ({"steps": 0}, "no epsilon")],
)
def test_report_refuses(change: dict[str, float], message: str) -> None:
    arguments = {"sample_rate": 0.1, "sigma": 1.0, "steps": 10, "delta": 1e-5, **change}
    with pytest.raises(PrivacyError, match=message):
        epsilon_report(**arguments)  # pyright: ignore[reportArgumentType]


def test_the_callers_logging_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    absl = logging.getLogger("absl")
    before = (absl.level, absl.propagate, list(absl.filters), list(absl.handlers), logging.root.level)
    with caplog.at_level(logging.DEBUG):
        rdp_epsilon([(poisson(0.01, 0.5), 1000)], 1e-5)
        assert caplog.records == []
    assert (absl.level, absl.propagate, list(absl.filters), list(absl.handlers), logging.root.level) == before
    with caplog.at_level(logging.WARNING):
        absl.warning("the caller's own")
    assert [record.message for record in caplog.records] == ["the caller's own"]
