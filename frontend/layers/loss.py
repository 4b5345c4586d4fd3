"""Losses. What they return has one row per example unless the text says otherwise."""

from __future__ import annotations

from typing import Literal, overload

from ..errors import invalid
from ..layer_helper import LayerHelper
from ..shapes import axis_of, broadcast_shape
from ..source import user_location
from ..variable import Variable
from ..vartype import VarType
from .arrange import expand, reshape, transpose
from .compare import equal
from .math import matmul, reduce_mean, reduce_sum
from .nn import one_hot
from .ops import square

_FLOATS = (VarType.FP32, VarType.FP64, VarType.FP16)


def _check_label(helper: LayerHelper, x: Variable, label: Variable, soft: bool, axis: int = -1) -> None:
    """Hard labels are int64 with a 1 in place of the classes; soft labels have the shape and type of x."""
    at = axis_of(helper.layer_type, x, axis)
    if soft:
        helper.check_dtype("label", label, (x.dtype,))
        wanted = list(x.shape)
    else:
        helper.check_dtype("label", label, (VarType.INT64,))
        wanted = [1 if i == at else d for i, d in enumerate(x.shape)]
    fits = len(label.shape) == len(wanted) and all(p == q or p < 0 or q < 0 for p, q in zip(label.shape, wanted))
    if not fits:
        raise invalid(
            f"{user_location().layer}: label {label.name} has shape {list(label.shape)}, "
            f"but with {x.name} {list(x.shape)} it must be {wanted}",
            "declare hard labels with shape=[1] and dtype='int64', or set soft_label=True for distributions",
        )


def cross_entropy(input: Variable, label: Variable, soft_label: bool = False, ignore_index: int = -100) -> Variable:
    """``-log(input[label])`` of probabilities ``[N, ..., K]``, shape ``[N, ..., 1]``.

    Args:
        input: Probabilities, the classes last (use `softmax_with_cross_entropy` for logits).
        label: int64 ``[N, ..., 1]`` (or ``[N, ...]``), or distributions of the input's shape if ``soft_label``.
        soft_label: Whether labels are distributions.
        ignore_index: A hard label whose loss is 0.
    """
    helper = LayerHelper("cross_entropy" if soft_label else "cross_entropy2")
    helper.check_dtype("input", input, _FLOATS)
    if soft_label:
        _check_label(helper, input, label, soft=True)
        out = helper.temporary(input.dtype, [*input.shape[:-1], 1], lod_level=input.lod_level)
        attrs = {"soft_label": True, "ignore_index": ignore_index}
        helper.op("cross_entropy", {"X": [input], "Label": [label]}, {"Y": [out]}, attrs)
        return out
    flat = len(label.shape) == len(input.shape) - 1
    if not flat:
        _check_label(helper, input, label, soft=False)
    else:
        helper.check_dtype("label", label, (VarType.INT64,))
    shape = input.shape[:-1] if flat else [*input.shape[:-1], 1]
    out = helper.temporary(input.dtype, shape, lod_level=input.lod_level)
    x_shape = helper.temporary(input.dtype, [*input.shape, 0], lod_level=input.lod_level)
    match = helper.temporary(input.dtype, shape)
    helper.op(
        "cross_entropy2",
        {"X": [input], "Label": [label]},
        {"Y": [out], "MatchX": [match], "XShape": [x_shape]},
        {"ignore_index": ignore_index},
    )
    return out


@overload
def softmax_with_cross_entropy(
    logits: Variable,
    label: Variable,
    soft_label: bool = False,
    ignore_index: int = -100,
    numeric_stable_mode: bool = True,
    return_softmax: Literal[False] = False,
    axis: int = -1,
) -> Variable: ...
@overload
def softmax_with_cross_entropy(
    logits: Variable,
    label: Variable,
    soft_label: bool = False,
    ignore_index: int = -100,
    numeric_stable_mode: bool = True,
    *,
    return_softmax: Literal[True],
    axis: int = -1,
) -> tuple[Variable, Variable]: ...
def softmax_with_cross_entropy(
    logits: Variable,
    label: Variable,
    soft_label: bool = False,
    ignore_index: int = -100,
    numeric_stable_mode: bool = True,
    return_softmax: bool = False,
    axis: int = -1,
) -> Variable | tuple[Variable, Variable]:
    """``-log(softmax(logits)[label])`` along ``axis``, which becomes 1; computed stably.

    Args:
        logits: ``[N, ..., K]`` (classes along ``axis``).
        label: int64 with a 1 in place of the classes, or distributions of the logits' shape if ``soft_label``.
        soft_label: Whether labels are distributions.
        ignore_index: A hard label whose loss is 0.
        numeric_stable_mode: Has no effect: the stable form is always used.
        return_softmax: Return ``(loss, softmax)``.
        axis: Where the classes are.
    """
    helper = LayerHelper("softmax_with_cross_entropy")
    helper.check_dtype("logits", logits, _FLOATS)
    _check_label(helper, logits, label, soft_label, axis)
    at = axis_of("softmax_with_cross_entropy", logits, axis)
    softmax = helper.temporary(logits.dtype, logits.shape, lod_level=logits.lod_level)
    shape = [1 if i == at else d for i, d in enumerate(logits.shape)]
    loss = helper.temporary(logits.dtype, shape, lod_level=logits.lod_level)
    attrs = {
        "soft_label": soft_label,
        "ignore_index": ignore_index,
        "numeric_stable_mode": numeric_stable_mode,
        "axis": axis,
    }
    helper.op(
        "softmax_with_cross_entropy",
        {"Logits": [logits], "Label": [label]},
        {"Softmax": [softmax], "Loss": [loss]},
        attrs,
    )
    return (loss, softmax) if return_softmax else loss


