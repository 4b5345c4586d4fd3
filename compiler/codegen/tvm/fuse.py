"""What is stored, and which stored tensors share a loop nest.

Three decisions, in this order:

1. *Inline or store* (``store.py``).  A cheap element is recomputed where it is read; a dear one read several times is
   stored.  How the stored ones lie in memory is decided next (``layout.py``).
2. *Fuse.*  A stored element-by-element tensor joins the nest of what it reads when it reads only the element being
   finished there (behind a product or a reduction, or beside another element), or only the current row.
3. *Update in place.*  A state variable is overwritten by the nest of its new value when nobody reads the old one
   later; else the new value is copied over at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace

from ...ir.types import Dim
from .expr import Const, Index, Load, Node, load, loads, loop_index, slot, substitute
from .graph import (
    Compute,
    Contract,
    Keystream,
    Placeholder,
    ProgramOutput,
    Reduce,
    StructuredOutput,
    TensorDef,
)
from .kernels.compute import Definition, cost
from .kernels.reduce import Sums
from .layout import choose_layouts, split_reductions
from .nests import (
    ComputeNest,
    ContractNest,
    Elementwise,
    Group,
    KeystreamNest,
    Nest,
    Plan,
    ProgramNest,
    ReduceNest,
    StructuredNest,
    nest_operands,
    nest_reads,
    nest_stores,
)
from .store import Expansion, choose_stored

LARGEST_EXPRESSION = 400
"""Operations of one fused element; beyond this, compile time grows and registers spill."""


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
    stored = choose_stored(needed, {*outputs, *(value for _, value in writes), *keep})
    expansion = Expansion(stored)
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
    """Values that were fused into their only reader need no memory; what nobody reads at all is not made.

    Of a program's results the expansion may have left none: a row that is looked up in constants is no lookup.
    """
    kept = False
    while not kept:
        kept = True
        read: Counter[int] = Counter()
        for group in groups:
            read.update(id(tensor) for nest in group.nests for tensor in dict.fromkeys(nest_operands(nest)))
        for group in groups:
            for nest in list(group.nests):
                if isinstance(nest, ComputeNest | ReduceNest | ContractNest):
                    nest.definitions = [d for d in nest.definitions if d.tensor in required or read[id(d.tensor)]]
                elif not any(tensor in required or read[id(tensor)] for tensor in nest_stores(nest)):
                    group.nests.remove(nest)
                    kept = False
    groups[:] = [group for group in groups if group.nests]


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
