"""Losses for so many classes that a softmax over all of them is too much: a tree of them, or a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import invalid, wrong_type
from ..framework import AttrValue
from ..initializer import NumpyArrayInitializer
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttr, ParamAttrLike
from ..variable import Variable
from ..vartype import VarType

_FLOATS = (VarType.FP32, VarType.FP64)
_SAMPLERS = {"uniform": 0, "log_uniform": 1, "custom_dist": 2}


def hsigmoid(
    input: Variable,
    label: Variable,
    num_classes: int,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    name: str | None = None,
    path_table: Variable | None = None,
    path_code: Variable | None = None,
    is_custom: bool = False,
    is_sparse: bool = False,
) -> Variable:
    """The cost of a label's way through a binary tree of the classes, ``[N, 1]`` (Morin and Bengio, 2005).

    As in Paddle a way that is shorter than the longest one costs log 2 for every node that it lacks.

    Args:
        input: ``[N, D]``.
        label: int64 ``[N, 1]``.
        num_classes: At least 2; with ``is_custom`` the number of inner nodes.
        param_attr: Of the weight, ``[num_classes - 1, D]``, or ``[num_classes, D]`` with ``is_custom``.
        bias_attr: Of one number per inner node; False for none.
        path_table: With ``is_custom``, int64 ``[N, K]``: the inner nodes on the way, then negative numbers.
        path_code: With ``is_custom``, int64 ``[N, K]``: where the way turns at each of them, 0 or 1.
        is_custom: The tree is given by ``path_table`` and ``path_code``.
        name, is_sparse: Fluid's.
    """
    helper = LayerHelper("hierarchical_sigmoid", name)
    helper.check_dtype("input", input, _FLOATS)
    helper.check_dtype("label", label, (VarType.INT64,))
    _check_rows("hsigmoid", input, label)
    if is_custom != (path_table is not None and path_code is not None):
        raise invalid(
            f"hsigmoid: is_custom is {is_custom}, path_table and path_code are not",
            "give both with is_custom=True, or neither",
        )
    if not isinstance(num_classes, int) or num_classes < 2 - is_custom:
        raise invalid(f"hsigmoid: num_classes is {num_classes!r}", "give at least two classes")
    nodes = num_classes if is_custom else num_classes - 1
    weight = helper.parameter(param_attr, [nodes, input.shape[1]], input.dtype)
    if weight is None:
        raise wrong_type("hsigmoid: param_attr is False", "the layer needs its weight")
    inputs = {"X": [input], "W": [weight], "Label": [label]}
    if path_table is not None and path_code is not None:
        inputs |= {"PathTable": [path_table], "PathCode": [path_code]}
    bias = helper.parameter(bias_attr, [nodes, 1], input.dtype, is_bias=True)
    if bias is not None:
        inputs["Bias"] = [bias]
    out = helper.temporary(input.dtype, [input.shape[0], 1])
    pre_out = helper.temporary(input.dtype, ())
    helper.op(
        "hierarchical_sigmoid",
        inputs,
        {"Out": [out], "PreOut": [pre_out], "W_Out": [weight]},
        {"num_classes": num_classes, "is_sparse": bool(is_sparse and is_custom)},
    )
    return out


def nce(
    input: Variable,
    label: Variable,
    num_total_classes: int,
    sample_weight: Variable | None = None,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    num_neg_samples: int | None = None,
    name: str | None = None,
    sampler: str = "uniform",
    custom_dist: Sequence[float] | None = None,
    seed: int = 0,
    is_sparse: bool = False,
) -> Variable:
    """Noise-contrastive estimation: labels are told from classes drawn at random, ``[N, 1]`` (Gutmann and Hyvärinen).

    The cost is divided by ``num_neg_samples + 1``. Under a seed the uniform sampler draws what Paddle draws, the same
    in every step; else each step draws anew.

    Args:
        input: ``[N, D]``.
        label: int64 ``[N, K]``: K right classes per row.
        num_total_classes: How many classes there are.
        sample_weight: ``[N, 1]``: what each row's cost is multiplied by.
        param_attr: Of the weight, ``[num_total_classes, D]``.
        bias_attr: Of one number per class; False for none.
        num_neg_samples: Classes drawn per row; 10 if None.
        sampler: ``'uniform'``, ``'log_uniform'`` or ``'custom_dist'``.
        custom_dist: Probabilities of the classes, for ``'custom_dist'``.
        seed: Of the sampler; 0 for none.
        name, is_sparse: Fluid's.
    """
    helper = LayerHelper("nce", name)
    helper.check_dtype("input", input, _FLOATS)
    helper.check_dtype("label", label, (VarType.INT64,))
    _check_rows("nce", input, label)
    if sampler not in _SAMPLERS:
        raise invalid(f"nce: unknown sampler {sampler!r}", f"use one of {', '.join(_SAMPLERS)}")
    drawn = 10 if num_neg_samples is None else int(num_neg_samples)
    if drawn < 1 or num_total_classes < 2:
        raise invalid(f"nce: {drawn} samples of {num_total_classes} classes", "give at least 1 sample and 2 classes")
    inputs: dict[str, list[Variable]] = {"Input": [input], "Label": [label]}
    weight = helper.parameter(param_attr, [num_total_classes, input.shape[1]], input.dtype)
    if weight is None:
        raise wrong_type("nce: param_attr is False", "the layer needs its weight")
    bias = helper.parameter(bias_attr, [num_total_classes, 1], input.dtype, is_bias=True)
    inputs |= {"Weight": [weight]} if bias is None else {"Weight": [weight], "Bias": [bias]}
    if sample_weight is not None:
        check_variable("nce", "sample_weight", sample_weight)
        inputs["SampleWeight"] = [sample_weight]
    if sampler == "custom_dist":
        if custom_dist is None or len(custom_dist) != num_total_classes:
            raise invalid("nce: custom_dist has not one probability per class", f"give {num_total_classes} numbers")
        inputs |= _distribution(helper, custom_dist)
    cost = helper.temporary(input.dtype, [input.shape[0], 1])
    logits = helper.temporary(input.dtype, [input.shape[0], label.shape[1] + drawn])
    labels = helper.temporary(label.dtype, logits.shape)
    attrs: dict[str, AttrValue] = {
        "num_total_classes": int(num_total_classes),
        "num_neg_samples": drawn,
        "seed": seed,
        "sampler": _SAMPLERS[sampler],
        "is_sparse": is_sparse,
    }
    helper.op("nce", inputs, {"Cost": [cost], "SampleLogits": [logits], "SampleLabels": [labels]}, attrs)
    return cost / (drawn + 1)


def _distribution(helper: LayerHelper, probabilities: Sequence[float]) -> dict[str, list[Variable]]:
    """Parameters that hold a distribution, and its tables of aliases (Walker, 1977), in the order that Paddle fills."""
    count = len(probabilities)
    kept, alias = np.zeros(count, np.float32), np.zeros(count, np.int32)
    scaled = [(i, p * count) for i, p in enumerate(probabilities)]
    large, small = [e for e in scaled if e[1] > 1.0], [e for e in scaled if e[1] < 1.0]
    for i, p in scaled:
        if p == 1.0:
            kept[i], alias[i] = 1.0, -1
    while large and small:
        (i, much), (j, little) = large.pop(0), small.pop(0)
        kept[j], alias[j] = little, i
        left = much + little - 1.0
        if left > 1.0:
            large.append((i, left))
        elif left < 1.0:
            small.append((i, left))
        else:
            kept[i], alias[i] = left, -1
    for i, _ in [*large[:1], *small[:1]]:
        kept[i], alias[i] = 1.0, -1

    def held(array: np.ndarray) -> list[Variable]:
        attr = ParamAttr(initializer=NumpyArrayInitializer(array))
        made = helper.parameter(attr, array.shape, str(array.dtype), stop_gradient=True)
        assert made is not None
        return [made]

    return {
        "CustomDistProbs": held(np.asarray(probabilities, np.float32)),
        "CustomDistAlias": held(alias),
        "CustomDistAliasProbs": held(kept),
    }


def _check_rows(layer: str, input: Variable, label: Variable) -> None:
    if len(input.shape) != 2 or len(label.shape) != 2 or input.shape[1] <= 0 or label.shape[1] <= 0:
        raise invalid(
            f"{layer}: input {input.name} has shape {list(input.shape)} and label {label.name} {list(label.shape)}",
            "give rows [N, D] and their labels [N, 1]",
        )
