"""Detection: greedy matching of boxes, targets for the matched, and suppression of boxes that overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .call import HostCall, HostRules
from .values import Array, offsets

_ZERO = 1e-6
"""Distances below this are none."""
_SORTED_FROM = 130
"""Rows from which Paddle sorts all pairs instead of looking for the largest again and again."""


def greedy_match(distance: Array) -> tuple[Array, Array]:
    """For each column the row it is matched with (-1: none) and their distance; the largest distances go first."""
    rows, columns = distance.shape
    matched = np.full(columns, -1, np.int32)
    value = np.zeros(columns, distance.dtype)
    order = np.argsort(-distance, axis=None, kind="stable") if rows >= _SORTED_FROM else _column_order(distance)
    taken: set[int] = set()
    for at in order.tolist():
        row, column = divmod(at, columns)
        if distance[row, column] < _ZERO:
            break
        if row not in taken and matched[column] < 0:
            taken.add(row)
            matched[column], value[column] = row, distance[row, column]
    return matched, value


def _column_order(distance: Array) -> Array:
    """Places from the largest on; of equal ones those of the first column first, and there of the first row."""
    rows, columns = distance.shape
    by_column = np.argsort(-distance.T, axis=None, kind="stable")
    return by_column % rows * columns + by_column // rows


def _bipartite_match(o: HostCall) -> None:
    x = o.x("DistMat")
    found: list[Array] = []
    values: list[Array] = []
    for distance in x.rows():
        matched, value = greedy_match(distance)
        if o.attr("match_type") == "per_prediction" and len(distance):
            best = distance.argmax(0)
            most = distance[best, np.arange(distance.shape[1])]
            more = (matched < 0) & (most >= max(o.attr("dist_threshold") or 0.5, _ZERO))
            matched = np.where(more, best, matched).astype(np.int32)
            value = np.where(more, most, value).astype(distance.dtype)
        found.append(matched)
        values.append(value)
    o.set(np.stack(found), "ColToRowMatchIndices")
    o.set(np.stack(values), "ColToRowMatchDist")


def _target_assign(o: HostCall) -> None:
    x, matched = o.x(), o.array("MatchIndices")
    fill = o.attr("mismatch_value") or 0
    array = x.array if x.array.ndim == 3 else x.array.reshape(len(x.array), 1, -1)
    count, places = matched.shape
    out = np.full((count, places, array.shape[2]), fill, array.dtype)
    weight = np.zeros((count, places, 1), np.float32)
    for i, start in enumerate(x.ends[:-1]):
        (hit,) = np.nonzero(matched[i] > -1)
        out[i, hit] = array[start + matched[i, hit], hit % array.shape[1]]
        weight[i, hit] = 1
    for negative in o.xs("NegIndices"):
        for i, row in enumerate(negative.rows()):
            out[i, row.reshape(-1)] = fill
            weight[i, row.reshape(-1)] = 1
    o.set(out)
    o.set(weight, "OutWeight")


def overlaps(box: Array, others: Array, normalized: bool) -> Array:
    """Intersection over union of a box and others, [x1, y1, x2, y2]; of pixels when not normalized."""
    more = box.dtype.type(0 if normalized else 1)
    none = box.dtype.type(0)

    def area(b: Array) -> Array:
        width, height = b[..., 2] - b[..., 0], b[..., 3] - b[..., 1]
        return np.where((width < 0) | (height < 0), none, (width + more) * (height + more))

    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0]) + more
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1]) + more
    apart = (others[:, 0] > box[2]) | (others[:, 2] < box[0]) | (others[:, 1] > box[3]) | (others[:, 3] < box[1])
    inter = width * height
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart, none, inter / (area(box) + area(others) - inter))


def suppress(boxes: Array, scores: Array, o: HostCall) -> list[int]:
    """The boxes of a class that are kept, the best first: none overlaps a better one too much."""
    (above,) = np.nonzero(scores > o.attr("score_threshold"))
    order = above[np.argsort(-scores[above], kind="stable")]
    most = o.attr("nms_top_k", -1)
    if -1 < most < len(order):
        order = order[:most]
    limit, shrink = o.attr("nms_threshold", 0.3), o.attr("nms_eta", 1.0)
    kept: list[int] = []
    for at in order.tolist():
        if kept and (overlaps(boxes[at], boxes[kept], o.attr("normalized", True)) > limit).any():
            continue
        kept.append(at)
        if shrink < 1 and limit > 0.5:
            limit *= shrink
    return kept


def _of_image(o: HostCall, boxes: Array, scores: Array) -> list[tuple[int, int]]:
    """(class, box) of what is kept of one image; ``scores`` are [classes, boxes]."""
    found: list[tuple[int, int]] = []
    for kind, of_kind in enumerate(scores):
        if kind != o.attr("background_label", 0):
            found += [(kind, at) for at in suppress(_of_class(boxes, kind), of_kind, o)]
    most = o.attr("keep_top_k", -1)
    if -1 < most < len(found):
        found = sorted(found, key=lambda item: -scores[item])[:most]
        found.sort(key=lambda item: item[0])
    return (
        sorted(found) if boxes.ndim == 3 else found
    )  # where classes have their own boxes, Paddle keeps these in order


def _of_class(boxes: Array, kind: int) -> Array:
    """The boxes of a class: all, or where each class has its own (axis 1), those."""
    return boxes if boxes.ndim == 2 else boxes[:, kind]


def _images(o: HostCall) -> Sequence[tuple[Array, Array]]:
    """Boxes and scores [classes, boxes] of each image."""
    boxes, scores = o.x("BBoxes"), o.x("Scores")
    if scores.array.ndim == 3:
        return list(zip(boxes.array, scores.array))
    return [(b, s.T) for b, s in zip(boxes.rows(), scores.rows())]


def _multiclass_nms(o: HostCall) -> None:
    rows: list[Array] = []
    sizes: list[int] = []
    places: list[int] = []
    passed = 0
    dtype = o.array("BBoxes").dtype
    for boxes, scores in _images(o):
        kept = _of_image(o, boxes, scores)
        rows += [np.concatenate([[kind, scores[kind, at]], _of_class(boxes, kind)[at]]) for kind, at in kept]
        places += [passed + at for _, at in kept]
        sizes.append(len(kept))
        passed += len(boxes)
    lod = (offsets(sizes),)
    if rows:
        o.set(np.stack(rows).astype(dtype), "Out", lod)
    elif o.op.type == "multiclass_nms2":
        o.set(np.zeros((0, 6), dtype), "Out", lod)
    else:  # Paddle's word for nothing
        o.set(np.full((1, 1), -1, dtype), "Out", ((0, 1),))
    o.set(np.asarray(places, np.int32).reshape(-1, 1), "Index", lod)


RULES: HostRules = {
    "bipartite_match": _bipartite_match,
    "target_assign": _target_assign,
    "multiclass_nms": _multiclass_nms,
    "multiclass_nms2": _multiclass_nms,
}
