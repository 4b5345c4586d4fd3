"""Mean average precision of detections, over a batch or over all batches so far."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from .call import HostCall, HostRules
from .detection import overlaps
from .values import Array, offsets

_SAME = 1e-6
Scored = dict[int, list[tuple[float, int]]]
"""By class, the score of each detection and whether it counts."""


@dataclass
class _Counts:
    """What has been counted: truths by class, and detections that are right and wrong."""

    truths: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    right: Scored = field(default_factory=lambda: defaultdict(list))
    wrong: Scored = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: int, score: float, hit: bool) -> None:
        self.right[kind].append((score, int(hit)))
        self.wrong[kind].append((score, int(not hit)))


def _before(o: HostCall) -> _Counts:
    """What earlier batches counted."""
    found = _Counts()
    if not (o.has("HasState") and o.number("HasState")):
        return found
    for kind, count in enumerate(o.array("PosCount").reshape(-1).tolist()):
        if count:
            found.truths[kind] = count
    for slot, scored in (("TruePos", found.right), ("FalsePos", found.wrong)):
        for kind, rows in enumerate(o.x(slot).rows()):
            scored[kind] += [(float(score), int(flag)) for score, flag in rows]
    return found


def _truths(rows: Array) -> dict[int, tuple[Array, Array]]:
    """By class the corners of true boxes, and which are difficult."""
    found: dict[int, tuple[Array, Array]] = {}
    difficult = np.abs(rows[:, 1]) >= _SAME if rows.shape[1] == 6 else np.zeros(len(rows), bool)
    for kind in sorted({int(k) for k in rows[:, 0]}):
        own = rows[:, 0].astype(np.int64) == kind
        found[kind] = rows[own, -4:], difficult[own]
    return found


def _count(o: HostCall, counts: _Counts, detected: Array, truths: dict[int, tuple[Array, Array]]) -> None:
    """Take in one image."""
    with_difficult, least = o.attr("evaluate_difficult", True), o.attr("overlap_threshold", 0.3)
    for kind in sorted({int(k) for k in detected[:, 0]}):
        own = detected[detected[:, 0].astype(np.int64) == kind]
        if kind not in truths:
            for row in own:
                counts.add(kind, float(row[1]), False)
            continue
        boxes, difficult = truths[kind]
        seen = np.zeros(len(boxes), bool)
        for row in own[np.argsort(-own[:, 1], kind="stable")]:
            shares = overlaps(np.clip(row[2:], 0, 1).astype(row.dtype), boxes, True)
            best = int(shares.argmax())
            if shares[best] <= least:
                counts.add(kind, float(row[1]), False)
            elif with_difficult or not difficult[best]:
                counts.add(kind, float(row[1]), not seen[best])
                seen[best] = True


def _average(o: HostCall, right: list[tuple[float, int]], wrong: list[tuple[float, int]], truths: int) -> float:
    """Average precision of one class."""

    def summed(scored: list[tuple[float, int]]) -> Array:
        return np.cumsum([flag for _, flag in sorted(scored, key=lambda item: -item[0])])

    hits, misses = summed(right), summed(wrong)
    precision = hits / (hits + misses)
    recall = (hits / truths).astype(np.float32).astype(np.float64)  # Paddle holds floats against doubles
    if o.attr("ap_type", "integral") == "integral":
        steps = np.diff(recall, prepend=0.0)
        return float((precision * steps)[steps > _SAME].sum())
    # The best precision from each of eleven recalls on.
    return sum(float(precision[recall >= j / 10].max(initial=0.0)) for j in range(11)) / 11


def _detection_map(o: HostCall) -> None:
    detected, labels = o.x("DetectRes"), o.x("Label")
    counts = _before(o)
    with_difficult = o.attr("evaluate_difficult", True)
    truths = [_truths(rows) for rows in labels.rows()]
    for image in truths:
        for kind, (boxes, difficult) in image.items():
            number = len(boxes) if with_difficult else int((~difficult).sum())
            if number:
                counts.truths[kind] += number
    for rows, image in zip(detected.rows(), truths, strict=True):
        _count(o, counts, rows if rows.shape[1] == 6 else rows[:0].reshape(0, 6), image)
    background = o.attr("background_label", 0)
    found = [
        _average(o, counts.right[kind], counts.wrong[kind], number)
        for kind, number in sorted(counts.truths.items())
        if number != background and counts.right.get(kind)  # Paddle compares the number, not the class
    ]
    o.set(np.asarray([np.mean(found) if found else 0.0], np.float32), "MAP")
    classes = range(o.attr("class_num"))
    o.set(np.asarray([[counts.truths.get(kind, 0)] for kind in classes], np.int32), "AccumPosCount")
    for slot, scored in (("AccumTruePos", counts.right), ("AccumFalsePos", counts.wrong)):
        rows = [item for kind in classes for item in scored.get(kind, [])]
        lod = (offsets(len(scored.get(kind, [])) for kind in classes),)
        o.set(np.asarray(rows, np.float32).reshape(-1, 2), slot, lod)


RULES: HostRules = {"detection_map": _detection_map}
