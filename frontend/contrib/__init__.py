"""``fluid.contrib``: names that scripts use, and what fluidc has in their place."""

from __future__ import annotations

from .. import api
from ..missing import MissingName, missing_name
from . import layers, mixed_precision


def __getattr__(name: str) -> MissingName:
    if name in api.names("fluid.contrib.layers"):
        return getattr(layers, name)
    return missing_name("fluid.contrib", name, {}, "use what fluid itself has: fluid.__all__")


__all__ = ["layers", "mixed_precision"]
