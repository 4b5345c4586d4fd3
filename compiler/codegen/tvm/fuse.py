"""What is stored, and which stored tensors share a loop nest.

Three decisions, in this order:

1. *Inline or store.*  A cheap element is recomputed where it is read; a dear one read several times is stored.
2. *Fuse.*  A stored element-by-element tensor joins the nest of what it reads when it reads only the element being
   finished there (behind a product or a reduction, or beside another element), or only the current row.
3. *Update in place.*  A state variable is overwritten by the nest of its new value when nobody reads the old one
   later; else the new value is copied over at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ...ir.types import Dim
from .expr import Const, Extent, Index, Load, Node, Slot, load, loads, loop_index, rewrite, slot, substitute, walk
from .graph import (
    Compute,
    Contract,
    Keystream,
    Placeholder,
    Program,
    ProgramOutput,
    Reduce,
    StreamTile,
    Structured,
    StructuredOutput,
    TensorDef,
)
from .kernels.compute import Definition, cost, extent_guess
from .kernels.program import trips
from .kernels.reduce import Sums
from .layout import choose_layouts, split_reductions

RECOMPUTE_COST = 6
"""Extra operations per element that are accepted to save storing and loading it."""

LARGEST_EXPRESSION = 400
"""Operations of one fused element; beyond this, compile time grows and registers spill."""


@dataclass(eq=False)
class ComputeNest:
    """Elements of one shape; ``noise`` is made along with them."""

    indices: tuple[Node, ...]
    definitions: list[Definition]
    noise: StreamTile | None = None

    @property
    def where(self) -> tuple[Node, ...]:
        return self.indices

    def inputs(self) -> list[Node]:
        return []


@dataclass(eq=False)
class ReduceNest:
    """Reductions over the same indices, and elements of their results' shape computed from them."""

    sums: Sums
    definitions: list[Definition]

    @property
    def where(self) -> tuple[Node, ...]:
        return self.sums.indices

    def inputs(self) -> list[Node]:
        return self.sums.bodies


@dataclass(eq=False)
class ContractNest:
    """A matrix product and what is fused behind it, with its ``noise``."""

    contract: Contract
    result: Slot
    definitions: list[Definition]
    noise: StreamTile | None = None

    @property
    def where(self) -> tuple[Node, ...]:
        return self.contract.where

    def inputs(self) -> list[Node]:
        padded = self.contract.padded
        return [self.contract.left if padded is None else padded.body, self.contract.right]


@dataclass(eq=False)
class ProgramNest:
    """Explicit loops."""

    program: Program
    definitions: list[Definition] = field(default_factory=list[Definition])


@dataclass(eq=False)
class KeystreamNest:
    """Words or normals of a stream."""

    stream: Keystream
    definitions: list[Definition] = field(default_factory=list[Definition])


@dataclass(eq=False)
class StructuredNest:
    """A loop or branch with bodies."""

    program: Structured
    definitions: list[Definition] = field(default_factory=list[Definition])


Nest: TypeAlias = ComputeNest | ReduceNest | ContractNest | ProgramNest | KeystreamNest | StructuredNest
Elementwise: TypeAlias = ComputeNest | ReduceNest | ContractNest


@dataclass(eq=False)
class Group:
    """Nests that become one kernel.  With ``row``, they share the loop over the leading axis."""

    nests: list[Nest]
    row: Dim | None = None

    def stores(self) -> list[TensorDef]:
        """Every tensor the group writes."""
        return [tensor for nest in self.nests for tensor in nest_stores(nest)]

    def reads(self) -> list[Load]:
        """Every read of a tensor that comes from outside or from an earlier nest."""
        return [read for nest in self.nests for read in nest_reads(nest)]

    def inputs(self) -> list[TensorDef]:
        """Tensors read that the group does not make, each once."""
        own = set(map(id, self.stores()))
        found = [read for nest in self.nests for read in nest_operands(nest)]
        return [tensor for tensor in dict.fromkeys(found) if id(tensor) not in own]


