"""Comparisons, logic and counting."""

from __future__ import annotations

from ..errors import unsupported
from ..framework import AttrValue
from ..layer_helper import LayerHelper, check_variable
from ..shapes import broadcast_shape
from ..variable import Variable
from ..vartype import VarType


def _compare(op: str, x: Variable, y: Variable, out: Variable | None, **attrs: AttrValue) -> Variable:
    helper = LayerHelper(op)
    check_variable(op, "x", x)
    helper.check_dtype("y", y, (x.dtype,))
    shape = broadcast_shape(op, x, y)
    if out is None:
        out = helper.temporary(VarType.BOOL, shape, lod_level=x.lod_level)
        out.stop_gradient = True
    helper.op(op, {"X": [x], "Y": [y]}, {"Out": [out]}, {"axis": -1, **attrs})
    return out


def less_than(x: Variable, y: Variable, force_cpu: bool | None = None, cond: Variable | None = None) -> Variable:
    """``x < y``, written into ``cond`` if given."""
    return _compare("less_than", x, y, cond, **({} if force_cpu is None else {"force_cpu": force_cpu}))


def less_equal(x: Variable, y: Variable, cond: Variable | None = None) -> Variable:
    """``x <= y``, written into ``cond`` if given."""
    return _compare("less_equal", x, y, cond)


def greater_than(x: Variable, y: Variable, cond: Variable | None = None) -> Variable:
    """``x > y``, written into ``cond`` if given."""
    return _compare("greater_than", x, y, cond)


def greater_equal(x: Variable, y: Variable, cond: Variable | None = None) -> Variable:
    """``x >= y``, written into ``cond`` if given."""
    return _compare("greater_equal", x, y, cond)


def equal(x: Variable, y: Variable, cond: Variable | None = None) -> Variable:
    """``x == y``, written into ``cond`` if given."""
    return _compare("equal", x, y, cond)


def not_equal(x: Variable, y: Variable, cond: Variable | None = None) -> Variable:
    """``x != y``, written into ``cond`` if given."""
    return _compare("not_equal", x, y, cond)


def _logical(op: str, x: Variable, y: Variable | None, out: Variable | None, name: str | None) -> Variable:
    helper = LayerHelper(op, name)
    helper.check_dtype("x", x, (VarType.BOOL,))
    shape = x.shape
    if y is not None:
        helper.check_dtype("y", y, (VarType.BOOL,))
        shape = broadcast_shape(op, x, y)
    if out is None:
        out = helper.temporary(VarType.BOOL, shape)
    helper.op(op, {"X": [x]} if y is None else {"X": [x], "Y": [y]}, {"Out": [out]})
    return out


def logical_and(x: Variable, y: Variable, out: Variable | None = None, name: str | None = None) -> Variable:
    """Whether both are true."""
    return _logical("logical_and", x, y, out, name)


def logical_or(x: Variable, y: Variable, out: Variable | None = None, name: str | None = None) -> Variable:
    """Whether at least one is true."""
    return _logical("logical_or", x, y, out, name)


def logical_xor(x: Variable, y: Variable, out: Variable | None = None, name: str | None = None) -> Variable:
    """Whether exactly one is true."""
    return _logical("logical_xor", x, y, out, name)


def logical_not(x: Variable, out: Variable | None = None, name: str | None = None) -> Variable:
    """Whether x is false."""
    return _logical("logical_not", x, None, out, name)


def increment(x: Variable, value: float = 1.0, in_place: bool = True) -> Variable:
    """``x + value`` for a Variable of one element; x itself changes unless ``in_place=False``."""
    helper = LayerHelper("increment")
    check_variable("increment", "x", x)
    if x.shape != (1,):
        raise unsupported(
            f"increment: {x.name} has shape {list(x.shape)}, but must have one element", "add a number instead: x + 1"
        )
    out = x if in_place else helper.temporary(x.dtype, x.shape)
    helper.op("increment", {"X": [x]}, {"Out": [out]}, {"step": float(value)})
    return out


def elementwise_equal(x: Variable, y: Variable, name: str | None = None) -> Variable:
    """``x == y`` of two shapes that agree."""
    helper = LayerHelper("elementwise_equal", name)
    check_variable("elementwise_equal", "x", x)
    helper.check_dtype("y", y, (x.dtype,))
    broadcast_shape("elementwise_equal", x, y)
    out = helper.temporary(VarType.BOOL, x.shape, stop_gradient=True)
    helper.op("equal", {"X": [x], "Y": [y]}, {"Out": [out]})
    return out


def has_inf(x: Variable) -> Variable:
    """Whether an element is infinite: a boolean of shape [1]."""
    return _found("isinf", "has_inf", x)


def has_nan(x: Variable) -> Variable:
    """Whether an element is NaN: a boolean of shape [1]."""
    return _found("isnan", "has_nan", x)


def _found(op: str, layer: str, x: Variable) -> Variable:
    # Paddle 1.8.5 declares these with x's type, and computes booleans.
    helper = LayerHelper(op)
    check_variable(layer, "x", x)
    out = helper.temporary(VarType.BOOL, [1])
    helper.op(op, {"X": [x]}, {"Out": [out]})
    return out


def is_empty(x: Variable, cond: Variable | None = None) -> Variable:
    """Whether x has no elements: a boolean of shape [1], written into ``cond`` if given."""
    helper = LayerHelper("is_empty")
    check_variable("is_empty", "x", x)
    out = helper.temporary(VarType.BOOL, [1]) if cond is None else cond
    out.stop_gradient = True
    helper.op("is_empty", {"X": [x]}, {"Out": [out]})
    return out


def allclose(
    input: Variable,
    other: Variable,
    rtol: float = 1e-05,
    atol: float = 1e-08,
    equal_nan: bool = False,
    name: str | None = None,
) -> Variable:
    """Whether ``|input - other| <= atol + rtol * |other|`` everywhere: a boolean of shape [1]."""
    helper = LayerHelper("allclose", name)
    helper.check_dtype("input", input, (VarType.FP32, VarType.FP64))
    helper.check_dtype("other", other, (input.dtype,))
    broadcast_shape("allclose", input, other)
    out = helper.temporary(VarType.BOOL, [1])
    attrs: dict[str, AttrValue] = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan}
    helper.op("allclose", {"Input": [input], "Other": [other]}, {"Out": [out]}, attrs)
    return out
