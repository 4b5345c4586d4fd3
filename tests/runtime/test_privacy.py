from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from manifests import AUTOMATIC, PER_GROUP, PHASED, POISSON, QUANTILE, SHUFFLE

from fluidc.runtime.artifact import EpsilonEntry, PrivacySpec
from fluidc.runtime.errors import ArtifactError, BudgetError
from fluidc.runtime.fields import canonical_bytes, parse_object
from fluidc.runtime.privacy import AutomaticOptions, PhaseSpec, QuantileOptions

BY_QUANTILE = QuantileOptions(0.5, 0.2, 0.8, 1e-3, 1e3, "dp_clip_0")
OPTIONS: dict[str, Any] = {"clipping": "quantile", "clipping_options": BY_QUANTILE}


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
        ({"clip": (1.0,)}, "clipping flat with 1 bounds, 0 groups"),
        ({"groups": (("b", "w"),)}, "clipping flat with 1 bounds, 1 groups"),
        ({"clipping": "per-group", "groups": (("b", "w"),)}, "clipping per-group with 1 bounds, 1 groups"),
        ({"clipping": "per-group", "clip": (1.0,), "groups": (("b",), ("w",))}, "1 clip bounds for 2 groups"),
        ({"clipping": "per-group", "clip": (1.0,), "groups": (("b",),)}, "every parameter exactly once"),
        ({"clipping": "per-group", "clip": (1.0, 1.0), "groups": (("b",), ("w", "b"))}, "every parameter exactly once"),
        ({"clipping": "automatic"}, "clipping automatic has the options of another mode"),
        ({"clipping": "quantile", "clipping_options": AUTOMATIC.clipping_options}, "clipping quantile has the options"),
        ({"clipping_options": QUANTILE.clipping_options}, "clipping flat has the options"),
        ({**OPTIONS, "sigma": 1.6}, "sigma_b = 0.8 is not above sigma / 2"),
        ({**OPTIONS, "clip": 1e4}, "outside"),
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
        ({"phases": PHASED.phases, "sigma": 2.0}, "not those of the first phase"),
        ({"phases": PHASED.phases, "lot": 8.0}, "not those of the first phase"),
        ({"phases": PHASED.phases, "q_num": 5}, "not those of the first phase"),
        ({"phases": PHASED.phases[:1]}, "max_steps = 100 is not what the phases take"),
        ({"phases": PHASED.phases, "mechanism": "discrete", "grid_bits": 20, "slack": 0.0}, "mechanism discrete"),
        ({**OPTIONS, "phases": PHASED.phases}, "clipping quantile"),
        ({"phases": (PHASED.phases[0], replace(PHASED.phases[1], q_num=None))}, "some have none"),
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutomaticOptions(0.0), "gamma = 0"),
        (lambda: PhaseSpec(0, 1.0, 16.0, None), "a phase of 0 steps"),
        (lambda: PhaseSpec(1, -1.0, 16.0, None), "sigma = -1"),
        (lambda: PhaseSpec(1, 1.0, 0.0, None), "lot = 0"),
        (lambda: PhaseSpec(1, 1.0, 16.0, 0), "q_num = 0"),
        (lambda: replace(BY_QUANTILE, quantile=1.0), "quantile = 1"),
        (lambda: replace(BY_QUANTILE, eta=0.0), "eta = 0"),
        (lambda: replace(BY_QUANTILE, sigma_b=float("inf")), "sigma_b = inf"),
        (lambda: replace(BY_QUANTILE, c_min=0.0), "c_min = 0"),
        (lambda: replace(BY_QUANTILE, c_max=1e-4), "c_max = 0.0001"),
    ],
)
def test_clipping_options_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        make()


def test_the_joint_bound_of_groups() -> None:
    assert PER_GROUP.joint_clip == math.sqrt(1.25)
    assert POISSON.joint_clip == POISSON.clip


@pytest.mark.parametrize("spec", [POISSON, SHUFFLE, PER_GROUP, AUTOMATIC, QUANTILE, PHASED])
def test_json_round_trip(spec: PrivacySpec) -> None:
    assert _read(spec) == spec
    assert _read(spec).sha256() == spec.sha256()


def test_the_hash_sees_values_and_not_how_they_were_typed() -> None:
    assert replace(POISSON, lot=16, clip=1).sha256() == POISSON.sha256()
    assert replace(POISSON, sigma=1.2).sha256() != POISSON.sha256()


def test_the_phase_of_a_step() -> None:
    assert [PHASED.phase_of(step) for step in (0, 39, 40, 99)] == [0, 0, 1, 1]
    with pytest.raises(BudgetError, match="step 101 is after the last phase"):
        PHASED.phase_of(100)
    assert POISSON.phase_of(10**9) == 0
    late = PHASED.in_phase(1)
    assert (late.sigma, late.lot, late.q_num, late.phases) == (2.0, 32.0, 1 << 27, ())
    assert POISSON.in_phase(0) is POISSON
