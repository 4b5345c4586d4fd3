"""BuildStrategy and ExecutionStrategy: fluid's hints on how to compile and to run a program.

All of their fields exist, with fluid's types and defaults. What they ask for is done by the compiler as it is (fusion,
reuse of memory), or has no effect on one device; ``num_iteration_per_run`` has none in Paddle 1.8.5 either.
"""

from __future__ import annotations

import copy
import enum
from typing import Any, ClassVar

from .errors import wrong_type


class ReduceStrategy(enum.Enum):
    """How gradients would be reduced over devices."""

    AllReduce = 0
    Reduce = 1


class GradientScaleStrategy(enum.Enum):
    """Where the gradient of the loss begins: 1/devices, 1, or what is fed."""

    CoeffNumDevice = 0
    One = 1
    Customized = 2


def _flag(value: object) -> bool | None:
    # As Python's bool does for what stands for a truth; fluid takes None and numbers.
    return bool(value) if value is None or isinstance(value, bool | int | float) else None


class _Strategy:
    """Fields with fixed types; an unknown one is refused where it is set."""

    _fields: ClassVar[dict[str, object]]

    def __init__(self) -> None:
        for name, value in self._fields.items():
            object.__setattr__(self, name, copy.copy(value))

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__name__
        if name not in self._fields:
            raise AttributeError(
                f"{kind} has no field {name!r}; it has {', '.join(n for n in self._fields if not n.startswith('_'))}"
            )
        object.__setattr__(self, name, self._checked(name, value))

    def _checked(self, name: str, value: Any) -> object:
        default = self._fields[name]
        if isinstance(default, bool):
            flag = _flag(value)
            if flag is None:
                raise wrong_type(f"{type(self).__name__}.{name} is {value!r}", "give True or False")
            return flag
        if default is None:  # memory_optimize: on, off, or left to the compiler
            if value is not None and not isinstance(value, bool):
                raise wrong_type(f"{type(self).__name__}.{name} is {value!r}", "give True, False or None")
            return value
        if isinstance(value, bool) and isinstance(default, int):
            return int(value)
        if not isinstance(value, type(default)):
            raise wrong_type(
                f"{type(self).__name__}.{name} is {value!r}", f"give {type(default).__name__}, such as {default!r}"
            )
        return value

    def __repr__(self) -> str:
        changed = {name: getattr(self, name) for name, value in self._fields.items() if getattr(self, name) != value}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


class BuildStrategy(_Strategy):
    """How a `CompiledProgram` is compiled: fluid 1.8.5's fields, all hints."""

    ReduceStrategy = ReduceStrategy
    GradientScaleStrategy = GradientScaleStrategy

    _fields: ClassVar[dict[str, object]] = {
        "async_mode": False,
        "cache_runtime_context": False,
        "debug_graphviz_path": "",
        "enable_auto_fusion": False,
        "enable_backward_optimizer_op_deps": True,
        "enable_inplace": True,
        "enable_sequential_execution": False,
        "fuse_all_optimizer_ops": False,
        "fuse_all_reduce_ops": True,
        "fuse_bn_act_ops": False,
        "fuse_broadcast_ops": True,
        "fuse_elewise_add_act_ops": False,
        "fuse_relu_depthwise_conv": False,
        "gradient_scale_strategy": GradientScaleStrategy.CoeffNumDevice,
        "hierarchical_allreduce_inter_nranks": 0,
        "is_distribution": False,
        "memory_optimize": None,
        "mkldnn_enabled_op_types": set(),
        "nccl_comm_num": 1,
        "num_trainers": 1,
        "reduce_strategy": ReduceStrategy.AllReduce,
        "remove_unnecessary_lock": True,
        "sync_batch_norm": False,
        "trainer_id": 0,
        "trainers_endpoints": [],
        "use_hierarchical_allreduce": False,
    }


class ExecutionStrategy(_Strategy):
    """How a data parallel program is run: fluid 1.8.5's fields, all hints."""

    _fields: ClassVar[dict[str, object]] = {
        "_dry_run": False,
        "allow_op_delay": False,
        "num_iteration_per_drop_scope": 100,
        "num_iteration_per_run": 1,
        "num_threads": 0,
        "use_cuda": True,
        "use_experimental_executor": True,
        "use_thread_barrier": False,
    }


__all__ = ["BuildStrategy", "ExecutionStrategy"]
