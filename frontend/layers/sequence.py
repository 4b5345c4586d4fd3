"""Layers on sequences of different lengths: ``lod_level`` 1, where the rows of all sequences lie one after another, or
2, where the sequences are grouped."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, wrong_type
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttrLike
from ..variable import Variable
from ..vartype import VarType

_POOLS = ("sum", "average", "sqrt", "max", "last", "first")
_FLOATS = (VarType.FP32, VarType.FP64)
_INTEGERS = (VarType.INT64, VarType.INT32)
_NUMBERS = (*_FLOATS, *_INTEGERS)


def _check_sequence(layer: str, x: Variable, argument: str = "input") -> None:
    check_variable(layer, argument, x)
    if x.lod_level < 1:
        raise invalid(
            f"{layer}: {argument} {x.name} has no sequences (lod_level 0)",
            "declare the data with lod_level=1 and feed fluid.create_lod_tensor(...)",
        )


def sequence_pool(input: Variable, pool_type: str, is_test: bool = False, pad_value: float = 0.0) -> Variable:
    """One row per sequence: its sum, average, sum / sqrt(length), maximum, last or first row.

    A sequence of length 0 gives ``pad_value``. The result has no sequences, or groups of rows where the input has
    groups of sequences (lod_level one less).
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
    helper.check_dtype("input", input, _FLOATS)
    if len(input.shape) > 2 or (len(input.shape) == 2 and input.shape[1] != 1):
        raise invalid(f"sequence_softmax: input {input.name} has shape {list(input.shape)}", "it must be [T, 1]")
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    helper.op("sequence_softmax", {"X": [input]}, {"Out": [out]})
    return out


