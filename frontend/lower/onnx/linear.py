"""Matrix products."""

from __future__ import annotations

from ....compiler.ir.core import Value
from ....compiler.ir.types import DType
from .node import Node, NodeRules


def _gemm(n: Node) -> Value:
    a, b, c = n.x("A"), n.x("B"), n.optional("C")
    out = n.b.matmul(a, b, bool(n.attr("transA")), bool(n.attr("transB")))
    alpha, beta = n.attr("alpha"), n.attr("beta")
    out = out if alpha == 1.0 else n.b.scale(out, alpha)
    if c is None:
        return out
    return n.b.add(out, c if beta == 1.0 else n.b.scale(c, beta))


def _matmul(n: Node) -> Value:
    return _product(n, n.x("A"), n.x("B"))


def _product(n: Node, a: Value, b: Value) -> Value:
    """As numpy's ``matmul``: a vector is a row on the left and a column on the right, and its axis is dropped again."""
    row, column = a.tensor.rank == 1, b.tensor.rank == 1
    left = n.b.reshape(a, (1, *a.tensor.shape)) if row else a
    right = n.b.reshape(b, (*b.tensor.shape, 1)) if column else b
    out = n.b.matmul(left, right)
    shape = list(out.tensor.shape)
    if column:
        shape.pop()
    if row:
        shape.pop(-1 if column else -2)
    return n.b.reshape(out, tuple(shape))


def _matmul_integer(n: Node) -> Value:
    sides: list[Value] = []
    for slot, zero_slot, axis in (("A", "a_zero_point", 1), ("B", "b_zero_point", 0)):
        x, zero = n.b.cast(n.x(slot), DType.I32), n.optional(zero_slot)
        if zero is not None:
            zero = n.b.cast(zero, DType.I32)
            if zero.tensor.rank == 1:
                # One number per row of A, or per column of B.
                shape = zero.tensor.shape if zero.tensor.shape == (1,) or not axis else (*zero.tensor.shape, 1)
                zero = n.b.reshape(zero, shape)
            x = n.b.sub(x, zero)
        sides.append(x)
    return _product(n, *sides)


RULES: NodeRules = {"Gemm": _gemm, "MatMul": _matmul, "MatMulInteger": _matmul_integer}
