"""The CPU as a machine that kernels are written for: what LLVM needs to be told in its own way."""

from __future__ import annotations

from ...ir.types import DType
from ...ops.emit import Function1
from . import vmath
from .kit import Block, Host, Value, broadcast, const, convert, dtype_name, lanes_of
from .tvm_api import tirx


class Llvm:
    """``kit.Machine`` for code that LLVM compiles."""

    target = "cpu"

    def wrapping(self, name: str, x: Value, y: Value, dtype: DType) -> Value:
        """``add``, ``sub`` or ``mul`` modulo 2^bits.

        TIR's own unsigned arithmetic becomes LLVM's ``nuw`` form, where wrapping round is undefined and gets optimised
        away; the vector-predication intrinsics carry no such flag.
        """
        lanes = max(lanes_of(x), lanes_of(y))
        width = max(lanes, 2)
        mask = tirx.Broadcast(tirx.const(True, "bool"), width)
        operands = (broadcast(x, width), broadcast(y, width), mask, tirx.const(width, "uint32"))
        result = tirx.call_llvm_pure_intrin(dtype_name(dtype, width), f"llvm.vp.{name}", *operands)
        return result if lanes > 1 else tirx.Shuffle([result], [tirx.IntImm("int32", 0)])

    def is_nan(self, value: Value, dtype: DType) -> Value:
        """NaN, by an intrinsic: ``x != x`` is folded to false before LLVM sees it."""
        if dtype in (DType.F16, DType.BF16):
            value = convert(DType.F32, value)
        lanes = lanes_of(value)
        kinds = tirx.const(3, "int32")  # quiet and signalling
        return tirx.call_llvm_pure_intrin(dtype_name(DType.BOOL, lanes), "llvm.is.fpclass", value, kinds)

    def fence(self, value: Value, dtype: DType) -> Value:
        return tirx.call_llvm_pure_intrin(dtype_name(dtype, lanes_of(value)), "llvm.arithmetic.fence", value)

    def function(self, block: Block, name: Function1, dtype: DType, x: Value) -> Value:
        if dtype is DType.F32 and name in vmath.VECTOR:
            return vmath.VECTOR[name](block, x)
        if name == "sigmoid":
            zero, one = const(0, dtype, lanes_of(x)), const(1, dtype, lanes_of(x))
            return one / (one + vmath.libm(block, block.let(zero - x, dtype), "exp", dtype))
        return vmath.libm(block, x, name, dtype)

    def power(self, block: Block, x: Value, y: Value, dtype: DType) -> Value:
        return vmath.pow(block, x, y) if dtype is DType.F32 else tirx.pow(x, y)


LLVM = Llvm()


def cpu_host(vector_bytes: int = 32, threads: int = 2) -> Host:
    """A CPU with vectors of so many bytes."""
    return Host(LLVM, vector_bytes, threads)
