"""ONNX forms that rules of several families share."""

from __future__ import annotations

from collections.abc import Callable

from ..ir.types import DType, TensorType
from .base import Op
from .emit import OnnxEmitter

FLOATS = frozenset({DType.F16, DType.F32, DType.F64})
SINGLE_AND_DOUBLE = frozenset({DType.F32, DType.F64})
NUMBERS = FLOATS | {DType.I32, DType.I64}
"""Element types of ONNX Runtime's kernels for arithmetic and comparison."""

_WIDER = {
    DType.BF16: DType.F32,
    DType.F16: DType.F32,
    DType.BOOL: DType.I32,
    DType.I8: DType.I32,
    DType.U8: DType.I32,
    DType.U32: DType.I64,
    DType.U64: DType.I64,
}
"""Types without kernels of their own: where their values are computed.  Conversion back wraps, as the type does."""


def kernel_type(op: Op, dtype: DType, kernels: frozenset[DType], *, ordered: bool = False) -> DType:
    """The type in which an op on ``dtype`` is computed: one of ``kernels``.

    Raises MissingRule where there is none.  ``ordered`` ops tell large u64 from negative i64, so they have none there.
    """
    if dtype in kernels:
        return dtype
    wide = _WIDER.get(dtype)
    if wide is None or wide not in kernels or (ordered and dtype is DType.U64):
        raise op.missing("to_onnx", f"ONNX Runtime has no kernel for it on {dtype.value}")
    return wide


def computed(
    op: Op,
    o: OnnxEmitter,
    dtype: DType,
    kernels: frozenset[DType],
    build: Callable[..., str],
    *operands: str,
    ordered: bool = False,
    result: DType | None = None,
) -> str:
    """``build(*operands)`` in the type that `kernel_type` says, converted back to ``dtype``.

    ``result`` is the type of what ``build`` returns where it is not that of its operands; it stays.
    """
    wide = kernel_type(op, dtype, kernels, ordered=ordered)
    if wide is dtype:
        return build(*operands)
    found = build(*(o.cast(x, wide) for x in operands))
    return found if result is not None else o.cast(found, dtype)


def log1p(o: OnnxEmitter, x: str, dtype: DType) -> str:
    """``log(1 + x)``: rounding ``1 + x`` is made good by the ratio of ``x`` to what was added (Kahan)."""
    one = o.scalar(1, dtype)
    whole = o.node("Add", x, one)
    log, added = o.node("Log", whole), o.node("Sub", whole, one)
    near = o.node("Mul", log, o.node("Div", x, added))
    near = o.node("Where", o.node("Equal", added, o.scalar(0, dtype)), x, near)
    return o.node("Where", o.node("Less", o.node("Abs", x), one), near, log)


def expm1(o: OnnxEmitter, x: str, dtype: DType) -> str:
    """``e ** x - 1``: near 0 the rounding of ``e ** x`` is made good by its logarithm (Kahan)."""
    one = o.scalar(1, dtype)
    power = o.node("Exp", x)
    added = o.node("Sub", power, one)
    near = o.node("Mul", added, o.node("Div", x, o.node("Log", power)))
    near = o.node("Where", o.node("Equal", added, o.scalar(0, dtype)), x, near)
    return o.node("Where", o.node("Less", o.node("Abs", x), one), near, added)


def quotient(o: OnnxEmitter, x: str, y: str, dtype: DType) -> str:
    """``x / y`` of integers, rounded towards zero; 0 where ``y`` is."""
    divisor, special = safe_divisor(o, y, dtype)
    return o.node("Mul", o.node("Div", x, divisor), o.node("Where", special, y, o.scalar(1, dtype)))


def safe_divisor(o: OnnxEmitter, y: str, dtype: DType) -> tuple[str, str]:
    """``y`` with ones in place of 0 and -1, and where those are: dividing by 0, or the least integer by -1, is a
    processor fault that ends ONNX Runtime's process.

    ``x / y`` is ``x * y`` there, and the remainder is 0.
    """
    special = o.node("Equal", y, o.node("Clip", y, o.scalar(-1, dtype), o.scalar(0, dtype)))
    return o.node("Where", special, o.scalar(1, dtype), y), special


