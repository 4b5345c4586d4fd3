"""``fleet`` without servers: ``fluid.incubate.fleet.collective``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..backward import NameOrVariable
from ..compiled_program import CompiledProgram
from ..contrib.mixed_precision import decorate
from ..errors import invalid, unsupported, wrong_type
from ..optimizer_base import Optimizer
from ..optimizer_wrappers import RecomputeOptimizer
from ..strategies import BuildStrategy, ExecutionStrategy
from ..variable import Variable
from .trainer import DistributedOptimizer, Fleet


class DistributedStrategy(BuildStrategy):
    """fluid's settings: ``forward_recompute`` marks checkpoints; those of several trainers have no effect on one."""

    _optional: ClassVar[dict[str, type]] = {"memory_optimize": bool, "dist_fc_config": object, "collective_mode": str}

    use_local_sgd: bool = False
    use_dist_fc: bool = False
    dist_fc_config: object | None = None
    mode: str = "nccl2"
    collective_mode: str | None = None
    forward_recompute: bool = False
    recompute_checkpoints: Sequence[NameOrVariable] = ()
    use_amp: bool = False
    amp_loss_scaling: int = 2**15
    exec_strategy: ExecutionStrategy = ExecutionStrategy()

    def __init__(self) -> None:
        self.exec_strategy = ExecutionStrategy()


class CollectiveOptimizer(DistributedOptimizer):
    """An optimizer whose program is run as a data parallel one."""

    def __init__(self, fleet: Fleet, optimizer: Optimizer, strategy: DistributedStrategy) -> None:
        super().__init__(fleet, optimizer)
        if strategy.use_dist_fc:
            raise unsupported("DistributedStrategy.use_dist_fc divides a layer between trainers", "leave it out")
        if strategy.forward_recompute:
            if not strategy.recompute_checkpoints:
                raise invalid("forward_recompute without recompute_checkpoints", "list Variables to begin again from")
            self._optimizer = RecomputeOptimizer(optimizer)
            self._optimizer._set_checkpoints(strategy.recompute_checkpoints)
        if strategy.use_amp:
            self._optimizer = decorate(self._optimizer, init_loss_scaling=strategy.amp_loss_scaling)
        self._strategy = strategy

    def _to_run(self, loss: Variable) -> CompiledProgram:
        program = CompiledProgram(loss.block.program)
        return program.with_data_parallel(
            loss_name=loss.name, build_strategy=self._strategy, exec_strategy=self._strategy.exec_strategy
        )


class Collective(Fleet):
    """The one trainer of a job without servers."""

    def distributed_optimizer(
        self, optimizer: Optimizer, strategy: DistributedStrategy | None = None
    ) -> CollectiveOptimizer:
        """The optimizer; ``fleet.main_program`` is what to run after its ``minimize``."""
        if strategy is not None and not isinstance(strategy, DistributedStrategy):
            raise wrong_type(
                f"distributed_optimizer: strategy is {type(strategy).__name__}", "give a DistributedStrategy"
            )
        return CollectiveOptimizer(self, optimizer, DistributedStrategy() if strategy is None else strategy)


fleet = Collective()

__all__ = ["Collective", "CollectiveOptimizer", "DistributedStrategy", "fleet"]
