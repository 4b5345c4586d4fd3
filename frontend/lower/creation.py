"""Constants and random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, Shape, TensorType, numel
from ...compiler.ops import indexing, minstd, random
from ..vartype import VarType
from .context import OpLowering, Rule, Rules, dtype_of
from .numbers import dims, numbers


def extents_of(o: OpLowering) -> Shape:
    """The record's shape, one extent of it taken from the input of a ``*_batch_size_like`` op."""
    if o.has("ShapeTensor") or o.has("ShapeTensorList"):
        return tuple(dims(o, ("ShapeTensor", "ShapeTensorList"), "shape"))
    shape = [int(d) for d in o.attr("shape")]
    if not o.has("Input"):
        return o.shape(shape)
    like = o.any("Input")
    extents = like.ragged.data.shape if not hasattr(like.type, "shape") else like.tensor.shape
    at = o.attr("output_dim_idx", 0)
    return (*shape[:at], extents[o.attr("input_dim_idx", 0)], *shape[at + 1 :])


def _fill(o: OpLowering) -> None:
    dtype = dtype_of(o.attr("dtype", VarType.FP32))
    # Paddle's files hold a number as text where a float32 could not hold it.
    text, value = o.attr("str_value", ""), o.attr("value", 0.0)
    if text:
        try:
            value = float(text) if dtype.is_float else int(float(text)) if "." in text or "e" in text else int(text)
        except (ValueError, OverflowError):
            raise o.error(f"the value is {text!r}", "give a number") from None
    if o.has("ValueTensor"):
        o.set(o.b.broadcast(o.b.cast(o.number(o.x("ValueTensor")), dtype), extents_of(o)))
        return
    o.set(o.b.fill(extents_of(o), dtype, value if dtype.is_float else int(value)))


def _fill_like(value: float) -> Rule:
    def rule(o: OpLowering) -> None:
        x = o.tokens()
        number, stated = o.attr("value", value), o.attr("dtype", None)
        dtype = x.tensor.dtype if stated is None or stated == -1 else dtype_of(VarType(stated))
        o.set(o.b.fill(x.tensor.shape, dtype, number if dtype.is_float else int(number)))

    return rule


def _assign(o: OpLowering) -> None:
    o.set_all([o.any("X")])


def _assign_value(o: OpLowering) -> None:
    if o.op.has_attr("values"):
        o.set(array(o, np.asarray(o.attr("values"))))
        return
    # As Paddle's files have it: numbers, their shape and their type.
    dtype = o.attr("dtype", VarType.FP32)
    field = _VALUES.get(dtype)
    if field is None:
        raise o.error(f"an array of {dtype}", "give float32, int32, int64 or bool")
    found = np.asarray(o.attr(field, []))
    shape = o.attr("shape", [])
    if any(d < 0 for d in shape) or math.prod(shape) != found.size:
        raise o.error(f"{found.size} numbers for the shape {shape}", "both must agree")
    o.set(array(o, found.astype(dtype.numpy).reshape(shape)))


_VALUES = {
    VarType.FP32: "fp32_values",
    VarType.INT32: "int32_values",
    VarType.INT64: "int64_values",
    VarType.BOOL: "bool_values",
}


def array(o: OpLowering, values: np.ndarray[Any, Any]) -> Value:
    """An array of the program; not available inside loops and branches, which capture nothing."""
    if o.frame.local is not None and not (values.size and np.all(values == values.flat[0])):
        raise o.error("an array inside a loop or branch cannot be compiled", "create it before the block")
    if o.frame.local is not None:
        return o.b.fill(values.shape, DType.of(values.dtype), values.flat[0].item())
    return o.function.constant(o.op.output_arg_names[0], values)


def _range(o: OpLowering) -> None:
    if o.op.has_attr("values"):
        o.set(array(o, o.attr("values")))
        return
    start, end, step = (_bound(o, slot) for slot in ("Start", "End", "Step"))
    dtype = o.x("Start").tensor.dtype.numpy
    count = math.ceil((end - start) / step) if step else 0
    if not 0 < count <= _MOST_STATED:
        raise o.error(f"from {start} to {end} by {step} are {count} numbers", "give bounds with numbers between them")
    o.set(array(o, (start + step * np.arange(count)).astype(dtype)))


def _linspace(o: OpLowering) -> None:
    if o.op.has_attr("values"):
        o.set(array(o, o.attr("values")))
        return
    start, stop, num = _bound(o, "Start"), _bound(o, "Stop"), _bound(o, "Num")
    if not 0 < num <= _MOST_STATED or num != int(num):
        raise o.error(f"{num} numbers", "give a positive whole number")
    o.set(array(o, np.linspace(start, stop, int(num)).astype(o.x("Start").tensor.dtype.numpy)))


_MOST_STATED = 1 << 24


def _bound(o: OpLowering, slot: str) -> float:
    found = numbers(o, slot)
    if len(found) != 1 or not isinstance(found[0], int | float):
        raise o.error(f"{slot} is {found[0] if found else 'empty'}", "give a number known when the program is built")
    return found[0]


def _eye(o: OpLowering) -> None:
    dtype = dtype_of(o.attr("dtype"))
    o.set(array(o, np.eye(o.attr("num_rows"), o.attr("num_columns"), dtype=dtype.numpy)))


def _diag(o: OpLowering) -> None:
    x = o.x("Diagonal")
    (extent,) = x.tensor.shape
    if not isinstance(extent, int):
        raise o.error(f"the diagonal has the open extent {extent}", "give a vector of fixed length")
    unit = array(o, np.eye(extent, dtype=x.tensor.dtype.numpy))
    o.set(o.b.mul(unit, x))


