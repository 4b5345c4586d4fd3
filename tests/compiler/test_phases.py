"""The accountant's side of training in phases: reference value, table, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fluidc.compiler.errors import PrivacyError
from fluidc.compiler.privacy import Cache, Mechanism, PhaseRequest, PrivacyPlan, epsilon, inclusion_threshold, resolve

NOWHERE = Cache(None)
TWO = (PhaseRequest(500, 1.0, sample_rate=0.01), PhaseRequest(500, 1.5, sample_rate=0.02))


def plan(**changed: Any) -> PrivacyPlan:
    arguments: dict[str, Any] = {"clip": 1.0, "lot": 16.0, "delta": 1e-5, "slack": 0.0, "phases": TWO, "cache": NOWHERE}
    return resolve(**arguments | changed)


def test_reference_value() -> None:
    """Privacy loss distributions give 1.89748 for .01/1.0/500 and .02/1.5/500 at 1e-5."""
    found = plan()
    assert found.budget is not None
    assert found.budget.epsilon == pytest.approx(1.89748, abs=1e-3)
    assert found.max_steps == found.budget.max_steps == 1000
    assert [(p.steps, p.sigma, p.lot) for p in found.phases] == [(500, 1.0, 16.0), (500, 1.5, 16.0)]
    assert [p.q_num for p in found.phases] == [inclusion_threshold(0.01), inclusion_threshold(0.02)]
    assert (found.sigma, found.q_num) == (1.0, inclusion_threshold(0.01))
    slack = plan(slack=2.0**-10).budget
    assert slack is not None
    assert slack.epsilon > found.budget.epsilon


def test_the_table_runs_through_the_phases(tmp_path: Path) -> None:
    requests = (PhaseRequest(3, 1.0, sample_rate=0.05), PhaseRequest(40, 2.0, sample_rate=0.5))
    budget = plan(phases=requests).budget
    assert budget is not None
    table = budget.table(Cache(tmp_path))
    assert budget.table(Cache(tmp_path)) == table
    assert {3, 43} <= set(table.counts)
    assert len(table.counts) <= 17
    early, late = (Mechanism("poisson", "add-remove", inclusion_threshold(q), s) for q, s in ((0.05, 1.0), (0.5, 2.0)))
    for count, row in zip(table.counts, table.epsilons, strict=True):
        runs = [(early, min(count, 3)), (late, max(0, count - 3))]
        for delta, bound in zip(table.deltas, row, strict=True):
            if delta in (1e-3, 1e-5):
                exact = epsilon(runs, delta)
                assert exact * (1 - 1e-9) <= bound <= exact * 1.05 + 2e-3
    for before, after in zip(table.epsilons, table.epsilons[1:]):
        assert all(a <= b for a, b in zip(before, after))
    assert table.epsilons[-1][table.deltas.index(1e-5)] == budget.epsilon


def test_without_sampling_the_closed_form_is_used() -> None:
    whole = (PhaseRequest(4, 4.0, sample_rate=1.0), PhaseRequest(6, 8.0, sample_rate=1.0))
    budget = plan(phases=whole).budget
    assert budget is not None
    mechanism = Mechanism("poisson", "add-remove", 2**32, (4 / 16 + 6 / 64) ** -0.5)
    assert budget.epsilon == pytest.approx(epsilon([(mechanism, 1)], 1e-5), rel=1e-6)
    rows = budget.table(NOWHERE)
    assert [row[rows.deltas.index(1e-5)] for row in rows.epsilons] == sorted(r[2] for r in rows.epsilons)


def test_what_a_phase_leaves_out_is_the_runs() -> None:
    found = plan(sigma=1.2, dataset_size=1600, phases=(PhaseRequest(5), PhaseRequest(5, lot=32.0)))
    assert [(p.sigma, p.lot, p.q_num) for p in found.phases] == [
        (1.2, 16.0, inclusion_threshold(0.01)),
        (1.2, 32.0, inclusion_threshold(0.02)),
    ]
    found = plan(sigma=1.2, sample_rate=0.25, phases=(PhaseRequest(5, 3.0), PhaseRequest(5)))
    assert [p.q_num for p in found.phases] == [2**30, 2**30]


def test_without_rates_there_is_no_epsilon() -> None:
    found = plan(phases=(PhaseRequest(5, 1.0), PhaseRequest(5, 2.0)))
    assert found.budget is None
    assert found.reason == "unknown: dataset_size not stated"
    assert found.max_steps == 10


def test_earlier_runs_are_composed() -> None:
    earlier = (Mechanism("poisson", "add-remove", inclusion_threshold(0.01), 1.0), 500)
    found = plan(prior=[earlier])
    assert found.budget is not None
    assert found.joint is not None
    assert found.joint > found.budget.epsilon
    with pytest.raises(PrivacyError, match=r"these phases cost epsilon=.* with the earlier runs"):
        plan(prior=[earlier], epsilon=1.95)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sampler": "shuffle"}, "phases do not go with sampler='shuffle'"),
        ({"max_steps": 999}, "max_steps=999, but the phases take 1000 steps"),
        ({"epsilon": 1.5}, r"these phases cost epsilon=1\.89.*more than epsilon=1\.5"),
        ({"phases": (PhaseRequest(5, sample_rate=0.1),)}, "phase 1 has no sigma"),
        ({"phases": (PhaseRequest(5, sample_rate=0.1),), "epsilon": 2.0}, "not calibrated to epsilon"),
        ({"phases": (PhaseRequest(5, 0.0, sample_rate=0.1),)}, "sigma=0 adds no noise"),
        ({"phases": (TWO[0], PhaseRequest(5, 0.0, sample_rate=0.1))}, "sigma=0 adds no noise"),
        ({"phases": (TWO[0], PhaseRequest(5, 1.0))}, "some phases state a sample_rate and some have none"),
        ({"phases": (PhaseRequest(5, 1.0, 32.0),), "sample_rate": 0.1}, "phase 1 states batch_size"),
        ({"phases": (PhaseRequest(5, 1.0, 32.0, 0.5),), "dataset_size": 1000}, "batch_size=32"),
        ({"phases": (PhaseRequest(5, 1.0, 32.0),), "dataset_size": 20}, "larger than dataset_size"),
        ({"phases": (TWO[0], PhaseRequest(5, 0.1, sample_rate=0.1))}, "64-bit noise"),
    ],
)
def test_refusals(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PrivacyError, match=message):
        plan(**changed)
