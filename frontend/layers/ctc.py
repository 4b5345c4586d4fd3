"""Connectionist temporal classification: sequences whose labels have no known place."""

from __future__ import annotations

from ..errors import invalid
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType


def warpctc(
    input: Variable,
    label: Variable,
    blank: int = 0,
    norm_by_times: bool = False,
    input_length: Variable | None = None,
    label_length: Variable | None = None,
) -> Variable:
    """The negative log-likelihood of every sequence's labels, wherever they are said, ``[N, 1]`` (Graves et al., 2006).

    Labels that do not fit into the steps of their sequence cost 0, as in Paddle.

    Args:
        input: float32 scores before softmax of C classes and the blank: sequences ``[T, C + 1]`` with lod_level 1, or
            ``[L, N, C + 1]`` with lengths.
        label: int32: sequences ``[T, 1]``, or ``[N, M]`` with lengths.
        blank: The class that stands for no label.
        norm_by_times: The gradient, not the cost, is divided by the number of steps.
        input_length: int64 ``[N]``: how many of the L steps count.
        label_length: int64 ``[N]``: how many of the M labels count.
    """
    helper = LayerHelper("warpctc")
    helper.check_dtype("input", input, (VarType.FP32,))
    helper.check_dtype("label", label, (VarType.INT32,))
    inputs = {"Logits": [input], "Label": [label]}
    if (input_length is None) != (label_length is None):
        raise invalid(
            "warpctc: one of input_length and label_length is given", "give both, or sequences with lod_level 1"
        )
    if input_length is not None and label_length is not None:
        helper.check_dtype("input_length", input_length, (VarType.INT64,))
        helper.check_dtype("label_length", label_length, (VarType.INT64,))
        inputs |= {"LogitsLength": [input_length], "LabelLength": [label_length]}
    elif input.lod_level < 1 or label.lod_level < 1:
        raise invalid(
            f"warpctc: input {input.name} has lod_level {input.lod_level} and label {label.name} {label.lod_level}",
            "declare both with lod_level=1, or pad them and give input_length and label_length",
        )
    rank, classes = (2 if input_length is None else 3), input.shape[-1]
    if len(input.shape) != rank or len(label.shape) != 2:
        raise invalid(
            f"warpctc: input {input.name} has shape {list(input.shape)} and label {label.name} {list(label.shape)}",
            f"give {'[T, C + 1] and [T, 1]' if rank == 2 else '[L, N, C + 1] and [N, M]'}",
        )
    if not 0 <= blank < max(classes, blank + 1):
        raise invalid(f"warpctc: blank is {blank}", f"it is one of the {classes} classes")
    loss = helper.temporary(input.dtype, [-1, 1])
    gradient = helper.temporary(input.dtype, ())
    attrs = {"blank": int(blank), "norm_by_times": bool(norm_by_times)}
    helper.op("warpctc", inputs, {"WarpCTCGrad": [gradient], "Loss": [loss]}, attrs)
    return loss
