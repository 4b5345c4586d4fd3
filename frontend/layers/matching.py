"""Layers of detectors that run on the host: matching, targets, suppression, mean average precision."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid
from ..framework import AttrValue
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType

_FLOATS = (VarType.FP32, VarType.FP64)


def bipartite_match(
    dist_matrix: Variable,
    match_type: str | None = None,
    dist_threshold: float | None = None,
    name: str | None = None,
) -> tuple[Variable, Variable]:
    """Match columns (predictions) with rows (truths) of a matrix of similarities, the largest first.

    Args:
        dist_matrix: ``[K, M]``, or with LoD one ``[k, M]`` per image below the other.
        match_type: ``'per_prediction'`` also matches columns that are left with their largest row.
        dist_threshold: How large that must be, 0.5 if None.
        name: Name of the layer.

    Returns:
        For each image and column its row, int32 [N, M], -1 for none, and their similarity.
    """
    helper = LayerHelper("bipartite_match", name)
    helper.check_dtype("dist_matrix", dist_matrix, _FLOATS)
    if match_type not in (None, "bipartite", "per_prediction"):
        raise invalid(f"bipartite_match: unknown match_type {match_type!r}", "use 'bipartite' or 'per_prediction'")
    shape = [-1, dist_matrix.shape[1]]
    indices = helper.temporary(VarType.INT32, shape, stop_gradient=True)
    values = helper.temporary(dist_matrix.dtype, shape, stop_gradient=True)
    helper.op(
        "bipartite_match",
        {"DistMat": [dist_matrix]},
        {"ColToRowMatchIndices": [indices], "ColToRowMatchDist": [values]},
        {"match_type": match_type or "bipartite", "dist_threshold": 0.5 if dist_threshold is None else dist_threshold},
    )
    return indices, values


def target_assign(
    input: Variable,
    matched_indices: Variable,
    negative_indices: Variable | None = None,
    mismatch_value: float | None = None,
    name: str | None = None,
) -> tuple[Variable, Variable]:
    """What matched predictions are to predict, ``[N, M, K]``, and the weight of each, float32 [N, M, 1].

    Args:
        input: Truths ``[n, K]`` or ``[n, P, K]`` with LoD, those of each image.
        matched_indices: int32 [N, M], -1 for none (`bipartite_match`).
        negative_indices: int32 ``[n, 1]`` with LoD: unmatched predictions that get the weight 1 too.
        mismatch_value: What unmatched predictions get, 0 if None.
        name: Name of the layer.
    """
    helper = LayerHelper("target_assign", name)
    helper.check_dtype("matched_indices", matched_indices, (VarType.INT32,))
    shape = [*matched_indices.shape[:2], input.shape[-1]]
    out = helper.temporary(input.dtype, shape, stop_gradient=True)
    weight = helper.temporary(VarType.FP32, [*shape[:2], 1], stop_gradient=True)
    inputs = {"X": [input], "MatchIndices": [matched_indices]}
    if negative_indices is not None:
        inputs["NegIndices"] = [negative_indices]
    helper.op("target_assign", inputs, {"Out": [out], "OutWeight": [weight]}, {"mismatch_value": mismatch_value or 0})
    return out, weight


def multiclass_nms(
    bboxes: Variable,
    scores: Variable,
    score_threshold: float,
    nms_top_k: int,
    keep_top_k: int,
    nms_threshold: float = 0.3,
    normalized: bool = True,
    nms_eta: float = 1.0,
    background_label: int = 0,
    name: str | None = None,
) -> Variable:
    """Boxes that overlap no better one of their class too much: rows of class, score and corners, with LoD by image.

    Args:
        bboxes: Corners ``[N, M, 4]``, or with LoD ``[n, C, 4]``, a box for each class.
        scores: ``[N, C, M]``, or with LoD ``[n, C]``.
        score_threshold: Lower scores are left out.
        nms_top_k: Of a class only so many, the best, are looked at; -1 for all.
        keep_top_k: Of an image only so many, the best, are kept; -1 for all.
        nms_threshold: The largest intersection over union of two boxes that are kept.
        normalized: Corners are shares of the image; else pixels, of which the last belongs to the box.
        nms_eta: The threshold is multiplied by it after each box, while it is above 0.5.
        background_label: The class that is left out; -1 for none.
        name: Name of the layer.

    Returns:
        float ``[n, 6]``; one ``[[-1]]`` where nothing is left.
    """
    helper = LayerHelper("multiclass_nms", name)
    helper.check_dtype("bboxes", bboxes, _FLOATS)
    helper.check_dtype("scores", scores, _FLOATS)
    out = helper.temporary(bboxes.dtype, [-1, 6], lod_level=1, stop_gradient=True)
    attrs: dict[str, AttrValue] = {
        "background_label": background_label,
        "score_threshold": score_threshold,
        "nms_top_k": nms_top_k,
        "nms_threshold": nms_threshold,
        "nms_eta": nms_eta,
        "keep_top_k": keep_top_k,
        "normalized": normalized,
    }
    helper.op("multiclass_nms", {"BBoxes": [bboxes], "Scores": [scores]}, {"Out": [out]}, attrs)
    return out


def detection_map(
    detect_res: Variable,
    label: Variable,
    class_num: int | None,
    background_label: int = 0,
    overlap_threshold: float = 0.3,
    evaluate_difficult: bool = True,
    has_state: Variable | None = None,
    input_states: Sequence[Variable] | None = None,
    out_states: Sequence[Variable] | None = None,
    ap_version: str = "integral",
) -> Variable:
    """Mean average precision of detections, float32 [1], over this batch or, with states, all before it too.

    Args:
        detect_res: Rows of class, score and corners ``[n, 6]``, with LoD by image (`multiclass_nms`).
        label: Rows of class, (whether it is difficult,) and corners, ``[n, 6]`` or ``[n, 5]``, with LoD by image.
        class_num: How many classes there are.
        background_label: Has no effect, as in Paddle 1.8.5.
        overlap_threshold: From which intersection over union on a detection is right.
        evaluate_difficult: Whether difficult boxes count.
        has_state: int32 [1]: whether ``input_states`` hold anything.
        input_states: Counts of truths per class, and scored true and false positives.
        out_states: Where they go.
        ap_version: ``integral``, or ``11point`` for the mean of precisions at eleven recalls.
    """
    del background_label
    helper = LayerHelper("detection_map")
    if class_num is None or class_num < 1:
        raise invalid(f"detection_map: class_num is {class_num}", "give the number of classes, background included")
    if ap_version not in ("integral", "11point"):
        raise invalid(f"detection_map: unknown ap_version {ap_version!r}", "use 'integral' or '11point'")
    out = helper.temporary(VarType.FP32, [1], stop_gradient=True)
    kinds = (VarType.INT32, VarType.FP32, VarType.FP32)
    states = list(out_states) if out_states is not None else [helper.temporary(k, ()) for k in kinds]
    inputs = {"DetectRes": [detect_res], "Label": [label]}
    if has_state is not None:
        inputs["HasState"] = [has_state]
    if input_states is not None:
        inputs |= {slot: [v] for slot, v in zip(("PosCount", "TruePos", "FalsePos"), input_states)}
    helper.op(
        "detection_map",
        inputs,
        {"MAP": [out], **{s: [v] for s, v in zip(("AccumPosCount", "AccumTruePos", "AccumFalsePos"), states)}},
        {
            "class_num": class_num,
            "overlap_threshold": overlap_threshold,
            "evaluate_difficult": evaluate_difficult,
            "ap_type": ap_version,
        },
    )
    return out
