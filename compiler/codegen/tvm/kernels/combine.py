"""How partial results of a reduction become one."""

from __future__ import annotations

from ....ir.types import DType
from ..kit import TVM_NAMES, Block, Value, const, convert, integer, lanes_of
from ..tvm_api import tirx


class Combine:
    """How two partial results of a kind become one, on TIR values."""

    def __init__(self, block: Block, kind: str, dtype: DType) -> None:
        self.block = block
        self.kind = kind
        self.logical = dtype is DType.BOOL
        self.dtype = DType.I32 if self.logical else dtype

    def start(self, lanes: int) -> Value:
        """The neutral element."""
        if self.kind in ("sum", "any"):
            return const(0, self.dtype, lanes)
        if self.kind in ("prod", "all"):
            return const(1, self.dtype, lanes)
        largest = self.kind == "min"
        if self.dtype.is_float:
            return const(float("inf") if largest else float("-inf"), self.dtype, lanes)
        name = self.dtype.value if self.dtype is not DType.I32 else "i32"
        bits = int(name[1:])
        signed = name[0] == "i"
        top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        bottom = -(2 ** (bits - 1)) if signed else 0
        return const(top if largest else bottom, self.dtype, lanes)

    def term(self, value: Value) -> Value:
        """A value of the reduced expression in the accumulator's type."""
        if self.logical:
            lanes = lanes_of(value)
            return tirx.Select(value, const(1, DType.I32, lanes), const(0, DType.I32, lanes))
        return value if str(value.ty.dtype).split("x")[0] == TVM_NAMES[self.dtype] else convert(self.dtype, value)

    def join(self, total: Value, value: Value) -> Value:
        match self.kind:
            case "sum":
                return total + value
            case "prod":
                return total * value
            case "any":
                return tirx.max(total, value)
            case "all":
                return tirx.min(total, value)
            case _ if not self.dtype.is_float:
                return tirx.max(total, value) if self.kind == "max" else tirx.min(total, value)
            case _:
                # A NaN term wins, and a NaN total is never beaten.
                value = self.block.let(value, self.dtype)
                better = value > total if self.kind == "max" else value < total
                nan = const(float("nan"), self.dtype, lanes_of(value))
                return tirx.Select(self.block.machine.is_nan(value, self.dtype), nan, tirx.Select(better, value, total))

    def across(self, vector: Value) -> Value:
        """One value from all lanes, in a fixed tree order."""
        lanes = lanes_of(vector)
        if lanes == 1:
            return vector
        buffer = self.block.scratch(self.dtype, lanes, "across")
        self.block.write(buffer, integer(0), vector)
        while lanes > 1:
            lanes //= 2
            low = self.block.read(buffer, integer(0), lanes)
            high = self.block.read(buffer, integer(lanes), lanes)
            joined = self.block.let(self.join(low, high), self.dtype)
            self.block.write(buffer, integer(0), joined)
        return self.block.read(buffer, integer(0))

    def result(self, value: Value) -> Value:
        """The accumulator as a value of the result's type."""
        return tirx.NE(value, const(0, DType.I32, lanes_of(value))) if self.logical else value
