"""How stored tensors lie in memory.

Images are indexed [N, C, H, W] throughout; only addresses depend on how they lie.  Convolutions want the channels
innermost: they are the lanes of their vectors.  What is passed in or out keeps its order, and what nobody convolves
too, so images are turned at the borders, by the kernels that read or write them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .expr import Binary, Load, Node, loads, walk
from .graph import Compute, Contract, Placeholder, Reduce, TensorDef
from .kernels.compute import extent_guess


def choose_layouts(stored: Sequence[tuple[TensorDef, TensorDef]], fixed: Iterable[TensorDef]) -> None:
    """Set the layout of stored tensors.

    Args:
        stored: Tensors that are stored, each with its definition in terms of stored ones.
        fixed: Those that others see: row-major.
    """
    outside = set(fixed)
    free = {
        tensor
        for tensor, _ in stored
        if len(tensor.shape) >= 3 and tensor not in outside and not isinstance(tensor, Placeholder)
    }
    links: dict[TensorDef, list[tuple[TensorDef, dict[int, int]]]] = {tensor: [] for tensor in free}
    wanted: dict[TensorDef, int] = {}
    flattened: set[TensorDef] = set()
    for tensor, definition in stored:
        match definition:
            case Contract() if len(definition.rows) == 1 and len(definition.inner) == 1:
                flattened.update(read.tensor for read in definition.reads() if _unravels(read))
            case Contract():
                _vote(tensor, definition, free, wanted)
            case Compute() if tensor in free:
                # What is made element by element of another tensor lies as that one does.
                same = {axis: axis for axis in range(len(tensor.shape))}
                for read in loads(definition.body):
                    if read.children == definition.indices and read.tensor in free:
                        links[read.tensor].append((tensor, same))
                        links[tensor].append((read.tensor, same))
            case Reduce() if tensor in free:
                for read in loads(definition.body):
                    if read.tensor in free:
                        own = {index: axis for axis, index in enumerate(definition.indices)}
                        kept = {axis: own[index] for axis, index in enumerate(read.children) if index in own}
                        links[read.tensor].append((tensor, kept))
            case _:
                pass
    spread = list(wanted)
    while spread:
        tensor = spread.pop()
        for other, axes in links[tensor]:
            axis = axes.get(wanted[tensor])
            if other not in wanted and other not in flattened and axis is not None:
                wanted[other] = axis
                spread.append(other)
    for tensor, axis in wanted.items():
        others = [place for place in range(len(tensor.shape)) if place != axis]
        tensor.layout = (*others, axis) if axis != len(tensor.shape) - 1 else None


def _vote(tensor: TensorDef, contract: Contract, free: set[TensorDef], wanted: dict[TensorDef, int]) -> None:
    """A convolution wants the axis of its columns, and that of the channels it sums over, innermost."""
    column = contract.columns[-1]
    if tensor in free:
        _want(tensor, contract.where, column, wanted)
    padded = contract.padded
    if padded is None:
        channels: Node = contract.inner[-1] if contract.block in contract.rows else contract.rows[-1]
        reads = loads(contract.left)
    else:
        channels, reads = padded.indices[1], padded.reads()
    for read in reads:
        if read.tensor in free:
            _want(read.tensor, read.children, channels, wanted)
    for read in loads(contract.right):
        if read.tensor in free:
            _want(read.tensor, read.children, column, wanted)


def _unravels(read: Load) -> bool:
    """Whether a matrix product reads images as rows of numbers, which lie as the axes are listed."""
    return any(isinstance(node, Binary) and node.op in ("//", "%") for node in walk(*read.children))


def _want(tensor: TensorDef, position: Sequence[Node], lane: Node, wanted: dict[TensorDef, int]) -> None:
    places = [axis for axis, index in enumerate(position) if lane in walk(index)]
    if len(places) == 1 and extent_guess(tensor.shape[places[0]]) > 1:
        wanted.setdefault(tensor, places[0])


def _parts(node: Node) -> set[Node]:
    found = {node}
    for child in node.children:
        found |= _parts(child)
    return found