def _same_shape(helper: LayerHelper, a: Variable, b: Variable) -> None:
    helper.check_dtype("input", a, _FLOATS)
    helper.check_dtype("label", b, (a.dtype,))
    if len(a.shape) != len(b.shape) or any(p != q and p >= 0 and q >= 0 for p, q in zip(a.shape, b.shape)):
        raise invalid(
            f"{helper.layer_type}: {a.name} has shape {list(a.shape)} and {b.name} has {list(b.shape)}",
            "prediction and target must have one shape; reshape one of them",
        )


def sigmoid_cross_entropy_with_logits(
    x: Variable, label: Variable, ignore_index: int = -100, name: str | None = None, normalize: bool = False
) -> Variable:
    """Cross entropy of independent probabilities ``sigmoid(x)`` and ``label``, element by element, x's shape.

    Labels equal to ``ignore_index`` give 0; ``normalize`` divides by the number of the others.
    """
    helper = LayerHelper("sigmoid_cross_entropy_with_logits", name)
    _same_shape(helper, x, label)
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    attrs = {"ignore_index": ignore_index, "normalize": normalize}
    helper.op("sigmoid_cross_entropy_with_logits", {"X": [x], "Label": [label]}, {"Out": [out]}, attrs)
    return out


def square_error_cost(input: Variable, label: Variable) -> Variable:
    """``(input - label) ** 2``, element by element."""
    helper = LayerHelper("square_error_cost")
    helper.check_dtype("input", input, _FLOATS)
    helper.check_dtype("label", label, _FLOATS)
    shape = broadcast_shape("square_error_cost", input, label)
    difference = helper.temporary(input.dtype, shape, lod_level=input.lod_level)
    helper.op("elementwise_sub", {"X": [input], "Y": [label]}, {"Out": [difference]}, {"axis": -1})
    out = helper.temporary(input.dtype, shape, lod_level=input.lod_level)
    helper.op("square", {"X": [difference]}, {"Out": [out]})
    return out


def mse_loss(input: Variable, label: Variable) -> Variable:
    """The mean of `square_error_cost` over all elements, shape [1]."""
    return reduce_mean(square_error_cost(input, label))


def log_loss(input: Variable, label: Variable, epsilon: float = 0.0001, name: str | None = None) -> Variable:
    """``-y log(p + epsilon) - (1 - y) log(1 - p + epsilon)`` of probabilities and labels of shape [N, 1]."""
    helper = LayerHelper("log_loss", name)
    _same_shape(helper, input, label)
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    helper.op("log_loss", {"Predicted": [input], "Labels": [label]}, {"Loss": [out]}, {"epsilon": float(epsilon)})
    return out


def huber_loss(input: Variable, label: Variable, delta: float) -> Variable:
    """``r ** 2 / 2`` where ``|r| <= delta``, else ``delta * (|r| - delta / 2)``, for ``r = label - input``."""
    helper = LayerHelper("huber_loss")
    _same_shape(helper, input, label)
    if not delta > 0:
        raise invalid(f"huber_loss: delta is {delta}", "give a positive threshold")
    residual = helper.temporary(input.dtype, input.shape)
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    outputs = {"Out": [out], "Residual": [residual]}
    helper.op("huber_loss", {"X": [input], "Y": [label]}, outputs, {"delta": float(delta)})
    return out


