"""Public numbers that scripts, programs and manifests agree on.  Imports nothing: a script loads it in a moment."""

from __future__ import annotations

DEFAULT_GRID_BITS = 20
"""k of the discrete mechanism's grid, of spacing 2^-k, where a script states none."""

MAX_GRID_BITS = 30
"""k of the finest grid: lots of 2^32 examples still sum up in 63 bits."""

MAX_SCALE = 2.0**40
"""Largest standard deviation of integer noise, in units of the grid: half-integers must lie far apart in float64."""
