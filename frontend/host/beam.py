"""Beam search: which continuations of prefixes live on, and the sentences that they make up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .call import HostCall, HostRules
from .values import Array, Level, Value, in_rows, offsets


@dataclass(frozen=True)
class _Item:
    """A continuation: of the prefix in row ``parent``, by a word."""

    score: float
    parent: int
    word: int

    def __lt__(self, other: _Item) -> bool:
        return (self.score, self.parent) < (other.score, other.parent)


def _insert(best: list[_Item], item: _Item, size: int) -> None:
    """Put an item into its place among the ``size`` best; of equal ones the later take the last place."""
    if len(best) < size:
        best.append(item)
    elif item < best[-1]:
        return
    at = len(best) - 1
    while at > 0 and best[at - 1] < item:
        best[at] = best[at - 1]
        at -= 1
    best[at] = item


def _candidates(
    rows: range, scores: Array, words: Array | None, ended: Array, totals: Array, finish: int, size: int
) -> Iterator[_Item]:
    """The continuations of some prefixes that may be among the ``size`` best, in order.

    A prefix that has ended has one, its end, at no cost.
    """
    open_rows = [row for row in rows if not ended[row]]
    offered = np.concatenate([scores[open_rows].reshape(-1), totals[[row for row in rows if ended[row]]]])
    # What is worse than the last of the best never lives on.
    least = np.partition(offered, -size)[-size] if len(offered) > size else -np.inf
    for row in rows:
        if ended[row]:
            yield _Item(float(totals[row]), row, finish)
            continue
        for at in np.flatnonzero(scores[row] >= least).tolist():
            yield _Item(float(scores[row, at]), row, at if words is None else int(words[row, at]))


def _beam_search(o: HostCall) -> None:
    given = o.x("scores")
    if not given.lod:
        raise o.error(
            f"{o.op.input('scores')[0]} has no LoD, which says which prefixes belong to one source",
            "feed the first ids and scores by create_lod_tensor with two levels, [[1] * n, [1] * n]",
        )
    rows = len(given.array)
    scores = given.array.reshape(rows, -1)
    if not o.attr("is_accumulated", True):
        with np.errstate(divide="ignore"):
            scores = (o.array("pre_scores").reshape(rows, 1) + np.log(scores)).astype(scores.dtype)
    words = o.array("ids").reshape(rows, -1) if o.has("ids") else None
    size, finish = o.attr("beam_size"), o.attr("end_id")
    high = in_rows(given.lod, o.attr("level", 0))
    ended = o.array("pre_ids").reshape(-1) == finish
    totals = o.array("pre_scores").reshape(-1)
    chosen: list[list[_Item]] = [[] for _ in range(high[-1])]
    for begin, end in itertools.pairwise(high):
        best: list[_Item] = []
        for item in _candidates(range(begin, end), scores, words, ended, totals, finish, size):
            _insert(best, item, size)
        # A source is done when every prefix has ended and goes on by its end alone.
        if all(item.word == finish and ended[item.parent] for item in best):
            continue
        for item in best:
            chosen[item.parent].append(item)
    low = offsets(map(len, chosen))
    items = [item for of_row in chosen for item in of_row]
    lod = (high, low)
    o.set(np.asarray([i.word for i in items], np.int64).reshape(-1, 1), "selected_ids", lod)
    o.set(np.asarray([i.score for i in items], given.array.dtype).reshape(-1, 1), "selected_scores", lod)
    o.set(np.asarray([i.parent for i in items], np.int32), "parent_idx")


@dataclass
class _Sentence:
    """Words and scores from the last to the first, and the row it has come to."""

    row: int
    words: list[int] = field(default_factory=list[int])
    scores: list[float] = field(default_factory=list[float])

    def take(self, step: tuple[Value, Value], row: int) -> None:
        ids, scores = step
        self.words.append(int(ids.array.reshape(-1)[row]))
        self.scores.append(float(scores.array.reshape(-1)[row]))


def _prefix_of(low: Level, row: int) -> int:
    """The prefix whose continuation a row is."""
    return int(np.searchsorted(low, row, side="right")) - 1


def _backtrace(steps: list[tuple[Value, Value]], source: int, finish: int) -> list[_Sentence]:
    """The sentences of one source, from the last step in which it was alive."""
    sentences: list[_Sentence] = []
    for step in reversed(steps):
        high, low = step[0].lod
        if not sentences:
            for prefix in range(high[source], high[source + 1]):
                for row in range(low[prefix], low[prefix + 1]):
                    sentences.append(_Sentence(prefix))
                    sentences[-1].take(step, row)
            continue
        for sentence in sentences:
            row = sentence.row
            if int(step[0].array.reshape(-1)[row]) != finish or not sentence.words:
                sentence.take(step, row)
            sentence.row = _prefix_of(low, row)
    return sentences


def _beam_search_decode(o: HostCall) -> None:
    ids, scores = o.tensors("Ids"), o.tensors("Scores")
    steps = [(a, b) for a, b in zip(ids, scores) if a is not None and b is not None]
    if not steps or any(len(step[0].lod) != 2 for step in steps):
        raise o.error(
            f"{o.op.input('Ids')[0]} must hold what beam_search selected in each step, with two levels of LoD",
            "write the first ids, with LoD [[1] * n, [1] * n], and selected_ids into the array",
        )
    high, low = [0], [0]
    words: list[int] = []
    totals: list[float] = []
    for source in range(len(steps[0][0].lod[0]) - 1):
        sentences = _backtrace(steps, source, o.attr("end_id"))
        for sentence in sorted(sentences, key=lambda s: -s.scores[0]):
            words += reversed(sentence.words)
            totals += reversed(sentence.scores)
            low.append(len(words))
        high.append(len(low) - 1)
    lod = (tuple(high), tuple(low))
    o.set(np.asarray(words, np.int64), "SentenceIds", lod)
    o.set(np.asarray(totals, steps[0][1].array.dtype), "SentenceScores", lod)


RULES: HostRules = {"beam_search": _beam_search, "beam_search_decode": _beam_search_decode}
