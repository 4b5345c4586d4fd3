"""Groups of nests that go row by row: a team of threads per row, its values in shared memory in between."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from ....ir.types import Dim, DType, static_shape
from ..expr import Index, Node
from ..graph import TensorDef
from ..kernels.compute import extent_guess, extent_of
from ..nests import ComputeNest, Group, ReduceNest, nest_reads, nest_stores
from .device import BLOCKS_WANTED, MOST_THREADS, THREADS, WARP, DeviceBlock, device_host
from .kernels.reduce import FEW_TERMS, plan_reduction

WARP_ROW = 1024
"""Elements of a row up to which a warp is enough for it."""
MIDDLE_TEAM = 128
"""Threads of a short row where rows are few."""
LONG_ROW = 1 << 13
"""Elements of a row from which several teams are worth launches of their own."""
ROW_BYTES = 40 << 10
"""Shared memory that the rows of a thread block may take."""


@dataclass(frozen=True)
class Rows:
    """How a group goes row by row.

    Attributes:
        axes: Leading axes of every nest that number the rows.
        extents: Their extents.
        threads: Threads of a row's team.
        apart: Whether each nest is better off on the whole device: rows are few and long, or sums whose terms lie far
            apart, but side by side with those of other rows.
    """

    axes: int
    extents: tuple[Dim, ...]
    threads: int
    apart: bool

    @property
    def slots(self) -> int:
        """Rows of a thread block."""
        return THREADS // WARP if self.threads == WARP else 1


def plan_rows(group: Group) -> Rows | None:
    """The rows of a group; None where its nests are independent of each other."""
    if group.row is None or len(group.nests) == 1:
        return None
    nests = [nest for nest in group.nests if isinstance(nest, ComputeNest | ReduceNest)]
    assert len(nests) == len(group.nests)
    axes = 1
    while _shared(group, axes) and not _innermost(group, axes):
        axes += 1
    first = nests[0].where
    extents = tuple(extent_of(i) if isinstance(i, Index) else 1 for i in first[:axes])
    count = _product(extents)
    longest = max(_elements(nest, axes) for nest in nests)
    threads = _team(longest, count)
    if longest > 4 * LONG_ROW and count < 2 * BLOCKS_WANTED:
        threads = MOST_THREADS
    few = longest >= LONG_ROW and count * 4 <= BLOCKS_WANTED
    return Rows(axes, extents, threads, few or _sums_across(nests, axes))


def kept_rows(group: Group, rows: Rows, elsewhere: Set[TensorDef]) -> dict[TensorDef, int]:
    """The tensors that need no memory but a row's, shared by its team, with the elements of a row.

    ``elsewhere`` are those that others read, too.
    """
    found: dict[TensorDef, int] = {}
    room = ROW_BYTES
    for tensor in group.stores():
        row = tensor.shape[rows.axes :]
        if rows.apart or tensor in elsewhere or tensor.layout is not None or tensor.dtype is DType.BOOL:
            continue
        if any(not isinstance(dim, int) for dim in row):
            continue
        count = _product(static_shape(row))
        taken = max(count * tensor.dtype.itemsize * rows.slots, 16)
        if 0 < taken <= room:
            found[tensor] = count
            room -= taken
    return found


def _shared(group: Group, axis: int) -> bool:
    """Whether every nest has this axis, of one extent, and reads nothing of the group beyond its own place there."""
    places: list[Node] = []
    made = {id(tensor) for nest in group.nests for tensor in nest_stores(nest)}
    for nest in group.nests:
        assert isinstance(nest, ComputeNest | ReduceNest)
        if len(nest.where) <= axis:
            return False
        own = nest.where[axis]
        for definition in nest.definitions:
            if len(definition.where) <= axis or definition.where[axis] != own:
                return False
        for read in nest_reads(nest):
            if id(read.tensor) in made and (len(read.children) <= axis or read.children[axis] != own):
                return False
        places.append(own)
    extents = {place.extent if isinstance(place, Index) else 1 for place in places}
    return len(extents) == 1


def _team(longest: int, rows: int) -> int:
    """Threads of a row: a warp where rows are short, but several where so few rows would leave the device idle."""
    if longest > WARP_ROW:
        return THREADS
    return MIDDLE_TEAM if longest >= MIDDLE_TEAM and 2 * rows * WARP < BLOCKS_WANTED * THREADS else WARP


def _innermost(group: Group, axis: int) -> bool:
    """Whether the elements along an axis lie side by side in memory, though it is not the last: channels do."""
    return any(tensor.layout is not None and tensor.layout[-1] == axis for tensor in group.stores())


def _sums_across(nests: Sequence[ComputeNest | ReduceNest], axes: int) -> bool:
    """Whether rows are single elements, and one of them a sum that neighbouring rows had better make together."""
    if any(len(nest.where) > axes for nest in nests):
        return False
    block = DeviceBlock(device_host())
    plans = (plan_reduction(block, n.sums, n.definitions, {}, THREADS) for n in nests if isinstance(n, ReduceNest))
    return any(plan.layout.across and extent_guess(plan.terms) > FEW_TERMS for plan in plans)


def _elements(nest: ComputeNest | ReduceNest, axes: int) -> int:
    indices = nest.where if isinstance(nest, ComputeNest) else (*nest.where, *nest.sums.reduced)
    return _product(tuple(extent_of(i) for i in indices[axes:] if isinstance(i, Index)))


def _product(extents: tuple[Dim, ...]) -> int:
    total = 1
    for extent in extents:
        total *= extent_guess(extent)
    return total
