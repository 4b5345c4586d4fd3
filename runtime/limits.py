"""What scripts, programs and manifests agree on, once.  Imports nothing of its own: a script loads it in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

SamplerKind = Literal["poisson", "balls", "shuffle", "sequential"]
Adjacency = Literal["add-remove", "replace-one", "zero-out"]

ADJACENCIES: Mapping[SamplerKind, tuple[Adjacency, ...]] = {
    "poisson": ("add-remove", "replace-one"),
    "balls": ("add-remove",),
    # A record put into a permutation shifts every later lot, so add-remove does not hold for slices of one.
    "shuffle": ("zero-out", "replace-one"),
    "sequential": ("zero-out", "replace-one"),
}
"""The adjacencies each sampler may be accounted under; the first is its own."""

DEFAULT_GRID_BITS = 20
"""k of the discrete mechanism's grid, of spacing 2^-k, where a script states none."""

MAX_GRID_BITS = 30
"""k of the finest grid: lots of 2^32 examples still sum up in 63 bits."""

MAX_SCALE = 2.0**40
"""Largest standard deviation of integer noise, in units of the grid: half-integers must lie far apart in float64."""
