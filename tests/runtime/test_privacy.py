from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from manifests import POISSON, SHUFFLE

from fluidc.runtime.artifact import EpsilonEntry, PrivacySpec
from fluidc.runtime.errors import ArtifactError, BudgetError
from fluidc.runtime.fields import canonical_bytes, parse_object


def _entry(count: int, delta: float) -> float:
    return next(e.epsilon for e in POISSON.table if (e.count, e.delta) == (count, delta))


@pytest.mark.parametrize(
    ("count", "delta", "entry"),
    [
        (10, 1e-5, (10, 1e-5)),
        (11, 1e-5, (50, 1e-5)),
        (1, 1e-5, (10, 1e-5)),
        (100, 1e-6, (100, 1e-6)),
        (50, 9e-4, (50, 1e-5)),
        (50, 0.5, (50, 1e-3)),
    ],
)
def test_look_up_takes_the_next_larger_count_and_the_next_smaller_delta(
    count: int, delta: float, entry: tuple[int, float]
) -> None:
    assert POISSON.epsilon(count, delta) == _entry(*entry)


def test_no_step_costs_nothing() -> None:
    assert POISSON.epsilon(0, 1e-5) == 0.0


@pytest.mark.parametrize(
    ("count", "delta"),
    [(101, 1e-5), (-1, 1e-5), (10, 9e-7), (10, 0.0), (10, 1.0), (0, 1e-9), (10, float("nan"))],
)
def test_outside_the_table_is_refused(count: int, delta: float) -> None:
    with pytest.raises(BudgetError, match="outside the stored table"):
        POISSON.epsilon(count, delta)


def test_without_accounting_epsilon_is_unknown() -> None:
    spec = replace(POISSON, accounting="none", reason="unknown: dataset_size not stated", table=(), q_num=None)
    with pytest.raises(BudgetError, match="epsilon is unknown: dataset_size not stated"):
        spec.epsilon(1, 1e-5)


def test_unit_is_the_step_for_poisson_and_the_epoch_otherwise() -> None:
    assert (POISSON.unit, POISSON.budget_count) == ("step", 100)
    assert (SHUFFLE.unit, SHUFFLE.budget_count) == ("epoch", 3)
    assert SHUFFLE.epsilon(2, 1e-5) == 4.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lot": 0.0}, "lot = 0"),
        ({"clip": -1.0}, "clip = -1"),
        ({"clip": (1.0, float("inf"))}, "clip = inf"),
        ({"clip": (1.0,)}, "1 clip bounds for 2 parameters"),
        ({"sigma": float("nan")}, "sigma = nan"),
        ({"slack": -0.1}, "slack"),
        ({"adjacency": "zero-out"}, "sampler poisson needs adjacency add-remove or replace-one"),
        ({"sampler": "shuffle"}, "sampler shuffle needs adjacency zero-out"),
        ({"q_num": 0}, "q_num = 0"),
        ({"q_num": 2**32 + 1}, "q_num"),
        ({"delta": 1.0}, "delta = 1"),
        ({"max_steps": 0}, "max_steps = 0"),
        ({"max_steps": 101}, "does not reach the stated budget"),
        ({"delta": 1e-7}, "does not reach the stated budget"),
        ({"parameters": ("w", "b")}, "not sorted"),
        ({"parameters": ("w", "w")}, "not sorted"),
        ({"table": POISSON.table[1:]}, "full grid"),
        ({"table": (*POISSON.table, POISSON.table[0])}, "full grid"),
        ({"table": ()}, "does not reach"),
        ({"table": (EpsilonEntry(100, 1e-5, float("inf")),)}, "epsilon inf"),
        ({"mechanism": "paddle"}, "paddle is not private"),
        ({"q_num": None}, "needs q_num"),
        ({"accountant": ""}, "accountant's name"),
        ({"reason": "because"}, "a reason why there is none"),
        ({"accounting": "none"}, "no reason is given"),
        ({"accounting": "none", "reason": "x"}, "there is a table"),
        ({"sampler": "balls"}, "needs max_epochs and steps_per_epoch"),
        ({"sampler": "balls", "max_epochs": 100}, "needs max_epochs and steps_per_epoch"),
        ({"steps_per_epoch": 0}, "steps_per_epoch = 0"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        replace(POISSON, **changes)


def _read(spec: PrivacySpec) -> PrivacySpec:
    fields = parse_object(canonical_bytes(spec.to_json()), "block", lambda w, at: ArtifactError(w, at, "-"))
    made = PrivacySpec.from_json(fields)
    fields.done()
    return made


@pytest.mark.parametrize("spec", [POISSON, SHUFFLE, replace(POISSON, clip=(1.0, 2.0))])
def test_json_round_trip(spec: PrivacySpec) -> None:
    assert _read(spec) == spec
    assert _read(spec).sha256() == spec.sha256()


def test_the_hash_sees_values_and_not_how_they_were_typed() -> None:
    assert replace(POISSON, lot=16, clip=1).sha256() == POISSON.sha256()
    assert replace(POISSON, sigma=1.2).sha256() != POISSON.sha256()
