"""Numbers that may depend on the batch: polynomials in symbols such as ``N``, with whole coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

Monomial: TypeAlias = tuple[str, ...]
"""The symbols of a product, sorted; none for a constant."""


@dataclass(frozen=True)
class Size:
    """A sum of products; ``terms`` holds (symbols, coefficient) with the highest degree first and no zeros.

    >>> n = Size.symbol("N")
    >>> print(n * 401408 + 512)
    401408*N+512
    >>> (n * 8 + 1).at({"N": 4})
    33
    >>> Size.parse("401408*N+512") == n * 401408 + 512
    True
    """

    terms: tuple[tuple[Monomial, int], ...] = ()

    @classmethod
    def of(cls, value: int) -> Size:
        """A constant."""
        return _collected({(): value})

    @classmethod
    def symbol(cls, name: str) -> Size:
        """One symbol."""
        return cls((((name,), 1),))

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read what ``str`` wrote.  Raises ValueError for anything else."""
        found: dict[Monomial, int] = {}
        for term in text.replace(" ", "").split("+"):
            factors = term.split("*")
            symbols = tuple(sorted(factor for factor in factors if factor.isidentifier()))
            numbers = [int(factor) for factor in factors if not factor.isidentifier()]
            found[symbols] = found.get(symbols, 0) + prod(numbers)
        return _collected(found)

    @property
    def symbols(self) -> frozenset[str]:
        """Every symbol in it."""
        return frozenset(name for names, _ in self.terms for name in names)

    @property
    def constant(self) -> int | None:
        """The number, where it depends on no symbol."""
        return None if self.symbols else self.at({})

    def at(self, values: Mapping[str, int]) -> int:
        """The number for given symbols.  Raises KeyError for one that is not given."""
        return sum(count * prod(values[name] for name in names) for names, count in self.terms)

    def solve(self, value: int) -> tuple[str, int] | None:
        """The symbol, and what it is, where this has one symbol once and equals ``value``; else None."""
        varying = [(names, scale) for names, scale in self.terms if names]
        if len(varying) != 1 or len(varying[0][0]) != 1:
            return None
        names, scale = varying[0]
        rest = value - sum(count for constant, count in self.terms if not constant)
        return (names[0], rest // scale) if rest % scale == 0 else None

    def __add__(self, other: Size | int) -> Size:
        found = dict(self.terms)
        for names, count in (other if isinstance(other, Size) else Size.of(other)).terms:
            found[names] = found.get(names, 0) + count
        return _collected(found)

    def __mul__(self, other: Size | int) -> Size:
        found: dict[Monomial, int] = {}
        for ours, a in self.terms:
            for theirs, b in (other if isinstance(other, Size) else Size.of(other)).terms:
                names = tuple(sorted(ours + theirs))
                found[names] = found.get(names, 0) + a * b
        return _collected(found)

    def __str__(self) -> str:
        def spelled(names: Monomial, count: int) -> str:
            return "*".join([*([str(count)] if count != 1 or not names else []), *names])

        return "+".join(spelled(names, count) for names, count in self.terms) or "0"


def _collected(found: Mapping[Monomial, int]) -> Size:
    kept = [(names, count) for names, count in found.items() if count]
    return Size(tuple(sorted(kept, key=lambda term: (-len(term[0]), term[0]))))


ZERO, ONE = Size.of(0), Size.of(1)


def product(sizes: tuple[Size, ...]) -> Size:
    """The product of ``sizes``: the elements of a shape."""
    total = ONE
    for size in sizes:
        total = total * size
    return total
