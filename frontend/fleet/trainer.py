"""What both fleets of fluid share: the one trainer, its optimizer, and its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backward import NameOrVariable
from ..clip import ParamsGrads
from ..errors import invalid, unsupported, wrong_type
from ..framework import Operator, Program, default_startup_program
from ..io import save_inference_model, save_persistables
from ..optimizer_base import Optimizer
from ..optimizer_wrappers import LookaheadOptimizer
from ..variable import Variable
from .role_maker import PaddleCloudRoleMaker, RoleMakerBase

if TYPE_CHECKING:
    from ..compiled_program import CompiledProgram


class Fleet:
    """The trainers of a job, of which there is one.

    Attributes:
        main_program: What ``minimize`` of `distributed_optimizer` made to be run; None before.
        startup_program: What initialises it.
    """

    def __init__(self) -> None:
        self._role_maker: RoleMakerBase | None = None
        self._origin_program: Program | None = None
        self.main_program: Program | CompiledProgram | None = None
        self.startup_program: Program | None = None

    def init(self, role_maker: RoleMakerBase | None = None) -> None:
        """Say who this process is.  Raises UnsupportedError if the environment tells of several trainers."""
        if role_maker is not None and not isinstance(role_maker, RoleMakerBase):
            raise wrong_type(f"fleet.init: {type(role_maker).__name__}", "give a role maker, or None")
        self._role_maker = PaddleCloudRoleMaker() if role_maker is None else role_maker

    @property
    def _role(self) -> RoleMakerBase:
        if self._role_maker is None:
            raise invalid("fleet is not initialised", "call fleet.init(role_maker.PaddleCloudRoleMaker()) first")
        return self._role_maker

    def is_first_worker(self) -> bool:
        return self._role.is_first_worker()

    def is_worker(self) -> bool:
        return self._role.is_worker()

    def is_server(self) -> bool:
        return self._role.is_server()

    def worker_index(self) -> int:
        return self._role.worker_index()

    def worker_num(self) -> int:
        return self._role.worker_num()

    def server_index(self) -> int:
        return self._role.server_index()

    def server_num(self) -> int:
        return self._role.server_num()

    def worker_endpoints(self, to_string: bool = False) -> list[str] | str:
        """Addresses of the trainers."""
        found = self._role.get_trainer_endpoints()
        return ",".join(found) if to_string else found

    def server_endpoints(self, to_string: bool = False) -> list[str] | str:
        """Addresses of the servers: none."""
        found = self._role.get_pserver_endpoints()
        return ",".join(found) if to_string else found

    def split_files(self, files: list[str]) -> list[str]:
        """The files of this trainer: all."""
        if not isinstance(files, list):
            raise wrong_type(f"fleet.split_files: {type(files).__name__}", "give a list of files")
        return list(files)

    def barrier_worker(self) -> None:
        """Nobody is to be waited for."""

    def all_reduce_worker(self, input: np.ndarray[Any, Any], output: np.ndarray[Any, Any]) -> None:
        """The sum over one trainer."""
        output[...] = input

    def init_worker(self) -> None:
        """Nothing is to be done."""

    def init_server(self, model_dir: str | None = None) -> None:
        """Refused: there are no servers."""
        raise unsupported("fleet.init_server: parameters live with the trainer", "call it only if fleet.is_server()")

    def run_server(self) -> None:
        """Refused: there are no servers."""
        raise unsupported("fleet.run_server: parameters live with the trainer", "call it only if fleet.is_server()")

    def stop_worker(self) -> None:
        """Nothing is to be done."""

    def distributed_optimizer(self, optimizer: Optimizer, strategy: Any = None) -> DistributedOptimizer:
        """The optimizer, whose ``minimize`` sets `main_program`; ``strategy`` is for several trainers."""
        del strategy
        return DistributedOptimizer(self, optimizer)

    def save_inference_model(
        self,
        executor: object,
        dirname: str,
        feeded_var_names: Sequence[str],
        target_vars: Sequence[Variable],
        main_program: Program | None = None,
        export_for_deployment: bool = True,
    ) -> None:
        """`fluid.io.save_inference_model` of the trained program."""
        program = self._trained(main_program)
        save_inference_model(
            dirname, feeded_var_names, target_vars, executor, program, export_for_deployment=export_for_deployment
        )

    def save_persistables(
        self, executor: object, dirname: str, main_program: Program | None = None, filename: str | None = None
    ) -> None:
        """`fluid.io.save_persistables` of the trained program."""
        save_persistables(executor, dirname, self._trained(main_program), filename)

    def _trained(self, program: Program | None) -> Program:
        found = self._origin_program if program is None else program
        if found is None:
            raise invalid(
                "fleet: no program was made yet", "call distributed_optimizer(...).minimize(loss), or give one"
            )
        return found

    def took(self, program: Program, startup: Program, runs: Program | CompiledProgram) -> None:
        """Note what an optimizer made."""
        self._origin_program, self.startup_program, self.main_program = program, startup, runs


class DistributedOptimizer:
    """An optimizer of one trainer."""

    def __init__(self, fleet: Fleet, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer | LookaheadOptimizer):
            raise wrong_type(
                f"distributed_optimizer: the optimizer is {type(optimizer).__name__}", "give one of fluid.optimizer"
            )
        self._fleet = fleet
        self._optimizer: Any = optimizer

    def backward(self, *arguments: Any, **named: Any) -> ParamsGrads:
        """The optimizer's."""
        return self._optimizer.backward(*arguments, **named)

    def apply_gradients(self, params_grads: ParamsGrads) -> list[Operator]:
        """The optimizer's."""
        return self._optimizer.apply_gradients(params_grads)

    def minimize(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """Record gradients and updates, and set the fleet's programs."""
        startup = default_startup_program() if startup_program is None else startup_program
        given = {"parameter_list": parameter_list, "no_grad_set": no_grad_set}
        stated = {name: value for name, value in given.items() if value is not None}
        result = self._optimizer.minimize(loss, startup_program=startup, **stated)
        self._fleet.took(loss.block.program, startup, self._to_run(loss))
        return result

    def _to_run(self, loss: Variable) -> Program | CompiledProgram:
        return loss.block.program


__all__ = ["DistributedOptimizer", "Fleet"]
