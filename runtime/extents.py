"""Sizes that lengths decide: the longest sequence of a batch, the rows that sequences are repeated to.

A function that needs such a size has an input of kind ``extent``: an array bool[S] whose content nobody reads.  The
rule that S follows stands in the manifest as text, and the runtime works it out from what it is fed:

    RULE    (max | sum | count)(VECTOR), and perhaps <= NUMBER behind it
    VECTOR  FEED | NUMBER | [NUMBER, ...] | (add | mul | div | repeat | within | divide)(VECTOR, VECTOR) |
            rows(FEED) | between(FEED)

FEED is the name of a feed of integers, of `rows` of any feed, in JSON's quotes where it is no plain word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Combination: TypeAlias = Literal["add", "mul", "div", "repeat", "within", "divide"]
Reduction: TypeAlias = Literal["max", "sum", "count"]

MAX_EXTENT = 1 << 31
"""No size is larger."""

MAX_ENTRY = 1 << 62
"""No entry of a vector is larger, however it is combined."""

_MAX_PARTS = 200  # of a rule: what reads one calls itself for each
_PLAIN = re.compile(r"[A-Za-z_][\w.@-]*\Z", re.ASCII)
_TOKEN = re.compile(r'\s*(?:([A-Za-z_][\w.@-]*)|(\d{1,18})|("(?:[^"\\]|\\.)*")|([(),\[\]]|<=))', re.ASCII)


@dataclass(frozen=True)
class Fed:
    """The integers of a feed, in the order of its memory."""

    name: str

    def __str__(self) -> str:
        return self.name if _PLAIN.match(self.name) else json.dumps(self.name)


@dataclass(frozen=True)
class RowsOf:
    """How many rows a feed has, of any type: one number."""

    name: str

    def __str__(self) -> str:
        return f"rows({Fed(self.name)})"


@dataclass(frozen=True)
class Between:
    """The differences of the successive integers of a feed, which begin at 0: lengths, of offsets."""

    name: str

    def __str__(self) -> str:
        return f"between({Fed(self.name)})"


@dataclass(frozen=True)
class Fixed:
    """One number, which stands for as many as are needed."""

    number: int

    def __str__(self) -> str:
        return str(self.number)


@dataclass(frozen=True)
class Listed:
    """Numbers that the program states."""

    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.numbers))}]"


@dataclass(frozen=True)
class Combined:
    """Two vectors as one, entry by entry: their sum (``add``), product (``mul``) or quotient (``div``), which must be
    whole; or every entry of the first as often as the second says (``repeat``).

    Two check the first, which they leave as it is: its entries must lie from 0 to those of the second (``within``), or
    add up to the sum of the second (``divide``)."""

    how: Combination
    left: Vector
    right: Vector

    def __str__(self) -> str:
        return f"{self.how}({self.left}, {self.right})"


Vector: TypeAlias = Fed | RowsOf | Between | Fixed | Listed | Combined
"""Integers, one for each sequence."""


@dataclass(frozen=True)
class Rule:
    """How a size follows from what is fed.

    >>> import numpy as np
    >>> rule = Rule("max", Combined("add", Fed("a@lengths"), Fed("b@lengths")))
    >>> print(rule)
    max(add(a@lengths, b@lengths))
    >>> rule.at({"a@lengths": np.array([2, 0]), "b@lengths": np.array([1, 1])})
    3
    >>> Rule.parse(str(rule)) == rule
    True

    Attributes:
        take: ``max`` is the largest entry, but at least 1; ``sum`` their sum; ``count`` their number.
        of: the vector.
        most: the greatest size that the program has room for, if it states one.
    """

    take: Reduction
    of: Vector
    most: int | None = None

    @property
    def feeds(self) -> tuple[str, ...]:
        """Names of the feeds that it looks at."""
        return tuple(dict.fromkeys(name for name, _ in _feeds(self.of)))

    @property
    def integers(self) -> tuple[str, ...]:
        """Names of the feeds of which it reads the numbers."""
        return tuple(dict.fromkeys(name for name, numbers in _feeds(self.of) if numbers))

    def at(self, feeds: Mapping[str, NDArray[Any]]) -> int:
        """The size for these feeds.

        Raises:
            KeyError: One of `feeds` is missing.
            ValueError: The numbers do not fit each other, or give no size.
        """
        found = np.atleast_1d(_entries(self.of, feeds))
        if self.take == "count":
            size = found.size
        elif self.take == "sum":
            size = _total(found)
        else:
            size = max(1, int(found.max(initial=0)))
        if not 0 <= size <= MAX_EXTENT:
            raise ValueError(f"it is {size}, which is no size")
        if self.most is not None and size > self.most:
            raise ValueError(f"it is {size}, and the program has room for {self.most}")
        return size

    def __str__(self) -> str:
        return f"{self.take}({self.of})" + ("" if self.most is None else f" <= {self.most}")

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read what ``str`` wrote.  Raises ValueError for anything else."""
        reader = _Reader(text)
        take = reader.word()
        for known in get_args(Reduction):
            if take == known:
                reader.expect("(")
                of = reader.vector()
                reader.expect(")")
                return cls(known, of, reader.limit())
        raise ValueError(f"{text!r} begins with none of {', '.join(get_args(Reduction))}")


