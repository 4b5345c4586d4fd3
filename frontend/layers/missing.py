"""The layers of fluid 1.8.5 that fluidc does not have, so that a script hears of it by name."""

from __future__ import annotations

from ..missing import MissingName, missing_name

# What comes nearest, where something does.
_INSTEAD = {"load": "fluid.io.load_vars(exe, dirname, vars=[out]); in Paddle 1.8.5 this layer fails, too"}
_OTHERWISE = "write it with the layers there are: fluid.layers.__all__ lists them"


def missing(name: str) -> MissingName:
    """What ``fluid.layers.NAME`` is where no layer is called so.

    Raises:
        AttributeError: Fluid 1.8.5 has no such layer either.
    """
    near = {layer: f"use {instead}" for layer, instead in _INSTEAD.items()}
    return missing_name("fluid.layers", name, near, _OTHERWISE)