def remainder(o: OnnxEmitter, x: str, y: str, dtype: DType) -> tuple[str, str, str]:
    """Of floating-point numbers: the remainder with the sign of ``y``; that with the sign of ``x``; where they differ
    (bool)."""
    towards_zero = o.node("Mod", x, y, fmod=1)
    other_sign = o.node("Less", o.node("Mul", o.node("Sign", towards_zero), o.node("Sign", y)), o.scalar(0, dtype))
    return o.node("Where", other_sign, o.node("Add", towards_zero, y), towards_zero), towards_zero, other_sign


MANY = 4096
"""Elements from which on it pays to look at all of them before they are selected from."""


def selected(o: OnnxEmitter, condition: str, x: str, kind: TensorType) -> str:
    """``x`` of type ``kind`` where ``condition`` (that broadcasts to it) holds, else 0.

    Where is slow in ONNX Runtime, and a product with the condition as 0 and 1 is not; it is the same if all of ``x`` is
    finite.
    """

    def by_product() -> str:
        return o.node("Mul", x, o.cast(condition, kind.dtype))

    def by_selection() -> str:
        return o.node("Where", condition, x, o.scalar(0, kind.dtype))

    return by_selection() if kind.dtype is not DType.F32 else if_finite(o, x, kind, by_product, by_selection)


def if_finite(
    o: OnnxEmitter,
    x: str,
    kind: TensorType,
    then: Callable[[], str],
    otherwise: Callable[[], str],
    *,
    least: int = MANY,
) -> str:
    """``otherwise()``, which is right for every ``x`` of type ``kind`` and has its type; or ``then()``, which is faster
    and equal if all of ``x`` is finite.

    Then so is the sum. A sum that overflows takes the long way, too; tensors of fewer than ``least`` elements always
    do.
    """
    count = kind.numel
    if isinstance(count, int) and count < least:
        return otherwise()
    total = o.node("ReduceSum", x, keepdims=0)
    finite = o.node("Equal", o.node("Sub", total, total), o.scalar(0, kind.dtype))
    return o.node(
        "If",
        finite,
        then_branch=o.graph((), (kind,), lambda: (then(),)),
        else_branch=o.graph((), (kind,), lambda: (otherwise(),)),
    )


def power(o: OnnxEmitter, x: str, exponent: int, dtype: DType) -> str:
    """``x ** exponent`` by squaring."""
    found = ""
    while exponent:
        if exponent & 1:
            found = o.node("Mul", found, x) if found else x
        exponent >>= 1
        if exponent:
            x = o.node("Mul", x, x)
    # 1 in the shape of x: a product with 0, plus 1.
    zero, one = o.scalar(0, dtype), o.scalar(1, dtype)
    return found or o.node("Add", o.node("Mul", x, zero), one)


def wide_operand(o: OnnxEmitter, x: str, kind: TensorType, *, turned: bool = False) -> str:
    """``x`` of type ``kind`` as an operand of a MatMul in float64: [..., 1, rows, columns], transposed if ``turned``.

    ONNX Runtime joins a MatMul with any Transpose that it finds before it, or before a Cast before it; in float64 it
    has no kernel for what it makes of them, and does not load the model.  A Reshape, to one axis more, stands between.
    What is narrower is transposed first: that is half the memory.
    """
    k, (*lead, rows, columns) = kind.rank - 2, kind.shape
    if turned:
        x = o.node("Transpose", o.reshape(x, (*kind.shape, 1)), perm=[*range(k), k + 1, k + 2, k])
        rows, columns = columns, rows
    x = o.reshape(x, (*lead, 1, rows, columns))
    return x if kind.dtype is DType.F64 else o.cast(x, DType.F64)
