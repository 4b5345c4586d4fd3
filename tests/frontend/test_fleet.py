"""fluid.incubate.fleet: one trainer trains as without it, several are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.fleet import collective, parameter_server, role_maker
from fluidc.runtime.errors import FluidcError

X = (np.arange(12, dtype=np.float32).reshape(4, 3) - 5.0) / 10
THREE: Any = 3  # what no argument takes


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("PADDLE_TRAINERS_NUM", "PADDLE_TRAINER_ID", "TRAINING_ROLE"):
        monkeypatch.delenv(name, raising=False)
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        fluid.scope_guard(fluid.Scope()),
    ):
        yield


def built() -> tuple[fluid.Variable, fluid.Variable]:
    fluid.default_startup_program().random_seed = 5
    hidden = fluid.layers.fc(fluid.data("x", [None, 3]), 4, act="tanh")
    return fluid.layers.mean(fluid.layers.square(hidden)), hidden


def losses(program: Any, loss: fluid.Variable) -> list[float]:
    exe = fluid.Executor(target="reference")
    exe.run(fluid.default_startup_program())
    return [float(exe.run(program, feed={"x": X}, fetch_list=[loss])[0][0]) for _ in range(3)]


def trained_by(minimize: Callable[[fluid.Variable, fluid.Variable], Any]) -> list[float]:
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        fluid.scope_guard(fluid.Scope()),
    ):
        loss, hidden = built()
        return losses(minimize(loss, hidden), loss)


def alone(loss: fluid.Variable, hidden: fluid.Variable) -> fluid.Program:
    fluid.optimizer.SGD(0.5).minimize(loss)
    return fluid.default_main_program()


def with_servers(loss: fluid.Variable, hidden: fluid.Variable) -> Any:
    fleet = parameter_server.DistributedTranspiler()
    fleet.init(role_maker.UserDefinedRoleMaker(worker_num=1, server_endpoints=["127.0.0.1:6000"]))
    fleet.init_worker()
    fleet.distributed_optimizer(fluid.optimizer.SGD(0.5), THREE).minimize(loss)
    assert fleet.startup_program is fluid.default_startup_program()
    return fleet.main_program


def without_servers(loss: fluid.Variable, hidden: fluid.Variable) -> Any:
    fleet = collective.Collective()
    fleet.init(role_maker.PaddleCloudRoleMaker(is_collective=True))
    strategy = collective.DistributedStrategy()
    strategy.collective_mode = "grad_allreduce"
    strategy.fuse_all_reduce_ops = True
    strategy.exec_strategy.num_threads = 2
    strategy.forward_recompute = True
    strategy.recompute_checkpoints = [hidden]
    fleet.distributed_optimizer(fluid.optimizer.SGD(0.5), strategy).minimize(
        loss, parameter_list=["fc_0.w_0", "fc_0.b_0"]
    )
    assert isinstance(fleet.main_program, fluid.CompiledProgram)
    return fleet.main_program


def test_one_trainer_trains_as_without_a_fleet() -> None:
    expected = trained_by(alone)
    assert trained_by(with_servers) == expected == trained_by(without_servers)
    assert expected[2] < expected[0]


def test_who_the_trainer_is(tmp_path: Path) -> None:
    fleet = collective.Collective()
    fleet.init()
    assert (fleet.worker_num(), fleet.worker_index(), fleet.server_num(), fleet.server_index()) == (1, 0, 0, 0)
    assert fleet.is_worker() and fleet.is_first_worker() and not fleet.is_server()  # noqa: PT018
    assert fleet.worker_endpoints(to_string=True) == "127.0.0.1:6170"
    assert fleet.server_endpoints() == []
    assert fleet.split_files(["a", "b"]) == ["a", "b"]
    total = np.zeros(2)
    fleet.all_reduce_worker(np.ones(2), total)
    np.testing.assert_array_equal(total, [1.0, 1.0])
    fleet.barrier_worker()
    loss, hidden = built()
    fleet.distributed_optimizer(fluid.optimizer.SGD(0.5)).minimize(loss)
    losses(fleet.main_program, loss)
    exe = fluid.Executor(target="reference")
    fleet.save_persistables(exe, str(tmp_path / "values"))
    assert (tmp_path / "values" / "fc_0.w_0").exists()
    fleet.save_inference_model(exe, str(tmp_path / "model"), ["x"], [hidden])
    assert (tmp_path / "model" / "__model__").exists()
    fleet.stop_worker()


def test_several_trainers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(FluidcError, match="worker 0 of 2 trainers"):
        collective.Collective().init()
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "1")
    monkeypatch.setenv("TRAINING_ROLE", "PSERVER")
    with pytest.raises(FluidcError, match="server 0 of 1 trainers"):
        role_maker.GeneralRoleMaker(path="./tmp")


def ready() -> collective.Collective:
    fleet = collective.Collective()
    fleet.init()
    return fleet


def strategy(**fields: Any) -> collective.DistributedStrategy:
    made = collective.DistributedStrategy()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: collective.Collective().worker_num(), "fleet is not initialised"),
        (lambda: collective.Collective().init(THREE), "fleet.init: int"),
        (lambda: role_maker.UserDefinedCollectiveRoleMaker(1, ["a:1", "b:1"]), "worker 1 of 2 trainers"),
        (lambda: role_maker.MPISymetricRoleMaker(), "by MPI"),
        (lambda: ready().run_server(), "fleet.run_server"),
        (lambda: ready().init_server(), "fleet.init_server"),
        (lambda: ready().split_files(THREE), "fleet.split_files: int"),
        (lambda: ready().save_persistables(None, "values"), "no program was made yet"),
        (lambda: ready().distributed_optimizer(THREE), "the optimizer is int"),
        (lambda: ready().distributed_optimizer(fluid.optimizer.SGD(0.1), THREE), "strategy is int"),
        (
            lambda: ready().distributed_optimizer(fluid.optimizer.SGD(0.1), strategy(use_dist_fc=True)),
            "divides a layer between trainers",
        ),
        (
            lambda: ready().distributed_optimizer(fluid.optimizer.SGD(0.1), strategy(forward_recompute=True)),
            "without recompute_checkpoints",
        ),
        (lambda: strategy(collective_mode=3), "give str or None"),
    ],
)
def test_mistakes_are_refused_where_they_are_made(act: Callable[[], object], says: str) -> None:
    with pytest.raises(FluidcError, match=says) as caught:
        act()
    assert "test_fleet.py:" in (caught.value.where or "")
    assert caught.value.hint
