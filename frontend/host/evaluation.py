"""Metrics that count over sequences or classes: edit distances, chunks, intersections; and greedy CTC paths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .call import HostCall, HostRules
from .values import Array, offsets


def _by_length(o: HostCall, slot: str, length_slot: str) -> list[Array]:
    """Sequences of integers: of LoD, or padded with lengths."""
    value = o.x(slot)
    if not o.has(length_slot):
        if not value.lod:
            raise o.error(
                f"{o.op.input(slot)[0]} has neither LoD nor lengths",
                "feed it by create_lod_tensor, or give the lengths",
            )
        return [row.reshape(-1) for row in value.rows()]
    sizes = o.array(length_slot).reshape(-1)
    return [value.array.reshape(len(sizes), -1)[i, : int(n)] for i, n in enumerate(sizes)]


def levenshtein(a: Array, b: Array) -> int:
    """Insertions, deletions and substitutions that turn ``a`` into ``b``.

    >>> levenshtein(np.array([1, 2, 3]), np.array([2, 3, 4, 4]))
    3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a.tolist(), 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b.tolist(), 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def _edit_distance(o: HostCall) -> None:
    hyps, refs = _by_length(o, "Hyps", "HypsLength"), _by_length(o, "Refs", "RefsLength")
    if len(hyps) != len(refs):
        raise o.error(f"{len(hyps)} sequences against {len(refs)}", "give as many of both")
    found: list[float] = []
    for i, (hyp, ref) in enumerate(zip(hyps, refs)):
        distance: float = levenshtein(hyp, ref)
        if o.attr("normalized", False):
            if not len(ref):
                raise o.error(f"reference {i} is empty, and the distance is divided by its length", "normalized=False")
            distance /= len(ref)
        found.append(distance)
    o.set(np.asarray(found, np.float32).reshape(-1, 1))
    o.set(np.asarray([len(found)], np.int64), "SequenceNum")


# How many tags a scheme has for a type of chunk, and which number begins, continues, ends one, or is one alone.
_SCHEMES = {"IOB": (2, 0, 1, -1, -1), "IOE": (2, -1, 0, 1, -1), "IOBES": (4, 0, 1, 2, 3), "plain": (1, -1, -1, -1, -1)}
_Tag = tuple[int, int]


def _ends(before: _Tag, now: _Tag, none: int, scheme: tuple[int, ...]) -> bool:
    """Whether a chunk that holds ``before`` ends there."""
    _, begin, inside, end, single = scheme
    (tag_before, kind_before), (tag, kind) = before, now
    if kind_before == none:
        return False
    if kind in (none,) or kind != kind_before:
        return True
    if tag_before in (begin, inside):
        return tag in (begin, single)
    return tag_before in (end, single)


def _begins(before: _Tag, now: _Tag, none: int, scheme: tuple[int, ...]) -> bool:
    """Whether a chunk begins at ``now``."""
    _, begin, inside, end, single = scheme
    (tag_before, kind_before), (tag, kind) = before, now
    if kind_before == none:
        return kind != none
    if kind == none:
        return False
    if kind != kind_before or tag == begin:
        return True
    if tag in (inside, end):
        return tag_before in (end, single)
    return tag == single


def chunks(labels: Array, scheme: tuple[int, ...], kinds: int) -> Iterator[tuple[int, int, int]]:
    """(first place, last place, type) of the chunks in a sequence of labels.

    >>> list(chunks(np.array([0, 1, 4, 2, 3]), (2, 0, 1, -1, -1), 2))
    [(0, 1, 0), (3, 4, 1)]
    """
    start: int | None = None
    before: _Tag = (-1, kinds)
    for at, label in enumerate(labels.tolist()):
        now = (label % scheme[0], label // scheme[0])
        if start is not None and _ends(before, now, kinds, scheme):
            yield start, at - 1, before[1]
            start = None
        if _begins(before, now, kinds, scheme):
            start = at
        before = now
    if start is not None:
        yield start, len(labels) - 1, before[1]


def _chunk_eval(o: HostCall) -> None:
    scheme, kinds = _SCHEMES[o.attr("chunk_scheme", "IOB")], o.attr("num_chunk_types")
    left_out = set(o.attr("excluded_chunk_types", []))
    counts = [0, 0, 0]
    guesses, truths = _by_length(o, "Inference", "SeqLength"), _by_length(o, "Label", "SeqLength")
    for guess, truth in zip(guesses, truths, strict=True):
        a = {c for c in chunks(guess, scheme, kinds) if c[2] not in left_out}
        b = {c for c in chunks(truth, scheme, kinds) if c[2] not in left_out}
        counts = [counts[0] + len(a), counts[1] + len(b), counts[2] + len(a & b)]
    guessed, true, right = counts
    precision = right / guessed if guessed else 0.0
    recall = right / true if true else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    for slot, number in (("Precision", precision), ("Recall", recall), ("F1-Score", f1)):
        o.set(np.asarray([number], np.float32), slot)
    for slot, count in zip(("NumInferChunks", "NumLabelChunks", "NumCorrectChunks"), counts):
        o.set(np.asarray([count], np.int64), slot)


def _path(tokens: Array, blank: int, merge: bool) -> list[int]:
    """Tokens without blanks, and repeated ones once."""
    before = -1
    found: list[int] = []
    for token in tokens.reshape(-1).tolist():
        if token != blank and not (merge and token == before):
            found.append(token)
        before = token
    return found


def _ctc_align(o: HostCall) -> None:
    x, blank, merge = o.x("Input"), o.attr("blank", 0), o.attr("merge_repeated", True)
    if o.has("InputLength"):
        sizes = o.array("InputLength").reshape(-1)
        found = [_path(row[: int(n)], blank, merge) for row, n in zip(x.array, sizes)]
        out = np.full(x.array.shape, o.attr("padding_value", 0), x.array.dtype)
        for i, path in enumerate(found):
            out[i, : len(path)] = path
        o.set(out, "Output")
        o.set(np.asarray([len(path) for path in found], np.int64).reshape(-1, 1), "OutputLength")
        return
    found = [_path(row, blank, merge) for row in x.rows()]
    tokens = [token for path in found for token in path] or [-1]  # Paddle says -1 where nothing is left
    o.set(np.asarray(tokens, x.array.dtype).reshape(-1, 1), "Output", (offsets(map(len, found)),))


RULES: HostRules = {
    "edit_distance": _edit_distance,
    "chunk_eval": _chunk_eval,
    "ctc_align": _ctc_align,
}
