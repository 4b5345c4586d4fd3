"""Metrics computed inside the program."""

from __future__ import annotations

from ..errors import invalid
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType
from .arrange import topk


def accuracy(
    input: Variable,
    label: Variable,
    k: int = 1,
    correct: Variable | None = None,
    total: Variable | None = None,
) -> Variable:
    """Fraction of rows whose label is among the k largest scores, float32 of shape [1].

    Args:
        input: Scores or probabilities ``[N, K]``.
        label: int64 ``[N, 1]``.
        k: How many of the best classes count.
        correct: Where to write the number of hits, int32 [1].
        total: Where to write the number of rows, int32 [1].
    """
    helper = LayerHelper("accuracy")
    helper.check_dtype("input", input, (VarType.FP32, VarType.FP64, VarType.FP16))
    helper.check_dtype("label", label, (VarType.INT64, VarType.INT32))
    if len(input.shape) != 2 or len(label.shape) != 2 or label.shape[1] not in (1, -1):
        raise invalid(
            f"accuracy: input {input.name} has shape {list(input.shape)} and label {label.name} {list(label.shape)}",
            "scores must be [N, K] and labels [N, 1]",
        )
    values, indices = topk(input, k)
    out = helper.temporary(VarType.FP32, [1])
    correct = helper.temporary(VarType.INT32, [1]) if correct is None else correct
    total = helper.temporary(VarType.INT32, [1]) if total is None else total
    helper.op(
        "accuracy",
        {"Out": [values], "Indices": [indices], "Label": [label]},
        {"Accuracy": [out], "Correct": [correct], "Total": [total]},
    )
    return out
