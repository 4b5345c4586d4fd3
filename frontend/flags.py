"""fluid's global flags: they can be read and set, and change nothing here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence

from .errors import invalid, wrong_type

Flag = bool | int | float | str

# Those that Paddle 1.8.5 on a CPU knows, with its defaults, and those of its GPU build that scripts set.
_DEFAULTS: dict[str, Flag] = {
    "FLAGS_allocator_strategy": "auto_growth",
    "FLAGS_benchmark": False,
    "FLAGS_check_nan_inf": False,
    "FLAGS_conv_workspace_size_limit": 512,
    "FLAGS_cpu_deterministic": False,
    "FLAGS_cudnn_batchnorm_spatial_persistent": False,
    "FLAGS_cudnn_deterministic": False,
    "FLAGS_cudnn_exhaustive_search": False,
    "FLAGS_eager_delete_tensor_gb": 0.0,
    "FLAGS_enable_parallel_graph": False,
    "FLAGS_enable_rpc_profiler": False,
    "FLAGS_fast_eager_deletion_mode": True,
    "FLAGS_fraction_of_cpu_memory_to_use": 1.0,
    "FLAGS_fraction_of_gpu_memory_to_use": 0.92,
    "FLAGS_free_idle_chunk": False,
    "FLAGS_free_when_no_cache_hit": False,
    "FLAGS_fuse_parameter_groups_size": 1,
    "FLAGS_fuse_parameter_memory_size": -1.0,
    "FLAGS_init_allocated_mem": False,
    "FLAGS_initial_cpu_memory_in_mb": 500,
    "FLAGS_inner_op_parallelism": 0,
    "FLAGS_memory_fraction_of_eager_deletion": 1.0,
    "FLAGS_multiple_of_cupti_buffer_size": 1,
    "FLAGS_paddle_num_threads": 1,
    "FLAGS_pe_profile_fname": "",
    "FLAGS_print_sub_graph_dir": "",
    "FLAGS_reader_queue_speed_test_mode": False,
    "FLAGS_selected_gpus": "",
    "FLAGS_sync_nccl_allreduce": True,
    "FLAGS_tracer_profile_fname": "xxgperf",
    "FLAGS_use_mkldnn": False,
    "FLAGS_use_pinned_memory": True,
    "FLAGS_use_system_allocator": False,
}


class Flags(MutableMapping[str, Flag]):
    """The flags of the process (fluid's ``core.globals()``); a flag keeps its type, and there are no new ones."""

    def __init__(self) -> None:
        self._values = dict(_DEFAULTS)

    def __getitem__(self, name: str) -> Flag:
        if name not in self._values:
            raise invalid(f"there is no flag {name}", f"known are {', '.join(sorted(self._values))}")
        return self._values[name]

    def __setitem__(self, name: str, value: Flag) -> None:
        default = self[name]
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        elif isinstance(default, bool) and isinstance(value, int | float):
            value = bool(value)
        if not isinstance(value, type(default)):
            raise wrong_type(f"the flag {name} is set to {value!r}", f"give {type(default).__name__}")
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        raise invalid(f"the flag {name} cannot be removed", "set it to another value")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


_flags = Flags()


@contextlib.contextmanager
def flags_restored() -> Iterator[None]:
    """Leave the flags as they are found, whatever is set inside the ``with`` block."""
    before = dict(_flags)
    try:
        yield
    finally:
        _flags.update(before)


def process_flags() -> Flags:
    """The flags of this process."""
    return _flags


def get_flags(flags: str | Sequence[str]) -> dict[str, Flag]:
    """The values of one flag, or several, by name.

    Raises:
        ProgramError: There is no such flag.
        ArgumentTypeError: Neither a name nor a list of names.
    """
    names = [flags] if isinstance(flags, str) else flags
    if not isinstance(names, list | tuple):
        raise wrong_type(f"get_flags: {type(flags).__name__}", "give a name, or a list of names")
    return {name: _flags[name] for name in names}


def set_flags(flags: Mapping[str, Flag]) -> None:
    """Set flags by name; they say how Paddle's kernels and allocators work, and nothing here depends on them.

    Raises:
        ProgramError: There is no such flag.
        ArgumentTypeError: Not a dict, or a value of another type.
    """
    if not isinstance(flags, Mapping):
        raise wrong_type(f"set_flags: {type(flags).__name__}", "give a dict of names and values")
    for name, value in flags.items():
        _flags[name] = value