def sequence_conv(
    input: Variable,
    num_filters: int,
    filter_size: int = 3,
    filter_stride: int = 1,
    padding: bool = True,
    padding_start: int | None = None,
    bias_attr: ParamAttrLike = None,
    param_attr: ParamAttrLike = None,
    act: str | None = None,
    name: str | None = None,
) -> Variable:
    """A convolution over the rows of every sequence, ``[T, D]`` to ``[T, num_filters]``.

    Args:
        input: Rows, of which ``filter_size`` neighbours in a sequence are multiplied at a time; beyond its ends they
            are 0.
        num_filters: Numbers made of each row.
        filter_size: Neighbours.
        filter_stride: 1; fluid has no other.
        padding: Fluid's; without effect.
        padding_start: Where the first neighbour stands, seen from the row; ``-(filter_size // 2)`` if None.
        bias_attr: Of the bias, shape ``[num_filters]``; False for none.
        param_attr: Of the filter, shape ``[filter_size * D, num_filters]``.
        act: Name of an activation layer.
        name: Name of the layer.
    """
    del padding
    _check_sequence("sequence_conv", input)
    helper = LayerHelper("sequence_conv", name)
    helper.check_dtype("input", input, _FLOATS)
    if len(input.shape) != 2:
        raise invalid(f"sequence_conv: input {input.name} has shape {list(input.shape)}", "it must be [T, D]")
    if filter_stride != 1:
        raise invalid(f"sequence_conv: filter_stride is {filter_stride}", "it must be 1")
    _positive("sequence_conv", num_filters=num_filters, filter_size=filter_size)
    weight = helper.parameter(param_attr, [filter_size * input.shape[1], num_filters], input.dtype)
    if weight is None:
        raise invalid("sequence_conv: param_attr is False", "a convolution needs its filter")
    out = helper.temporary(input.dtype, [-1, num_filters], lod_level=input.lod_level)
    start = -(filter_size // 2) if padding_start is None else padding_start
    attrs = {"contextStride": filter_stride, "contextStart": start, "contextLength": filter_size}
    helper.op("sequence_conv", {"X": [input], "Filter": [weight]}, {"Out": [out]}, attrs)
    return helper.activate(helper.add_bias(out, bias_attr), act)


def sequence_concat(input: Sequence[Variable], name: str | None = None) -> Variable:
    """Sequence i of every input, one after the other."""
    if not isinstance(input, list | tuple) or not input:
        raise wrong_type(f"sequence_concat: input is {type(input).__name__}", "give a list of Variables")
    helper = LayerHelper("sequence_concat", name)
    for i, x in enumerate(input):
        _check_sequence("sequence_concat", x, f"input[{i}]")
        helper.check_dtype(f"input[{i}]", x, (*_NUMBERS, VarType.BOOL, VarType.FP16))
    first = input[0]
    if any(x.shape[1:] != first.shape[1:] or x.dtype is not first.dtype for x in input):
        shapes = ", ".join(f"{x.name} {list(x.shape)}" for x in input)
        raise invalid(f"sequence_concat: the inputs differ: {shapes}", "give rows of one shape and element type")
    out = helper.temporary(first.dtype, first.shape, lod_level=first.lod_level)
    helper.op("sequence_concat", {"X": list(input)}, {"Out": [out]})
    return out


def sequence_slice(input: Variable, offset: Variable, length: Variable, name: str | None = None) -> Variable:
    """``length[i]`` rows of sequence i from row ``offset[i]`` on; both are ``[N, 1]``.

    The number of rows in all must follow from what is fed.
    """
    _check_sequence("sequence_slice", input)
    helper = LayerHelper("sequence_slice", name)
    helper.check_dtype("input", input, _NUMBERS)
    helper.check_dtype("offset", offset, _INTEGERS)
    helper.check_dtype("length", length, _INTEGERS)
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    offset.stop_gradient = length.stop_gradient = True
    helper.op("sequence_slice", {"X": [input], "Offset": [offset], "Length": [length]}, {"Out": [out]})
    return out


def sequence_expand(x: Variable, y: Variable, ref_level: int = -1, name: str | None = None) -> Variable:
    """Row i of ``x``, or sequence i, as often as the i-th length of ``y`` says.

    Args:
        x: Rows ``[N, ...]``, or sequences (lod_level 1).
        y: Of it only the lengths count.
        ref_level: The level of lengths of ``y``; -1 for the last one.
        name: Name of the layer.

    Returns:
        Rows without sequences for rows; sequences, each a copy, for sequences.
    """
    _check_sequence("sequence_expand", y, "y")
    helper = LayerHelper("sequence_expand", name)
    helper.check_dtype("x", x, _NUMBERS)
    if x.lod_level > 1:
        raise invalid(f"sequence_expand: x {x.name} has lod_level {x.lod_level}", "expand at most lod_level 1")
    if not -1 <= ref_level < y.lod_level:
        raise invalid(
            f"sequence_expand: ref_level is {ref_level}, y {y.name} has lod_level {y.lod_level}",
            "give a level from 0 on, or -1 for the last one",
        )
    out = helper.temporary(x.dtype, [-1, *x.shape[1:]], lod_level=x.lod_level)
    helper.op("sequence_expand", {"X": [x], "Y": [y]}, {"Out": [out]}, {"ref_level": ref_level})
    return out


def sequence_expand_as(x: Variable, y: Variable, name: str | None = None) -> Variable:
    """Row i of ``x`` ``[N, ...]`` for every row of sequence i of ``y``: sequences as long as those of ``y``."""
    _check_sequence("sequence_expand_as", y, "y")
    helper = LayerHelper("sequence_expand_as", name)
    helper.check_dtype("x", x, _NUMBERS)
    out = helper.temporary(x.dtype, [-1, *x.shape[1:]], lod_level=y.lod_level)
    helper.op("sequence_expand_as", {"X": [x], "Y": [y]}, {"Out": [out]})
    return out


def sequence_pad(
    x: Variable, pad_value: Variable, maxlen: int | None = None, name: str | None = None
) -> tuple[Variable, Variable]:
    """Sequences beside each other, ``[N, maxlen, ...]``, and their lengths, i64 ``[N]``.

    Args:
        x: Sequences.
        pad_value: What stands behind a sequence: one number, or one row.
        maxlen: Rows of each; the length of the longest one of the batch if None. No sequence may be longer.
        name: Name of the layer.
    """
    _check_sequence("sequence_pad", x, "x")
    helper = LayerHelper("sequence_pad", name)
    helper.check_dtype("x", x, _NUMBERS)
    helper.check_dtype("pad_value", pad_value, _NUMBERS)
    if pad_value.shape != (1,) and tuple(pad_value.shape) != tuple(x.shape[1:]):
        raise invalid(
            f"sequence_pad: pad_value {pad_value.name} has shape {list(pad_value.shape)}",
            f"give one number [1], or a row as x has it: {list(x.shape[1:])}",
        )
    steps = -1 if maxlen is None else maxlen
    if steps == 0 or steps < -1:
        raise invalid(f"sequence_pad: maxlen is {maxlen}", "give a positive number, or None for the longest sequence")
    out = helper.temporary(x.dtype, [-1, steps, *x.shape[1:]])
    length = helper.temporary(VarType.INT64, [-1], stop_gradient=True)
    pad_value.stop_gradient = True
    attrs = {"padded_length": steps}
    helper.op("sequence_pad", {"X": [x], "PadValue": [pad_value]}, {"Out": [out], "Length": [length]}, attrs)
    return out, length


def sequence_unpad(x: Variable, length: Variable, name: str | None = None) -> Variable:
    """The first ``length[i]`` rows of every ``x[i]``, as sequences: ``x`` ``[N, steps, ...]``, ``length`` i64 ``[N]``.

    The number of rows in all must follow from what is fed.
    """
    helper = LayerHelper("sequence_unpad", name)
    helper.check_dtype("x", x, _NUMBERS)
    helper.check_dtype("length", length, (VarType.INT64,))
    if len(x.shape) < 2 or len(length.shape) != 1:
        raise invalid(
            f"sequence_unpad: x {x.name} has shape {list(x.shape)}, length {length.name} {list(length.shape)}",
            "give x as [N, steps, ...] and length as [N]",
        )
    length.stop_gradient = True
    out = helper.temporary(x.dtype, [-1, *x.shape[2:]], lod_level=1)
    helper.op("sequence_unpad", {"X": [x], "Length": [length]}, {"Out": [out]})
    return out


def sequence_reshape(input: Variable, new_dim: int) -> Variable:
    """The numbers of every sequence in rows of ``new_dim``, which must divide them."""
    _check_sequence("sequence_reshape", input)
    helper = LayerHelper("sequence_reshape")
    helper.check_dtype("input", input, _NUMBERS)
    _positive("sequence_reshape", new_dim=new_dim)
    if len(input.shape) != 2 or input.shape[1] < 1:
        raise invalid(f"sequence_reshape: input {input.name} has shape {list(input.shape)}", "it must be [T, D]")
    out = helper.temporary(input.dtype, [-1, new_dim], lod_level=input.lod_level)
    helper.op("sequence_reshape", {"X": [input]}, {"Out": [out]}, {"new_dim": new_dim})
    return out


def sequence_scatter(input: Variable, index: Variable, updates: Variable, name: str | None = None) -> Variable:
    """``input`` ``[N, D]`` with the numbers of sequence i of ``updates`` added in row i, at the columns that sequence i
    of ``index`` holds; their sequences have the same lengths."""
    _check_sequence("sequence_scatter", index, "index")
    _check_sequence("sequence_scatter", updates, "updates")
    helper = LayerHelper("sequence_scatter", name)
    helper.check_dtype("input", input, _NUMBERS)
    helper.check_dtype("index", index, _INTEGERS)
    helper.check_dtype("updates", updates, _NUMBERS)
    if len(input.shape) != 2 or input.dtype is not updates.dtype:
        raise invalid(
            f"sequence_scatter: input {input.name} is {input.dtype.numpy.name}{list(input.shape)}, updates hold "
            f"{updates.dtype.numpy.name}",
            "give an input [N, D] and updates of its element type",
        )
    out = helper.temporary(input.dtype, input.shape)
    helper.op("sequence_scatter", {"X": [input], "Ids": [index], "Updates": [updates]}, {"Out": [out]})
    return out


def sequence_enumerate(input: Variable, win_size: int, pad_value: int = 0, name: str | None = None) -> Variable:
    """Every word and the ``win_size - 1`` words after it, ``[T, 1]`` to ``[T, win_size]``; ``pad_value`` beyond the
    sequence."""
    _check_sequence("sequence_enumerate", input)
    helper = LayerHelper("sequence_enumerate", name)
    helper.check_dtype("input", input, _INTEGERS)
    _positive("sequence_enumerate", win_size=win_size)
    if len(input.shape) != 2 or input.shape[1] != 1:
        raise invalid(f"sequence_enumerate: input {input.name} has shape {list(input.shape)}", "it must be [T, 1]")
    out = helper.temporary(input.dtype, [-1, win_size], lod_level=input.lod_level, stop_gradient=True)
    attrs = {"win_size": win_size, "pad_value": pad_value}
    helper.op("sequence_enumerate", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def sequence_reverse(x: Variable, name: str | None = None) -> Variable:
    """The rows of every sequence from the last to the first."""
    _check_sequence("sequence_reverse", x, "x")
    helper = LayerHelper("sequence_reverse", name)
    helper.check_dtype("x", x, (*_NUMBERS, VarType.INT8, VarType.UINT8))
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    helper.op("sequence_reverse", {"X": [x]}, {"Y": [out]})
    return out


def _positive(layer: str, **numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise invalid(f"{layer}: {name} is {number!r}", "give a positive integer")
