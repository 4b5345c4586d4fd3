"""What `Dpsgd` accepts, refuses and warns of."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.framework import OpRole, Program
from fluidc.frontend.lower import lower

Dpsgd = fluid.optimizer.Dpsgd
Phase = fluid.privacy.Phase
STATED: dict[str, Any] = {"clip": 1.0, "batch_size": 16.0, "sigma": 1.1}


@pytest.fixture
def program() -> Iterator[Program]:
    main = Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, Program()):
        yield main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -16}, "batch_size is -16"),
        ({"batch_size": math.nan}, "batch_size is nan"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"clip": math.inf}, "clip is inf"),
        ({"sigma": -0.1}, "sigma is -0.1"),
        ({"sigma": math.nan}, "sigma is nan"),
        ({"sigma": "1"}, "sigma is '1'"),
        ({"dataset_size": 0}, "dataset_size is 0"),
        ({"dataset_size": 10.5, "batch_size": 4}, "dataset_size is 10.5"),
        ({"dataset_size": 10}, "batch_size 16 exceeds dataset_size 10"),
        ({"sample_rate": 1.5}, "sample_rate is 1.5"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"max_steps": -1}, "max_steps is -1"),
        ({"epsilon": 0}, "epsilon is 0"),
        ({"sampler": "random"}, "unknown sampler 'random'"),
        ({"sampler": "shuffle", "adjacency": "add-remove"}, "adjacency 'add-remove' does not go with"),
        ({"clipping": "none"}, "unknown clipping 'none'"),
        ({"mechanism": "laplace"}, "unknown mechanism 'laplace'"),
        ({"phases": []}, "phases is []"),
        ({"phases": [{"steps": 5}]}, "phase 1 is {'steps': 5}"),
        ({"phases": [Phase(5), Phase(0)]}, "steps of phase 2 is 0"),
        ({"phases": [Phase(2.5)]}, "steps of phase 1 is 2.5"),  # pyright: ignore[reportArgumentType]
        ({"phases": [Phase(5, sigma=-1.0)]}, "sigma of phase 1 is -1.0"),
        ({"phases": [Phase(5, batch_size=0)]}, "batch_size of phase 1 is 0"),
        ({"phases": [Phase(5, sample_rate=1.5)]}, "sample_rate of phase 1 is 1.5"),
        ({"phases": [Phase(5), Phase(7)], "max_steps": 11}, "max_steps is 11, but the phases take 12 steps"),
        ({"phases": [Phase(5)], "sampler": "shuffle"}, "phases do not go with sampler='shuffle'"),
        ({"phases": [Phase(5)], "mechanism": "discrete"}, "phases do not go with mechanism='discrete'"),
        ({"phases": [Phase(5)], "mechanism": "paddle"}, "phases do not go with mechanism='paddle'"),
        ({"phases": [Phase(5)], "clipping": "quantile"}, "phases do not go with clipping='quantile'"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], message: str) -> None:
    line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]
    with pytest.raises(PrivacyError) as caught:
        Dpsgd(0.1, **{**STATED, **arguments})
    assert caught.value.what.startswith(f"Dpsgd: {message}")
    assert caught.value.where == f"{__file__}:{line}"
    assert caught.value.hint


def test_documented_defaults_warn_once_and_loudly() -> None:
    with pytest.warns(fluid.PrivacyWarning) as seen:
        optimizer = Dpsgd()
    assert len(seen) == 1
    assert seen[0].filename == __file__
    text = str(seen[0].message)
    assert "clip=0.9, batch_size=0.999, sigma=1e-08" in text
    assert "no noise at all" in text
    assert optimizer.privacy.documented_defaults == ("clip", "batch_size", "sigma")
    assert (optimizer.privacy.clip, optimizer.privacy.lot, optimizer.privacy.sigma) == (0.9, 0.999, None)


def test_stated_arguments_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Dpsgd(0.1, **STATED)
        # The same number, but stated: nothing to warn of here.
        Dpsgd(0.1, 0.9, 16.0, 1e-08)
        # Left out, but it follows from the budget.
        spec = Dpsgd(0.1, 1.0, 16.0, dataset_size=100, delta=1e-5, max_steps=10, epsilon=8.0).privacy
    assert spec.sigma is None


@pytest.mark.parametrize("sigma", [{}, {"sigma": None}])
def test_sigma_left_out_counts_as_not_given(sigma: dict[str, Any]) -> None:
    with pytest.warns(fluid.PrivacyWarning, match="sigma=1e-08"):
        assert Dpsgd(0.1, 1.0, 16.0, **sigma).privacy.sigma is None


def loss_of(rows: int = 1) -> fluid.Variable:
    data = fluid.layers.data("X", [rows])
    return fluid.layers.mean(fluid.layers.fc(data, 10))


def test_the_record_carries_the_statement(program: Program) -> None:
    optimizer = Dpsgd(0.01, **STATED, dataset_size=1000, delta=1e-5, max_steps=100)
    optimizer.minimize(loss_of())
    record = program.global_block().private_backward()
    assert record is not None
    assert record.attr("privacy") is optimizer.privacy
    assert record.attr("parameters") == ["fc_0.w_0", "fc_0.b_0"]


def test_lowering_states_the_constants(program: Program) -> None:
    loss = loss_of()
    Dpsgd(0.01, **STATED).minimize(loss)
    source = lower(program, startup=fluid.default_startup_program(), fetches=[loss.name])
    config, plan = source.module.privacy, source.plan
    assert config is not None
    assert plan is not None
    assert (config.clip, config.lot, config.sigma) == (1.0, 16.0, 1.1)
    assert plan.reason == "unknown: dataset_size, delta and max_steps not stated"
    assert plan.budget is None


def test_lowering_calibrates_sigma(program: Program) -> None:
    loss = loss_of()
    Dpsgd(0.01, 1.0, 64.0, dataset_size=1024, delta=1e-4, max_steps=32, epsilon=4.0, sampler="shuffle").minimize(loss)
    plan = lower(program, fetches=[loss.name]).plan
    assert plan is not None
    assert plan.budget is not None
    assert 3.9 < plan.budget.epsilon <= 4.0


def test_seeded_dropout_is_not_seeded_in_a_private_program(program: Program) -> None:
    program.random_seed = 3
    data = fluid.layers.data("X", [4])
    loss = fluid.layers.mean(fluid.layers.fc(fluid.layers.dropout(data, 0.5), 2))
    Dpsgd(0.01, **STATED).minimize(loss)
    dropout = lower(program, fetches=[loss.name]).module.function("step").ops[0]
    assert dropout.name == "random.dropout"
    assert dict(dropout.attributes()) == {"p": 0.5}


def test_a_second_backward_is_refused(program: Program) -> None:
    loss = loss_of()
    Dpsgd(0.01, **STATED).minimize(loss)
    fluid.append_backward(loss)
    with pytest.raises(PrivacyError, match="a second backward"):
        lower(program, fetches=[loss.name])


def test_paddles_mechanism_is_named_not_private(program: Program) -> None:
    with pytest.warns(fluid.PrivacyWarning, match="no differential privacy"):
        optimizer = Dpsgd(0.01, **STATED, mechanism="paddle")
    optimizer.minimize(loss_of())
    assert program.global_block().private_backward() is None
    updates = [op for op in program.global_block().ops if op.role is OpRole.OPTIMIZE]
    assert [op.type for op in updates] == ["dpsgd", "dpsgd"]
    assert updates[0].attrs == {"clip": 1.0, "batch_size": 16.0, "sigma": 1.1, "seed": 0}
