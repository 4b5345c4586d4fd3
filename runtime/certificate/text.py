"""What the reader makes of IR text.

``N`` is read as a prime that divides no other extent, so that extents are plain numbers and the batch stays an atom
of every product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

Shape: TypeAlias = tuple[int, ...]

ROWS = (1 << 61) - 1
"""The number that stands for the extent ``N``: a prime beyond the size of any array."""


@dataclass(frozen=True)
class Type:
    """A tensor type; ``shape`` is None for a ragged value, ``symbols`` are extents other than ``N``."""

    dtype: str
    shape: Shape | None
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Label:
    """A privacy label of the text: ``scaled<%c>`` is ``("scaled", "%c")``."""

    word: str
    factor: str = ""


Operand: TypeAlias = "str | tuple[str, ...] | None"


@dataclass(frozen=True)
class Region:
    """A body: its parameters, its ops, what it yields."""

    params: tuple[str, ...]
    ops: tuple[Op, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Op:
    """One op of the text.

    Attributes:
        name: such as ``linear.matmul``.
        results: names of the results, with ``%``.
        groups: operands as written: a name, None for ``_``, a tuple for a bracketed list.
        operands: the names of all groups, in order.
        states: state variables named before the operands.
        attributes: what stands in braces; a tuple is a tuple, a state name a string.
        labels: per result, the label that the text states.
        place: the user's ``file:line layer``, or empty.
        line: line of the IR text, from 1.
        regions: bodies of control flow.
    """

    name: str
    results: tuple[str, ...]
    groups: tuple[Operand, ...]
    states: tuple[str, ...]
    attributes: Mapping[str, object]
    labels: tuple[Label | None, ...]
    place: str
    line: int
    regions: tuple[Region, ...]
    operands: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names: list[str] = []
        for group in self.groups:
            names += group if isinstance(group, tuple) else () if group is None else (group,)
        object.__setattr__(self, "operands", tuple(names))

    @property
    def result(self) -> str:
        """The only result, or the first."""
        return self.results[0]

    def text(self, name: str) -> str:
        """A string attribute. Raises KeyError where it is missing, TypeError where it is another thing."""
        value = self.attributes[name]
        if not isinstance(value, str):
            raise TypeError(f"{self.name}: {name} is {value!r}, not a name")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number; raises KeyError, TypeError."""
        value = self.attributes.get(name, default) if default is not None else self.attributes[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{self.name}: {name} is {value!r}, not a number")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer; raises KeyError, TypeError."""
        value = self.number(name, default)
        if not isinstance(value, int):
            raise TypeError(f"{self.name}: {name} is {value!r}, not an integer")
        return value

    def integers(self, name: str, default: Shape | None = None) -> Shape:
        """A tuple of integers; raises KeyError, TypeError."""
        value = self.attributes.get(name, default) if default is not None else self.attributes[name]
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in cast("tuple[object, ...]", value)):
            raise TypeError(f"{self.name}: {name} is {value!r}, not integers")
        return cast(Shape, value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A tuple of strings; raises KeyError, TypeError."""
        value = self.attributes[name]
        if not isinstance(value, tuple) or not all(isinstance(v, str) for v in cast("tuple[object, ...]", value)):
            raise TypeError(f"{self.name}: {name} is {value!r}, not names")
        return cast("tuple[str, ...]", value)

    def flag(self, name: str) -> bool:
        """A truth value, false where it is not written."""
        return self.attributes.get(name, False) is True


@dataclass(frozen=True)
class Param:
    """A parameter of a function; ``name`` is the feed's, else the role or what the role is of."""

    role: str
    name: str
    value: str


@dataclass(frozen=True)
class Output:
    """A fetch."""

    name: str
    value: str
    combine: str


@dataclass(frozen=True)
class Function:
    """A function; ``types`` covers all values, those of regions included (names are unique in a function)."""

    name: str
    params: tuple[Param, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Output, ...]
    types: Mapping[str, Type]
    line: int

    def param(self, role: str) -> Param | None:
        """The parameter with this role, if there is one."""
        return next((p for p in self.params if p.role == role), None)


@dataclass(frozen=True)
class State:
    """A state declaration."""

    name: str
    type: Type
    kind: str
    trainable: bool


@dataclass(frozen=True)
class Text:
    """The text of a module at one stage."""

    stage: str
    privacy: Mapping[str, object] | None
    state: Mapping[str, State]
    functions: tuple[Function, ...]
    proof: tuple[str, ...]
    lines: tuple[str, ...] = field(repr=False)

    def function(self, name: str) -> Function | None:
        """The function of this name, if there is one."""
        return next((f for f in self.functions if f.name == name), None)
