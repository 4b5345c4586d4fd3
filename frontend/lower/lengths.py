"""What the lengths of sequences are made of, told from the IR: an expression over what is fed.

Sizes that only lengths decide follow from it by a rule (`runtime.extents`), which is worked out in every step: one
build serves all batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from ...compiler.errors import LoweringError
from ...compiler.ir.core import Param, Value
from ...compiler.ir.types import Dim, DType, RaggedType, Sym, TensorType, dim_div, dim_mul
from ...compiler.ops import elementwise, ragged, shape
from ...runtime.extents import Combined, Fed, Fixed, Listed, Reduction, RowsOf, Rule, Vector
from ..lod import LENGTHS

Known = Mapping[Value, Vector]
"""Integers whose expression is no chain of ops: the lowering that made them noted it."""


def lengths_value(sequences: Value) -> Value | None:
    """The lengths i64[N] that ``sequences`` were divided by; None inside a loop, or of something that came as such."""
    op = sequences.op
    if op is None:
        return None
    if isinstance(op, ragged.FromLengths):
        return op.lengths
    kind = sequences.ragged
    for operand in op.operands:
        if isinstance(operand.type, RaggedType) and _extents(operand.type) == _extents(kind):
            return lengths_value(operand)
    return None


def expression(value: Value, fed: Mapping[Value, str], known: Known) -> Vector | None:
    """Sequences' lengths, or integers, as an expression over feeds; None where they come from computed data.

    Args:
        value: Sequences, or integers of any shape.
        fed: Names of the function's feeds.
        known: Noted expressions.
    """
    if isinstance(value.type, RaggedType):
        lengths = lengths_value(value)
        return None if lengths is None else expression(lengths, fed, known)
    if value in known:
        return known[value]
    match value.op:
        case None:
            return Fed(fed[value]) if value in fed and value.type.dtype.is_integer else None
        case ragged.Lengths(x=x) | shape.Reshape(x=x):
            return expression(x, fed, known)
        case ragged.Data(x=x) if isinstance(x.op, ragged.FromLengths):
            return expression(x.op.data, fed, known)
        case elementwise.Cast(x=x):
            return expression(x, fed, known) if value.type.dtype.is_integer else None
        case elementwise.Fill(value=number) if value.type.dtype.is_integer and number >= 0:
            return Fixed(int(number))
        case elementwise.Add(x=x, y=y):
            return _combined("add", expression(x, fed, known), expression(y, fed, known))
        case elementwise.Mul(x=x, y=y):
            return _combined("mul", expression(x, fed, known), expression(y, fed, known))
        case _:
            return None


def _combined(how: str, left: Vector | None, right: Vector | None) -> Vector | None:
    if left is None or right is None:
        return None
    return Combined("add" if how == "add" else "mul", left, right)


def _times(vector: Vector, number: int) -> Vector:
    return vector if number == 1 else Combined("mul", vector, Fixed(number))


def _extents(kind: RaggedType) -> tuple[object, object]:
    return kind.data.shape[0], kind.count


class Sizes:
    """Sizes of sequences that one function needs and lengths decide.

    Attributes:
        known: Lengths whose expression over the feeds the ops do not tell.
        outer: The lengths of nested sequences, and how many of these belong to each group, i64[N].
    """

    def __init__(self, params: list[Param]) -> None:
        """``params`` are the function's, which get one of the role ``extent`` for every new size."""
        self._params = params
        self.known: dict[Value, Vector] = {}
        self.outer: dict[Value, Value] = {}

    def expression(self, value: Value) -> Vector | None:
        """Lengths as an expression over feeds, of sequences or of integers; None where computed data decides them."""
        return expression(value, {p.value: p.name for p in self._params if p.role == "feed"}, self.known)

    def groups(self, sequences: Value) -> Value | None:
        """Of nested sequences, how many belong to each group, i64[N]; None of others."""
        lengths = lengths_value(sequences)
        return None if lengths is None else self.outer.get(lengths)

    def at_most(self, sequences: Value, most: int) -> None:
        """Have the runtime refuse what is fed if a sequence is longer.  Raises LoweringError as `longest` does."""
        self.extent(Rule("max", self._known(sequences), most), "L")

    def divides(self, lengths: Value, rows: Dim) -> bool | None:
        """Have the runtime refuse what is fed if ``lengths`` do not add up to ``rows``.

        Returns:
            Whether they do, where that is known already or will be checked; None where computed data decides it.
        """
        found, size = self.expression(lengths), self._rows(rows)
        if found is None or size is None:
            return None
        if isinstance(found, Listed) and isinstance(size, Fixed):
            return sum(found.numbers) == size.number
        if isinstance(found, Fed) and found.name.endswith(LENGTHS) and self.total(lengths) == rows:
            return True
        self.extent(Rule("sum", Combined("divide", found, size)), "R")
        return True

    def _rows(self, rows: Dim) -> Vector | None:
        """A number of rows as the sum of an expression; None where none has it."""
        if isinstance(rows, int):
            return Fixed(rows)
        for param in self._params:
            times = dim_div(rows, param.value.tensor.shape[0]) if param.value.tensor.rank else None
            if not isinstance(times, int):
                continue
            if param.role == "feed":
                return _times(RowsOf(param.name), times)
            if param.role == "extent" and (rule := Rule.parse(param.name)).take == "sum":
                return _times(rule.of, times)
        return None

    def longest(self, value: Value) -> Dim:
        """The size of the longest sequence of a ragged value, or the largest of integers; at least 1.

        It is a number where the lengths are fixed, else a symbol that the runtime gives its size in every step.

        Raises:
            LoweringError: Computed data decides the lengths.
        """
        return self._size("max", value, "L")

    def total(self, lengths: Value) -> Dim:
        """The sum of lengths: the rows of all sequences.  Raises LoweringError as `longest` does."""
        found = self.expression(lengths)
        if isinstance(found, Fed) and found.name.endswith(LENGTHS):
            rows = found.name.removesuffix(LENGTHS)
            return next(p.value.tensor.shape[0] for p in self._params if p.role == "feed" and p.name == rows)
        return self._size("sum", lengths, "R")

    def _known(self, value: Value) -> Vector:
        found = self.expression(value)
        if found is None:
            raise LoweringError(
                "the lengths of the sequences are values that the program computes: no size can follow from them",
                hint="let them follow from what is fed: from lengths of sequences, or from integers",
            )
        return found

    def _size(self, take: Reduction, value: Value, symbol: str) -> Dim:
        found = self._known(value)
        if isinstance(found, Fixed):  # every sequence has this length
            if take == "max":
                return max(1, found.number)
            count = value.ragged.count if isinstance(value.type, RaggedType) else value.tensor.numel
            return dim_mul(count, found.number)
        return self.extent(Rule(take, found), symbol)

    def extent(self, rule: Rule, symbol: str) -> Sym:
        """The size that follows by ``rule``; ``symbol`` is what it is called, if that is free."""
        taken: set[str] = set()
        for param in self._params:
            dims = [dim for dim in param.value.tensor.shape if isinstance(dim, Sym)]
            if param.role == "extent" and param.name == str(rule):
                return dims[0]
            taken.update(dim.name for dim in dims)
        names = (symbol if not number else f"{symbol}{number}" for number in itertools.count())
        dim = Sym(next(name for name in names if name not in taken))
        self._params.append(Param(str(rule), Value(TensorType(DType.BOOL, (dim,)), dim.name), "extent"))
        return dim
