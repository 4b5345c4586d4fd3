"""Types of the IR as ONNX writes them."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorProto, ValueInfoProto, helper

from ...ir.types import Dim, DType, TensorType

ELEMENT_TYPES: Mapping[DType, int] = {
    DType.F16: TensorProto.FLOAT16,
    DType.BF16: TensorProto.BFLOAT16,
    DType.F32: TensorProto.FLOAT,
    DType.F64: TensorProto.DOUBLE,
    DType.I8: TensorProto.INT8,
    DType.I32: TensorProto.INT32,
    DType.I64: TensorProto.INT64,
    DType.U8: TensorProto.UINT8,
    DType.U32: TensorProto.UINT32,
    DType.U64: TensorProto.UINT64,
    DType.BOOL: TensorProto.BOOL,
}


def dimension(dim: Dim) -> int | str:
    """A size, or the symbol as IR text spells it (``8*N``)."""
    return dim if isinstance(dim, int) else str(dim)


def value_info(name: str, kind: TensorType, doc: str = "") -> ValueInfoProto:
    """The type of a value, noted in the file."""
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[kind.dtype], [dimension(d) for d in kind.shape], doc)
