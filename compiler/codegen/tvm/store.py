"""What is stored, and what is computed anew where it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...ir.types import Dim
from .expr import Cast, Const, Extent, Index, Load, Node, load, loads, rewrite, substitute, walk
from .graph import Compute, Contract, Keystream, ProgramOutput, Reduce, StructuredOutput, TensorDef
from .kernels.compute import cost, extent_guess
from .kernels.program import trips

RECOMPUTE_COST = 6
"""Extra operations per element that are accepted to save storing and loading it."""


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


def _widened(left: Load) -> Load | None:
    """What a left operand is a wider copy of, element by element: the product widens it as it reads."""
    made = left.tensor
    if isinstance(made, Compute) and isinstance(made.body, Cast):
        (read,) = made.body.children
        if isinstance(read, Load) and read.dtype.is_float and read.dtype.itemsize < made.dtype.itemsize:
            return read
    return None


def choose_stored(needed: Sequence[TensorDef], required: set[TensorDef]) -> set[TensorDef]:
    """The tensors to store, ``required`` among them; ``needed`` lists operands before readers."""
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
                elif (read := _widened(tensor.left)) is not None:
                    stored.add(_behind_views(read.tensor))
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


class Expansion:
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
