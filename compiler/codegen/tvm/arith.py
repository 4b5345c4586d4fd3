"""Operations of scalar expressions as TIR, in every lane: numpy's results, also where TIR or the machine differ."""

from __future__ import annotations

from ...errors import TargetError
from ...ir.types import DType
from ...ops.emit import Function1
from .expr import Binary, Call, Cast, Compare, Const, Extent, Index, Invert, IsFinite, Node, Reinterpret
from .kit import Block, Value, const, convert, is_finite, lanes_of, reinterpret
from .tvm_api import tirx

WRAPPING = (DType.U32, DType.U64)
_UNSIGNED = (*WRAPPING, DType.U8)
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul"}


def operation(block: Block, node: Node, values: list[Value]) -> Value:
    """The value of ``node`` from its operands', all of one width."""
    match node:
        case Binary():
            return binary_operation(block, node, values[0], values[1])
        case Compare():
            return _compare(block, node, values[0], values[1])
        case Invert():
            return tirx.Not(values[0]) if node.dtype is DType.BOOL else tirx.bitwise_not(values[0])
        case Cast():
            return _cast(node.children[0].dtype, node.dtype, values[0])
        case Reinterpret():
            return reinterpret(node.dtype, values[0])
        case Call():
            return _call(block, node, values[0])
        case IsFinite():
            return _is_finite(node.children[0].dtype, values[0])
        case _:
            raise AssertionError(f"no TIR for {type(node).__name__}")


def binary_operation(block: Block, node: Binary, x: Value, y: Value) -> Value:
    """``x node.op y``; raises TargetError for a power of integers."""
    dtype = node.dtype
    match node.op:
        case "+" | "-" | "*" if dtype in WRAPPING:
            return block.machine.wrapping(_ARITHMETIC[node.op], x, y, dtype)
        case "+":
            return x + y
        case "-":
            return x - y
        case "*":
            return x * y
        case "/":
            return tirx.div(x, y)
        case "//" | "%" if dtype.is_integer and not is_sum(node.children[1]):
            return _quotient(block, node, x, y)
        case "//":
            return tirx.floordiv(x, y)
        case "%":
            return tirx.floormod(x, y)
        case "&":
            return tirx.And(x, y) if dtype is DType.BOOL else tirx.bitwise_and(x, y)
        case "|":
            return tirx.Or(x, y) if dtype is DType.BOOL else tirx.bitwise_or(x, y)
        case "^":
            return _differ(x, y) if dtype is DType.BOOL else tirx.bitwise_xor(x, y)
        case "<<":
            return tirx.shift_left(x, y)
        case ">>":
            return tirx.shift_right(x, y)
        case "min" | "max":
            return _extreme(block, node, x, y)
        case "pow":
            if dtype in (DType.F32, DType.F64):
                return block.machine.power(block, x, y, dtype)
            if dtype in (DType.F16, DType.BF16):
                wide = block.machine.power(block, convert(DType.F32, x), convert(DType.F32, y), DType.F32)
                return convert(dtype, wide)
            raise TargetError(f"power of {dtype.value} is not available on the {block.machine.target} target")


def _quotient(block: Block, node: Binary, x: Value, y: Value) -> Value:
    """Quotient or remainder of integers given as data, where the machine would trap as numpy has it: 0 for a
    divisor of 0, and wrapped round for the smallest number divided by -1."""
    dtype, lanes = node.dtype, lanes_of(y)
    zero, one = const(0, dtype, lanes), const(1, dtype, lanes)
    y = block.let(y, dtype)
    minus = y < zero if dtype in _UNSIGNED else tirx.EQ(y, zero - one)
    plain = block.let(tirx.Select(tirx.Or(tirx.EQ(y, zero), minus), one, y), dtype)
    if node.op == "%":
        return tirx.Select(tirx.EQ(plain, y), tirx.floormod(x, plain), zero)
    negated = tirx.Select(minus, block.machine.wrapping("sub", zero, x, dtype), zero)
    return tirx.Select(tirx.EQ(plain, y), tirx.floordiv(x, plain), negated)


