"""Placing the boxes of a graph in rows: Sugiyama's method, in the plainest form that reads well.

Sugiyama, Tagawa, Toda: Methods for visual understanding of hierarchical system structures (1981). Each box stands one
row below the lowest one that it reads from; an edge over several rows gets a narrow place in each of them; rows are
ordered by the mean of their neighbours, so that edges cross little; and places are moved towards their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BOX_WIDTH, BOX_HEIGHT = 214, 46
_BEND_WIDTH = 14
_GAP_X, _GAP_Y = 22, 34
_SWEEPS = 8


@dataclass(frozen=True)
class Layout:
    """Where everything stands, in pixels.

    Attributes:
        width: of the whole.
        height: of the whole.
        boxes: (left, top) of each node.
        paths: for each edge the points that it goes through, from the bottom of a box to the top of another.
    """

    width: float
    height: float
    boxes: tuple[tuple[float, float], ...]
    paths: tuple[tuple[tuple[float, float], ...], ...]


@dataclass
class _Place:
    """A box, or a bend of an edge that passes a row."""

    row: int
    width: float
    x: float = 0.0


def place(nodes: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Place ``nodes`` boxes; each edge leads from a lower number to a higher one."""
    rows_of = [0] * nodes
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        rows_of[end] = max(rows_of[end], rows_of[start] + 1)
    for node in range(nodes - 1, -1, -1):  # what nothing stands above comes as late as it can
        below = [rows_of[end] for start, end in edges if start == node]
        if below and not any(end == node for _, end in edges):
            rows_of[node] = min(below) - 1
    places = [_Place(row, BOX_WIDTH) for row in rows_of]
    chains: list[list[int]] = []
    for start, end in edges:
        chain = [start]
        for row in range(rows_of[start] + 1, rows_of[end]):
            places.append(_Place(row, _BEND_WIDTH))
            chain.append(len(places) - 1)
        chains.append([*chain, end])
    rows: list[list[int]] = [[] for _ in range(max(rows_of, default=0) + 1)]
    for number, each in enumerate(places):
        rows[each.row].append(number)
    links: list[tuple[int, int]] = [pair for chain in chains for pair in pairwise(chain)]
    _order(rows, links, places)
    _align(rows, links, places)
    left = min((each.x - each.width / 2 for each in places), default=0.0)
    for each in places:
        each.x -= left
    width = max((each.x + each.width / 2 for each in places), default=0.0)

    def top(row: int) -> float:
        return row * (BOX_HEIGHT + _GAP_Y)

    paths = tuple(
        tuple(
            point
            for at, number in enumerate(chain)
            for point in _through(places[number], top(places[number].row), first=at == 0, last=at == len(chain) - 1)
        )
        for chain in chains
    )
    boxes = tuple((places[node].x - BOX_WIDTH / 2, top(places[node].row)) for node in range(nodes))
    return Layout(width, top(len(rows) - 1) + BOX_HEIGHT if nodes else 0.0, boxes, paths)


def _through(each: _Place, top: float, *, first: bool, last: bool) -> tuple[tuple[float, float], ...]:
    above, below = (each.x, top), (each.x, top + BOX_HEIGHT)
    return (below,) if first else (above,) if last else (above, below)


def _neighbours(links: Sequence[tuple[int, int]], *, up: bool) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for start, end in links:
        found.setdefault(end if up else start, []).append(start if up else end)
    return found


def _order(rows: list[list[int]], links: Sequence[tuple[int, int]], places: Sequence[_Place]) -> None:
    """Order each row by the mean place of its neighbours above, then below, and so on."""
    at: dict[int, float] = {number: float(place) for row in rows for place, number in enumerate(row)}
    for sweep in range(_SWEEPS):
        up = sweep % 2 == 0
        near = _neighbours(links, up=up)
        for row in rows if up else reversed(rows):
            means = {
                number: sum(at[each] for each in near[number]) / len(near[number]) if number in near else at[number]
                for number in row
            }
            row.sort(key=lambda number: means[number])
            at.update((number, float(place)) for place, number in enumerate(row))
    for row in rows:
        x = 0.0
        for number in row:
            places[number].x = x + places[number].width / 2
            x += places[number].width + _GAP_X
        for number in row:  # centred, to begin with
            places[number].x -= (x - _GAP_X) / 2


def _align(rows: list[list[int]], links: Sequence[tuple[int, int]], places: Sequence[_Place]) -> None:
    """Move places towards the mean of their neighbours, as far as the row's other places let them."""
    above, below = _neighbours(links, up=True), _neighbours(links, up=False)
    for sweep in range(4 * _SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows:
            wanted = [
                sum(places[each].x for each in near[number]) / len(near[number]) if number in near else places[number].x
                for number in row
            ]
            for number, x in zip(row, _apart([places[number].width for number in row], wanted)):
                places[number].x = x


def _apart(widths: Sequence[float], wanted: Sequence[float]) -> list[float]:
    """Places in this order, none nearer than a gap to the next, as near to the wanted ones as two sweeps find."""
    right = list(wanted)
    for n in range(1, len(right)):
        right[n] = max(right[n], right[n - 1] + (widths[n - 1] + widths[n]) / 2 + _GAP_X)
    left = list(wanted)
    for n in range(len(left) - 2, -1, -1):
        left[n] = min(left[n], left[n + 1] - (widths[n] + widths[n + 1]) / 2 - _GAP_X)
    return [(a + b) / 2 for a, b in zip(left, right)]
