"""How a product is cut: into register tiles, into passes over the inner indices, and into tasks for the threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ....ir.types import Dim, numel
from ..expr import Index
from .compute import extent_guess, extent_of

DEPTH = 512
"""Most terms of one pass: a panel of 32 float32 columns then takes 64 KB, and stays in the second-level cache."""

PARTIAL_BYTES = 1 << 20
"""Size of the sums up to which every thread may keep sums of its own."""

PACKING = 16.0
"""What packing an element of the right operand costs, in multiply-adds of a full register tile."""

STAGING = 16.0
"""What bringing an element of the left operand into scratch memory costs, in the same unit."""

ADDING = 16.0
"""What adding a partial sum to those of other threads costs, in the same unit."""


@dataclass(frozen=True)
class Tiling:
    """``rows`` by ``vectors * lanes`` sums held in registers."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def size(self) -> int:
        return self.rows * self.columns


def choose_tiling(rows: Dim, columns: Dim, lanes: int, registers: int, line: int = 0) -> Tiling:
    """6 x 2 vectors fill 16 vector registers (12 sums, 2 columns, 1 row); 32 registers take 14 x 2.

    ``line``: rows that lie at equal distances come in groups of so many (0: all do); a tile within such a group
    addresses them from one place.
    """
    vectors = 1 if isinstance(columns, int) and columns <= lanes else 2
    most = (14 if registers >= 32 else 6) * 2 // vectors
    most = min(most, 16)
    if not isinstance(rows, int):
        return Tiling(12 if registers >= 32 else 6, vectors, lanes)

    def cost(height: int) -> float:
        # The half row stands for the fixed cost of a tile.
        apart = 0.5 if line and line % height else 0.0
        return -(-rows // height) * (max(height, 4) + 0.5 + apart)

    # On a tie the taller tile wins.
    return Tiling(min(range(1, most + 1), key=lambda m: (cost(m), -m)), vectors, lanes)


@dataclass(frozen=True)
class Passes:
    """The terms of a sum, pass by pass: one for every value of ``outer`` and every range of ``size`` values of
    ``cut``, each over all values of ``within``."""

    outer: tuple[Index, ...]
    cut: Index
    size: Dim
    within: tuple[Index, ...]

    @property
    def depth(self) -> Dim:
        """Most terms of a pass."""
        return numel((self.size, *(extent_of(index) for index in self.within)))

    @property
    def cuts(self) -> int | None:
        """Ranges of ``cut``; None where its extent is symbolic."""
        extent = extent_of(self.cut)
        if isinstance(extent, int) and isinstance(self.size, int):
            return -(-extent // self.size) if extent else 1
        return None

    @property
    def even(self) -> bool:
        """Whether all passes are of one length."""
        extent = extent_of(self.cut)
        return isinstance(extent, int) and isinstance(self.size, int) and extent % self.size == 0

    @property
    def count(self) -> int | None:
        """How many passes; None where that is symbolic."""
        sizes = [extent_of(index) for index in self.outer]
        cuts = self.cuts
        if cuts is None or not all(isinstance(size, int) for size in sizes):
            return None
        return cuts * prod(size for size in sizes if isinstance(size, int))


def choose_passes(inner: Sequence[Index]) -> Passes:
    """Passes of about equal length, of at most ``DEPTH`` terms."""
    below = 1
    place = len(inner) - 1
    while place > 0:
        extent = extent_of(inner[place])
        if not isinstance(extent, int) or below * extent > DEPTH:
            break
        below *= max(extent, 1)
        place -= 1
    cut = inner[place]
    extent = extent_of(cut)
    most = max(1, DEPTH // below)
    size: Dim = most
    if isinstance(extent, int):
        parts = max(1, -(-extent // most))
        even = [count for count in range(parts, 2 * parts) if extent % count == 0]
        size = -(-extent // even[0]) if even else -(-extent // parts)
        size = max(size, 1)
    return Passes(tuple(inner[:place]), cut, size, tuple(inner[place + 1 :]))


@dataclass(frozen=True)
class Grid:
    """Tasks: ranges of the rows, of the panels of columns, and of the terms."""

    rows: int = 1
    panels: int = 1
    terms: int = 1

    @property
    def tasks(self) -> int:
        return self.rows * self.panels * self.terms


def choose_grid(
    threads: int,
    units: Dim,
    unit: int,
    panels: int,
    panel: int,
    terms: Dim,
    staged: float,
    *,
    noisy: bool = False,
    whole: bool = False,
    apart: bool = False,
) -> Grid:
    """The cheapest cut for ``threads`` tasks.

    Args:
        threads: Tasks wanted.
        units: Parts of the rows that a task can take, of ``unit`` rows each: tiles, or blocks of images.
        unit: Rows of a part.
        panels: Panels of columns, of ``panel`` columns each.
        panel: Columns of a panel.
        terms: Terms of the sum.
        staged: Elements that are brought into scratch memory for the left operand, in all.
        noisy: Whether normals are made along with the rows: these are not cut by columns.
        whole: Whether the rows are not cut.
        apart: Whether ranges of the terms may be summed apart.
    """
    if threads == 1:
        return Grid()
    height, depth = extent_guess(units) * unit, extent_guess(terms)
    found: list[tuple[float, int, Grid]] = []
    for across in range(1, threads + 1):
        if threads % across or (noisy and across > 1):
            continue
        along = threads // across
        share = -(-panels // across) * panel
        if not whole:
            work = -(-extent_guess(units) // along) * unit * share * depth
            work += PACKING * share * depth + STAGING * staged / along
            found.append((work, across, Grid(along, across, 1)))
        elif apart:
            work = height * share * (depth / along) + ADDING * height * panels * panel * along
            work += (PACKING * share * depth + STAGING * staged) / along
            found.append((work, across, Grid(1, across, along)))
        else:
            found.append((height * share * depth + PACKING * share * depth + STAGING * staged, across, Grid(1, across)))
    return min(found, key=lambda entry: entry[:2])[2]
