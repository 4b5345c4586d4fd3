"""The graph that eager code leaves behind: values, the records that make them, and the memory of state.

References point backwards only: a value keeps its record alive, and a record its inputs.  So what nobody can ask
for any more is freed as soon as Python drops the last Variable of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...runtime.buffers import Buffer, aligned, aligned_zeros
from ..framework import AttrValue, OpRole
from ..lots import Lot
from ..source import SourceLocation
from ..vartype import VarType

if TYPE_CHECKING:
    from .private import PrivateTraining
    from .variable import EagerVariable

Array: TypeAlias = NDArray[Any]
Slots: TypeAlias = "Sequence[tuple[str, tuple[Node, ...]]]"


@dataclass(frozen=True, eq=False)
class Fed:
    """Where an array comes from that no record computed.  To a private step it is data of the examples.

    Attributes:
        lot: The lot that it was taken from, unchanged, under ``name``; None for any other array.
        name: Its name there.
        is_public: It was declared to be the same for everybody and no secret.
        number: It is this number of the script, which would be an attribute if it did not change.
    """

    lot: Lot | None = None
    name: str = ""
    is_public: bool = False
    number: float | None = None


BY_CALLER = Fed()
"""An array of the caller's own."""

RELEASED = Fed(is_public=True)
"""A private gradient, which may become known to everybody."""


class Cell:
    """Memory of one persistable variable, and the versions of its value.

    Attributes:
        buffer: What compiled steps read and write.
        name: Of the variable.
        parameter: Whether it is a Parameter; ``trainable``: one that gets gradients.
        current: The latest version, which pending records may still have to compute.
        older: Versions before it that somebody may still hold.
        is_set: Whether the memory holds a value, or will once what is pending has run.
        training: The private training that alone takes gradients with respect to it; None for any may.
        kept_at: The layer and line that wrote data into it, where private steps must not read it; or "".
    """

    __slots__ = (
        "__weakref__", "buffer", "current", "is_set", "kept_at", "name", "older", "parameter", "trainable", "training",
    )  # fmt: skip

    def __init__(self, name: str, shape: Sequence[int], dtype: VarType, *, parameter: bool, trainable: bool) -> None:
        self.buffer = Buffer(aligned_zeros(shape, np.dtype(dtype.numpy)))
        self.name = name
        self.parameter = parameter
        self.trainable = trainable
        self.current = Node(tuple(shape), dtype, cell=self, needs_grad=trainable)
        self.older: list[weakref.ref[Node]] = []
        self.is_set = False
        self.training: PrivateTraining | None = None
        self.kept_at = ""

    def next_version(self) -> Node:
        """The value that a record is about to give it."""
        self.older.append(weakref.ref(self.current))
        self.current = Node(self.current.shape, self.current.dtype, cell=self, needs_grad=self.trainable)
        self.is_set = True
        return self.current

    def in_memory(self) -> list[weakref.ref[Node]]:
        """The older version that the memory holds, if anybody holds it: it is about to be overwritten.

        Versions that a record makes never were in memory at the end of a run, or are not there yet.
        """
        nodes = [node for node in (ref() for ref in self.older) if node is not None and node.value is None]
        self.older = [weakref.ref(node) for node in nodes if node.producer is not None]
        return [weakref.ref(node) for node in nodes if node.producer is None]

    def keep(self, versions: list[weakref.ref[Node]]) -> None:
        """Copy the memory for those of `in_memory` that are still needed."""
        for ref in versions:
            node = ref()
            if node is not None:
                node.value = aligned_copy_of(self.buffer.array)


class Node:
    """One value: an array, a version of state, or the result of a record that may not have run yet.

    Attributes:
        shape, dtype: As far as they are known when it is recorded.
        producer: The record that makes it; None for a leaf, and once nothing can ask for it again.
        value: Its array, once there is one.
        cell: The state that it is a version of.
        needs_grad: A gradient with respect to it, or through it, can be asked for.
        is_source: The user wants one of it though a record makes it: gradients may end here, as at a leaf.
        handle: The Variable by which the user holds it.
        fed: Where its array comes from, if no record computed it.
    """

    __slots__ = (
        "__weakref__", "cell", "dtype", "fed", "handle", "is_source", "needs_grad", "producer", "shape", "value",
    )  # fmt: skip

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: VarType | None,
        *,
        value: Array | None = None,
        cell: Cell | None = None,
        needs_grad: bool = False,
        fed: Fed | None = None,
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self.producer: Record | None = None
        self.value = value
        self.cell = cell
        self.needs_grad = needs_grad
        self.is_source = False
        self.fed = fed
        self.handle: weakref.ref[EagerVariable] | None = None

    @property
    def is_held(self) -> bool:
        """Whether the user has a Variable of it."""
        return self.handle is not None and self.handle() is not None

    @property
    def is_leaf(self) -> bool:
        """Whether no gradient goes on behind it."""
        record = self.producer
        if record is None or not self.is_source:
            return record is None
        return record.is_released or not any(n.needs_grad for _, nodes in record.inputs for n in nodes)

    @property
    def is_known(self) -> bool:
        """Whether it can be read without running a record: an array, or what its memory holds now."""
        return self.value is not None or (self.cell is not None and self.cell.current is self and self.producer is None)


class Record:
    """One op on values.

    Attributes:
        type: Fluid's op type.
        inputs, outputs: By slot.  Outputs are weak: values keep records, not the other way round.
        attrs: Fluid's attributes.
        signature: Number that records of equal type, slots and attributes share.
        loc: The user's line.
        role: Forward, backward or optimizer.
        stops: Values that a ``backward`` record lets no gradient pass.
        has_run: It was executed (or is about to be).
        is_released: Its gradient was taken; no other goes through it.
    """

    __slots__ = (
        "attrs", "has_run", "inputs", "is_released", "loc", "outputs", "role", "signature", "stops", "type",
    )  # fmt: skip

    def __init__(
        self,
        type: str,
        inputs: Slots,
        outputs: Slots,
        attrs: dict[str, AttrValue],
        signature: int,
        loc: SourceLocation,
        role: OpRole,
        stops: tuple[Node, ...] = (),
    ) -> None:
        self.type = type
        self.inputs = inputs
        self.outputs = tuple((slot, tuple(map(weakref.ref, nodes))) for slot, nodes in outputs)
        self.attrs = attrs
        self.signature = signature
        self.loc = loc
        self.role = role
        self.stops = stops
        self.has_run = False
        self.is_released = False
        for _, nodes in outputs:
            for node in nodes:
                node.producer = self

    @property
    def read(self) -> list[Node]:
        """Everything in its inputs."""
        return [node for _, nodes in self.inputs for node in nodes]

    @property
    def made(self) -> list[Node]:
        """Those of its results that somebody can still ask for."""
        return [node for _, refs in self.outputs for node in (ref() for ref in refs) if node is not None]


def abandon(records: Iterable[Record]) -> None:
    """Note that records never ran: their results have no value, and state is what it was."""
    for record in records:
        for node in record.made:
            node.producer = None


def aligned_copy_of(array: Array) -> Array:
    """A copy in memory that engines read as it is."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def told_of(node: Node) -> str:
    """A value for people: the name of its Variable, or in a lot."""
    handle = node.handle() if node.handle is not None else None
    if handle is not None:
        return handle.name
    return node.fed.name if node.fed is not None and node.fed.name else "an array"
