"""Sums of products by Einstein's convention."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType, Shape, numel
from .node import Node, NodeRules


@dataclass(frozen=True)
class Term:
    """A value with a label per axis, each once."""

    value: Value
    labels: str

    def extents(self, labels: str) -> Shape:
        """Extents of these axes."""
        return tuple(self.value.tensor.shape[self.labels.index(label)] for label in labels)


def _einsum(n: Node) -> Value:
    values = n.xs("Inputs")
    operands, result = _labels(n, n.attr("equation"), values)
    terms = [_distinct(n, value, labels) for value, labels in zip(values, operands, strict=True)]
    total, *rest = terms
    for place, term in enumerate(rest):
        later = set(result).union(*(other.labels for other in rest[place + 1 :]))
        total = _product(n, total, term, later)
    total = _summed(n, total, set(result))
    if sorted(total.labels) != sorted(result):
        raise n.error(f"the equation {n.attr('equation')!r} names an axis that no operand has", "correct the model")
    return n.b.transpose(total.value, [total.labels.index(label) for label in result])


def _labels(n: Node, equation: str, values: Sequence[Value]) -> tuple[list[str], str]:
    """One label per axis of every operand and of the result; axes of an ellipsis get labels of their own."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    hint = "write the equation as in numpy.einsum, without axes that are broadcast"
    if len(operands) != len(values) or not all(re.fullmatch(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*", o) for o in operands):
        raise n.error(f"the equation {equation!r} does not fit {len(values)} operands", hint)
    hidden = max(
        (value.tensor.rank - len(o) + 3 for o, value in zip(operands, values, strict=True) if "..." in o), default=0
    )
    # Digits are no labels of an equation.
    spare = "".join(map(chr, range(ord("0"), ord("0") + max(hidden, 0))))
    found: list[str] = []
    for operand, value in zip(operands, values, strict=True):
        covered = value.tensor.rank - len(operand.replace("...", ""))
        if covered < 0 or (covered and "..." not in operand):
            raise n.error(f"{operand!r} of the equation {equation!r} does not fit {value.type}", hint)
        found.append(operand.replace("...", spare[len(spare) - covered :]))
    if arrow:
        return found, right.replace("...", spare)
    letters = "".join(found)
    once = sorted(label for label in set(letters) if letters.count(label) == 1 and label not in spare)
    return found, spare + "".join(once)


def _distinct(n: Node, value: Value, labels: str) -> Term:
    """The diagonal where an operand has a label twice."""
    while len(set(labels)) < len(labels):
        second = next(i for i, label in enumerate(labels) if label in labels[:i])
        first = labels.index(labels[second])
        shape = tuple(d if i in (first, second) else 1 for i, d in enumerate(value.tensor.shape))
        diagonal = n.b.equal(n.b.iota(shape, first, DType.I64), n.b.iota(shape, second, DType.I64))
        value = n.b.reduce_sum(n.b.where(diagonal, value, n.number(value.tensor.dtype, 0)), (second,))
        labels = labels[:second] + labels[second + 1 :]
    return Term(value, labels)


def _summed(n: Node, term: Term, kept: set[str]) -> Term:
    axes = [i for i, label in enumerate(term.labels) if label not in kept]
    return Term(n.b.reduce_sum(term.value, axes), "".join(label for label in term.labels if label in kept))


def _product(n: Node, x: Term, y: Term, later: set[str]) -> Term:
    """The product of two operands, summed over what is not needed later, as products of matrices."""
    x, y = _summed(n, x, later | set(y.labels)), _summed(n, y, later | set(x.labels))
    shared = [label for label in x.labels if label in y.labels]
    batch = "".join(label for label in shared if label in later)
    inner = "".join(label for label in shared if label not in later)
    rows = "".join(label for label in x.labels if label not in shared)
    columns = "".join(label for label in y.labels if label not in shared)
    left, right = _matrix(n, x, batch, rows, inner), _matrix(n, y, batch, inner, columns)
    out = n.b.matmul(left, right)
    shape = (*out.tensor.shape[: len(batch)], *x.extents(rows), *y.extents(columns))
    return Term(n.b.reshape(out, shape), batch + rows + columns)


def _matrix(n: Node, term: Term, batch: str, rows: str, columns: str) -> Value:
    order = [term.labels.index(label) for label in batch + rows + columns]
    value = n.b.transpose(term.value, order)
    shape = (*term.extents(batch), numel(term.extents(rows)), numel(term.extents(columns)))
    return n.b.reshape(value, shape)


RULES: NodeRules = {"Einsum": _einsum}
