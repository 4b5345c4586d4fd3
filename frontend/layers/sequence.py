"""Layers on sequences of different lengths: ``lod_level`` 1, where rows of all sequences lie one after another, or
padded, where a mask tells tokens from padding."""

from __future__ import annotations

from ..errors import invalid, unsupported
from ..framework import AttrValue
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import DTypeLike, VarType, convert_dtype

_POOLS = ("sum", "average", "sqrt", "max", "last", "first")


def _check_sequence(layer: str, x: Variable) -> None:
    check_variable(layer, "input", x)
    if x.lod_level < 1:
        raise invalid(
            f"{layer}: input {x.name} has no sequences (lod_level 0)",
            "declare the data with lod_level=1 and feed fluid.create_lod_tensor(...)",
        )


def sequence_pool(input: Variable, pool_type: str, is_test: bool = False, pad_value: float = 0.0) -> Variable:
    """One row per sequence: its sum, average, sum / sqrt(length), maximum, last or first row.

    A sequence of length 0 gives ``pad_value``. The result has no sequences (lod_level one less).
    """
    kind = pool_type.lower()
    _check_sequence("sequence_pool", input)
    if kind not in _POOLS:
        raise invalid(f"sequence_pool: unknown pool_type {pool_type!r}", f"use one of {', '.join(_POOLS)}")
    helper = LayerHelper("sequence_pool")
    out = helper.temporary(input.dtype, [-1, *input.shape[1:]], lod_level=input.lod_level - 1)
    max_index = helper.temporary(input.dtype, out.shape if kind == "max" else (), stop_gradient=kind == "max")
    attrs = {"pooltype": kind.upper(), "is_test": is_test, "pad_value": float(pad_value)}
    helper.op("sequence_pool", {"X": [input]}, {"Out": [out], "MaxIndex": [max_index]}, attrs)
    return out


def sequence_first_step(input: Variable) -> Variable:
    """The first row of every sequence."""
    return sequence_pool(input, "first")


def sequence_last_step(input: Variable) -> Variable:
    """The last row of every sequence."""
    return sequence_pool(input, "last")


def sequence_softmax(input: Variable, use_cudnn: bool = False, name: str | None = None) -> Variable:
    """Softmax over the elements of each sequence; rows must have one element."""
    del use_cudnn
    _check_sequence("sequence_softmax", input)
    helper = LayerHelper("sequence_softmax", name)
    helper.check_dtype("input", input, (VarType.FP32, VarType.FP64))
    if len(input.shape) > 2 or (len(input.shape) == 2 and input.shape[1] != 1):
        raise invalid(f"sequence_softmax: input {input.name} has shape {list(input.shape)}", "it must be [T, 1]")
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    helper.op("sequence_softmax", {"X": [input]}, {"Out": [out]})
    return out


def sequence_mask(
    x: Variable, maxlen: int | Variable | None = None, dtype: DTypeLike = "int64", name: str | None = None
) -> Variable:
    """``[..., maxlen]``: 1 in the first ``x[...]`` places, 0 in the others, for lengths x of padded sequences.

    Args:
        x: Integers; its sequences, if it has any, mean nothing.
        maxlen: Places; None (or a negative number) takes the greatest length of the batch, which is known where the
            lengths are fed, or those of sequences that are fed.
        dtype: Of the result.

    Raises:
        UnsupportedError: ``maxlen`` is a Variable: the mask's width would be computed.
    """
    helper = LayerHelper("sequence_mask", name)
    check_variable("sequence_mask", "x", x)
    helper.check_dtype("x", x, (VarType.INT64, VarType.INT32))
    if maxlen is None:
        maxlen = -1
    if isinstance(maxlen, bool) or not isinstance(maxlen, int):
        raise unsupported(
            f"sequence_mask: maxlen is {'a Variable' if isinstance(maxlen, Variable) else repr(maxlen)}",
            "give the number of places that sequences are padded to, or None for the greatest length",
        )
    if maxlen == 0:
        raise invalid("sequence_mask: maxlen is 0", "give a positive number of places, or None for the greatest length")
    out = helper.temporary(dtype, [*x.shape, max(maxlen, -1)], stop_gradient=True)
    attrs: dict[str, AttrValue] = {"out_dtype": convert_dtype(dtype), "maxlen": maxlen}
    helper.op("sequence_mask", {"X": [x]}, {"Y": [out]}, attrs)
    return out
