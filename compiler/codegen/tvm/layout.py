"""How stored tensors lie in memory.

Images are indexed [N, C, H, W] throughout; only addresses depend on how they lie.  Convolutions want the channels
innermost: they are the lanes of their vectors.  What is computed from such images, place by place, lies as they do.
What is passed in or out keeps its order, and so does what a matrix product takes as rows of numbers: images are turned
at these borders, by the kernels that read or write them there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .expr import Binary, Const, Index, Load, Node, load, loads, walk
from .graph import Compute, Contract, Placeholder, Reduce, StructuredOutput, TensorDef
from .kernels.compute import extent_guess, extent_of

Axes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Link:
    """A tensor that is computed from another: for every axis of ``read``, the axes of ``made`` that lead along it."""

    made: TensorDef
    read: TensorDef
    axes: tuple[Axes, ...]

    def to_read(self, wanted: Axes) -> Axes:
        """The axes of ``read`` that go with axes of ``made``."""
        return tuple(axis for axis, own in enumerate(self.axes) if own and set(own) <= set(wanted))

    def to_made(self, wanted: Axes) -> Axes:
        """The axes of ``made`` that go with axes of ``read``."""
        found = {own for axis in wanted for own in self.axes[axis]}
        return tuple(sorted(found))


def choose_layouts(stored: Sequence[tuple[TensorDef, TensorDef]], fixed: Iterable[TensorDef]) -> None:
    """Set the layout of stored tensors.

    Args:
        stored: Tensors that are stored, each with its definition in terms of stored ones.
        fixed: Those that others see, which lie as they lie.
    """
    outside = set(fixed)
    for tensor, definition in stored:
        # Kernels that take whole tensors, and the bodies of loops and branches, know nothing of layouts.
        outside.update(definition.whole())
        if isinstance(tensor, StructuredOutput):
            outside.add(tensor)
    free = {
        tensor
        for tensor, _ in stored
        if len(tensor.shape) >= 3 and tensor not in outside and not isinstance(tensor, Placeholder)
    }
    forward: defaultdict[TensorDef, list[_Link]] = defaultdict(list)
    backward: defaultdict[TensorDef, list[_Link]] = defaultdict(list)
    wanted: dict[TensorDef, Axes] = {}
    rows: set[TensorDef] = set()
    for tensor, definition in stored:
        match definition:
            case Contract() if len(definition.rows) == 1 and len(definition.inner) == 1:
                rows.update(read.tensor for read in definition.reads() if _unravels(read))
            case Contract():
                _vote(tensor, definition, free, wanted)
            case Compute() | Reduce() if tensor in free:
                for read in loads(definition.body):
                    if read.tensor in free:
                        link = _Link(tensor, read.tensor, _axes(read, definition.indices))
                        forward[read.tensor].append(link)
                        if isinstance(definition, Compute):
                            backward[tensor].append(link)
            case _:
                pass
    spread = list(wanted)
    while spread:
        tensor = spread.pop()
        found = [(link.made, link.to_made(wanted[tensor])) for link in forward[tensor]]
        found += [(link.read, link.to_read(wanted[tensor])) for link in backward[tensor]]
        for other, axes in found:
            if axes and other not in wanted and other not in rows:
                wanted[other] = axes
                spread.append(other)
    for tensor, axes in wanted.items():
        others = tuple(axis for axis in range(len(tensor.shape)) if axis not in axes)
        layout = (*others, *axes)
        # Axes of extent 1 are nowhere in memory.
        seen = [axis for axis in layout if tensor.shape[axis] != 1]
        tensor.layout = layout if seen != sorted(seen) else None


def split_reductions(
    stored: Sequence[tuple[TensorDef, TensorDef]],
) -> list[tuple[TensorDef, TensorDef]]:
    """Definitions in which a reduction over some of the innermost channels, and over pixels, runs in two steps.

    Vectors then run over all channels, side by side, while the pixels are summed; groups of channels come last.
    """
    found: list[tuple[TensorDef, TensorDef]] = []
    for tensor, definition in stored:
        inner = _short_runs(definition) if isinstance(definition, Reduce) else ()
        if inner:
            assert isinstance(definition, Reduce)
            extents = tuple(extent_of(index) for index in inner)
            outer = tuple(index for index in definition.reduced if index not in inner)
            partial = replace(
                definition,
                dtype=definition.accumulate,
                shape=(*definition.shape, *extents),
                layout=None,
                indices=(*definition.indices, *inner),
                reduced=outer,
            )
            found.append((partial, partial))
            definition = replace(definition, reduced=inner, body=load(partial, (*definition.indices, *inner)))
        found.append((tensor, definition))
    return found


def _short_runs(reduction: Reduce) -> tuple[Index, ...]:
    """Reduced indices along which only a few elements lie side by side, and results beyond them."""
    if reduction.dtype is not reduction.accumulate:
        return ()
    for read in loads(reduction.body):
        layout = read.tensor.layout
        if layout is None:
            continue
        along = [{node for node in walk(read.children[axis]) if isinstance(node, Index)} for axis in layout[-2:]]
        inner = tuple(index for index in reduction.reduced if index in along[1] and index not in along[0])
        beside = any(index in along[0] for index in reduction.indices)
        if inner and beside and len(inner) < len(reduction.reduced):
            return inner
    return ()


def _axes(read: Load, indices: Sequence[Node]) -> tuple[Axes, ...]:
    own = {index: axis for axis, index in enumerate(indices) if not isinstance(index, Const)}
    return tuple(tuple(sorted({own[node] for node in walk(position) if node in own})) for position in read.children)


def _vote(tensor: TensorDef, contract: Contract, free: set[TensorDef], wanted: dict[TensorDef, Axes]) -> None:
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


def _want(tensor: TensorDef, position: Sequence[Node], lane: Node, wanted: dict[TensorDef, Axes]) -> None:
    places = tuple(axis for axis, index in enumerate(position) if lane in walk(index))
    if places and any(extent_guess(tensor.shape[axis]) > 1 for axis in places):
        wanted.setdefault(tensor, places)


def _unravels(read: Load) -> bool:
    """Whether a matrix product reads images as rows of numbers, which lie as the axes are listed."""
    return any(isinstance(node, Binary) and node.op in ("//", "%") for node in walk(*read.children))
