"""Walking the graph of eager code backwards: what a gradient needs, what it must not pass, and doing it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..reach import NO_GRADIENT
from .graph import Node, Record


@dataclass(frozen=True)
class Request:
    """Gradients of ``targets`` with respect to ``wrt``.

    Attributes:
        targets: What is differentiated.
        seeds: Gradients to begin with, one per target; none: ones.
        wrt: With respect to what.
        stops: Values that no gradient may pass.
    """

    targets: tuple[Node, ...]
    seeds: tuple[Node, ...]
    wrt: tuple[Node, ...]
    stops: tuple[Node, ...]

    def mapped(self, copies: Mapping[Node, Node]) -> Request:
        """The same request on copies of the values."""
        return Request(
            tuple(copies.get(n, n) for n in self.targets),
            tuple(copies.get(n, n) for n in self.seeds),
            tuple(copies.get(n, n) for n in self.wrt),
            tuple(copies.get(n, n) for n in self.stops),
        )


@dataclass(frozen=True)
class Walk:
    """The part of the graph that gradients go through.

    Attributes:
        records: In the order in which they were recorded.
        leaves: Values that want a gradient and that no record makes.
        through: Results of the records that a gradient passes.
    """

    records: list[Record]
    leaves: list[Node]
    through: list[Node]

    @classmethod
    def back_from(cls, targets: Sequence[Node], stops: frozenset[Node] = frozenset()) -> Walk:
        """Everything behind ``targets`` that a gradient reaches."""
        order: dict[Record, None] = {}
        leaves: dict[Node, None] = {}
        through: dict[Node, None] = {}
        entered: set[Record] = set()
        # Depth first by hand: a chain of records is longer than Python's stack.
        stack: list[tuple[Node, Record | None]] = [(node, None) for node in reversed(targets)]
        while stack:
            node, finished = stack.pop()
            if finished is not None:
                order[finished] = None
                continue
            if not node.needs_grad or node in stops:
                continue
            record = node.producer
            if record is None or node.is_leaf:
                leaves[node] = None
                continue
            if record.is_released:
                continue
            through[node] = None
            if record in entered:
                continue
            entered.add(record)
            stack.append((node, record))
            given = NO_GRADIENT.get(record.type, ())
            stack.extend((n, None) for slot, nodes in record.inputs if slot not in given for n in nodes)
        return cls(list(order), list(leaves), list(through))

    def leaves_and_held(self, but: Node) -> list[Node]:
        """What `backward` leaves a gradient at: the leaves, and the results that the user still holds."""
        held = [n for n in self.through if n is not but and n.is_held]
        return [n for n in self.leaves if n.is_held] + held

    def barred(self, request: Request) -> tuple[Node, ...]:
        """Inputs of the records that no gradient may pass, though a record may have made them from ``wrt``."""
        found: dict[Node, None] = dict.fromkeys(request.stops)
        wanted = {*self.leaves, *self.through, *request.wrt}
        for record in self.records:
            for _, nodes in record.inputs:
                for node in nodes:
                    if node not in wanted and node.producer is not None:
                        found[node] = None
        return tuple(found)

    def release(self) -> None:
        """Give the graph up: no other gradient goes through it."""
        for record in self.records:
            record.is_released = True
        for node in self.through:
            node.needs_grad = False
            if node.value is not None:
                node.producer = None  # who keeps the value keeps nothing else


def replayed(walk: Walk, request: Request) -> tuple[list[Record], dict[Node, Node]]:
    """Records that compute again what the gradients of ``request`` read, and the copies of the values they make.

    Values that are known are read, not computed, unless a gradient passes through them.  Random ops draw what they
    drew; state is not written again.
    """
    again: list[Record] = []
    copies: dict[Node, Node] = {}
    of_walk = set(walk.records)
    done: set[Record] = set()
    stack: list[tuple[Record, bool]] = [(record, False) for record in reversed(walk.records)]
    while stack:
        record, ready = stack.pop()
        if record in done:
            continue
        needed = [
            n.producer
            for _, nodes in record.inputs
            for n in nodes
            if n.producer is not None and n.producer not in done and (n.producer in of_walk or not n.is_known)
        ]
        if not ready and needed:
            stack.append((record, True))
            stack.extend((producer, False) for producer in needed)
            continue
        done.add(record)
        again.append(_copied(record, copies))
    return again, copies


def _copied(record: Record, copies: dict[Node, Node]) -> Record:
    inputs = tuple((slot, tuple(copies.get(n, n) for n in nodes)) for slot, nodes in record.inputs)
    outputs: list[tuple[str, tuple[Node, ...]]] = []
    for slot, refs in record.outputs:
        made: list[Node] = []
        for ref in refs:
            node = ref()
            copy = Node((), None) if node is None else Node(node.shape, node.dtype)
            if node is not None:
                copy.needs_grad = node.needs_grad and node.cell is None
                copies[node] = copy
            made.append(copy)
        outputs.append((slot, tuple(made)))
    stops = tuple(copies.get(n, n) for n in record.stops)
    return Record(record.type, inputs, outputs, record.attrs, record.signature, record.loc, record.role, stops)
