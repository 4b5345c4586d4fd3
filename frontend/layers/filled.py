"""Constants and random numbers by their later names."""

from __future__ import annotations

import numpy as np

from ..errors import unsupported
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import DTypeLike, VarType, convert_dtype
from .tensor import Number, ShapeLike, assign, fill_constant, range, static_shape


def _check_device(layer: str, device: str | None) -> None:
    if device not in (None, "cpu"):
        raise unsupported(f"{layer}: device is {device!r}", "leave it out: the executor's place says where")


def full(
    shape: ShapeLike,
    fill_value: Number,
    out: Variable | None = None,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    stop_gradient: bool = True,
    name: str | None = None,
) -> Variable:
    """A constant of a fixed shape, float32 unless ``dtype`` says otherwise; written into ``out`` if given."""
    helper = LayerHelper("full", name)
    _check_device("full", device)
    kind = convert_dtype(dtype or "float32")
    out = helper.temporary(kind, static_shape("full", shape).numbers) if out is None else out
    fill_constant(shape, kind, fill_value, device == "cpu", out)
    out.stop_gradient = stop_gradient
    return out


def full_like(
    input: Variable,
    fill_value: Number,
    out: Variable | None = None,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    stop_gradient: bool = True,
    name: str | None = None,
) -> Variable:
    """A constant of the input's shape, and of its type unless ``dtype`` says otherwise."""
    helper = LayerHelper("full_like", name)
    check_variable("full_like", "input", input)
    _check_device("full_like", device)
    kind = input.dtype if dtype is None else convert_dtype(dtype)
    out = helper.temporary(kind, input.shape) if out is None else out
    helper.op("fill_any_like", {"X": [input]}, {"Out": [out]}, {"value": float(fill_value), "dtype": kind})
    out.stop_gradient = stop_gradient
    return out


def arange(
    start: Number, end: Number, step: Number = 1, dtype: DTypeLike | None = None, name: str | None = None
) -> Variable:
    """`range`, of float32 unless ``dtype`` says otherwise."""
    del name
    return range(start, end, step, dtype or "float32")


def randn(
    shape: ShapeLike,
    out: Variable | None = None,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    stop_gradient: bool = True,
    name: str | None = None,
) -> Variable:
    """Normal numbers of mean 0 and variance 1; fresh ones in every step."""
    helper = LayerHelper("randn", name)
    _check_device("randn", device)
    wanted, kind = static_shape("randn", shape), convert_dtype(dtype or "float32")
    out = helper.temporary(kind, wanted.numbers) if out is None else out
    attrs = {"shape": wanted.numbers, "dtype": kind, "mean": 0.0, "std": 1.0, "seed": helper.main_program.random_seed}
    helper.op("gaussian_random", wanted.inputs, {"Out": [out]}, attrs)
    out.stop_gradient = stop_gradient
    return out


def rank(input: Variable) -> Variable:
    """The number of axes, int32 without axes of its own."""
    check_variable("rank", "input", input)
    out = assign(np.array(len(input.shape), np.int32))
    assert out.dtype is VarType.INT32
    return out
