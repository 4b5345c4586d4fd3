"""The matrix product: every rule of it in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, Sym, TensorType, numel
from .apart import product
from .base import Array, Op, OpBuilder, aligned, broadcast_shapes, same_dtype
from .by_example import tokens_of
from .emit import OnnxEmitter, Tensor, TvmEmitter
from .factors import Factors, fixed
from .kinds import ExampleKind, Kind, MixedKind, PublicKind, TotalKind, default_kind, first_mixed
from .onnx_forms import NUMBERS, computed, kernel_type, wide_operand


@dataclass(frozen=True, eq=False)
class MatMul(Op):
    """``x @ w`` over the last two axes, leading axes broadcast; ``ta``/``tb`` read an operand transposed.

    Half-precision products are summed in single precision.
    """

    name: ClassVar[str] = "linear.matmul"

    x: Value
    w: Value
    ta: bool = False
    tb: bool = False

    @property
    def inner(self) -> int:
        """The axis of ``x`` that is summed over."""
        return self.x.tensor.rank - (2 if self.ta else 1)

    def infer(self) -> TensorType:
        dtype = same_dtype(self, self.x, self.w)
        x, w = self.x.tensor, self.w.tensor
        if x.rank < 2 or w.rank < 2:
            raise self.fail(f"operands have at least two axes, not {x} @ {w}; reshape vectors first")
        if dtype is DType.BOOL:
            raise self.fail(f"operands hold numbers, not {x}; cast them first")
        m, k = x.shape[-2:][::-1] if self.ta else x.shape[-2:]
        k2, n = w.shape[-2:][::-1] if self.tb else w.shape[-2:]
        if k != k2:
            raise self.fail(f"inner sizes differ, {k} and {k2}, in {self._written()}")
        return TensorType(dtype, (*broadcast_shapes(self, x.shape[:-2], w.shape[:-2]), m, n))

    def _written(self) -> str:
        x, w = (f"{v.type}{'ᵀ' if t else ''}" for v, t in ((self.x, self.ta), (self.w, self.tb)))
        return f"{x} @ {w}"

    def evaluate(self, x: Array, w: Array) -> Array:
        x = np.swapaxes(x, -1, -2) if self.ta else x
        w = np.swapaxes(w, -1, -2) if self.tb else w
        dtype = self.result.type.dtype
        wide = DType.F32 if dtype in (DType.F16, DType.BF16) else dtype
        with np.errstate(all="ignore"):
            return np.asarray(product(x.astype(wide.numpy), w.astype(wide.numpy)), dtype.numpy)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return None, None
        x, w = self.x, self.w
        dx = dw = None
        if needs[0]:
            dx = b.matmul(w, ct, self.tb, True) if self.ta else b.matmul(ct, w, False, not self.tb)
            dx = b.unbroadcast(dx, x.tensor.shape)
        if needs[1]:
            if w.tensor.rank == 2 and x.tensor.rank > 2 and not self.ta:
                # One product over all leading axes, not a sum of one product per leading index.
                x, ct = _folded(b, x), _folded(b, ct)
            dw = b.matmul(ct, x, True, self.ta) if self.tb else b.matmul(x, ct, not self.ta, False)
            dw = b.unbroadcast(dw, w.tensor.shape)
        return dx, dw

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        x, w = aligned(b, operands, over, self.result.tensor.rank)
        return MatMul(x, w, self.ta, self.tb)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        if first_mixed(kinds) is not None:
            return default_kind(self, kinds)
        contracted = self.x.tensor.shape[self.inner]
        if isinstance(contracted, Sym):
            return MixedKind(
                f"{self.name} sums over an axis of extent {contracted}, across examples",
                self,
                "keep the batch as a leading axis of both operands",
            )
        totals = [kind for kind in kinds if isinstance(kind, TotalKind)]
        if totals:
            public = any(isinstance(kind, PublicKind) for kind in kinds)
            return totals[0] if public else MixedKind(f"{self.name} multiplies a sum over the batch", self)
        placed = {self._placed(i, kind) for i, kind in enumerate(kinds) if isinstance(kind, ExampleKind)}
        if not placed:
            return default_kind(self, kinds)
        if len(placed) == 1:
            # Two operands meet on a leading axis only: rows of x and columns of w are different axes of the result.
            return placed.pop()
        return MixedKind(
            f"{self.name} pairs different examples with each other",
            self,
            "keep the batch as a leading axis of both operands",
        )

    def _placed(self, operand: int, kind: ExampleKind) -> ExampleKind:
        """Where the result has an operand's example axis, which is a leading axis or a free one."""
        rank, out = self.operands[operand].tensor.rank, self.result.tensor.rank
        if kind.axis < rank - 2:
            return ExampleKind(kind.axis + out - rank, kind.pre, kind.post)
        return ExampleKind(out - (1 if operand else 2), kind.pre, kind.post)

    def example_norm_sq(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        """Row i adds ``x_i ⊗ ct_i`` to the gradient of ``w``, and ``|x_i ⊗ ct_i|² = |x_i|² |ct_i|²``.

        Both square sums are float64: no term is lost, none under- or overflows.
        """
        plain = self.x.tensor.rank == self.w.tensor.rank == 2 and not self.ta
        if operand != 1 or not plain or kinds[0] != ExampleKind(0) or not isinstance(kinds[1], PublicKind):
            return None
        return b.mul(_row_square_sum(b, self.x), _row_square_sum(b, ct))

    def example_factors(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Factors | None:
        """Every row of ``x`` (column of ``w``) adds the outer product of itself and its row (column) of ``ct``."""
        parameter, other = self.operands[operand], self.operands[1 - operand]
        kind, out = self._row_kinds(operand, kinds)
        single = all(d == 1 for d in parameter.tensor.shape[:-2])
        if kind is None or out is None or not single or other.tensor.rank != self.result.tensor.rank:
            return None
        swapped = self.ta if operand else not self.tb
        x = _tokens(b, other, kind, swapped)
        d = _tokens(b, ct, out, operand == 0)
        if x is None or d is None:
            return None
        # The parameter's own axes: [inner, columns] of w, [rows, inner] of x, the other way round when transposed.
        left, right = (x, d) if (operand == 1) != (self.tb if operand else self.ta) else (d, x)
        return Factors(left, right, fixed(left.tensor.shape[2]))

    def _row_kinds(self, operand: int, kinds: Sequence[Kind]) -> tuple[ExampleKind | None, ExampleKind | None]:
        """Where the other operand and the result have their examples; None unless a public parameter meets examples."""
        other, out = kinds[1 - operand], self.example_axis(kinds)
        if isinstance(kinds[operand], PublicKind) and isinstance(other, ExampleKind) and isinstance(out, ExampleKind):
            return other, out
        return None, None

    def to_tvm(self, t: TvmEmitter, x: Tensor, w: Tensor) -> Tensor:
        return t.matmul(x, w, self.ta, self.tb)

    def to_onnx(self, o: OnnxEmitter, x: str, w: str) -> str:
        dtype = self.x.type.dtype
        if self.x.tensor.shape[self.inner] == 0:
            return o.full(self.result.tensor.shape, 0, dtype)  # ONNX Runtime leaves these undefined
        kernels = NUMBERS - {DType.F16}
        kernel = kernel_type(self, dtype, kernels)
        planes = self.x.tensor.rank == self.w.tensor.rank == 2 and kernel.is_float

        def build(a: str, b: str) -> str:
            # ONNX Runtime joins MatMul with the Add of a bias, and with Transpose; Gemm needs neither.
            if planes and (self.ta or self.tb or kernel is DType.F64):
                return o.node("Gemm", a, b, transA=int(self.ta) or None, transB=int(self.tb) or None)
            x, w = self.x.tensor, self.w.tensor
            if kernel is DType.F64:
                operands = wide_operand(o, a, x, turned=self.ta), wide_operand(o, b, w, turned=self.tb)
                return o.reshape(o.node("MatMul", *operands), self.result.tensor.shape)
            a = _turned(o, a, x.rank) if self.ta else a
            b = _turned(o, b, w.rank) if self.tb else b
            return o.node("MatMul", a, b)

        return computed(self, o, dtype, kernels, build, x, w)


def _turned(o: OnnxEmitter, x: str, rank: int) -> str:
    """The last two axes swapped."""
    return o.node("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


def _folded(b: OpBuilder, x: Value) -> Value:
    """``x`` with all axes but the last folded into one."""
    shape = x.tensor.shape
    return b.reshape(x, (numel(shape[:-1]), shape[-1]))


def _tokens(b: OpBuilder, x: Value, kind: ExampleKind, swapped: bool) -> Value | None:
    """``[N, T, last]``: the rows of ``x``, or its columns where ``swapped``, by examples."""
    if swapped:
        rank = x.tensor.rank
        x = b.transpose(x, (*range(rank - 2), rank - 1, rank - 2))
        turned = {rank - 1: rank - 2, rank - 2: rank - 1}
        kind = ExampleKind(turned.get(kind.axis, kind.axis), kind.pre, kind.post)
    return tokens_of(b, x, kind)


def _row_square_sum(b: OpBuilder, x: Value) -> Value:
    return b.reduce_sum(b.square(b.cast(x, DType.F64)), (1,))


OPS: tuple[type[Op], ...] = (MatMul,)