def nest_stores(nest: Nest) -> list[TensorDef]:
    """Every tensor a nest writes."""
    match nest:
        case ProgramNest() | StructuredNest():
            return list(nest.program.outputs)
        case KeystreamNest():
            return [nest.stream]
        case _:
            return [definition.tensor for definition in nest.definitions]


def nest_reads(nest: Nest) -> list[Load]:
    """Every element read of a nest (those that take whole tensors have none)."""
    match nest:
        case ProgramNest():
            return nest.program.reads()
        case KeystreamNest() | StructuredNest():
            return []
        case _:
            return loads(*nest.inputs(), *(definition.value for definition in nest.definitions))


def nest_operands(nest: Nest) -> list[TensorDef]:
    """Every tensor a nest reads, perhaps several times."""
    if isinstance(nest, KeystreamNest):
        return list(nest.stream.whole())
    if isinstance(nest, StructuredNest):
        return nest.program.operands()
    found = [read.tensor for read in nest_reads(nest)]
    if isinstance(nest, ComputeNest | ContractNest) and nest.noise is not None:
        made = nest.noise.made
        found = [tensor for tensor in found if tensor is not made]
        found += [nest.noise.stream.key, nest.noise.stream.draw]
    return found


@dataclass(eq=False)
class Plan:
    """Groups in execution order.  ``in_place`` maps a stored tensor to the state it overwrites."""

    groups: list[Group]
    in_place: dict[TensorDef, Placeholder]


def plan(
    tensors: Sequence[TensorDef],
    outputs: Sequence[TensorDef],
    writes: Sequence[tuple[Placeholder, TensorDef]],
    keep: Set[TensorDef] = frozenset(),
) -> Plan:
    """Schedule the definitions that ``outputs`` and the new state values ``writes`` need.

    Args:
        tensors: All definitions, operands before readers.
        outputs: Fetched tensors, each stored in memory of its own.
        writes: State variables with their new values.
        keep: Tensors to be stored in any case.
    """
    needed = _reachable(tensors, [*outputs, *(value for _, value in writes)])
    stored = _choose_stored(needed, {*outputs, *(value for _, value in writes), *keep})
    expansion = _Expansion(stored)
    expanded = [(tensor, expansion.apply(tensor)) for tensor in needed if tensor in stored]
    choose_layouts(expanded, [*outputs, *(value for _, value in writes)])
    groups: list[Group] = []
    for tensor, definition in split_reductions(expanded):
        if not isinstance(tensor, Placeholder):
            _place(definition, tensor, groups, late={value for _, value in writes})
    _drop_unread(groups, {*outputs, *(value for _, value in writes)})
    return _with_state(groups, outputs, writes)


def _reachable(tensors: Sequence[TensorDef], roots: Iterable[TensorDef]) -> list[TensorDef]:
    wanted: set[TensorDef] = set()
    stack = list(roots)
    while stack:
        tensor = stack.pop()
        if tensor not in wanted:
            wanted.add(tensor)
            stack.extend(tensor.operands())
            if isinstance(tensor, ProgramOutput | StructuredOutput):
                stack.extend(tensor.program.outputs)
    return [tensor for tensor in tensors if tensor in wanted]


# Inline or store --------------------------------------------------------------------------------------
def _size(dims: Iterable[Dim]) -> int:
    total = 1
    for dim in dims:
        total *= extent_guess(dim)
    return max(total, 1)


def is_view(tensor: Compute) -> bool:
    """An element is another tensor's element, a constant or an index: free to recompute."""
    return isinstance(tensor.body, Load | Const | Extent | Index)


def _behind_views(tensor: TensorDef) -> TensorDef:
    """The tensor whose elements a chain of views shows: what a kernel that reads memory must find stored."""
    while isinstance(tensor, Compute) and isinstance(tensor.body, Load):
        tensor = tensor.body.tensor
    return tensor


