"""Which elements of which value a moved value holds: its root and, per axis, the strides that the axis runs over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TypeAlias

from .text import Function, Op, Shape

Atom: TypeAlias = tuple[int, int]
"""``size`` elements of the root, ``stride`` apart."""

MOVES = frozenset({"shape.reshape", "shape.transpose"})
_MARKS = frozenset({"dp.scale_rows", "dp.select_rows"})


@dataclass(frozen=True)
class View:
    """A root and, per axis, the atoms of its flat index, slowest first.

    ``batch`` are those that tell examples apart, where ``axes`` are of one example.
    """

    root: str
    axes: tuple[tuple[Atom, ...], ...]
    batch: tuple[Atom, ...] = field(default=(), compare=False)


class Views:
    """The values of one function as elements of their roots."""

    def __init__(self, function: Function, definitions: Mapping[str, Op]) -> None:
        self.function, self.definitions = function, definitions

    def behind(self, name: str) -> Op | None:
        """The op behind moves of ``name``."""
        op = self.definitions.get(name)
        while op is not None and op.name in MOVES:
            op = self.definitions.get(op.operands[0])
        return op

    def shape(self, name: str) -> Shape:
        return self.function.types[name].shape or ()

    def same(self, a: str, b: str) -> bool:
        return a == b or self.view(a) == self.view(b)

    def view(self, name: str, *, raw: bool = False) -> View:
        """``name`` as elements of the value that it was moved from; casts to a wider float keep elements.

        With ``raw``, what rows were before a clip factor scaled or selected them: of a clipped sum, never of a norm.
        """
        op = self.definitions.get(name)
        if op is not None:
            source = op.operands[0] if op.operands else ""
            if (raw and op.name in _MARKS) or (op.name == "elementwise.cast" and self._widens(op)):
                return self.view(source, raw=raw)
            if op.name in MOVES:
                before = self.view(source, raw=raw)
                if op.name == "shape.transpose":
                    return View(before.root, tuple(before.axes[axis] for axis in op.integers("perm")))
                parts = split([atom for axis in before.axes for atom in axis], self.shape(name))
                if parts is not None:
                    return View(before.root, tuple(merged(part) for part in parts))
        axes: list[tuple[Atom, ...]] = []
        stride = 1
        for size in reversed(self.shape(name)):
            axes.append(merged([(size, stride)]))
            stride *= size
        return View(name, tuple(reversed(axes)))

    def _widens(self, op: Op) -> bool:
        types = self.function.types
        return (types[op.operands[0]].dtype, types[op.result].dtype) in {
            ("f32", "f64"), ("f16", "f32"), ("f16", "f64"), ("bf16", "f32"), ("bf16", "f64"), ("f64", "f64"),
        }  # fmt: skip

    def constant(self, name: str) -> float | None:
        """The value of all elements, where they are one constant."""
        op = self.definitions.get(name)
        if op is None:
            return None
        if op.name == "elementwise.fill":
            return op.number("value")
        if op.name in MOVES or op.name in ("shape.broadcast", "elementwise.cast"):
            return self.constant(op.operands[0])
        if op.name == "unary.scale":
            inner = self.constant(op.operands[0])
            return None if inner is None else inner * op.number("factor") + op.number("bias", 0.0)
        if op.name == "unary.square":
            inner = self.constant(op.operands[0])
            return None if inner is None else inner * inner
        if op.name == "reduce.sum":
            inner, shape = self.constant(op.operands[0]), self.shape(op.operands[0])
            kept = prod(self.shape(op.result))
            return None if inner is None or kept == 0 else inner * (prod(shape) // kept)
        return None


def split(atoms: Iterable[Atom], sizes: Iterable[int]) -> list[list[Atom]] | None:
    """``atoms``, slowest first, cut into consecutive parts of ``sizes`` elements; None where they do not divide."""
    rest = [atom for atom in atoms if atom[0] != 1]
    parts: list[list[Atom]] = []
    for size in sizes:
        part: list[Atom] = []
        while size > 1:
            if not rest:
                return None
            count, stride = rest.pop(0)
            if size % count == 0:
                part.append((count, stride))
                size //= count
            elif count % size == 0:
                part.append((size, stride * (count // size)))
                rest.insert(0, (count // size, stride))
                size = 1
            else:
                return None
        parts.append(part)
    return None if rest else parts


def merged(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    """Neighbours that run on into each other made one; atoms of one element left out."""
    found: list[Atom] = []
    for size, stride in atoms:
        if size == 1:
            continue
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return tuple(found)


def joined(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    """The set of elements that atoms run over, whatever their order."""
    return merged(sorted(atoms, key=lambda atom: -atom[1]))
