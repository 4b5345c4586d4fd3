"""``fluid.transpiler``: for one trainer a program stays what it is; several are refused."""

from __future__ import annotations

import warnings
from typing import ClassVar

from .errors import unsupported
from .framework import Program, default_main_program, default_startup_program


class DistributeTranspilerConfig:
    """fluid's settings of the transpiler; they have no effect on one trainer."""

    def __init__(self) -> None:
        self.slice_var_up = True
        self.split_method: type[RoundRobin] = RoundRobin
        self.min_block_size = 8192
        self.enable_dc_asgd = False
        self.mode = "pserver"
        self.print_log = False
        self.wait_port = True
        self.runtime_split_send_recv = False
        self.sync_mode = True
        self.geo_sgd_mode = False
        self.geo_sgd_need_push_nums = 100
        self.nccl_comm_num = 1
        self.use_hierarchical_allreduce = False
        self.hierarchical_allreduce_inter_nranks = 0
        self.collective_mode: str | None = None


class DistributeTranspiler:
    """Divides a program between trainers; one trainer has all of it."""

    def __init__(self, config: DistributeTranspilerConfig | None = None) -> None:
        self.config = DistributeTranspilerConfig() if config is None else config
        self._program: Program | None = None
        self._startup: Program | None = None

    def transpile(
        self,
        trainer_id: int,
        program: Program | None = None,
        pservers: str = "127.0.0.1:6174",
        trainers: int | str = 1,
        sync_mode: bool = True,
        startup_program: Program | None = None,
        current_endpoint: str = "127.0.0.1:6174",
    ) -> None:
        """Take the programs as they are.

        Raises:
            UnsupportedError: More than one trainer (a number, or their addresses with commas between).
        """
        del pservers, sync_mode, current_endpoint
        count = len(trainers.split(",")) if isinstance(trainers, str) else trainers
        if count != 1 or trainer_id != 0:
            raise unsupported(
                f"DistributeTranspiler: trainer {trainer_id} of {count}; there is one trainer, without servers",
                "train in one process, on the whole batch",
            )
        self._program = default_main_program() if program is None else program
        self._startup = default_startup_program() if startup_program is None else startup_program

    def get_trainer_program(self, wait_port: bool = True) -> Program:
        """The program of the one trainer.  Raises UnsupportedError before `transpile`."""
        if self._program is None:
            raise unsupported("get_trainer_program before transpile()", "call transpile(trainer_id=0, trainers=1)")
        return self._program

    def get_pserver_program(self, endpoint: str) -> Program:
        """Refused: there are no servers."""
        raise unsupported(
            "DistributeTranspiler: parameters live with the trainer, not on servers", "run the trainer only"
        )

    get_pserver_programs = get_pserver_program

    def get_startup_program(
        self, endpoint: str, pserver_program: Program | None = None, startup_program: Program | None = None
    ) -> Program:
        """Refused: there are no servers."""
        return self.get_pserver_program(endpoint)


class HashName:
    """fluid's way of spreading parameters over servers by the hash of their names; there are none."""

    always_refused: ClassVar = True

    def __init__(self, pserver_endpoints: list[str]) -> None:
        raise unsupported("HashName spreads parameters over servers", "train in one process")


class RoundRobin:
    """fluid's way of spreading parameters over servers in turn; there are none."""

    always_refused: ClassVar = True

    def __init__(self, pserver_endpoints: list[str]) -> None:
        raise unsupported("RoundRobin spreads parameters over servers", "train in one process")


def _nothing(name: str) -> None:
    warnings.warn(
        f"fluid.{name} does nothing, as in fluid 1.8.5: memory is planned when a program is compiled",
        DeprecationWarning,
        stacklevel=3,
    )


def memory_optimize(
    input_program: Program,
    skip_opt_set: object = None,
    print_log: bool = False,
    level: int = 0,
    skip_grads: bool = True,
) -> None:
    """Does nothing, as in fluid 1.8.5."""
    del input_program, skip_opt_set, print_log, level, skip_grads
    _nothing("memory_optimize")


def release_memory(input_program: Program, skip_opt_set: object = None) -> None:
    """Does nothing, as in fluid 1.8.5."""
    del input_program, skip_opt_set
    _nothing("release_memory")


__all__ = [
    "DistributeTranspiler",
    "DistributeTranspilerConfig",
    "HashName",
    "RoundRobin",
    "memory_optimize",
    "release_memory",
]
