"""Metrics computed inside the program."""

from __future__ import annotations

from .. import unique_name
from ..errors import invalid, unsupported
from ..initializer import ConstantInitializer
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


def auc(
    input: Variable,
    label: Variable,
    curve: str = "ROC",
    num_thresholds: int = 2**12 - 1,
    topk: int = 1,
    slide_steps: int = 1,
) -> tuple[Variable, Variable, list[Variable]]:
    """Area under the ROC curve, by counts of scores in ``num_thresholds + 1`` buckets that are kept between steps.

    Args:
        input: Probabilities ``[N, K]``; the last column is that of the positive class.
        label: int64 or int32 ``[N, 1]``; positive above 0.
        curve: ``'ROC'``.
        num_thresholds: How many thresholds lie between the buckets.
        topk: Has no effect, as in Paddle.
        slide_steps: How many of the last batches the second result is of; 0 for all.

    Returns:
        The area over all steps so far, that over the last ``slide_steps`` (both float64 [1]), and the counts: of the
        last steps and of all, each of positives and of negatives.
    """
    del topk
    helper = LayerHelper("auc")
    helper.check_dtype("input", input, (VarType.FP32, VarType.FP64))
    helper.check_dtype("label", label, (VarType.INT32, VarType.INT64))
    if curve != "ROC":
        raise unsupported(f"auc: curve {curve!r} is not implemented", "use 'ROC'")
    if num_thresholds < 1 or slide_steps < 0:
        raise invalid(
            f"auc: num_thresholds is {num_thresholds}, slide_steps {slide_steps}", "give at least 1 and at least 0"
        )
    out, recent = (helper.temporary(VarType.FP64, [1]) for _ in range(2))
    buckets = num_thresholds + 1
    # The counts of each of the last batches, their sum, and how many steps there were.
    sliding = [(1 + slide_steps) * buckets + 1] if slide_steps else [1, buckets]
    shapes = [sliding, sliding, [1, buckets], [1, buckets]]
    counts = [
        helper.initialised_variable(
            unique_name.generate("_generated_var"), shape, VarType.INT64, ConstantInitializer(0.0)
        )
        for shape in shapes
    ]
    for area, (positive, negative), steps in ((recent, counts[:2], slide_steps), (out, counts[2:], 0)):
        helper.op(
            "auc",
            {"Predict": [input], "Label": [label], "StatPos": [positive], "StatNeg": [negative]},
            {"AUC": [area], "StatPosOut": [positive], "StatNegOut": [negative]},
            {"curve": curve, "num_thresholds": num_thresholds, "slide_steps": steps},
        )
    return out, recent, counts


def mean_iou(input: Variable, label: Variable, num_classes: int) -> tuple[Variable, Variable, Variable]:
    """How well predicted classes cover the true ones: the mean over the classes of intersection over union.

    Args:
        input: Predicted classes, int32 or int64 of any shape, each below ``num_classes``.
        label: The true ones, as many and in the same order.
        num_classes: The number of classes; those that occur in neither do not count.

    Returns:
        The mean, float32 [1]; of each class how many places are wrong, int32, and how many are right, int32.
    """
    helper = LayerHelper("mean_iou")
    for argument, classes in (("input", input), ("label", label)):
        helper.check_dtype(argument, classes, (VarType.INT32, VarType.INT64))
    if num_classes < 1:
        raise invalid(f"mean_iou: num_classes is {num_classes}", "give at least one class")
    mean = helper.temporary(VarType.FP32, [1], stop_gradient=True)
    wrong, correct = (helper.temporary(VarType.INT32, [num_classes], stop_gradient=True) for _ in range(2))
    outputs = {"OutMeanIou": [mean], "OutWrong": [wrong], "OutCorrect": [correct]}
    helper.op("mean_iou", {"Predictions": [input], "Labels": [label]}, outputs, {"num_classes": num_classes})
    return mean, wrong, correct
