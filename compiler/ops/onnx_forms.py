"""ONNX idioms that rules of several families need."""

from __future__ import annotations

from ..ir.types import DType, TensorType
from .emit import OnnxEmitter


def swapped(o: OnnxEmitter, x: str, kind: TensorType) -> str:
    """``x`` of type ``kind`` with its last two axes exchanged, as an operand of a MatMul.

    ONNX Runtime joins a Transpose that it finds before a MatMul with it.  In float64 it has no kernel for the product
    that it makes of them, and does not load the model: there an axis of extent 1 stands between them.
    """
    rank, shape = kind.rank, kind.shape
    perm = [*range(rank - 2), rank - 1, rank - 2]
    if kind.dtype is not DType.F64:
        return o.node("Transpose", x, perm=perm)
    turned = o.node("Transpose", o.reshape(x, (*shape, 1)), perm=[*perm[:-1], rank, rank - 2])
    return o.reshape(turned, (*shape[:-2], shape[-1], shape[-2]))