def _packs(contract: Contract, left: Load) -> bool:
    """Whether the left operand may be computed while it is packed: its rows, and what they are made of, lie along
    the lanes.  It is then computed once per element, as the right one is."""
    if contract.batch or contract.rows != left.children[-1:]:
        return False
    made = left.tensor
    if not isinstance(made, Compute) or is_view(made):
        return False
    lane = made.indices[-1]
    return all(read.children[-1:] == (lane,) or lane not in walk(read) for read in loads(made.body))


def _choose_stored(needed: Sequence[TensorDef], required: set[TensorDef]) -> set[TensorDef]:
    stored = {tensor for tensor in needed if not isinstance(tensor, Compute)} | required
    # How often an element would be computed if the tensor were inlined.
    uses: defaultdict[TensorDef, float] = defaultdict(float)
    for tensor in reversed(needed):
        if isinstance(tensor, Compute) and tensor not in stored:
            extra = cost(tensor.body) * (uses[tensor] - 1)
            if not is_view(tensor) and extra > RECOMPUTE_COST:
                stored.add(tensor)
        repeated = 1.0 if tensor in stored else uses[tensor]
        match tensor:
            case Contract():
                assert isinstance(tensor.left, Load)
                if tensor.padded is not None:
                    for read in tensor.padded.reads():
                        uses[read.tensor] += 1.0
                elif _packs(tensor, tensor.left):
                    uses[tensor.left.tensor] += 1.0
                else:
                    stored.add(_behind_views(tensor.left.tensor))
                domain = _size(i.extent or 1 for i in (*tensor.batch, *tensor.inner, *tensor.columns))
                for read in loads(tensor.right):
                    uses[read.tensor] += max(domain / _size(read.tensor.shape), 1.0)
            case Reduce():
                domain = _size((*tensor.shape, *(i.extent or 1 for i in tensor.reduced)))
                for read in tensor.reads():
                    uses[read.tensor] += max(domain / _size(read.tensor.shape), 1.0)
            case Compute():
                for read in tensor.reads():
                    uses[read.tensor] += repeated * max(_size(tensor.shape) / _size(read.tensor.shape), 1.0)
            case ProgramOutput():
                for read, times in trips(tensor.program):
                    # Explicit loops are scalar code.
                    uses[read.tensor] += 2 * max(times / _size(read.tensor.shape), 1.0)
            case Keystream() | StructuredOutput():
                stored.update(tensor.whole())
            case _:
                pass
    return stored


class _Expansion:
    """Definitions with every load of an inlined tensor replaced by that tensor's element."""

    def __init__(self, stored: set[TensorDef]) -> None:
        self._stored = stored
        self._bodies: dict[Compute, Node] = {}

    def apply(self, tensor: TensorDef) -> TensorDef:
        match tensor:
            case Compute():
                return Compute(tensor.dtype, tensor.shape, tensor.indices, body=self._body(tensor), name=tensor.name)
            case Reduce():
                return Reduce(
                    tensor.dtype, tensor.shape, tensor.indices, tensor.reduced, tensor.kind, tensor.accumulate,
                    body=self._node(tensor.body), name=tensor.name,
                )  # fmt: skip
            case Contract():
                return replace(tensor, left=self._left(tensor), right=self._node(tensor.right))
            case ProgramOutput():
                tensor.program.rewrite(self._node)
                return tensor
            case _:
                return tensor

    def _left(self, tensor: Contract) -> Node:
        padded = tensor.padded
        if padded is None:
            return self._node(tensor.left)
        return load(replace(padded, body=self._node(padded.body)), tensor.left.children)

    def _body(self, tensor: Compute) -> Node:
        found = self._bodies.get(tensor)
        if found is None:
            found = self._bodies[tensor] = self._node(tensor.body)
        return found

    def _node(self, root: Node) -> Node:
        def inline(node: Node) -> Node:
            if isinstance(node, Load) and isinstance(node.tensor, Compute) and node.tensor not in self._stored:
                indices = node.tensor.indices
                values = {i: v for i, v in zip(indices, node.children, strict=True) if not isinstance(i, Const)}
                return substitute(self._body(node.tensor), values)
            return node

        return rewrite(root, inline)


