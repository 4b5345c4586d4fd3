"""``fluid.contrib``: names that scripts use, and what fluidc has in their place."""

from __future__ import annotations

from typing import NoReturn

from ..errors import unsupported
from . import layers, mixed_precision

_NAMES = """
BeamSearchDecoder Compressor HDFSClient InitState QuantizeTranspiler StateCell TrainingDecoder
convert_dist_to_sparse_program distributed_batch_reader extend_with_decoupled_weight_decay
load_persistables_for_increment load_persistables_for_inference memory_usage multi_download multi_upload
op_freq_statistic
"""
_MISSING = frozenset(_NAMES.split())


def __getattr__(name: str) -> NoReturn:
    if name in layers.MISSING:
        layers.refuse(name)
    if name not in _MISSING:
        raise AttributeError(f"module fluid.contrib has no attribute {name!r}")
    raise unsupported(f"fluid.contrib.{name} is not implemented", "use what fluid itself has: fluid.__all__")


__all__ = ["layers", "mixed_precision"]
