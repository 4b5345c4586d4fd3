"""A product on a device: its operands and sizes, and what becomes of its sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .....ir.types import DType
from ...expr import Index, Node, Slot
from ...graph import Contract, TensorDef
from ...kernels.compute import Definition, extent_guess, extent_of, store_all
from ...kernels.product import unravel
from ...kit import Buffer, Value, convert, integer
from ...lower import Lowering
from ..device import DeviceBlock
from .operands import Operand, operands_of
from .tiles import Sizes


@dataclass(frozen=True, eq=False)
class Product:
    """One contraction and what is fused behind it.

    Attributes:
        block: Where statements go.
        contract: What is computed.
        result: An element of it, as ``definitions`` read it.
        definitions: What is stored of an element.
        buffers: Where tensors lie.
        bound: Values of the indices of all loops around.
        dtype: The type that terms are multiplied and added in.
        left: Its rows and terms.
        right: Its columns and terms.
    """

    block: DeviceBlock
    contract: Contract
    result: Slot
    definitions: Sequence[Definition]
    buffers: Mapping[TensorDef, Buffer]
    bound: Mapping[Node, Value]
    dtype: DType
    left: Operand
    right: Operand

    @property
    def batch(self) -> tuple[Index, ...]:
        return self.contract.batch

    @property
    def rows(self) -> tuple[Index, ...]:
        return self.left.lines

    @property
    def columns(self) -> tuple[Index, ...]:
        return self.right.lines

    @property
    def terms(self) -> tuple[Index, ...]:
        return self.left.terms

    @property
    def free(self) -> tuple[Index, ...]:
        """The indices of an element; sums are numbered in their order."""
        return (*self.batch, *self.rows, *self.columns)

    def count(self, indices: Sequence[Index]) -> Value:
        """How many values the indices take together."""
        total: Value = integer(1)
        for index in indices:
            total = total * self.block.size(extent_of(index))
        return self.block.simplify(total)

    def at(self, *numbered: tuple[Sequence[Index], Value]) -> dict[Node, Value]:
        """Values of the indices around, and of others by their number."""
        found = dict(self.bound)
        for indices, number in numbered:
            found.update(unravel(self.block, indices, number))
        return found

    def store(self, at: Mapping[Node, Value], total: Value) -> None:
        """Store what is made of the element ``at`` an index."""
        block = self.block
        slots: dict[Node, Value] = {self.result: convert(self.contract.dtype, total)}
        lowering = Lowering(block, self.buffers, at, slots=slots)
        if self.contract.valid is None:
            store_all(lowering, self.definitions)
        else:
            with block.when(lowering.scalar_or_vector(self.contract.valid)):
                store_all(lowering, self.definitions)


class Sink(Protocol):
    """Takes the sum of the terms of part ``split`` of an element, in the thread that made it."""

    def __call__(self, split: Value, at: Mapping[Node, Value], total: Value) -> None: ...


def make_product(
    block: DeviceBlock,
    buffers: Mapping[TensorDef, Buffer],
    contract: Contract,
    result: Slot,
    definitions: Sequence[Definition],
    bound: Mapping[Node, Value],
) -> Product:
    """A product as the block's device computes it."""
    dtype = DType.F32 if contract.dtype in (DType.F16, DType.BF16) else contract.dtype
    left, right = operands_of(block, buffers, bound, contract, dtype)
    return Product(block, contract, result, definitions, buffers, bound, dtype, left, right)


def sizes_of(product: Product) -> Sizes:
    """What decides how a product is cut; sizes known at run time only are guessed."""

    def guess(indices: Sequence[Index]) -> int:
        total = 1
        for index in indices:
            total *= extent_guess(extent_of(index))
        return total

    left, right = product.left, product.right
    return Sizes(
        guess(product.batch), guess(product.rows), guess(product.columns), guess(product.terms),
        product.dtype.itemsize, not right.along_terms, left.along_terms and right.along_terms,
    )  # fmt: skip
