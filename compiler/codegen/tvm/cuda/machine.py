"""A CUDA device as a machine that kernels are written for: CUDA C's own operations."""

from __future__ import annotations

from ....ir.types import DType
from ....ops.emit import Function1
from ..kit import Block, Value, const, convert, dtype_name
from ..tvm_api import tirx

_SUFFIX = {DType.F32: "f", DType.F64: ""}


class Cuda:
    """``kit.Machine`` for CUDA C, whose unsigned arithmetic wraps and whose functions keep to 2 ulp."""

    target = "cuda"

    def wrapping(self, name: str, x: Value, y: Value, dtype: DType) -> Value:
        return {"add": tirx.Add, "sub": tirx.Sub, "mul": tirx.Mul}[name](x, y)

    def is_nan(self, value: Value, dtype: DType) -> Value:
        if dtype in (DType.F16, DType.BF16):
            value = convert(DType.F32, value)
        return tirx.NE(tirx.call_pure_extern("int32", "isnan", value), const(0, DType.I32))

    def fence(self, value: Value, dtype: DType) -> Value:
        # A product with 1 would be no fence: ptxas leaves it out, and contracts what is left.  -0 changes no number.
        total = {DType.F32: "__fadd_rn", DType.F64: "__dadd_rn"}[dtype]
        return tirx.call_pure_extern(dtype_name(dtype), total, value, const(-0.0, dtype))

    def function(self, block: Block, name: Function1, dtype: DType, x: Value) -> Value:
        if name == "sigmoid":
            one = const(1, dtype)
            return one / (one + self._libm("exp", dtype, const(0, dtype) - x))
        return self._libm(name, dtype, x)

    def power(self, block: Block, x: Value, y: Value, dtype: DType) -> Value:
        return self._libm("pow", dtype, x, y)

    def _libm(self, name: str, dtype: DType, *arguments: Value) -> Value:
        return tirx.call_pure_extern(dtype_name(dtype), f"{name}{_SUFFIX[dtype]}", *arguments)


CUDA = Cuda()