def _feeds(vector: Vector) -> list[tuple[str, bool]]:
    """The feeds, and whether their numbers are read."""
    if isinstance(vector, Combined):
        return _feeds(vector.left) + _feeds(vector.right)
    if isinstance(vector, Fixed | Listed):
        return []
    return [(vector.name, not isinstance(vector, RowsOf))]


def _total(entries: Integers) -> int:
    """The sum, which is exact: int64 would begin again from below."""
    return int(entries.sum(dtype=object)) if _largest(entries) * entries.size > MAX_ENTRY else int(entries.sum())


def _largest(entries: Integers) -> int:
    return max(int(entries.max(initial=0)), -int(entries.min(initial=0)))


def _entries(vector: Vector, feeds: Mapping[str, NDArray[Any]]) -> Integers:
    match vector:
        case Fed(name):
            found = np.asarray(feeds[name]).reshape(-1)
            if found.size and not -MAX_ENTRY <= int(found.min()) <= int(found.max()) <= MAX_ENTRY:
                raise ValueError(f"{name!r} holds {int(found.min())} to {int(found.max())}")
            return found.astype(np.int64)
        case RowsOf(name):
            return np.asarray(len(feeds[name]), np.int64)
        case Between(name):
            offsets = _entries(Fed(name), feeds)
            if not offsets.size or offsets[0] != 0 or (np.diff(offsets) < 0).any():
                raise ValueError(f"the offsets {offsets.tolist()} do not ascend from 0")
            return np.diff(offsets)
        case Fixed(number):
            return np.asarray(number, np.int64)
        case Listed(numbers):
            return np.array(numbers, np.int64)
        case Combined(how, left, right):
            a, b = _entries(left, feeds), _entries(right, feeds)
            if how != "divide" and a.ndim and b.ndim and a.size != b.size:
                raise ValueError(f"{vector} of {a.size} and {b.size} numbers")
            if how == "divide":
                if _total(a) != _total(b):
                    raise ValueError(f"the parts {a.tolist()} add up to {_total(a)}, and not to {_total(b)}")
                return a
            if how == "within":
                if (a < 0).any() or (a > b).any():
                    raise ValueError(f"{vector.left} is {a.tolist()}, and not within 0 and {b.tolist()}")
                return a
            x, y = _largest(a), _largest(b)
            if (how == "add" and x + y > MAX_ENTRY) or (how == "mul" and x * y > MAX_ENTRY):
                raise ValueError(f"{vector} of numbers up to {x} and {y}")
            if how == "add":
                return np.asarray(a + b)
            if how == "mul":
                return np.asarray(a * b)
            if how == "div":
                if not b.all() or (a % b).any():
                    raise ValueError(f"{vector} is not whole")
                return np.asarray(a // b)
            if b.min(initial=0) < 0 or _total(b) > MAX_EXTENT:
                raise ValueError(f"{vector} repeats {int(b.min(initial=0))} to {_total(b)} times")
            return np.repeat(np.broadcast_to(a, b.shape), b)


class _Reader:
    """The tokens of a rule's text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._parts = 0

    def word(self) -> str:
        return self._take(1)

    def expect(self, mark: str) -> None:
        if self._take(4) != mark:
            raise ValueError(f"{self._text!r} lacks a {mark!r} before column {self._at}")

    def limit(self) -> int | None:
        """What stands behind a rule, to the end."""
        if not self._text[self._at :].strip():
            return None
        self.expect("<=")
        most = int(self._take(2))
        if self._text[self._at :].strip():
            raise ValueError(f"{self._text!r} goes on after column {self._at}")
        return most

    def vector(self) -> Vector:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise ValueError("a rule of too many parts")
        found = self._match()
        if found[2] is not None:
            return Fixed(int(found[2]))
        if found[3] is not None:
            name = json.loads(found[3])
            return Fed(str(name))
        if found[4] == "[":
            return self._listed()
        if found[1] is None:
            raise ValueError(f"{self._text!r} lacks a feed, a number or a combination before column {self._at}")
        if found[1] in ("rows", "between") and self._text[self._at :].lstrip().startswith("("):
            self.expect("(")
            inner = self.vector()
            self.expect(")")
            if not isinstance(inner, Fed):
                raise ValueError(f"{self._text!r} takes {found[1]} of {inner}, which is no feed")
            return RowsOf(inner.name) if found[1] == "rows" else Between(inner.name)
        for how in get_args(Combination):
            if found[1] == how and self._text[self._at :].lstrip().startswith("("):
                self.expect("(")
                left = self.vector()
                self.expect(",")
                right = self.vector()
                self.expect(")")
                return Combined(how, left, right)
        return Fed(found[1])

    def _listed(self) -> Listed:
        numbers = [int(self._take(2))]
        while (mark := self._take(4)) == ",":
            numbers.append(int(self._take(2)))
        if mark != "]":
            raise ValueError(f"{self._text!r} lacks a ']' before column {self._at}")
        return Listed(tuple(numbers))

    def _take(self, group: int) -> str:
        found = self._match()
        if found[group] is None:
            raise ValueError(f"{self._text!r} is no rule: {found[0].strip()!r} before column {self._at}")
        return str(found[group])

    def _match(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise ValueError(f"{self._text!r} is no rule at column {self._at + 1}")
        self._at = found.end()
        return found
