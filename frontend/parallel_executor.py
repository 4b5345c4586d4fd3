"""fluid.ParallelExecutor: a data parallel program with its executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .compiled_program import CompiledProgram
from .errors import invalid, unsupported
from .executor import Executor, Fetch
from .framework import Program, default_main_program
from .places import CPUPlace, CUDAPlace, cpu_places, cuda_places
from .scope import Scope, global_scope
from .strategies import BuildStrategy, ExecutionStrategy


class ParallelExecutor:
    """Runs a program as `CompiledProgram.with_data_parallel` does, on one device.

    Args:
        use_cuda: On GPU 0; else on this machine's processor.
        loss_name: The name of the loss; needed if the program trains.
        main_program: The default main program if None.
        share_vars_from: Another ParallelExecutor; variables are shared by name in the scope anyway.
        exec_strategy, build_strategy: See `fluid.ExecutionStrategy` and `fluid.BuildStrategy`.
        num_trainers, trainer_id: One trainer, number 0.
        scope: Where variables live; the global scope if None.

    Raises:
        ProgramError: As `CompiledProgram.with_data_parallel`.
        UnsupportedError: Several trainers.
    """

    def __init__(
        self,
        use_cuda: bool,
        loss_name: str | None = None,
        main_program: Program | None = None,
        share_vars_from: ParallelExecutor | None = None,
        exec_strategy: ExecutionStrategy | None = None,
        build_strategy: BuildStrategy | None = None,
        num_trainers: int = 1,
        trainer_id: int = 0,
        scope: Scope | None = None,
    ) -> None:
        if num_trainers != 1 or trainer_id != 0:
            raise unsupported(
                f"ParallelExecutor: num_trainers={num_trainers}, trainer_id={trainer_id}", "there is one trainer, 0"
            )
        if share_vars_from is not None and not isinstance(share_vars_from, ParallelExecutor):
            raise invalid("ParallelExecutor: share_vars_from is not one", "give a ParallelExecutor, or None")
        self._scope = global_scope() if scope is None else scope
        self._devices = len(cuda_places()) if use_cuda else len(cpu_places())
        self._program = CompiledProgram(default_main_program() if main_program is None else main_program)
        self._program.with_data_parallel(
            loss_name, build_strategy, exec_strategy, None if share_vars_from is None else share_vars_from._program
        )
        self._executor = Executor(CUDAPlace(0) if use_cuda else CPUPlace())

    def run(
        self,
        fetch_list: Sequence[Fetch] | Fetch | None,
        feed: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
        feed_dict: Mapping[str, object] | None = None,
        return_numpy: bool = True,
    ) -> list[Any]:
        """`Executor.run` of the program; ``feed_dict`` is ``feed`` by an older name."""
        feed = feed_dict if feed is None else feed
        return self._executor.run(
            self._program, feed=feed, fetch_list=fetch_list, scope=self._scope, return_numpy=return_numpy
        )

    @property
    def device_count(self) -> int:
        """Devices that fluid would use: of ``CPU_NUM``, or the GPUs at hand."""
        return self._devices

    def drop_local_exe_scopes(self) -> None:
        """Fluid's scopes of temporary values; there are none."""
