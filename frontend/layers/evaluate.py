"""Metrics over sequences and classes, and greedy CTC decoding; all run on the host."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid
from ..framework import AttrValue
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType
from .arrange import squeeze, topk

_CHUNK_SCHEMES = ("IOB", "IOE", "IOBES", "plain")


def edit_distance(
    input: Variable,
    label: Variable,
    normalized: bool = True,
    ignored_tokens: Sequence[int] | None = None,
    input_length: Variable | None = None,
    label_length: Variable | None = None,
) -> tuple[Variable, Variable]:
    """Levenshtein distances of sequences of int64 tokens, float32 [N, 1], and how many there are, int64 [1].

    Args:
        input: Hypotheses ``[T, 1]`` with LoD, or padded ``[N, L]`` with ``input_length``.
        label: References, likewise.
        normalized: Divide each by the length of its reference.
        ignored_tokens: Tokens that are removed first; sequences with LoD only.
        input_length: Lengths int64 [N] of padded hypotheses.
        label_length: Of padded references.
    """
    helper = LayerHelper("edit_distance")
    helper.check_dtype("input", input, (VarType.INT64,))
    helper.check_dtype("label", label, (VarType.INT64,))
    if ignored_tokens:
        sides: list[Variable] = []
        for x in (input, label):
            erased = helper.temporary(VarType.INT64, [-1, *x.shape[1:]], lod_level=x.lod_level, stop_gradient=True)
            helper.op("sequence_erase", {"X": [x]}, {"Out": [erased]}, {"tokens": [int(t) for t in ignored_tokens]})
            sides.append(erased)
        input, label = sides
    inputs = {"Hyps": [input], "Refs": [label]}
    if input_length is not None and label_length is not None:
        inputs |= {"HypsLength": [input_length], "RefsLength": [label_length]}
    out = helper.temporary(VarType.FP32, [-1, 1], stop_gradient=True)
    count = helper.temporary(VarType.INT64, [1], stop_gradient=True)
    helper.op("edit_distance", inputs, {"Out": [out], "SequenceNum": [count]}, {"normalized": normalized})
    return out, count


def chunk_eval(
    input: Variable,
    label: Variable,
    chunk_scheme: str,
    num_chunk_types: int,
    excluded_chunk_types: Sequence[int] | None = None,
    seq_length: Variable | None = None,
) -> tuple[Variable, Variable, Variable, Variable, Variable, Variable]:
    """Precision, recall and F1 of chunks (float32 [1]), and how many were inferred, are labelled and agree (int64 [1]).

    Args:
        input: Tags int64 ``[T, 1]`` with LoD, or padded ``[N, L]`` with ``seq_length``: type times the number of tags
            of the scheme, plus the tag; ``num_chunk_types`` times that number is outside of all chunks.
        label: Right tags, likewise.
        chunk_scheme: ``IOB``, ``IOE``, ``IOBES`` or ``plain``.
        num_chunk_types: How many types there are.
        excluded_chunk_types: Types that are not counted.
        seq_length: Lengths int64 [N] of padded sequences.
    """
    helper = LayerHelper("chunk_eval")
    helper.check_dtype("input", input, (VarType.INT64,))
    helper.check_dtype("label", label, (VarType.INT64,))
    if chunk_scheme not in _CHUNK_SCHEMES:
        raise invalid(f"chunk_eval: unknown chunk_scheme {chunk_scheme!r}", f"use one of {', '.join(_CHUNK_SCHEMES)}")
    shares = [helper.temporary(VarType.FP32, [1], stop_gradient=True) for _ in range(3)]
    counts = [helper.temporary(VarType.INT64, [1], stop_gradient=True) for _ in range(3)]
    inputs = {"Inference": [input], "Label": [label]}
    if seq_length is not None:
        inputs["SeqLength"] = [seq_length]
    slots = ("Precision", "Recall", "F1-Score", "NumInferChunks", "NumLabelChunks", "NumCorrectChunks")
    attrs: dict[str, AttrValue] = {
        "num_chunk_types": num_chunk_types,
        "chunk_scheme": chunk_scheme,
        "excluded_chunk_types": list(excluded_chunk_types or ()),
    }
    helper.op("chunk_eval", inputs, {slot: [var] for slot, var in zip(slots, [*shares, *counts])}, attrs)
    return shares[0], shares[1], shares[2], counts[0], counts[1], counts[2]


def ctc_greedy_decoder(
    input: Variable,
    blank: int,
    input_length: Variable | None = None,
    padding_value: int = 0,
    name: str | None = None,
) -> Variable | tuple[Variable, Variable]:
    """The most probable class of each step, without repetitions and blanks.

    Args:
        input: Probabilities ``[T, C]`` with LoD, or padded ``[N, L, C]`` with ``input_length``.
        blank: The class that stands for nothing.
        input_length: Lengths int64 [N, 1] of padded sequences.
        padding_value: What stands behind a padded result.
        name: Name of the layer.

    Returns:
        int64 ``[n, 1]`` with LoD (one -1 where nothing is left of all sequences); of padded sequences int64 ``[N, L]``
        and the lengths int64 [N, 1].
    """
    helper = LayerHelper("ctc_greedy_decoder", name)
    _, best = topk(input, 1)
    attrs: dict[str, AttrValue] = {"merge_repeated": True, "blank": blank}
    if input_length is None:
        out = helper.temporary(VarType.INT64, [-1, 1], lod_level=1, stop_gradient=True)
        helper.op("ctc_align", {"Input": [best]}, {"Output": [out]}, attrs)
        return out
    flat = squeeze(best, [2])
    out = helper.temporary(VarType.INT64, flat.shape, stop_gradient=True)
    sizes = helper.temporary(VarType.INT64, [-1, 1], stop_gradient=True)
    helper.op(
        "ctc_align",
        {"Input": [flat], "InputLength": [input_length]},
        {"Output": [out], "OutputLength": [sizes]},
        {**attrs, "padding_value": padding_value},
    )
    return out, sizes
