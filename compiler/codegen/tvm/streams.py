"""Noise made where it is added: a large stream with one reader never reaches memory as a whole."""

from __future__ import annotations

from math import prod

from ...ir.types import DType
from .expr import Index, Node, index, load, loads, substitute, walk
from .graph import Keystream, Placeholder, StreamTile
from .kernels.compute import Definition
from .kit import Block, Host
from .lower import Lowering
from .nests import ComputeNest, ContractNest, Group, KeystreamNest, Nest, Plan
from .tvm_api import tirx

LEAST_NORMALS = 50_000
"""Normals from which a copy of the generator is worth its compile time; the others share one kernel."""

LEAST_ROW = 16
"""Elements of one row of the reader, from which its rows are long enough for vectors."""


def fuse_streams(planned: Plan, host: Host) -> None:
    """Let the nest that adds a stream's normals, element by element, make them itself."""
    for group in list(planned.groups):
        nest = group.nests[0]
        if not isinstance(nest, KeystreamNest) or nest.stream.dtype is not DType.F32:
            continue
        (count,) = nest.stream.shape
        readers = [other for other in planned.groups if nest.stream in other.inputs()]
        if len(readers) == 1 and isinstance(count, int) and count >= LEAST_NORMALS:
            reader = _reader(readers[0], nest.stream, host)
            if reader is not None:
                _fuse(reader, nest.stream)
                planned.groups.remove(group)


def _reader(group: Group, stream: Keystream, host: Host) -> ComputeNest | ContractNest | None:
    """The group's nest, if each of its elements takes the normal of its own number."""
    if len(group.nests) != 1:
        return None
    nest: Nest = group.nests[0]
    if not isinstance(nest, ComputeNest | ContractNest) or nest.noise is not None:
        return None
    if isinstance(nest, ContractNest):
        contract = nest.contract
        if contract.batch or contract.where != (*contract.rows, *contract.columns) or len(contract.where) != 2:
            return None
    shape = nest.definitions[0].tensor.shape
    sizes = [size for size in shape if isinstance(size, int)]
    loops = [node for node in nest.where if isinstance(node, Index)]
    if len(sizes) != len(shape) or len(loops) < 2 or prod(sizes) // _extent(loops[0]) < LEAST_ROW:
        return None
    if any(definition.where != nest.where for definition in nest.definitions):
        return None
    if any(read.tensor is stream for read in loads(*nest.inputs())):
        return None
    variables: dict[Node, object] = {node: tirx.Var(f"i{i}", "int64") for i, node in enumerate(loops)}
    block = Block(host)
    lowering = Lowering(block, {}, variables)
    own, _ = lowering.offset(nest.definitions[0].tensor, nest.where)
    for read in loads(*(definition.value for definition in nest.definitions)):
        if read.tensor is stream:
            if any(isinstance(part, Index) and part not in variables for part in walk(*read.children)):
                return None
            number, _ = lowering.offset(stream, read.children)
            if number is None or not block.analyzer.can_prove_equal(number, own):
                return None
    return nest


def _extent(node: Index) -> int:
    assert isinstance(node.extent, int)
    return node.extent


def _fuse(nest: ComputeNest | ContractNest, stream: Keystream) -> None:
    first, made = index(None), Placeholder(stream.dtype, stream.shape, name="normals")
    nest.noise = StreamTile(stream, made, first)
    changed: list[Definition] = []
    for definition in nest.definitions:
        values: dict[Node, Node] = {
            read: load(made, (read.children[0] - first,)) for read in loads(definition.value) if read.tensor is stream
        }
        changed.append(Definition(definition.tensor, definition.where, substitute(definition.value, values)))
    nest.definitions = changed