# Fusing -----------------------------------------------------------------------------------------------
def _place(expanded: TensorDef, tensor: TensorDef, groups: list[Group], late: Set[TensorDef]) -> None:
    """Put one stored tensor into an existing group or a new one.

    New state values (``late``) pull their group to the end if they can: the old value then has no later reader.
    """
    match expanded:
        case Compute():
            if not _join(expanded, tensor, groups, tensor in late):
                definition = Definition(tensor, expanded.indices, expanded.body)
                nest = ComputeNest(expanded.indices, [definition])
                _append(nest, groups)
        case Reduce():
            if not _reduce_together(expanded, tensor, groups):
                result = slot(expanded.dtype)
                nest = ReduceNest(Sums((expanded,), (result,)), [Definition(tensor, expanded.indices, result)])
                _append(nest, groups)
        case Contract():
            result = slot(expanded.dtype)
            nest = ContractNest(expanded, result, [Definition(tensor, expanded.where, result)])
            groups.append(Group([nest]))
        case ProgramOutput():
            if expanded is expanded.program.outputs[0]:
                groups.append(Group([ProgramNest(expanded.program)]))
        case Keystream():
            groups.append(Group([KeystreamNest(expanded)]))
        case StructuredOutput():
            if expanded is expanded.program.outputs[0]:
                groups.append(Group([StructuredNest(expanded.program)]))
        case _:
            raise AssertionError(f"{type(expanded).__name__} is not a scheduled tensor")


def _producers(reads: Sequence[Load], groups: Sequence[Group]) -> list[Group]:
    """The groups that store what is read, latest first."""
    wanted = {id(read.tensor) for read in reads}
    return [group for group in reversed(groups) if any(id(tensor) in wanted for tensor in group.stores())]


def _delay(group: Group, past: int, groups: list[Group]) -> bool:
    """Let a group run after the one at position ``past``, if nobody in between reads what it stores."""
    position = groups.index(group)
    if past <= position:
        return True
    own = set(map(id, group.stores()))
    if any(id(tensor) in own for other in groups[position + 1 :] for tensor in other.inputs()):
        return False
    groups.append(groups.pop(position))
    return True


def _delay_past(group: Group, others: Sequence[Group], groups: list[Group]) -> bool:
    """Let a group run after all ``others``."""
    return _delay(group, max((groups.index(other) for other in others), default=-1), groups)


def _join(compute: Compute, tensor: TensorDef, groups: list[Group], late: bool) -> bool:
    """Fuse an element-by-element tensor with the nest whose element it continues."""
    reads = loads(compute.body)
    producers = _producers(reads, groups)
    for group in producers:
        others = [other for other in producers if other is not group]
        nest = group.nests[-1]
        if not isinstance(nest, ComputeNest | ReduceNest | ContractNest):
            continue
        if isinstance(nest, ReduceNest) and tensor.layout != nest.definitions[0].tensor.layout:
            continue  # each is better off with loops in its own order
        value = _continues(compute, nest, group)
        if value is not None and cost(value) <= LARGEST_EXPRESSION and _delay_past(group, others, groups):
            if late:
                _delay(group, len(groups) - 1, groups)
            nest.definitions.append(Definition(tensor, nest.where, value))
            return True
    return False


def _continues(compute: Compute, nest: Elementwise, group: Group) -> Node | None:
    """The value of ``compute`` in terms of a nest's own values, if it reads only the element at hand."""
    shape = nest.definitions[0].tensor.shape
    if compute.shape != shape:
        return None
    renamed = {i: new for i, new in zip(compute.indices, nest.where, strict=True) if not isinstance(i, Const)}
    body = substitute(compute.body, renamed)
    own = {definition.tensor: definition.value for definition in nest.definitions}
    earlier = {id(t) for other in group.nests if other is not nest for t in nest_stores(other)}
    values: dict[Node, Node] = {}
    for read in loads(body):
        if read.tensor in own:
            if read.children != nest.where:
                return None
            values[read] = own[read.tensor]
        elif (
            id(read.tensor) in earlier
            and group.row is not None
            and (not read.children or read.children[0] != nest.where[0])
        ):
            return None
    return substitute(body, values)


