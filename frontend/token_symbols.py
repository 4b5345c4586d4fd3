"""Which sequences of a program have the same lengths, told from the program alone: before anything is fed.

Every data variable with a lod_level has a number of rows of its own, T.  Feeds that an op joins row by row (words and
marks whose embeddings are added, scores and the labels of a CRF) have the same sequences: they share one symbol, and
the runtime holds them to the same lengths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from .framework import Operator, Program

TOKENS = "T"
"""The symbol of the rows of a program's only kind of sequences."""

_Joined = Sequence[tuple[str, ...]]

_NOTHING = (
    "sequence_pool", "sequence_concat", "sequence_slice", "sequence_reshape", "im2sequence", "warpctc", "edit_distance",
    "ctc_align", "gather", "gather_nd", "scatter", "scatter_nd_add", "beam_search", "beam_search_decode", "while",
    "recurrent", "conditional_block", "backward", "reorder_lod_tensor_by_rank",
    "shrink_rnn_memory", "read_from_array",
)  # fmt: skip
"""Ops that join nothing, and whose results have rows of their own."""

_APART: Mapping[str, tuple[_Joined, str | None]] = {
    **dict.fromkeys(_NOTHING, ((), None)),
    "sequence_scatter": ([("Ids", "Updates")], None),
    "linear_chain_crf": ([("Emission", "Label")], None),
    "chunk_eval": ([("Inference", "Label")], None),
    "sequence_expand_as": ((), "Y"),
    "sequence_pad": ((), "X"),
    "sequence_unpad": ((), "Length"),
    "lod_reset": ((), "Y"),
    "lod_rank_table": ((), "X"),
    "lod_tensor_to_array": ([("X", "RankTable")], "RankTable"),
    "array_to_lod_tensor": ((), "RankTable"),
}
"""Ops whose operands do not all lie row by row beside each other: the slots that do, and the one whose rows the results
have, if they have those of any."""


_BESIDE: Mapping[str, tuple[str, ...]] = {
    "cross_entropy": ("Label",),
    "cross_entropy2": ("Label",),
    "softmax_with_cross_entropy": ("Label",),
    "sigmoid_cross_entropy_with_logits": ("Label",),
    "log_loss": ("Labels",),
    "accuracy": ("Label",),
}
"""Slots that hold one label for every row, whatever is declared: a feed there has the rows of the other operands."""


class _Classes:
    """Sets of feeds, each called by one of them (union-find)."""

    def __init__(self, feeds: Sequence[str]) -> None:
        self._parent = {feed: feed for feed in feeds}
        self._order = {feed: i for i, feed in enumerate(feeds)}

    def of(self, feed: str) -> str:
        while self._parent[feed] != feed:
            feed = self._parent[feed]
        return feed

    def join(self, feeds: Sequence[str]) -> None:
        """Make one set of theirs, called by the feed that was declared first."""
        first, *rest = sorted({self.of(feed) for feed in feeds}, key=self._order.__getitem__)
        for root in rest:
            self._parent[root] = first


def joined_feeds(program: Program) -> dict[str, str]:
    """Every data variable with a lod_level, and the first one that has the same sequences: itself, if no other has.

    Labels of their rows are among them, though they may be declared without a lod_level.
    """
    declared = program.global_block().vars
    feeds = [name for name, var in declared.items() if var.is_data and var.lod_level]
    if not feeds:
        return {}
    classes = _Classes(feeds)
    rows = {feed: feed for feed in feeds}
    for block in program.blocks:
        for op in block.ops:
            _follow(op, rows, classes)
    labels = [name for name in rows if name not in feeds and name in declared and declared[name].is_data]
    return {feed: classes.of(rows[feed]) for feed in (*feeds, *labels)}


def _follow(op: Operator, rows: dict[str, str], classes: _Classes) -> None:
    """Join what an op joins, and note whose rows its results have."""

    def in_slots(slots: Sequence[str]) -> list[str]:
        return [rows[name] for slot in slots for name in op.input(slot) if name in rows]

    if op.type in _APART:
        joined, slot = _APART[op.type]
        kept = in_slots([slot] if slot is not None else [])
    elif op.type == "sequence_expand":
        # Dense rows are repeated for every row of Y; what is repeated as sequences makes sequences of its own.
        joined, kept = (), [] if in_slots(["X"]) else in_slots(["Y"])
    else:
        joined = [tuple(op.inputs)]
        kept = in_slots(tuple(op.inputs))
    for slots in joined:
        if found := in_slots(slots):
            classes.join(found)
    for name in (name for slot in _BESIDE.get(op.type, ()) for name in op.input(slot) if kept):
        var = op.block.find_var_recursive(name)
        if var is not None and var.is_data and tuple(var.shape)[:1] == (-1,):
            rows.setdefault(name, kept[0])
    for name in op.output_arg_names if kept else ():
        var = op.block.find_var_recursive(name)
        by_row = var is not None and (var.lod_level or tuple(var.shape)[:1] == (-1,))
        if name not in rows and (by_row or op.type in _APART):  # tables and arrays of rows have other shapes
            rows[name] = kept[0]


_known: WeakKeyDictionary[Program, tuple[int, dict[str, str]]] = WeakKeyDictionary()


def token_symbols(program: Program) -> Mapping[str, str]:
    """The symbol of the rows of every feed of `joined_feeds`: ``T`` if all have the same, else ``T_NAME``."""
    held = _known.get(program)
    if held is not None and held[0] == program.version:
        return held[1]
    joined = joined_feeds(program)
    names: dict[str, str] = {}
    for first in dict.fromkeys(joined.values()):
        word = f"{TOKENS}_{re.sub(r'[^A-Za-z0-9_]', '_', first)}"
        names[first] = word if word not in names.values() else f"{word}_{len(names)}"
    if len(names) == 1:
        names = dict.fromkeys(names, TOKENS)
    found = {feed: names[first] for feed, first in joined.items()}
    _known[program] = program.version, found
    return found


def token_symbol(program: Program, feed: str) -> str:
    """The symbol of the rows of a variable with a lod_level that is fed, be it no data variable."""
    return token_symbols(program).get(feed, f"{TOKENS}_{feed}")