def smooth_l1(
    x: Variable,
    y: Variable,
    inside_weight: Variable | None = None,
    outside_weight: Variable | None = None,
    sigma: float | None = None,
) -> Variable:
    """Sum over an example of ``(sigma d) ** 2 / 2`` where ``|d| < 1 / sigma ** 2``, else ``|d| - 1/2 / sigma ** 2``.

    ``d = inside_weight * (x - y)``; each term is multiplied by ``outside_weight``. Shape [N, 1].
    """
    helper = LayerHelper("smooth_l1_loss")
    _same_shape(helper, x, y)
    if (inside_weight is None) != (outside_weight is None):
        raise invalid("smooth_l1: one of inside_weight and outside_weight is missing", "give both or none")
    diff = helper.temporary(x.dtype, x.shape)
    out = helper.temporary(x.dtype, [x.shape[0], 1])
    inputs = {"X": [x], "Y": [y]}
    if inside_weight is not None and outside_weight is not None:
        inputs["InsideWeight"] = [inside_weight]
        inputs["OutsideWeight"] = [outside_weight]
    attrs = {"sigma": 1.0 if sigma is None else float(sigma)}
    helper.op("smooth_l1_loss", inputs, {"Diff": [diff], "Out": [out]}, attrs)
    return out


def bce_loss_op(helper: LayerHelper, input: Variable, label: Variable) -> Variable:
    """``-label * log(input) - (1 - label) * log(1 - input)`` of probabilities, element by element.

    Logarithms are at least -100. It is the op of dygraph's BCELoss, before its weight and reduction.
    """
    for argument, v in (("input", input), ("label", label)):
        helper.check_dtype(argument, v, (VarType.FP32, VarType.FP64))
    _same_shape(helper, input, label)
    out = helper.temporary(input.dtype, input.shape)
    helper.op("bce_loss", {"X": [input], "Label": [label]}, {"Out": [out]})
    return out