def _reduce_together(reduction: Reduce, tensor: TensorDef, groups: list[Group]) -> bool:
    """Take a reduction in the loops of an earlier one over the same extents that reads some of the same tensors."""
    reads = loads(reduction.body)
    producers = _producers(reads, groups)
    wanted = {read.tensor for read in reads}
    for group in reversed(groups):
        nest = group.nests[-1]
        if not isinstance(nest, ReduceNest) or not _alike(nest.sums.parts[0], reduction):
            continue
        own = {id(made) for made in nest_stores(nest)}
        if any(id(read) in own for read in wanted) or wanted.isdisjoint(r.tensor for r in loads(*nest.sums.bodies)):
            continue
        renamed = _renamed(reduction, nest.sums)
        shared = group.row is None or _row_only(renamed.body, nest, group)
        if shared and _delay_past(group, [other for other in producers if other is not group], groups):
            result = slot(reduction.dtype)
            nest.sums = Sums((*nest.sums.parts, renamed), (*nest.sums.results, result))
            nest.definitions.append(Definition(tensor, renamed.indices, result))
            return True
    return False


def _alike(x: Reduce, y: Reduce) -> bool:
    """Whether two reductions run over the same extents; axes of extent 1 do not count."""
    shapes = [[dim for dim in reduction.shape if dim != 1] for reduction in (x, y)]
    return shapes[0] == shapes[1] and [i.extent for i in x.reduced] == [i.extent for i in y.reduced]


def _renamed(reduction: Reduce, sums: Sums) -> Reduce:
    """The reduction in the loop variables of others."""
    own = [i for i in reduction.indices if isinstance(i, Index)]
    new = [i for i in sums.indices if isinstance(i, Index)]
    names: dict[Node, Node] = dict(zip([*own, *reduction.reduced], [*new, *sums.reduced], strict=True))
    indices = tuple(names.get(i, i) for i in reduction.indices)
    return replace(reduction, indices=indices, reduced=sums.reduced, body=substitute(reduction.body, names))


def _row_only(body: Node, nest: ReduceNest, group: Group) -> bool:
    """Whether ``body`` reads nothing that the group makes but the row at hand."""
    made = set(map(id, group.stores()))
    return all(read.children[:1] == nest.where[:1] for read in loads(body) if id(read.tensor) in made)


def _leading(nest: Nest) -> Dim | None:
    """Extent of the leading axis a nest could share with others."""
    if isinstance(nest, ComputeNest | ReduceNest) and nest.where and isinstance(nest.where[0], Index):
        return nest.where[0].extent
    return None


def _shares_row(indices: Sequence[Node], reads: Sequence[Load], group: Group) -> bool:
    """Whether something with these indices may run inside the group's loop over rows: it reads nothing of the group
    but the row at hand."""
    if not indices or not isinstance(indices[0], Index):
        return False
    leading = indices[0]
    if any(_leading(nest) != leading.extent for nest in group.nests):
        return False
    stores = set(map(id, group.stores()))
    return all(read.children[:1] == (leading,) for read in reads if id(read.tensor) in stores)


def _append(nest: ComputeNest | ReduceNest, groups: list[Group]) -> None:
    """A new nest: in the row loop of what it reads if possible, else in a group of its own."""
    reads = nest_reads(nest)
    producers = _producers(reads, groups)
    # Elements of a single axis are better off in a vector loop of their own than one per row.
    if producers and not (isinstance(nest, ComputeNest) and len(nest.where) == 1):
        group, *others = producers
        if _shares_row(nest.where, reads, group) and _delay_past(group, others, groups):
            group.nests.append(nest)
            group.row = _leading(nest)
            return
    groups.append(Group([nest]))


