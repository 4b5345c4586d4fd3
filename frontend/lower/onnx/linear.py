"""Matrix products."""

from __future__ import annotations

from ....compiler.ir.core import Value
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
    """As numpy's ``matmul``: a vector is a row on the left and a column on the right, and its axis is dropped again."""
    a, b = n.x("A"), n.x("B")
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


RULES: NodeRules = {"Gemm": _gemm, "MatMul": _matmul}
