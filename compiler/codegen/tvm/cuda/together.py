"""Independent nests of a plan in one launch: a step of many small tensors is then a few launches."""

from __future__ import annotations

from ..graph import TensorDef
from ..kernels.compute import cost, extent_guess
from ..nests import ComputeNest, Group, KeystreamNest, Plan, ReduceNest, nest_operands, nest_stores
from .device import THREADS, DeviceBlock, device_host
from .kernels.reduce import plan_reduction

MOST_NESTS = 32
"""Nests of one launch."""
MOST_BUFFERS = 160
"""Tensors that one launch takes."""
MOST_ELEMENTS = 1 << 22
"""Elements of a nest that is big enough for a launch of its own."""
DEAREST = 120
"""Operations per element of a nest that shares a launch: others would wait for registers that it alone needs."""


def join_independent(plan: Plan) -> None:
    """Join groups that may run side by side: each with the first later one that it can wait for."""
    groups, touched = plan.groups, _Touched(plan)
    position = 0
    while position < len(groups):
        later = _partner(groups, position, touched)
        if later is None:
            position += 1
        else:
            groups[later] = Group([*groups[position].nests, *groups[later].nests])
            del groups[position]


def _partner(groups: list[Group], position: int, touched: _Touched) -> int | None:
    group = groups[position]
    if not touched.may_share(group):
        return None
    for later in range(position + 1, len(groups)):
        if touched.conflict(group, groups[later]):
            return None
        if touched.may_share(groups[later]) and _fits(group, groups[later]):
            return later
    return None


def may_share(group: Group) -> bool:
    """Whether the nests of a group may run side by side with others in one launch."""
    if group.row is not None:
        return False
    return all(map(_is_small, group.nests))


def _is_small(nest: object) -> bool:
    match nest:
        case ComputeNest():
            values = [definition.value for definition in nest.definitions]
            return nest.noise is None and _elements(nest.definitions[0].tensor) and cost(*values) <= DEAREST
        case KeystreamNest():
            return _elements(nest.stream)
        case ReduceNest():
            return plan_reduction(DeviceBlock(device_host()), nest.sums, nest.definitions, {}, THREADS).parts == 1
        case _:
            return False


def _elements(tensor: TensorDef) -> bool:
    total = 1
    for dim in tensor.shape:
        total *= extent_guess(dim)
    return 0 < total <= MOST_ELEMENTS


def _fits(group: Group, other: Group) -> bool:
    kinds = {type(nest) for nest in (*group.nests, *other.nests)}
    nests = len(group.nests) + len(other.nests)
    buffers = sum(len(set(nest_operands(nest))) + len(nest_stores(nest)) for nest in (*group.nests, *other.nests))
    return len(kinds) == 1 and nests <= MOST_NESTS and buffers <= MOST_BUFFERS


class _Touched:
    """What groups read and write."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._known: dict[Group, tuple[set[int], set[int]]] = {}
        self._shares: dict[Group, bool] = {}

    def conflict(self, first: Group, second: Group) -> bool:
        """Whether one of two groups writes what the other touches."""
        reads, writes = self._of(first)
        others, overwritten = self._of(second)
        return not (writes.isdisjoint(others) and writes.isdisjoint(overwritten) and reads.isdisjoint(overwritten))

    def may_share(self, group: Group) -> bool:
        """`may_share`, remembered."""
        if group not in self._shares:
            self._shares[group] = may_share(group)
        return self._shares[group]

    def _of(self, group: Group) -> tuple[set[int], set[int]]:
        if group not in self._known:
            stores, in_place = group.stores(), self._plan.in_place
            writes = {id(tensor) for tensor in stores} | {id(in_place[t]) for t in stores if t in in_place}
            reads = {id(tensor) for nest in group.nests for tensor in nest_operands(nest)}
            self._known[group] = reads, writes
        return self._known[group]
