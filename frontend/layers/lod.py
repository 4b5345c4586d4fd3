"""What else there is for sequences: masks of their lengths, other lengths for the same rows, images as sequences."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, unsupported
from ..framework import AttrValue
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttrLike
from ..variable import Variable
from ..vartype import DTypeLike, VarType, convert_dtype

_FLOATS = (VarType.FP32, VarType.FP64)
_INTEGERS = (VarType.INT64, VarType.INT32)


def sequence_mask(
    x: Variable, maxlen: int | Variable | None = None, dtype: DTypeLike = "int64", name: str | None = None
) -> Variable:
    """``[..., maxlen]``: 1 in the first ``x[...]`` places, 0 in the others, for lengths x of padded sequences.

    Args:
        x: Integers; its sequences, if it has any, mean nothing.
        maxlen: Places; None (or a negative number) takes the greatest length of the batch, which is known where the
            lengths are fed, or are those of sequences that are fed. A Variable holds an extent of `layers.shape`, or
            the `reduce_max` of such lengths.
        dtype: Of the result.
        name: Name of the layer.
    """
    helper = LayerHelper("sequence_mask", name)
    check_variable("sequence_mask", "x", x)
    helper.check_dtype("x", x, _INTEGERS)
    places = maxlen if isinstance(maxlen, int) and not isinstance(maxlen, bool) else -1
    if maxlen is not None and not isinstance(maxlen, Variable) and places != maxlen:
        raise invalid(f"sequence_mask: maxlen is {maxlen!r}", "give a positive number of places, or None")
    if places == 0:
        raise invalid("sequence_mask: maxlen is 0", "give a positive number of places, or None for the greatest length")
    out = helper.temporary(dtype, [*x.shape, max(places, -1)], stop_gradient=True)
    inputs = {"X": [x]} | ({"MaxLenTensor": [maxlen]} if isinstance(maxlen, Variable) else {})
    attrs: dict[str, AttrValue] = {"out_dtype": convert_dtype(dtype), "maxlen": places}
    helper.op("sequence_mask", inputs, {"Y": [out]}, attrs)
    return out


def lod_reset(x: Variable, y: Variable | None = None, target_lod: Sequence[int] | None = None) -> Variable:
    """The rows of ``x``, divided anew.

    Args:
        x: Rows.
        y: Gives its sequences; without a lod_level, it holds offsets ``[0, 2, 5]`` of sequences.
        target_lod: Offsets, where there is no ``y``.
    """
    check_variable("lod_reset", "x", x)
    helper = LayerHelper("lod_reset")
    if y is not None:
        check_variable("lod_reset", "y", y)
        if not y.lod_level:
            helper.check_dtype("y", y, (VarType.INT32, VarType.INT64))
        out = helper.temporary(x.dtype, x.shape, lod_level=max(1, y.lod_level))
        helper.op("lod_reset", {"X": [x], "Y": [y]}, {"Out": [out]})
        return out
    if target_lod is None:
        raise invalid("lod_reset: neither y nor target_lod is given", "give one of them")
    out = helper.temporary(x.dtype, x.shape, lod_level=1)
    helper.op("lod_reset", {"X": [x]}, {"Out": [out]}, {"target_lod": _offsets("lod_reset", target_lod)})
    return out


def lod_append(x: Variable, level: Sequence[int] | Variable) -> Variable:
    """The rows of ``x``, whose sequences become groups of smaller ones: those between the offsets ``level``.

    A Variable as ``level`` takes the place of x's own sequences, as in fluid.
    """
    check_variable("lod_append", "x", x)
    helper = LayerHelper("lod_append")
    if isinstance(level, Variable):
        out = helper.temporary(x.dtype, x.shape, lod_level=max(1, level.lod_level))
        helper.op("lod_reset", {"X": [x], "Y": [level]}, {"Out": [out]}, {"append": True})
        return out
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level + 1)
    attrs: dict[str, AttrValue] = {"append": True, "target_lod": _offsets("lod_append", level)}
    helper.op("lod_reset", {"X": [x]}, {"Out": [out]}, attrs)
    return out


def _offsets(layer: str, offsets: Sequence[int]) -> list[int]:
    found = [int(n) for n in offsets]
    if len(found) < 2 or found[0] != 0 or sorted(found) != found:
        raise invalid(f"{layer}: offsets {found}", "give where sequences begin and the last one ends: 0, ..., rows")
    return found


def im2sequence(
    input: Variable,
    filter_size: int | Sequence[int] = 1,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    input_image_size: Variable | None = None,
    out_stride: int | Sequence[int] = 1,
    name: str | None = None,
) -> Variable:
    """Images ``[N, C, H, W]`` as sequences of what a window sees, row by row: ``[N places, C filter_size]``.

    Args:
        input: Images.
        filter_size: Height and width of the window.
        stride: Its steps down and right.
        padding: Zeros above and below, left and right; or up, left, down, right.
        input_image_size: None: images of sizes of their own are not compiled.
        out_stride: Belongs to it.
        name: Name of the layer.
    """
    helper = LayerHelper("im2sequence", name)
    check_variable("im2sequence", "input", input)
    helper.check_dtype("input", input, _FLOATS)
    if input_image_size is not None:
        raise unsupported("im2sequence: input_image_size is given", "crop the images before, and leave it out")
    if len(input.shape) != 4 or input.shape[1] < 0:
        raise invalid(f"im2sequence: input {input.name} has shape {list(input.shape)}", "it must be [N, C, H, W]")
    kernels, strides = _both(filter_size), _both(stride)
    paddings = _both(padding)
    paddings = [*paddings, *paddings] if len(paddings) == 2 else paddings
    if len(kernels) != 2 or len(strides) != 2 or len(paddings) != 4:
        raise invalid(
            f"im2sequence: filter_size {filter_size}, stride {stride}, padding {padding}",
            "give one number, or one for the height and one for the width",
        )
    out = helper.temporary(input.dtype, [-1, input.shape[1] * kernels[0] * kernels[1]], lod_level=1)
    attrs: dict[str, AttrValue] = {
        "kernels": kernels, "strides": strides, "paddings": paddings, "out_stride": _both(out_stride),
    }  # fmt: skip
    helper.op("im2sequence", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def _both(number: int | Sequence[int]) -> list[int]:
    return [number, number] if isinstance(number, int) else [int(n) for n in number]


def row_conv(
    input: Variable, future_context_size: int, param_attr: ParamAttrLike = None, act: str | None = None
) -> Variable:
    """Every row and the ``future_context_size`` rows after it, weighted column by column and added up.

    The filter is ``[future_context_size + 1, D]``; rows are those of sequences, or ``[N, steps, D]``.
    """
    helper = LayerHelper("row_conv")
    helper.check_dtype("input", input, _FLOATS)
    weight = helper.parameter(param_attr, [future_context_size + 1, input.shape[-1]], input.dtype)
    if weight is None:
        raise invalid("row_conv: param_attr is False", "a convolution needs its filter")
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    helper.op("row_conv", {"X": [input], "Filter": [weight]}, {"Out": [out]})
    return helper.activate(out, act)


def add_position_encoding(input: Variable, alpha: float, beta: float, name: str | None = None) -> Variable:
    """``alpha`` times the input, plus ``beta`` times sines and cosines of each row's place in its sequence.

    Rows are those of sequences ``[T, D]``, or ``[N, steps, D]``; D is even. Column k < D / 2 of place p has the sine of
    ``p / 10000^(k / (D / 2 - 1))``, column D / 2 + k its cosine.
    """
    helper = LayerHelper("add_position_encoding", name)
    helper.check_dtype("input", input, _FLOATS)
    rank, width = len(input.shape), input.shape[-1]
    if rank != (2 if input.lod_level else 3) or width < 2 or width % 2:
        raise invalid(
            f"add_position_encoding: input {input.name} has shape {list(input.shape)}, lod_level {input.lod_level}",
            "give sequences [T, D], or [N, steps, D], of an even D",
        )
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    attrs: dict[str, AttrValue] = {"alpha": float(alpha), "beta": float(beta)}
    helper.op("add_position_encoding", {"X": [input]}, {"Out": [out]}, attrs)
    return out
