"""BuildStrategy and ExecutionStrategy: fluid's hints on how to compile and to run a program.

All of their fields exist, with fluid's types and defaults. What they ask for is done by the compiler as it is (fusion,
reuse of memory), or has no effect on one device; ``num_iteration_per_run`` has none in Paddle 1.8.5 either.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
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


class _Strategy:
    """Fields with fixed types; an unknown one is refused where it is set."""

    _fields: ClassVar[dict[str, object]]
    _optional: ClassVar[dict[str, type]] = {}
    """Types of the fields that are None unless they are set."""

    def __init_subclass__(cls) -> None:
        inherited = getattr(cls, "_fields", {})
        cls._fields = {**inherited, **{name: getattr(cls, name) for name in cls.__annotations__ if name != "_optional"}}

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__name__
        if name not in self._fields:
            raise AttributeError(
                f"{kind} has no field {name!r}; it has {', '.join(n for n in self._fields if not n.startswith('_'))}"
            )
        object.__setattr__(self, name, self._checked(name, value))

    def _checked(self, name: str, value: Any) -> object:
        default = self._fields[name]
        shown = f"{type(self).__name__}.{name} is {value!r}"
        if isinstance(default, bool):
            # What Python takes for a truth value; fluid takes None and numbers.
            if value is not None and not isinstance(value, bool | int | float):
                raise wrong_type(shown, "give True or False")
            return bool(value)
        if default is None:
            kind = self._optional[name]
            if value is not None and not isinstance(value, kind):
                raise wrong_type(shown, f"give {kind.__name__} or None")
            return value
        kinds = _COLLECTIONS.get(type(default), (type(default),))
        if not isinstance(value, kinds):
            raise wrong_type(shown, f"give {kinds[0].__name__}, such as {kinds[0](default)!r}")
        return int(value) if isinstance(value, bool) else value

    def __repr__(self) -> str:
        changed = {name: getattr(self, name) for name, value in self._fields.items() if getattr(self, name) != value}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


# What may be set where the default is an empty collection that nobody can change.
_COLLECTIONS: dict[type, tuple[type, ...]] = {tuple: (list, tuple), frozenset: (set, frozenset)}


class BuildStrategy(_Strategy):
    """How a `CompiledProgram` is compiled: fluid 1.8.5's fields, all hints."""

    ReduceStrategy = ReduceStrategy
    GradientScaleStrategy = GradientScaleStrategy
    _optional: ClassVar[dict[str, type]] = {"memory_optimize": bool}  # on, off, or left to the compiler

    async_mode: bool = False
    cache_runtime_context: bool = False
    debug_graphviz_path: str = ""
    enable_auto_fusion: bool = False
    enable_backward_optimizer_op_deps: bool = True
    enable_inplace: bool = True
    enable_sequential_execution: bool = False
    fuse_all_optimizer_ops: bool = False
    fuse_all_reduce_ops: bool = True
    fuse_bn_act_ops: bool = False
    fuse_broadcast_ops: bool = True
    fuse_elewise_add_act_ops: bool = False
    fuse_relu_depthwise_conv: bool = False
    gradient_scale_strategy: GradientScaleStrategy = GradientScaleStrategy.CoeffNumDevice
    hierarchical_allreduce_inter_nranks: int = 0
    is_distribution: bool = False
    memory_optimize: bool | None = None
    mkldnn_enabled_op_types: AbstractSet[str] = frozenset()
    nccl_comm_num: int = 1
    num_trainers: int = 1
    reduce_strategy: ReduceStrategy = ReduceStrategy.AllReduce
    remove_unnecessary_lock: bool = True
    sync_batch_norm: bool = False
    trainer_id: int = 0
    trainers_endpoints: Sequence[str] = ()
    use_hierarchical_allreduce: bool = False


class ExecutionStrategy(_Strategy):
    """How a data parallel program is run: fluid 1.8.5's fields, all hints."""

    _dry_run: bool = False
    allow_op_delay: bool = False
    num_iteration_per_drop_scope: int = 100
    num_iteration_per_run: int = 1
    num_threads: int = 0
    use_cuda: bool = True
    use_experimental_executor: bool = True
    use_thread_barrier: bool = False


__all__ = ["BuildStrategy", "ExecutionStrategy"]
