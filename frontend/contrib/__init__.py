"""``fluid.contrib``: names that scripts use, and what fluidc has in their place."""

from __future__ import annotations

from .. import api
from ..missing import MissingName, missing_name
from . import layers, mixed_precision
from .extend_optimizer import extend_with_decoupled_weight_decay
from .statistics import memory_usage, op_freq_statistic


def __getattr__(name: str) -> MissingName:
    if name in api.names("fluid.contrib.layers"):
        return getattr(layers, name)
    return missing_name("fluid.contrib", name, {}, "use what fluid itself has: fluid.__all__")


__all__ = ["extend_with_decoupled_weight_decay", "layers", "memory_usage", "mixed_precision", "op_freq_statistic"]
