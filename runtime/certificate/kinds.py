"""How a value depends on the examples of a batch: docs/privacy.md, section 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from .text import Op, Shape, Type


@dataclass(frozen=True)
class Public:
    """A function of state, constants, public feeds and shared randomness."""

    def __str__(self) -> str:
        return "public"


@dataclass(frozen=True)
class Rows:
    """Axis ``axis`` has extent ``pre * N * post``, and its slice (u, i, t) depends on example i alone.

    ``scaled`` names the clip factor that multiplied the rows, ``live`` the one that selected them.
    """

    axis: int
    pre: int = 1
    post: int = 1
    scaled: str = ""
    live: str = ""

    def __str__(self) -> str:
        inner = "" if self.pre == self.post == 1 else f", pre={self.pre}, post={self.post}"
        return f"example(axis={self.axis}{inner})"

    @property
    def bare(self) -> Rows:
        """Where the examples lie, without what was done to them."""
        return Rows(self.axis, self.pre, self.post)

    def on(self, axis: int) -> Rows:
        """The same rows on another axis."""
        return Rows(axis, self.pre, self.post, self.scaled, self.live)


@dataclass(frozen=True)
class Total:
    """A sum over the batch, or a mean, plus a term free of data."""

    form: Literal["sum", "mean"]

    def __str__(self) -> str:
        return f"total({self.form})"


@dataclass(frozen=True)
class Clipped:
    """A sum over examples, each row of it times the factor ``factor``: bounded, and without noise yet."""

    factor: str

    def __str__(self) -> str:
        return f"clipped<{self.factor}>"


@dataclass(frozen=True)
class Mixed:
    """Anything else; ``line`` is where examples first met in a way that clipping cannot bound."""

    reason: str
    line: int

    def __str__(self) -> str:
        return "mixed"


Kind: TypeAlias = Public | Rows | Total | Clipped | Mixed
Found: TypeAlias = "Kind | tuple[Kind, ...]"
PUBLIC = Public()


@dataclass(frozen=True)
class Context:
    """What rules need beside kinds: the types of all values, and the extent of the batch (`ROWS` where it is named)."""

    types: Mapping[str, Type]
    rows: int

    def shape(self, value: str) -> Shape:
        """Extents of a dense value. Raises ValueError for a ragged one."""
        shape = self.types[value].shape
        if shape is None:
            raise ValueError(f"{value} has rows of different lengths")
        return shape


Rule: TypeAlias = Callable[[Op, Sequence[Kind], Context], Found]


def all_public(kinds: Sequence[Kind]) -> bool:
    """Whether nothing depends on any example."""
    return all(isinstance(kind, Public) for kind in kinds)


def mixed(op: Op, reason: str) -> Mixed:
    """The kind of a result in which examples meet at ``op``."""
    return Mixed(f"{op.name}: {reason}", op.line)


def moved(shape: Shape, kind: Rows, out: Shape, rows: int) -> Rows | None:
    """Where a reshape takes the rows: the output axis that holds the batch whole, or None where it is torn apart."""
    stride = kind.post * prod(shape[kind.axis + 1 :])  # elements between two examples
    below = 1
    for axis in range(len(out) - 1, -1, -1):
        whole = below * out[axis]
        if stride % below == 0 and whole % (stride * rows) == 0 and out[axis] > 1:
            post = stride // below
            return Rows(axis, out[axis] // (rows * post), post, kind.scaled, kind.live)
        below = whole
    return None


def groups_of(op: Op, kinds: Sequence[Kind]) -> list[list[Kind]]:
    """The kinds by operand group, in the order of the text."""
    rest, groups = list(kinds), list[list[Kind]]()
    for group in op.groups:
        count = len(group) if isinstance(group, tuple) else int(group is not None)
        groups.append(rest[:count])
        rest = rest[count:]
    return groups


def agrees(word: str, factor: str, kind: Kind) -> bool:
    """Whether a label of the text (``scaled<%c>``: word and factor) is that of ``kind``."""
    match word:
        case "scaled":
            return isinstance(kind, Rows) and kind.scaled == factor
        case "clipped":
            return isinstance(kind, Clipped) and kind.factor == factor
        case "public":
            return isinstance(kind, Public)
        case "example":
            return isinstance(kind, Rows) and not kind.scaled
        case _:
            return True


def described(kind: Kind) -> str:
    """``kind`` for people, with what was done to its rows."""
    match kind:
        case Mixed(reason):
            return f"mixed ({reason})"
        case Rows(scaled=factor) if factor:
            return f"{kind} scaled<{factor}>"
        case _:
            return str(kind)
