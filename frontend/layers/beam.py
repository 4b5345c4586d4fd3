"""Beam search inside a program; both layers run on the host."""

from __future__ import annotations

from ..errors import invalid
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import VarType
from .arrays import check_array


def beam_search(
    pre_ids: Variable,
    pre_scores: Variable,
    ids: Variable | None,
    scores: Variable,
    beam_size: int,
    end_id: int,
    level: int = 0,
    is_accumulated: bool = True,
    name: str | None = None,
    return_parent_idx: bool = False,
) -> tuple[Variable, ...]:
    """The ``beam_size`` best continuations of each source's prefixes.

    Args:
        pre_ids: Last words of the prefixes, int64 [M, 1]; a prefix that ended in ``end_id`` goes on by its end alone.
        pre_scores: Scores of the prefixes, [M, 1].
        ids: Candidate words of each prefix, int64 [M, K]; None: candidate k is word k.
        scores: Their scores, [M, K], with two levels of LoD: prefixes of a source, and continuations of a prefix.
        beam_size: How many live on.
        end_id: The word that ends a sentence.
        level: The level of the LoD of ``scores`` that divides prefixes into sources.
        is_accumulated: Whether scores are those of whole sentences; else they are probabilities of the last word, whose
            logarithms are added to ``pre_scores``.
        name: Name of the layer.
        return_parent_idx: Also return the row of the prefix of each continuation, int32 [n].

    Returns:
        Words int64 [n, 1] and scores [n, 1], with the LoD of which continuations belong to which prefix. A source whose
        prefixes have all ended has none.
    """
    helper = LayerHelper("beam_search", name)
    helper.check_dtype("pre_ids", pre_ids, (VarType.INT64,))
    helper.check_dtype("pre_scores", pre_scores, (VarType.FP32, VarType.FP64))
    if ids is not None:
        helper.check_dtype("ids", ids, (VarType.INT64,))
    helper.check_dtype("scores", scores, (VarType.FP32, VarType.FP64))
    if beam_size < 1:
        raise invalid(f"beam_search: beam_size is {beam_size}", "give at least 1")
    words = helper.temporary(VarType.INT64, [-1, 1], lod_level=2, stop_gradient=True)
    totals = helper.temporary(scores.dtype, [-1, 1], lod_level=2, stop_gradient=True)
    parents = helper.temporary(VarType.INT32, [-1], stop_gradient=True)
    inputs = {"pre_ids": [pre_ids], "pre_scores": [pre_scores], "scores": [scores]}
    if ids is not None:
        inputs["ids"] = [ids]
    helper.op(
        "beam_search",
        inputs,
        {"selected_ids": [words], "selected_scores": [totals], "parent_idx": [parents]},
        {"level": level, "beam_size": beam_size, "end_id": end_id, "is_accumulated": is_accumulated},
    )
    return (words, totals, parents) if return_parent_idx else (words, totals)


def beam_search_decode(
    ids: Variable, scores: Variable, beam_size: int, end_id: int, name: str | None = None
) -> tuple[Variable, Variable]:
    """The sentences that `beam_search` found, and the score of each of their words, both with LoD of two levels.

    ``ids`` and ``scores`` are arrays of what it selected in each step. The sentences of a source are sorted by score.
    """
    helper = LayerHelper("beam_search_decode", name)
    for argument, array in (("ids", ids), ("scores", scores)):
        check_variable("beam_search_decode", argument, array)
        check_array("beam_search_decode", array)
    words = helper.temporary(ids.dtype, [-1], lod_level=2, stop_gradient=True)
    totals = helper.temporary(scores.dtype, [-1], lod_level=2, stop_gradient=True)
    helper.op(
        "beam_search_decode",
        {"Ids": [ids], "Scores": [scores]},
        {"SentenceIds": [words], "SentenceScores": [totals]},
        {"beam_size": beam_size, "end_id": end_id},
    )
    return words, totals
