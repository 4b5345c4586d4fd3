"""What a group of nests has to do: predicted operations and bytes, exact where the loops are.

Operations are counted per element of the loop they stand in, shared parts of an element once.  A multiply-add counts
two, an elementary function ten.  Bytes are the least that any code for the group moves: each input read once, each
output written once; of an input that is looked up by index, no more elements than there are look-ups.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product as product_of
from math import prod

from ....runtime.kernels import Work, typical
from ....runtime.sizes import ONE, ZERO, Size, product
from ...ir.types import Dim, DType
from .expr import Binary, Call, Compare, Const, Extent, Index, Load, Node, Select, loads, walk
from .graph import Allocate, Contract, Keystream, Loop, Statement, Store, Structured, TensorDef, When
from .kernels.program import FEW_TRIPS
from .kit import symbol_size
from .nests import (
    ComputeNest,
    ContractNest,
    Group,
    KeystreamNest,
    Nest,
    ProgramNest,
    ReduceNest,
    StructuredNest,
    nest_operands,
)

MOST_TRIED = 4096
"""Combinations of loop variables for which a condition is evaluated."""

FUNCTION, ROOT = 10, 2
WORD_INTEGER = 61
"""Integer operations of one ChaCha20 word: 80 quarter rounds of 12 and 16 additions, for 16 words."""
NORMAL_INTEGER, NORMAL_FLOPS = 98, 20
"""Of one normal: 1.6 words; half of a logarithm, a root, a sine and a cosine with what joins them."""

_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
}
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def to_size(dim: Dim) -> Size:
    """An extent as the runtime knows it."""
    return Size.of(dim) if isinstance(dim, int) else symbol_size(dim, Size.symbol)


def nbytes(tensor: TensorDef) -> Size:
    """Bytes of a stored tensor."""
    return product(tuple(map(to_size, tensor.shape))) * tensor.dtype.itemsize


def group_work(group: Group, visible: Iterable[TensorDef], passed: Iterable[TensorDef] = ()) -> Work:
    """The work of a kernel.

    Args:
        group: What it computes.
        visible: The tensors it stores that others read; the rest stays in its own workspace.
        passed: What the code writes beside them and then reads itself, in another of its launches.
    """
    flops, integer = ZERO, ZERO
    for nest in group.nests:
        more, others = operations(nest)
        flops, integer = flops + more, integer + others
    between = ZERO
    for tensor in passed:
        between = between + nbytes(tensor)
    return Work(flops, integer, _read(group) + between, _written(group, list(visible)) + between)


# Operations -------------------------------------------------------------------------------------------
def operations(nest: Nest) -> tuple[Size, Size]:
    """Floating-point and integer operations of a nest."""
    match nest:
        case ComputeNest():
            found = [_times(_domain(nest.indices), _values(nest))]
        case ReduceNest():
            sums = nest.sums
            every = _domain((*sums.indices, *sums.reduced))
            found = [_times(every, count(*sums.bodies)), _times(_domain(sums.indices), _values(nest))]
            found += [(every, ZERO) if part.accumulate.is_float else (ZERO, every) for part in sums.parts]
        case ContractNest():
            contract = nest.contract
            found = [(_products(contract) * 2, ZERO), _times(_domain(contract.where), _values(nest))]
            # Operands are computed once per element while they are packed.
            found += [_times(_domain((side,)), count(side)) for side in (contract.left, contract.right)]
        case ProgramNest():
            found = [_statements(nest.program.statements)]
        case KeystreamNest():
            found = [_stream(nest.stream)]
        case StructuredNest():
            found = [_structured(nest.program)]
    if isinstance(nest, ComputeNest | ContractNest) and nest.noise is not None:
        found.append(_stream(nest.noise.stream))
    return _sum(found)


def count(*roots: Node) -> tuple[int, int]:
    """Floating-point and integer operations of one element; index arithmetic of loads is not counted."""
    flops = integer = 0
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Call):
            flops += ROOT if node.function in ("abs", "sqrt", "floor", "ceil", "round", "sign") else FUNCTION
        elif isinstance(node, Binary) and node.dtype.is_float:
            flops += FUNCTION if node.op == "pow" else 1
        elif isinstance(node, Binary) and node.dtype is not DType.BOOL:
            integer += 1
        if not isinstance(node, Load):
            stack.extend(node.children)
    return flops, integer


def _values(nest: ComputeNest | ReduceNest | ContractNest) -> tuple[int, int]:
    return count(*(definition.value for definition in nest.definitions))


def _times(domain: Size, per_element: tuple[int, int]) -> tuple[Size, Size]:
    return domain * per_element[0], domain * per_element[1]


def _sum(found: Iterable[tuple[Size, Size]]) -> tuple[Size, Size]:
    flops, integer = ZERO, ZERO
    for more, others in found:
        flops, integer = flops + more, integer + others
    return flops, integer


def _domain(nodes: Iterable[Node]) -> Size:
    """How many values the loop variables in ``nodes`` take together."""
    return product(tuple(_extent(node) for node in walk(*nodes) if isinstance(node, Index)))


def _extent(index: Index) -> Size:
    return Size.of(FEW_TRIPS) if index.extent is None else to_size(index.extent)


def _products(contract: Contract) -> Size:
    """How many products are summed.

    Those with zeros that only the loops need are left out: of a convolution's gradient, cotangents beyond the edge and
    filter elements that a phase of the stride does not have.
    """
    every = _domain((*contract.where, *contract.inner, contract.left, contract.right))
    padded, right = contract.padded, contract.right
    if padded is not None:
        for place, own in zip(contract.left.children, padded.indices, strict=True):
            sizes = [node.extent for node in walk(place) if isinstance(node, Index)]
            inside = own.extent if isinstance(own, Index) else 1
            fixed = [size for size in sizes if isinstance(size, int)]
            if len(fixed) == len(sizes) > 1 and isinstance(inside, int):
                # An element inside meets each step of the shorter loops once at most.
                every = _part(every, min(prod(fixed), inside * prod(fixed) // max(fixed)), prod(fixed))
    if isinstance(right, Select) and isinstance(right.children[2], Const) and right.children[2].value == 0:
        every = _part(every, *_holds(right.children[0]))
    return every


def _part(size: Size, part: int, whole: int) -> Size:
    return Size(tuple((names, times * part // whole) for names, times in size.terms))


def _holds(condition: Node) -> tuple[int, int]:
    """For how many values of its loop variables a condition holds, and how many there are; (1, 1) if not known."""
    indices = [node for node in walk(condition) if isinstance(node, Index)]
    extents = [node.extent for node in indices]
    fixed = [extent for extent in extents if isinstance(extent, int)]
    if len(fixed) < len(extents) or prod(fixed) > MOST_TRIED:
        return 1, 1
    values = [integer_value(condition, dict(zip(indices, at))) for at in product_of(*map(range, fixed))]
    return (1, 1) if None in values else (sum(map(bool, values)), len(values))


def integer_value(root: Node, at: Mapping[Node, int]) -> int | None:
    """An expression of integers and comparisons for given loop variables; None where it is made of something else."""
    known: dict[Node, int] = {}
    for node in walk(root):
        operands = [known[child] for child in node.children]
        match node:
            case Index():
                known[node] = at[node]
            case Const() if not isinstance(node.value, float):
                known[node] = int(node.value)
            case Binary() if node.op in _ARITHMETIC:
                known[node] = _ARITHMETIC[node.op](*operands)
            case Compare():
                known[node] = int(_COMPARISONS[node.op](*operands))
            case _:
                return None
    return known[root]


def _stream(stream: Keystream) -> tuple[Size, Size]:
    made = product(tuple(map(to_size, stream.shape)))
    if stream.dtype is DType.F32:
        return made * NORMAL_FLOPS, made * NORMAL_INTEGER
    return ZERO, made * WORD_INTEGER


def _statements(statements: tuple[Statement, ...]) -> tuple[Size, Size]:
    """Explicit loops; both branches of a condition count."""
    found: list[tuple[Size, Size]] = []
    for statement, domain in _placed(statements, ONE):
        match statement:
            case Store():
                found.append(_times(domain, count(statement.value)))
            case When():
                found.append(_times(domain, count(statement.condition)))
            case _:
                pass
    return _sum(found)


def _placed(statements: tuple[Statement, ...], domain: Size) -> Iterator[tuple[Statement, Size]]:
    """Every statement with how often it runs."""
    for statement in statements:
        yield statement, domain
        match statement:
            case Loop():
                yield from _placed(statement.body, domain * _trips(statement))
            case When():
                yield from _placed(statement.then + statement.otherwise, domain)
            case Store() | Allocate():
                pass


def _trips(loop: Loop) -> Size:
    return to_size(loop.extent.dim) if isinstance(loop.extent, Extent) else _extent(loop.index)


def _structured(program: Structured) -> tuple[Size, Size]:
    """A loop: its body as often as it runs, a ``while`` without bound a few times.  A branch: the dearer side."""
    bodies = [_sum(operations(nest) for group in body.plan.groups for nest in group.nests) for body in program.bodies]
    if program.kind == "if":
        return max(bodies, key=lambda work: typical(work[0] + work[1]))
    trips = ONE if program.index is None else _extent(program.index)
    if program.kind == "while":
        trips = Size.of(program.max_trip or FEW_TRIPS)
    flops, integer = _sum(bodies)
    return flops * trips, integer * trips


# Bytes ------------------------------------------------------------------------------------------------
def _smaller(a: Size, b: Size) -> Size:
    return a if typical(a) <= typical(b) else b


def _read(group: Group) -> Size:
    """Bytes of the inputs, each once, and no more elements of it than are looked up."""
    looked_up: defaultdict[TensorDef, Size] = defaultdict(lambda: ZERO)
    whole: set[TensorDef] = set()
    for nest in group.nests:
        found = list(_look_ups(nest))
        for tensor, times in found:
            looked_up[tensor] += times
        whole.update(set(nest_operands(nest)) - {tensor for tensor, _ in found})
    read = ZERO
    for tensor in group.inputs():
        size = nbytes(tensor)
        read = read + (size if tensor in whole else _smaller(size, looked_up[tensor] * tensor.dtype.itemsize))
    return read


def _look_ups(nest: Nest) -> Iterator[tuple[TensorDef, Size]]:
    """Tensors that a nest reads by element, with how many elements at most."""
    match nest:
        case ComputeNest() | ReduceNest() | ContractNest():
            for read in loads(*nest.inputs(), *(definition.value for definition in nest.definitions)):
                yield read.tensor, _domain(read.children)
        case ProgramNest():
            for statement, domain in _placed(nest.program.statements, ONE):
                match statement:
                    case Store():
                        roots = (statement.value, *statement.indices)
                    case Loop():
                        roots = (statement.extent,)
                    case When():
                        roots = (statement.condition,)
                    case Allocate():
                        roots = ()
                for read in loads(*roots):
                    yield read.tensor, _smaller(domain, _domain(read.children))
        case KeystreamNest() | StructuredNest():
            pass


def _written(group: Group, visible: list[TensorDef]) -> Size:
    """Bytes of the outputs, each once, and no more elements of it than loops store."""
    stored: defaultdict[TensorDef, Size] = defaultdict(lambda: ZERO)
    for nest in group.nests:
        if isinstance(nest, ProgramNest):
            for statement, domain in _placed(nest.program.statements, ONE):
                if isinstance(statement, Store):
                    stored[statement.tensor] += domain
    written = ZERO
    for tensor in visible:
        size = nbytes(tensor)
        written = written + (_smaller(size, stored[tensor] * tensor.dtype.itemsize) if tensor in stored else size)
    return written
