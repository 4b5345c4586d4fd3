"""fold: what is computed from constant tensors becomes a constant tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..ir.core import Module, OpBase, Value
from ..ir.stage import Stage
from ..ir.types import Sym, TensorType
from ..ops.base import Op
from ..ops.construct import OpBuilder
from ..ops.elementwise import Binary, Cast, Fill
from ..ops.shape import Broadcast, Reshape, Transpose
from ..ops.unary import Unary
from .base import Pass
from .rewrite import rewrite


@dataclass(frozen=True)
class Fold(Pass):
    """Elementwise ops and shape changes of uniform tensors give uniform tensors.

    The value is computed on scalars of the element type, as the op itself would.
    """

    name: ClassVar[str] = "fold"
    requires: ClassVar[Stage] = Stage.CORE

    def run(self, module: Module) -> Module:
        return module.map_functions(lambda function: rewrite(function, _folded))


def _folded(b: OpBuilder, op: OpBase) -> Sequence[Value] | None:
    if not op.operands or len(op.results) != 1 or not isinstance(op.result.type, TensorType):
        return None
    fills = [value.op for value in op.operands if isinstance(value.op, Fill)]
    if len(fills) != len(op.operands):
        return None
    kind = op.result.type
    if any(isinstance(dim, Sym) and dim.scale != 1 for dim in kind.shape):
        return None  # a fill does not say how the rows of examples lie in a folded axis; these ops do
    if isinstance(op, Reshape | Transpose | Broadcast):
        return (b.fill(kind.shape, kind.dtype, fills[0].value),)
    if isinstance(op, Binary | Cast | Unary):
        value = _scalar(op, fills)
        return None if value is None else (b.fill(kind.shape, kind.dtype, value),)
    return None


def _scalar(op: Op, fills: Sequence[Fill]) -> float | None:
    """The op on one element; None when the result does not survive as a Python float."""
    result = op.evaluate(*(np.asarray(fill.value, fill.type.dtype.numpy) for fill in fills))
    value = float(result)
    return value if np.asarray(value, op.result.type.dtype.numpy) == result else None