def _drop_unread(groups: list[Group], required: set[TensorDef]) -> None:
    """Values that were fused into their only reader need no memory."""
    read: Counter[int] = Counter()
    for group in groups:
        read.update(id(tensor) for nest in group.nests for tensor in dict.fromkeys(nest_operands(nest)))
    for group in groups:
        for nest in group.nests:
            if isinstance(nest, ComputeNest | ReduceNest | ContractNest):
                nest.definitions = [d for d in nest.definitions if d.tensor in required or read[id(d.tensor)]]


def store_also(planned: Plan, result: TensorDef, output: TensorDef, prefix: tuple[Node, ...]) -> None:
    """Let the plan store its tensor ``result`` at ``output[prefix + index]`` as well."""
    for group in planned.groups:
        for nest in group.nests:
            if isinstance(nest, ComputeNest | ReduceNest | ContractNest) and result in nest_stores(nest):
                value = next(d.value for d in nest.definitions if d.tensor is result)
                nest.definitions.append(Definition(output, (*prefix, *nest.where), value))
                return
    indices = tuple(loop_index(dim) for dim in result.shape)
    definition = Definition(output, (*prefix, *indices), load(result, indices))
    planned.groups.append(Group([ComputeNest(indices, [definition])]))


# State ------------------------------------------------------------------------------------------------
def copy_of(source: TensorDef, name: str) -> Compute:
    """A tensor equal to ``source``, in memory of its own."""
    indices = tuple(loop_index(dim) for dim in source.shape)
    return Compute(source.dtype, source.shape, indices, body=load(source, indices), name=name)


def _with_state(
    groups: list[Group], outputs: Sequence[TensorDef], writes: Sequence[tuple[Placeholder, TensorDef]]
) -> Plan:
    """Where new state values go: over the old ones at once, or by a copy when all else has run."""
    changed = [(state, value) for state, value in writes if value is not state]
    targets = {state for state, _ in changed}
    late: list[tuple[Placeholder, TensorDef]] = []
    for state, value in changed:
        if isinstance(value, Placeholder):
            # The old value of another variable: it is set aside first if that one is about to change.
            late.append((state, _append_copy(value, groups) if value in targets else value))
    in_place: dict[TensorDef, Placeholder] = {}
    for state, value in changed:
        if isinstance(value, Placeholder):
            continue
        if value not in in_place and value not in outputs and _may_overwrite(state, value, groups):
            in_place[value] = state
        else:
            late.append((state, value))
    for state, value in late:
        in_place[_append_copy(value, groups)] = state
    return Plan(groups, in_place)


def _append_copy(value: TensorDef, groups: list[Group]) -> Compute:
    copy = copy_of(value, value.name)
    groups.append(Group([ComputeNest(copy.indices, [Definition(copy, copy.indices, copy.body)])]))
    return copy


def _may_overwrite(state: Placeholder, value: TensorDef, groups: Sequence[Group]) -> bool:
    """Whether the nest of ``value`` may write it over ``state``: the old value must not be read afterwards."""
    position = next(i for i, group in enumerate(groups) if value in group.stores())
    if any(state in group.inputs() for group in groups[position + 1 :]):
        return False
    group = groups[position]
    place = next(i for i, nest in enumerate(group.nests) if value in nest_stores(nest))
    for i, nest in enumerate(group.nests):
        if isinstance(nest, ProgramNest | KeystreamNest | StructuredNest):
            if state in nest_operands(nest):
                return False
            continue
        touched = [read for read in nest_reads(nest) if read.tensor is state]
        if i < place and group.row is None:
            continue
        if i > place and touched:
            return False
        if any(read.tensor is state for read in loads(*nest.inputs())):
            return False
        if any(read.children != nest.where for read in touched):
            return False
    return True
