"""Data parallelism on the one process there is: `DataParallel` wraps, and the rest says that it is alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import unsupported
from ..variable import Parameter, Variable
from .layers import Layer


class ParallelEnv:
    """What the launcher of several processes put into the environment; one process without it."""

    @property
    def nranks(self) -> int:
        return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))

    @property
    def local_rank(self) -> int:
        return int(os.environ.get("PADDLE_TRAINER_ID", "0"))

    @property
    def dev_id(self) -> int:
        return int(os.environ.get("FLAGS_selected_gpus", "0"))  # noqa: SIM112 - Paddle's name

    @property
    def current_endpoint(self) -> str:
        return os.environ.get("PADDLE_CURRENT_ENDPOINT", "")

    @property
    def trainer_endpoints(self) -> list[str]:
        return os.environ.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")


@dataclass
class ParallelStrategy:
    """How many processes train, and which one this is."""

    nranks: int = 1
    local_rank: int = 0
    trainer_endpoints: tuple[str, ...] = ()
    current_endpoint: str = ""


def prepare_context(strategy: ParallelStrategy | None = None) -> ParallelStrategy | None:
    """Returns None: one process needs no context.

    Raises:
        UnsupportedError: ``strategy``, or the environment, speaks of several processes.
    """
    _check_alone("prepare_context", ParallelEnv().nranks if strategy is None else strategy.nranks)


def _check_alone(caller: str, processes: int) -> None:
    if processes > 1:
        raise unsupported(
            f"{caller}: training on {processes} processes is not implemented",
            "train in one process, without paddle.distributed.launch",
        )


class DataParallel(Layer):
    """``layers`` itself under another name: there is one process, so nothing is scaled or summed.

    Raises:
        UnsupportedError: The strategy speaks of several processes.
    """

    def __init__(self, layers: Layer, strategy: ParallelStrategy | None) -> None:
        super().__init__(layers.full_name() + "_data_parallel")
        _check_alone("DataParallel", 1 if strategy is None else strategy.nranks)
        self._layers = layers

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self._layers(*inputs, **kwargs)

    def scale_loss(self, loss: Variable) -> Variable:
        """The loss: it is this process's alone."""
        return loss

    def apply_collective_grads(self) -> None:
        """Does nothing: the gradients are this process's alone."""

    def state_dict(
        self,
        destination: dict[str, Parameter] | None = None,
        include_sublayers: bool = True,
        structured_name_prefix: str = "",
    ) -> dict[str, Parameter]:
        """The state of the wrapped layer, under its own names."""
        return self._layers.state_dict(destination, include_sublayers, structured_name_prefix)

    def load_dict(
        self, stat_dict: Mapping[str, Any] | None, include_sublayers: bool = True, use_structured_name: bool = True
    ) -> None:
        """Sets the state of the wrapped layer."""
        self._layers.load_dict(stat_dict, include_sublayers, use_structured_name)
