"""``fluid.contrib.layers``: none of them exists; each says what there is."""

from __future__ import annotations

from typing import NoReturn

from ..errors import unsupported

_INSTEAD = {
    "BasicGRUUnit": "use StaticRNN over padded sequences",
    "BasicLSTMUnit": "use StaticRNN over padded sequences",
    "basic_gru": "use StaticRNN over padded sequences",
    "basic_lstm": "use StaticRNN over padded sequences",
    "fused_elemwise_activation": "use the elementwise layer and the activation; they are fused when compiled",
    "partial_concat": "use slice and concat",
    "partial_sum": "use slice and sums",
    "shuffle_batch": "shuffle rows before they are fed; inside the program it would mix examples, which Dpsgd refuses",
}
_NAMES = """
BasicGRUUnit BasicLSTMUnit basic_gru basic_lstm ctr_metric_bundle fused_elemwise_activation fused_embedding_seq_pool
match_matrix_tensor multiclass_nms2 partial_concat partial_sum rank_attention search_pyramid_hash
sequence_topk_avg_pooling shuffle_batch tdm_child tdm_sampler tree_conv var_conv_2d
"""
MISSING = frozenset(_NAMES.split())


def refuse(name: str) -> NoReturn:
    """What ``fluid.contrib.layers.NAME`` says.

    Raises:
        UnsupportedError: The layer exists in fluid 1.8.5.
        AttributeError: It does not.
    """
    if name not in MISSING:
        raise AttributeError(f"module fluid.contrib.layers has no attribute {name!r}")
    raise unsupported(
        f"fluid.contrib.layers.{name} is not implemented",
        _INSTEAD.get(name, "write it with fluid.layers: fluid.layers.__all__ lists them"),
    )


def __getattr__(name: str) -> NoReturn:
    refuse(name)


__all__: list[str] = []