def nll_loss_op(
    helper: LayerHelper,
    input: Variable,
    label: Variable,
    weight: Variable | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Variable:
    """``-weight[label] * input[label]`` of log-probabilities ``[N, C]`` or ``[N, C, H, W]``: the op of NLLLoss.

    Args:
        helper: Of the layer.
        input: Log-probabilities.
        label: int64 ``[N]`` or ``[N, H, W]``.
        weight: [C], 1 for every class if None.
        reduction: ``'none'`` keeps the labels' shape, ``'sum'`` and ``'mean'`` (over the labels' weights) give [1].
        ignore_index: A label that costs 0 and counts for nothing.
    """
    layer = helper.layer_type
    helper.check_dtype("input", input, (VarType.FP32, VarType.FP64))
    helper.check_dtype("label", label, (VarType.INT64,))
    if reduction not in ("mean", "sum", "none"):
        raise invalid(f"{layer}: unknown reduction {reduction!r}", "use 'mean', 'sum' or 'none'")
    x, y = input.shape, label.shape
    wanted = [x[0], *x[2:]]
    if len(x) not in (2, 4) or len(y) != len(wanted) or any(p != q and p >= 0 and q >= 0 for p, q in zip(y, wanted)):
        raise invalid(
            f"{layer}: input {input.name} has shape {list(x)} and label {label.name} has {list(y)}",
            "give log-probabilities [N, C] and labels [N], or [N, C, H, W] and [N, H, W]",
        )
    inputs = {"X": [input], "Label": [label]}
    if weight is not None:
        helper.check_dtype("weight", weight, (input.dtype,))
        if len(weight.shape) != 1 or (weight.shape[0] != x[1] and min(weight.shape[0], x[1]) >= 0):
            raise invalid(
                f"{layer}: weight {weight.name} has shape {list(weight.shape)}", f"give one number per class: [{x[1]}]"
            )
        inputs["Weight"] = [weight]
    out = helper.temporary(input.dtype, y if reduction == "none" else [1])
    total = helper.temporary(input.dtype, [1])
    attrs = {"reduction": reduction, "ignore_index": ignore_index}
    helper.op("nll_loss", inputs, {"Out": [out], "Total_weight": [total]}, attrs)
    return out


def kldiv_loss(x: Variable, target: Variable, reduction: str = "mean", name: str | None = None) -> Variable:
    """``target * (log(target) - x)`` with x a log-probability; reduced to [1] unless ``reduction='none'``."""
    helper = LayerHelper("kldiv_loss", name)
    _same_shape(helper, x, target)
    if reduction not in ("mean", "batchmean", "sum", "none"):
        raise invalid(f"kldiv_loss: unknown reduction {reduction!r}", "use 'mean', 'batchmean', 'sum' or 'none'")
    out = helper.temporary(x.dtype, x.shape if reduction == "none" else [1])
    helper.op("kldiv_loss", {"X": [x], "Target": [target]}, {"Loss": [out]}, {"reduction": reduction})
    return out


def rank_loss(label: Variable, left: Variable, right: Variable, name: str | None = None) -> Variable:
    """``log(1 + e ** d) - label * d`` for ``d = left - right`` (RankNet), all of shape [N, 1]."""
    helper = LayerHelper("rank_loss", name)
    _same_shape(helper, left, right)
    _same_shape(helper, left, label)
    out = helper.temporary(label.dtype, label.shape)
    helper.op("rank_loss", {"Label": [label], "Left": [left], "Right": [right]}, {"Out": [out]})
    return out


def margin_rank_loss(
    label: Variable, left: Variable, right: Variable, margin: float = 0.1, name: str | None = None
) -> Variable:
    """``max(0, margin - label * (left - right))``, all of shape [N, 1]; labels are 1 or -1."""
    helper = LayerHelper("margin_rank_loss", name)
    _same_shape(helper, left, right)
    _same_shape(helper, left, label)
    out, active = (helper.temporary(left.dtype, label.shape) for _ in range(2))
    inputs = {"Label": [label], "X1": [left], "X2": [right]}
    helper.op("margin_rank_loss", inputs, {"Out": [out], "Activated": [active]}, {"margin": float(margin)})
    return out


def bpr_loss(input: Variable, label: Variable, name: str | None = None) -> Variable:
    """Bayesian personalised ranking of scores ``[N, K]`` (Rendle et al., UAI'09), shape [N, 1].

    The mean over the classes j but the label y of ``-log(sigmoid(input[y] - input[j]))``.
    """
    helper = LayerHelper("bpr_loss", name)
    helper.check_dtype("input", input, _FLOATS)
    _check_label(helper, input, label, soft=False)
    out = helper.temporary(input.dtype, [input.shape[0], 1])
    helper.op("bpr_loss", {"X": [input], "Label": [label]}, {"Y": [out]})
    return out


def dice_loss(input: Variable, label: Variable, epsilon: float = 1e-05, name: str | None = None) -> Variable:
    """1 minus the mean over examples of ``2 |input * label| / (|input| + |label|)``, labels int64 ``[N, ..., 1]``.

    ``input`` holds probabilities, the classes last; sums are over all axes but the first.
    """
    del name
    label = one_hot(label, input.shape[-1])
    dims = list(range(1, len(input.shape)))
    common = reduce_sum(input * label, dim=dims)
    both = reduce_sum(input, dim=dims) + reduce_sum(label, dim=dims)
    return reduce_mean(1 - common * 2 / (both + epsilon))


def npair_loss(anchor: Variable, positive: Variable, labels: Variable, l2_reg: float = 0.002) -> Variable:
    """The N-pair loss of embeddings ``[N, D]`` (Sohn, NIPS'16): each anchor against all positives, plus decay.

    ``labels`` is [N]: positives of one label are right for each other.
    """
    batch = labels.shape[0]
    if batch < 1:
        raise invalid(f"npair_loss: labels {labels.name} has shape {list(labels.shape)}", "fix the batch size")
    same = expand(reshape(labels, [batch, 1], inplace=True), [1, batch])
    same = equal(same, transpose(same, [1, 0])).astype("float32")
    same = same / reduce_sum(same, dim=1, keep_dim=True)
    squares = reduce_mean(reduce_sum(square(anchor), 1)) + reduce_mean(reduce_sum(square(positive), 1))
    decay = squares * 0.25 * l2_reg
    entropy = softmax_with_cross_entropy(matmul(anchor, positive, transpose_y=True), same, soft_label=True)
    return decay + reduce_mean(reduce_sum(same * entropy, 0))


def teacher_student_sigmoid_loss(
    input: Variable, label: Variable, soft_max_up_bound: float = 15.0, soft_max_lower_bound: float = -15.0
) -> Variable:
    """The logistic loss of clicks and, where there is one, of a teacher's score, for ``[N, 1]``.

    ``label`` is -2 for no click, -1 for a click, the score for no click, 1 plus the score for a click; scores are of
    [0, 1). Outside of the bounds nothing is passed to the gradient.
    """
    layer = "teacher_student_sigmoid_loss"
    helper = LayerHelper(layer)
    for argument, x in (("input", input), ("label", label)):
        helper.check_dtype(argument, x, (VarType.FP32, VarType.FP64))
    _same_shape(helper, input, label)
    out = helper.temporary(input.dtype, input.shape)
    attrs = {"soft_max_lower_bound": float(soft_max_lower_bound), "soft_max_up_bound": float(soft_max_up_bound)}
    helper.op(layer, {"X": [input], "Label": [label]}, {"Y": [out]}, attrs)
    return out
