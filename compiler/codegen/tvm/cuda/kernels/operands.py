"""The operands of a product: where their elements lie, and reading some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .....ir.types import DType
from ...expr import Index, Load, Node, binary, const, loads, substitute, walk
from ...graph import Contract, Padded, TensorDef
from ...kernels.compute import extent_of
from ...kit import Block, Buffer, Value, convert, integer
from ...kit import const as constant
from ...lower import Lowering
from ...tvm_api import sym, tirx, tvm

VECTOR_BYTES = 16
"""What one load moves at most."""


@dataclass(frozen=True, eq=False)
class Operand:
    """One side of a product: ``value`` where all of ``inside`` hold, and 0 elsewhere.

    Attributes:
        value: An element.
        inside: Conditions under which there is one.
        lines: The indices of its rows or columns.
        terms: The indices that are summed over.
        dtype: What it is multiplied as.
        along_terms: Whether elements of neighbouring terms lie side by side, or nearer than those of neighbouring
            lines.
        lanes: How many of them one load may read; more than one only if they are all inside or all not.
    """

    value: Node
    inside: tuple[Node, ...]
    lines: tuple[Index, ...]
    terms: tuple[Index, ...]
    dtype: DType
    along_terms: bool
    lanes: int

    @property
    def fast(self) -> Index:
        """The index along which elements lie side by side."""
        return (self.terms if self.along_terms else self.lines)[-1]

    def read(
        self,
        block: Block,
        buffers: Mapping[TensorDef, Buffer],
        at: Mapping[Node, Value],
        there: Value | None,
        into: Buffer,
        place: int,
        lanes: int = 1,
    ) -> None:
        """Elements ``at`` an index, neighbours along ``fast`` if several, to ``into[place]`` on: 0 unless ``there``."""
        block.write(into, integer(place), constant(0, self.dtype, lanes))
        lowering = Lowering(block, buffers, at, self.fast if lanes > 1 else None, lanes)
        lowering.expect(self.value, *self.inside)
        condition = tirx.const(True, "bool") if there is None else there
        for node in self.inside:
            condition = tirx.And(condition, lowering.scalar_or_vector(node))
        with block.when(condition):
            block.write(into, integer(place), convert(self.dtype, lowering.vector(self.value)))


def operands_of(
    block: Block, buffers: Mapping[TensorDef, Buffer], bound: Mapping[Node, Value], contract: Contract, dtype: DType
) -> tuple[Operand, Operand]:
    """The operands of a product, multiplied as ``dtype``; their ``terms`` agree.

    The order of summed indices, and that of rows and columns, follows the memory of the operands.
    """
    probe = Probe(block, buffers, bound, contract)
    left, inside = _framed(contract)
    right = contract.right
    terms = probe.innermost_last(contract.inner, left, right)
    rows, columns = probe.innermost_last(contract.rows, left), probe.innermost_last(contract.columns, right)
    return (
        _operand(probe, left, inside, rows, terms, dtype, along_terms=True),
        _operand(probe, right, (), columns, terms, dtype, along_terms=False),
    )


def _operand(
    probe: Probe,
    value: Node,
    inside: tuple[Node, ...],
    lines: tuple[Index, ...],
    terms: tuple[Index, ...],
    dtype: DType,
    *,
    along_terms: bool,
) -> Operand:
    for read in loads(value):
        steps = [abs(probe.step(read, indices[-1]) or 0) for indices in (terms, lines)]
        if any(steps):
            along_terms = steps[1] == 0 or 0 < steps[0] < steps[1]
            break
    fast = (terms if along_terms else lines)[-1]
    lanes = VECTOR_BYTES // dtype.itemsize
    plain = isinstance(value, Load) and value.dtype is dtype and dtype in (DType.F32, DType.F64, DType.I32)
    apart = any(fast in walk(condition) for condition in inside)
    if not plain or apart or not probe.aligned(value, fast, lanes):
        lanes = 1
    return Operand(value, inside, lines, terms, dtype, along_terms, lanes)


def _framed(contract: Contract) -> tuple[Node, tuple[Node, ...]]:
    """The left operand: an element, and where there is one (there is none in the frame of padded images)."""
    padded = contract.padded
    if padded is None:
        return contract.left, ()
    assert isinstance(contract.left, Load)
    return _within(padded, contract.left.children)


def _within(padded: Padded, where: Sequence[Node]) -> tuple[Node, tuple[Node, ...]]:
    values: dict[Node, Node] = {}
    inside: list[Node] = []
    for index, before, size, place in zip(padded.indices, padded.before, padded.shape, where, strict=True):
        assert isinstance(index, Index)
        own = values[index] = binary("-", place, const(before, DType.I64))
        if index.extent != size:
            inside += [own >= 0, own < index.extent]
    return substitute(padded.body, values), tuple(inside)


class Probe:
    """Where elements lie as their indices change; nothing is emitted."""

    def __init__(
        self, block: Block, buffers: Mapping[TensorDef, Buffer], bound: Mapping[Node, Value], contract: Contract
    ) -> None:
        self._block = Block(block.host, block.symbols)
        self._variables: dict[Node, Value] = {}
        for index in (*contract.batch, *contract.rows, *contract.columns, *contract.inner):
            variable = self._variables[index] = tirx.Var("i", "int64")
            self._block.analyzer.bind(variable, tvm.ir.Range(integer(0), self._block.size(extent_of(index))))
        self._buffers = buffers
        self._at = {**bound, **self._variables}
        self._lowering = Lowering(self._block, buffers, self._at)
        self._offsets: dict[Load, Value] = {}

    def offset(self, read: Load) -> Value:
        """Offset of an element in the indices' variables."""
        if read not in self._offsets:
            self._offsets[read] = self._lowering.offset(read.tensor, read.children)[0]
        return self._offsets[read]

    def step(self, read: Load, index: Index) -> int | None:
        """How far apart neighbours along an index lie; None if not known or not always as far."""
        found = self.split(self.offset(read), index)
        return int(found[0].value) if found is not None and isinstance(found[0], tirx.IntImm) else None

    def split(self, offset: Value, index: Index) -> tuple[Value, Value] | None:
        """A linear offset as its step along an index and the rest."""
        found = sym.detect_linear_equation(offset, [self._variables[index]])
        return (self._block.simplify(found[0]), self._block.simplify(found[1])) if found else None

    def in_order(self, read: Load, indices: Sequence[Index]) -> bool:
        """Whether elements lie as the indices number them, from the start of the tensor on."""
        number: Value = integer(0)
        for index in indices:
            number = number * self._block.size(extent_of(index)) + self._variables[index]
        away = self._block.simplify(self.offset(read) - number)
        return isinstance(away, tirx.IntImm) and int(away.value) == 0

    def innermost_last(self, indices: tuple[Index, ...], *values: Node) -> tuple[Index, ...]:
        """The indices with that one last along which elements of the first value that has such lie side by side."""
        for read in loads(*values):
            for index in reversed(indices):
                if extent_of(index) != 1 and self.step(read, index) == 1:
                    return (*(other for other in indices if other is not index), index)
        return indices

    def aligned(self, read: Node, fast: Index, lanes: int) -> bool:
        """Whether the elements along ``fast`` are whole vectors of ``lanes``."""
        extent = extent_of(fast)
        if not isinstance(read, Load) or not isinstance(extent, int) or extent % lanes or self.step(read, fast) != 1:
            return False
        at = {**self._at, fast: self._variables[fast] * integer(lanes)}
        offset = Lowering(self._block, self._buffers, at).offset(read.tensor, read.children)[0]
        rest = self._block.simplify(tirx.floormod(offset, integer(lanes)))
        return isinstance(rest, tirx.IntImm) and int(rest.value) == 0
