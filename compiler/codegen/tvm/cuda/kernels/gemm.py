"""Products that a library computes: where both operands lie as matrices, and there is enough to do for one more launch.

The host part of a function asks ``fluidc.cuda.gemm`` and launches its own kernels where that answers 0.  All
arguments but the addresses are i64; matrices are row-major:

    (a, b, c, dtype, batch, m, n, k, trans_a, trans_b, stride_a, stride_b, stride_c, lda, ldb, ldc, tf32) -> 0 or 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .....ir.types import DType
from ...expr import Index, Load, Node
from ...kernels.compute import extent_guess, extent_of
from ...kit import Buffer, Value, integer
from ...tvm_api import tirx
from .operands import Probe
from .product import Product

GEMM = "fluidc.cuda.gemm"

CODES = {DType.F32: 0, DType.F64: 1, DType.F16: 2, DType.BF16: 3}

LEAST_WORK = {DType.F32: 1 << 30, DType.F64: 1 << 29, DType.F16: 1 << 28, DType.BF16: 1 << 28}
"""Operations from which a library is worth a launch of its own for what would else be fused: 16 us of float32.  With
tensor cores, which only the library uses, it is sooner."""

LEAST_WORK_TF32 = 1 << 28


@dataclass(frozen=True)
class Matrix:
    """An operand: element (line, term) of product ``b`` lies at ``first + b * stride + ...``, a line or a term apart
    by ``leading``, the other by 1.

    Attributes:
        read: An element, as the product reads it.
        first: Offset of the first element.
        stride: From one product to the next.
        leading: Step of the slower index.
        along_terms: Whether neighbouring terms lie side by side.
    """

    read: Load
    first: Value
    stride: Value
    leading: Value
    along_terms: bool


@dataclass(frozen=True)
class Gemm:
    """A product that the library knows: ``left`` [m, k] and ``right`` [n, k] as they lie."""

    left: Matrix
    right: Matrix
    code: int


def as_gemm(product: Product, *, tf32: bool) -> Gemm | None:
    """The product as one of matrices; None where it is none, or too small to gain."""
    contract = product.contract
    least = LEAST_WORK.get(contract.dtype)
    if least is None or contract.padded is not None or _work(product) < (LEAST_WORK_TF32 if tf32 else least):
        return None
    probe = Probe(product.block, product.buffers, product.bound, contract)
    left = _matrix(probe, contract.left, product, product.rows)
    right = _matrix(probe, contract.right, product, product.columns)
    return None if left is None or right is None else Gemm(left, right, CODES[contract.dtype])


def _work(product: Product) -> int:
    work = 2
    for index in (*product.free, *product.terms):
        work *= extent_guess(extent_of(index))
    return work


def _matrix(probe: Probe, operand: Node, product: Product, lines: Sequence[Index]) -> Matrix | None:
    if not isinstance(operand, Load) or operand.dtype is not product.contract.dtype:
        return None
    steps: list[Value] = []
    rest = probe.offset(operand)
    for indices in (product.batch, lines, product.terms):
        found = _step(probe, product, rest, indices)
        if found is None:
            return None
        step, rest = found
        steps.append(step)
    batch, line, term = steps
    for slow, fast, along_terms in ((line, term, True), (term, line, False)):
        if isinstance(fast, tirx.IntImm) and int(fast.value) == 1:
            return Matrix(operand, rest, batch, slow, along_terms)
    return None


def _step(probe: Probe, product: Product, offset: Value, indices: Sequence[Index]) -> tuple[Value, Value] | None:
    """The step of several indices taken as one, and the offset without them."""
    step: Value = integer(0)
    below: Value = integer(1)
    for index in reversed(indices):
        if extent_of(index) == 1:
            continue
        found = probe.split(offset, index)
        if found is None:
            return None
        own, offset = found
        if isinstance(step, tirx.IntImm) and int(step.value) == 0:
            step = own
        else:
            gap = product.block.simplify(own - step * below)
            if not isinstance(gap, tirx.IntImm) or int(gap.value) != 0:
                return None
        below = below * product.block.size(extent_of(index))
    return step, offset


def call_gemm(product: Product, gemm: Gemm, into: Buffer, *, tf32: bool) -> Value:
    """Ask the library to compute all elements, in the order of ``product.free``, into a buffer; whether it did."""
    block = product.block
    rows, columns = product.count(product.rows), product.count(product.columns)
    left, right = gemm.left, gemm.right
    numbers = (
        integer(gemm.code), product.count(product.batch), rows, columns, product.count(product.terms),
        integer(int(not left.along_terms)), integer(int(right.along_terms)),
        left.stride, right.stride, block.simplify(rows * columns),
        left.leading, right.leading, columns, integer(int(tf32)),
    )  # fmt: skip
    addresses = [_address(product, matrix) for matrix in (left, right)]
    answer = block.register(DType.I32, 1, "done")
    block.put(answer, tirx.call_packed(GEMM, *addresses, into.data, *numbers))
    return block.get(answer)


def _address(product: Product, matrix: Matrix) -> Value:
    buffer = product.buffers[matrix.read.tensor]
    offset = product.block.simplify(matrix.first * integer(matrix.read.dtype.itemsize))
    if isinstance(offset, tirx.IntImm) and int(offset.value) == 0:
        return buffer.data
    return tirx.handle_add_byte_offset(buffer.data, offset)
