"""Loop nests, and the groups of them that become kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from ...ir.types import Dim
from .expr import Load, Node, Slot, loads
from .graph import Contract, Keystream, Placeholder, Program, StreamTile, Structured, TensorDef
from .kernels.compute import Definition
from .kernels.reduce import Sums


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
