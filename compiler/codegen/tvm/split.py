"""Cutting a loop where a choice between elements turns: each piece then takes one branch without asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...ir.types import DType
from .expr import Binary, Compare, Const, Index, Invert, Load, Node, Select, bounds, const, rewrite, select, walk

MOST_PIECES = 4
LONGEST = 1 << 14
"""Trips up to which a loop's conditions are looked through one by one."""

Ranges = Mapping[Node, tuple[int, int]]
"""Smallest and largest values of loop variables."""


def pieces(index: Index, roots: Sequence[Node]) -> list[tuple[int, int]]:
    """Ranges ``[start, stop)`` of a loop within which the choices between reads do not turn; one where they turn
    too often, or at places known at run time only."""
    extent = index.extent
    if not isinstance(extent, int) or not 1 < extent <= LONGEST:
        return [(0, extent)] if isinstance(extent, int) else []
    cuts: set[int] = set()
    for condition in _conditions(roots):
        found = _turns(condition, index, extent)
        if len(found) < MOST_PIECES:
            cuts |= found
    if len(cuts) >= MOST_PIECES:
        return [(0, extent)]
    edges = [0, *sorted(cuts), extent]
    return list(pairwise(edges))


def _conditions(roots: Sequence[Node]) -> list[Compare]:
    """Comparisons that decide between elements of tensors."""
    chosen = [node for node in walk(*roots) if isinstance(node, Select)]
    deciding = [s.children[0] for s in chosen if any(isinstance(node, Load) for node in walk(*s.children[1:]))]
    return [node for node in walk(*deciding) if isinstance(node, Compare)]


def _turns(condition: Compare, index: Index, extent: int) -> set[int]:
    """Where a comparison of ``index`` and constants changes its truth."""
    values: dict[Node, NDArray[np.int64]] = {}
    for node in walk(*condition.children):
        match node:
            case Const() if node.dtype is DType.I64:
                values[node] = np.full(extent, int(node.value), np.int64)
            case Index() if node is index:
                values[node] = np.arange(extent, dtype=np.int64)
            case Binary() if node.op in _ARITHMETIC:
                x, y = (values.get(child) for child in node.children)
                if x is None or y is None or (node.op in ("//", "%") and not y.all()):
                    return set()
                values[node] = _ARITHMETIC[node.op](x, y)
            case _:
                return set()
    x, y = (values[child] for child in condition.children)
    return {int(place) + 1 for place in np.flatnonzero(np.diff(_COMPARISONS[condition.op](x, y)))}


_ARITHMETIC = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "//": np.floor_divide, "%": np.mod, "min": np.minimum,
    "max": np.maximum,
}  # fmt: skip
_COMPARISONS = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip


def resolved(root: Node, ranges: Ranges) -> Node:
    """``root`` without the choices that ``ranges`` decide."""

    def decide(node: Node) -> Node:
        match node:
            case Compare() if node.children[0].dtype is DType.I64:
                known = _truth(node, ranges)
                return node if known is None else const(known, DType.BOOL)
            case Binary() if node.dtype is DType.BOOL and node.op in ("&", "|"):
                return _joined(node)
            case Invert() if isinstance(node.children[0], Const) and node.dtype is DType.BOOL:
                return const(not node.children[0].value, DType.BOOL)
            case Select():
                return select(*node.children)
            case _:
                return node

    return rewrite(root, decide)


def _joined(node: Binary) -> Node:
    absorbing = node.op == "|"
    x, y = node.children
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Const):
            return one if bool(one.value) is absorbing else other
    return node


def _truth(node: Compare, ranges: Ranges) -> bool | None:
    x, y = (bounds(child, ranges) for child in node.children)
    if x is None or y is None:
        return None
    (a, b), (c, d) = x, y
    always, never = {
        "<": (b < c, a >= d),
        "<=": (b <= c, a > d),
        ">": (a > d, b <= c),
        ">=": (a >= d, b < c),
        "==": (a == b == c == d, b < c or d < a),
        "!=": (b < c or d < a, a == b == c == d),
    }[node.op]
    return True if always else False if never else None
