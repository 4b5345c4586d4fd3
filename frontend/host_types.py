"""Which op types run on the host, in numpy between compiled segments, and why: the tables that decide it.

`frontend.host.registry` has their functions. An op type that is lowered too is here for the programs where lowering
cannot: see `frontend.host.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping

_SIZE = "the size of its result depends on the values of its input"
_METRIC = "it counts over sequences or classes, for people to look at"
_PYTHON = "it calls Python"
_LOD = "it divides rows by lengths that are computed"
_ARRAY = "it holds tensors of different shapes"


def _table(types: str, why: str) -> dict[str, str]:
    return dict.fromkeys(types.split(), why)


METRICS: Mapping[str, str] = _table("chunk_eval detection_map edit_distance", _METRIC)
"""Ops whose results people look at."""

ARRAYS: Mapping[str, str] = _table(
    "array_to_lod_tensor lod_array_length lod_rank_table lod_tensor_to_array max_sequence_len merge_lod_tensor "
    "read_from_array reorder_lod_tensor_by_rank shrink_rnn_memory split_lod_tensor tensor_array_to_tensor "
    "write_to_array",
    _ARRAY,
)
"""Arrays of tensors, and tables of ranks."""

SEQUENCES: Mapping[str, str] = _table(
    "lod_reset sequence_concat sequence_enumerate sequence_erase sequence_expand sequence_expand_as sequence_pad "
    "sequence_pool sequence_reshape sequence_reverse sequence_scatter sequence_slice sequence_softmax sequence_unpad",
    _LOD,
)
"""Ops on rows and the LoD that divides them."""

CONTROL: Mapping[str, str] = _table("while conditional_block", "its block holds ops that run on the host")
"""Loops and branches, whose blocks the host may step through."""

ALONE: Mapping[str, str] = {
    **_table("beam_search beam_search_decode ctc_align multiclass_nms multiclass_nms2", _SIZE),
    **_table("unique unique_with_counts where_index bipartite_match target_assign hash", _SIZE),
    **_table("print py_func py_func_grad", _PYTHON),
    **_table("is_empty select_input", "it asks for a size that only data decides"),
}
"""The others."""

HOST_TYPES: Mapping[str, str] = {**METRICS, **ARRAYS, **SEQUENCES, **CONTROL, **ALONE}
"""Op type to the reason why it runs on the host where it cannot be compiled."""
