"""The only way to append ops to a function or region."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Self

from .core import OpBase, Region, Value
from .location import UNKNOWN, Loc


class Builder:
    """Collects ops in program order.  Ops built without a location take the current one (``at``)."""

    def __init__(self) -> None:
        self.ops: list[OpBase] = []
        self._loc: Loc = UNKNOWN

    @contextmanager
    def at(self, loc: Loc) -> Generator[None]:
        """Within the block, new ops carry ``loc`` unless they bring their own."""
        outer, self._loc = self._loc, loc
        try:
            yield
        finally:
            self._loc = outer

    def nested(self) -> Self:
        """An empty builder for the body of a region, at the current location."""
        inner = type(self)()
        inner._loc = self._loc
        return inner

    def emit(self, op: OpBase, *hints: str) -> tuple[Value, ...]:
        """Append ``op`` and return its results, named by ``hints``."""
        if not op.loc:
            object.__setattr__(op, "loc", self._loc)
        for value, hint in zip(op.results, hints, strict=False):
            value.hint = hint
        self.ops.append(op)
        return op.results

    def __call__(self, op: OpBase, hint: str = "") -> Value:
        """Append an op that has one result, and return it."""
        (value,) = self.emit(op, hint)
        return value

    def splice(self, ops: Iterable[OpBase], mapping: dict[Value, Value]) -> None:
        """Append copies of ``ops`` on mapped operands; ``mapping`` learns their results."""
        for op in ops:
            copy = op.clone(mapping)
            self.ops.append(copy)
            mapping.update(zip(op.results, copy.results, strict=True))

    def inline(self, region: Region, arguments: Iterable[Value]) -> tuple[Value, ...]:
        """Append a copy of the region's body on ``arguments``; returns what it yields."""
        mapping: dict[Value, Value] = dict(zip(region.params, arguments, strict=True))
        self.splice(region.ops, mapping)
        return mapped(region.results, mapping)


def mapped(values: Iterable[Value], mapping: Mapping[Value, Value]) -> tuple[Value, ...]:
    """``values`` under a substitution; values it does not mention stay."""
    return tuple(mapping.get(value, value) for value in values)