Make: TypeAlias = Callable[[OpLowering, TensorType, dict[str, Any]], random.Generated]


def _drawn(make: Make) -> Rule:
    def rule(o: OpLowering) -> None:
        dtype = dtype_of(o.attr("dtype", VarType.FP32))
        extents, seed = extents_of(o), o.attr("seed", 0)
        fixed = [d for d in extents if isinstance(d, int)]
        constant = seed and not o.function.private and len(fixed) == len(extents)
        if dtype is DType.F64 and make in _DOUBLES and constant:
            o.set(_with_diagonal(o, array(o, _DOUBLES[make](o, seed, math.prod(fixed)).reshape(fixed))))
            return
        drawn = o.b(make(o, TensorType(DType.F32, extents), source(o, seed)))
        o.set(_with_diagonal(o, o.b.cast(drawn, dtype)))

    return rule


def _with_diagonal(o: OpLowering, drawn: Value) -> Value:
    """With single elements of a matrix overwritten, as many and as far apart as the record says."""
    number, step = o.attr("diag_num", 0), o.attr("diag_step", 0)
    if not number:
        return drawn
    kind = drawn.tensor
    index = o.b.mul(o.b.iota((number,), 0, DType.I64), o.b.fill((), DType.I64, step + 1))
    values = o.b.fill((number,), kind.dtype, o.attr("diag_val", 1.0))
    flat = o.b.reshape(drawn, (numel(kind.shape),))
    return o.b.reshape(o.b(indexing.Scatter(flat, index, values, 0)), kind.shape)


def source(o: OpLowering, seed: int) -> dict[str, Any]:
    """Where an op draws from: Paddle's generator under a seed, else a keystream of its own.

    Private programs always take the keystream: Paddle's generator repeats its numbers every step.
    """
    if seed and not o.function.private:
        return {"key": None, "counter": None, "seed": seed, "generator": "paddle"}
    if o.frame.local is not None:
        raise o.error("random numbers inside a loop or branch cannot be compiled", "draw them before the block")
    if o.has("Counter"):  # a draw of eager mode, which states its number
        number = o.b.cast(o.number(o.x("Counter")), DType.U64)
        return {"key": o.function.key(), "counter": number, "stream": 0}
    key, counter, stream = o.function.generator()
    return {"key": key, "counter": counter, "stream": stream}


def _uniform(o: OpLowering, kind: TensorType, where: dict[str, Any]) -> random.Generated:
    return random.Uniform(type=kind, low=o.attr("min", -1.0), high=o.attr("max", 1.0), **where)


def _normal(o: OpLowering, kind: TensorType, where: dict[str, Any]) -> random.Generated:
    return random.Normal(type=kind, mean=o.attr("mean", 0.0), std=o.attr("std", 1.0), **where)


def _truncated(o: OpLowering, kind: TensorType, where: dict[str, Any]) -> random.Generated:
    return random.TruncatedNormal(type=kind, mean=o.attr("mean", 0.0), std=o.attr("std", 1.0), **where)


# Of float64 Paddle draws other numbers, which are constants of the program.
_DOUBLES: dict[Make, Callable[[OpLowering, int, int], np.ndarray[Any, np.dtype[np.float64]]]] = {
    _uniform: lambda o, seed, count: (
        minstd.doubles(seed, count) * (_single(o, "max", 1.0) - _single(o, "min", -1.0)) + _single(o, "min", -1.0)
    ),
    _normal: lambda o, seed, count: (
        minstd.double_normals(seed, count) * _single(o, "std", 1.0) + _single(o, "mean", 0.0)
    ),
}


def _single(o: OpLowering, name: str, default: float) -> float:
    """A float attribute, which Paddle keeps as float32."""
    return float(np.float32(o.attr(name, default)))


def _dropout(o: OpLowering) -> None:
    x, p = o.tokens(), o.attr("dropout_prob", 0.5)
    how = o.attr("dropout_implementation", "downgrade_in_infer")
    if o.attr("is_test", False):
        o.set(o.b.scale(x, 1.0 - p) if how == "downgrade_in_infer" else x)
        return
    seed = o.attr("seed", 0) if o.attr("fix_seed", False) else 0
    if o.frame.mask is not None and (not seed or o.function.private):
        zero = o.b.zeros_like(x)
        mask = o.frame.mask(x.tensor, p, how)
        # A selection: a dropped Inf or NaN leaves nothing behind.
        o.set(o.b.where(o.b.not_equal(mask, zero), o.b.mul(x, mask), zero))
        return
    where = source(o, seed)
    out, _ = o.b.emit(random.Dropout(x=x, p=p, implementation=how, **where))
    o.set(out)


RULES: Rules = {
    "fill_constant": _fill,
    "fill_constant_batch_size_like": _fill,
    "fill_zeros_like": _fill_like(0.0),
    "fill_any_like": _fill_like(0.0),
    "assign": _assign,
    "rnn_memory_helper": _assign,
    "assign_value": _assign_value,
    "range": _range,
    "linspace": _linspace,
    "eye": _eye,
    "diag": _diag,
    "uniform_random": _drawn(_uniform),
    "uniform_random_batch_size_like": _drawn(_uniform),
    "gaussian_random": _drawn(_normal),
    "gaussian_random_batch_size_like": _drawn(_normal),
    "truncated_gaussian_random": _drawn(_truncated),
    "dropout": _dropout,
}
