"""How stored tensors lie in memory.

Images are indexed [N, C, H, W] throughout; only addresses depend on how they lie.  Convolutions want the channels
innermost: they are the lanes of their vectors.  What is passed in or out keeps its order, and what nobody convolves
too, so images are turned at the borders, by the kernels that read or write them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .expr import Index, Load, Node, loads
from .graph import Compute, Contract, Placeholder, TensorDef
from .kernels.compute import extent_guess


def choose_layouts(needed: Sequence[TensorDef], stored: set[TensorDef], fixed: Iterable[TensorDef]) -> None:
    """Set the layout of stored tensors.

    Args:
        needed: All definitions, operands before readers.
        stored: Those that are stored.
        fixed: Those that others see: row-major.
    """
    outside = set(fixed)
    free = {
        t for t in needed if t in stored and len(t.shape) >= 3 and t not in outside and not isinstance(t, Placeholder)
    }
    links: dict[TensorDef, list[TensorDef]] = {tensor: [] for tensor in free}
    wanted: dict[TensorDef, int] = {}
    for tensor in needed:
        match tensor:
            case Contract():
                _vote(tensor, free, wanted)
            case Compute():
                for read in _read_in_place(tensor):
                    # What is made element by element of another tensor lies as that one does.
                    for source in _stored_sources(read, stored):
                        if source in links and tensor in links:
                            links[source].append(tensor)
                            links[tensor].append(source)
            case _:
                pass
    spread = list(wanted)
    while spread:
        tensor = spread.pop()
        for other in links[tensor]:
            if other not in wanted and len(other.shape) == len(tensor.shape):
                wanted[other] = wanted[tensor]
                spread.append(other)
    for tensor, axis in wanted.items():
        others = [place for place in range(len(tensor.shape)) if place != axis]
        tensor.layout = (*others, axis) if axis != len(tensor.shape) - 1 else None


def _vote(contract: Contract, free: set[TensorDef], wanted: dict[TensorDef, int]) -> None:
    """A convolution wants the axis of its columns, and that of the channels it sums over, innermost."""
    if len(contract.rows) == 1 and len(contract.inner) == 1:
        return
    column = contract.columns[-1]
    if contract in free:
        _want(contract, contract.where, column, wanted)
    padded = contract.padded
    channels = contract.inner[-1] if contract.block in contract.rows else contract.rows[-1]
    if padded is not None:
        for read in loads(padded.body):
            if read.tensor in free and len(read.children) == 4:
                _want(read.tensor, read.children, padded.indices[1], wanted)
    elif isinstance(contract.left, Load) and contract.left.tensor in free:
        _want(contract.left.tensor, contract.left.children, channels, wanted)
    for read in loads(contract.right):
        if read.tensor in free:
            _want(read.tensor, read.children, column, wanted)


def _want(tensor: TensorDef, position: Sequence[Node], lane: Index | Node, wanted: dict[TensorDef, int]) -> None:
    places = [axis for axis, index in enumerate(position) if lane in _parts(index)]
    if len(places) == 1 and extent_guess(tensor.shape[places[0]]) > 1:
        wanted.setdefault(tensor, places[0])


def _parts(node: Node) -> set[Node]:
    found = {node}
    for child in node.children:
        found |= _parts(child)
    return found


def _read_in_place(tensor: Compute) -> list[Load]:
    return [
        read for read in loads(tensor.body) if read.children == tensor.indices and read.tensor.shape == tensor.shape
    ]


def _stored_sources(read: Load, stored: set[TensorDef]) -> list[TensorDef]:
    """The stored tensors that an element read in place is made of."""
    found: list[TensorDef] = []
    stack: list[TensorDef] = [read.tensor]
    while stack:
        tensor = stack.pop()
        if tensor in stored:
            found.append(tensor)
        elif isinstance(tensor, Compute):
            stack.extend(inner.tensor for inner in _read_in_place(tensor))
    return found
