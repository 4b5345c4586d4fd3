"""canonicalize: local simplifications that keep every value, up to the sign of a zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import Module, OpBase, Value
from ..ir.stage import Stage
from ..ops.construct import OpBuilder
from ..ops.elementwise import Cast, Div, Fill, Mul, Sub
from ..ops.shape import Broadcast, Reshape, Transpose
from ..ops.unary import Scale
from .base import Pass
from .rewrite import rewrite


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Identities go, chains of shape changes become one, products with constants become ``scale``."""

    name: ClassVar[str] = "canonicalize"
    requires: ClassVar[Stage] = Stage.CORE

    def run(self, module: Module) -> Module:
        return module.map_functions(lambda function: rewrite(function, _simplified))


def _simplified(b: OpBuilder, op: OpBase) -> Sequence[Value] | None:
    value = _value(b, op)
    return None if value is None else (value,)


def _value(b: OpBuilder, op: OpBase) -> Value | None:
    match op:
        case Reshape(x=x) | Broadcast(x=x) | Cast(x=x) if x.type == op.result.type:
            return x
        case Reshape(x=x) if isinstance(x.op, Reshape):
            return b.reshape(x.op.x, op.result.tensor.shape)
        case Transpose(x=x) if tuple(op.perm) == tuple(range(x.tensor.rank)):
            return x
        case Transpose(x=x) if isinstance(x.op, Transpose):
            return b.transpose(x.op.x, [x.op.perm[axis] for axis in op.perm])
        case Scale(x=x, factor=1.0, bias=0.0):
            return x
        case Mul() | Div() | Sub():
            return _with_constant(b, op)
        case _:
            return None


def _with_constant(b: OpBuilder, op: Mul | Div | Sub) -> Value | None:
    """``x op constant`` where the constant only has to be read once, as an attribute.

    A quotient becomes a product only when the reciprocal is exact.
    """
    if not op.result.type.dtype.is_float:
        return None
    for constant, other, right in ((op.y.op, op.x, True), (op.x.op, op.y, False)):
        if not isinstance(constant, Fill) or other.type != op.result.type:
            continue
        value = constant.value
        match op:
            case Mul():
                return other if value == 1.0 else b.scale(other, value)
            case Div() if right and value in _EXACT_RECIPROCALS:
                return other if value == 1.0 else b.scale(other, 1.0 / value)
            case Sub() if right and value == 0.0:
                return other
            case _:
                continue
    return None


# Powers of two: multiplying by the reciprocal rounds like dividing.
_EXACT_RECIPROCALS = frozenset(2.0**exponent for exponent in range(-60, 61))