def _extreme(block: Block, node: Binary, x: Value, y: Value) -> Value:
    """Minimum or maximum; NaN if either operand is NaN."""
    if not node.dtype.is_float:
        return tirx.min(x, y) if node.op == "min" else tirx.max(x, y)
    left, right = node.children
    if isinstance(left, Const):
        (left, right), (x, y) = (right, left), (y, x)
    if not isinstance(left, Const):
        x = block.let(x, node.dtype)
    if isinstance(right, Const):
        # Taken only where y is strictly better, so a NaN in x stays.
        return tirx.Select(y > x if node.op == "max" else y < x, y, x)
    y = block.let(y, node.dtype)
    better = x > y if node.op == "max" else x < y
    # The machine's maximum takes y where either is NaN; a constant NaN keeps the two choices apart.
    nan = const(float("nan"), node.dtype, lanes_of(x))
    return tirx.Select(block.machine.is_nan(x, node.dtype), nan, tirx.Select(better, x, y))


def _compare(block: Block, node: Compare, x: Value, y: Value) -> Value:
    if node.children[0] is node.children[1] and node.children[0].dtype.is_float:
        # TIR takes x == x for granted.
        nan = block.machine.is_nan(x, node.children[0].dtype)
        if node.op in ("<", ">"):
            return const(False, DType.BOOL, lanes_of(x))
        return nan if node.op == "!=" else tirx.Not(nan)
    if node.children[0].dtype is DType.BOOL:
        return _differ(x, y) if node.op == "!=" else tirx.Not(_differ(x, y))
    match node.op:
        case "<":
            return tirx.LT(x, y)
        case "<=":
            return tirx.LE(x, y)
        case ">":
            return tirx.GT(x, y)
        case ">=":
            return tirx.GE(x, y)
        case "==":
            return tirx.EQ(x, y)
        case "!=":
            return tirx.NE(x, y)


def _cast(source: DType, target: DType, value: Value) -> Value:
    if source is target:
        return value
    lanes = lanes_of(value)
    if source is DType.BOOL:
        return tirx.Select(value, const(1, target, lanes), const(0, target, lanes))
    if target is DType.BOOL:
        return tirx.NE(value, const(0, source, lanes))
    return convert(target, value)


def _is_finite(dtype: DType, value: Value) -> Value:
    return is_finite(value, dtype) if dtype.is_float else const(True, DType.BOOL, lanes_of(value))


def _call(block: Block, node: Call, x: Value) -> Value:
    dtype, name = node.dtype, node.function
    if dtype in (DType.F16, DType.BF16):
        wide = block.let(convert(DType.F32, x), DType.F32)
        return convert(dtype, _function(block, name, DType.F32, wide))
    return _function(block, name, dtype, block.let(x, dtype))


def _function(block: Block, name: Function1, dtype: DType, x: Value) -> Value:
    zero, one = const(0, dtype, lanes_of(x)), const(1, dtype, lanes_of(x))
    match name:
        case "abs":
            return tirx.abs(x) if dtype.is_float else tirx.Select(x < zero, zero - x, x)
        case "sign":
            minus = zero - one
            return tirx.Select(x > zero, one, tirx.Select(x < zero, minus, x if dtype.is_float else zero))
        case "floor" | "ceil" | "round" if not dtype.is_float:
            return x
        case "floor":
            return tirx.floor(x)
        case "ceil":
            return tirx.ceil(x)
        case "round":
            return tirx.nearbyint(x)
        case "rounded":
            return block.machine.fence(x, dtype)
        case "sqrt":
            return tirx.sqrt(x)
        case "rsqrt":
            return one / tirx.sqrt(x)
        case _ if not dtype.is_float:
            raise TargetError(f"{name} of {dtype.value} is not available on the {block.machine.target} target")
        case _:
            return block.machine.function(block, name, dtype, x)


def is_sum(node: Node) -> bool:
    """Whether an index is made of loop variables, extents and constants by sums, differences and products."""
    if isinstance(node, Binary):
        return node.op in ("+", "-", "*") and all(map(is_sum, node.children))
    return isinstance(node, Index | Const | Extent)


def _differ(x: Value, y: Value) -> Value:
    return tirx.Or(tirx.And(x, tirx.Not(y)), tirx.And(tirx.Not(x), y))
