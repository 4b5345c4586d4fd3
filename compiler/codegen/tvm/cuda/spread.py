"""Explicit loops whose trips may be shared out among threads, though a rule wrote them one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..expr import Index, Node, loads
from ..graph import Loop, Statement, Store, TensorDef, When


@dataclass(frozen=True)
class Own:
    """Loops around a single store, turned inside out.

    Attributes:
        store: What is done last.
        elements: Loops whose variables are indices of the stored tensor: other trips store other elements.
        terms: The other loops, outermost first; what they do to one element stays in its order.
        conditions: What must hold for the store.
    """

    store: Store
    elements: tuple[Index, ...]
    terms: tuple[Loop, ...]
    conditions: tuple[Node, ...]

    @property
    def scattered(self) -> int | None:
        """The axis along which the store goes where data says: the longest of them; None if there is none."""
        axes = [
            axis
            for axis, place in enumerate(self.store.indices)
            if place not in self.elements and loads(place) and _extent(self.store.tensor, axis) > 1
        ]
        return max(axes, key=lambda axis: _extent(self.store.tensor, axis), default=None)

    def nest(self, condition: Node | None = None) -> Statement:
        """The loops over the terms around the store, which also needs ``condition``."""
        made: Statement = self.store
        for needed in (*self.conditions, *(() if condition is None else (condition,))):
            made = When(needed, (made,), ())
        for loop in reversed(self.terms):
            made = replace(loop, body=(made,))
        return made


def _extent(tensor: TensorDef, axis: int) -> int:
    dim = tensor.shape[axis]
    return dim if isinstance(dim, int) else 64 ** len(dim.factors) * dim.scale


def own_elements(loop: Loop) -> Own | None:
    """The loops of ``loop`` turned inside out; None where they hold more than one store, or depend on each other."""
    loops: list[Loop] = []
    conditions: list[Node] = []
    statement: Statement = loop
    while not isinstance(statement, Store):
        if isinstance(statement, Loop):
            loops.append(statement)
            body = statement.body
        elif isinstance(statement, When) and not statement.otherwise:
            conditions.append(statement.condition)
            body = statement.then
        else:
            return None
        if len(body) != 1:
            return None
        (statement,) = body
    reads = loads(statement.value, *statement.indices, *conditions, *(each.extent for each in loops))
    for read in reads:
        if read.tensor is statement.tensor and read.children != statement.indices:
            return None
    if any(read.tensor is statement.tensor for read in loads(*statement.indices, *conditions)):
        return None
    elements = [i for i in statement.indices if isinstance(i, Index) and i.extent is not None]
    elements = [i for i in dict.fromkeys(elements) if any(each.index is i for each in loops)]
    if any(each.index not in elements and each.index.extent is None for each in loops):
        return None
    terms = tuple(each for each in loops if each.index not in elements)
    return Own(statement, tuple(elements), terms, tuple(conditions))


def independent_loops(loop: Loop) -> tuple[tuple[Index, ...], tuple[Statement, ...]]:
    """Loops within loops, and nothing else, whose trips do not depend on each other; and what they hold."""
    indices: list[Index] = []
    body: tuple[Statement, ...] = (loop,)
    while (
        len(body) == 1 and isinstance(inner := body[0], Loop) and inner.independent and inner.index.extent is not None
    ):
        indices.append(inner.index)
        body = inner.body
    return tuple(indices), body
