"""The layers of fluid 1.8.5 that fluidc does not have, so that a script hears of it by name."""

from __future__ import annotations

from typing import NoReturn

from ..errors import unsupported

# What comes nearest, where something does.
_INSTEAD = {
    "DynamicRNN": "StaticRNN over padded sequences",
    "IfElse": "cond",
    "data_norm": "layer_norm, or scale the feeds by ranges known in advance",
    "dynamic_gru": "StaticRNN over padded sequences",
    "dynamic_lstm": "StaticRNN over padded sequences",
    "lstm": "StaticRNN",
    "nonzero": "where",
    "rnn": "StaticRNN",
    "sequence_conv": "conv2d over padded sequences",
}
_NAMES = """
BasicDecoder BeamSearchDecoder DecodeHelper Decoder DynamicRNN GRUCell GreedyEmbeddingHelper IfElse LSTMCell Print
RNNCell SampleEmbeddingHelper TrainingHelper add_position_encoding array_length array_read array_write beam_search
beam_search_decode bipartite_match box_clip box_decoder_and_assign center_loss chunk_eval collect_fpn_proposals
continuous_value_model create_array create_py_reader_by_data crf_decoding ctc_greedy_decoder data_norm deformable_conv
deformable_roi_pooling detection_output distribute_fpn_proposals double_buffer dynamic_decode dynamic_gru dynamic_lstm
dynamic_lstmp edit_distance filter_by_instag gather_tree generate_mask_labels generate_proposal_labels
generate_proposals get_tensor_from_selected_rows hash hsigmoid im2sequence linear_chain_crf load locality_aware_nms
lod_append lod_reset lstm matrix_nms merge_selected_rows multi_box_head multiclass_nms nce nonzero prroi_pool
psroi_pool py_func py_reader read_file reorder_lod_tensor_by_rank retinanet_detection_output retinanet_target_assign
rnn roi_align roi_perspective_transform roi_pool row_conv rpn_target_assign sampled_softmax_with_cross_entropy
sequence_concat sequence_conv sequence_enumerate sequence_expand sequence_expand_as sequence_pad sequence_reshape
sequence_reverse sequence_scatter sequence_slice sequence_unpad similarity_focus ssd_loss target_assign
tensor_array_to_tensor unique unique_with_counts warpctc yolov3_loss
"""
MISSING = frozenset(_NAMES.split())


def refuse(name: str) -> NoReturn:
    """What ``fluid.layers.NAME`` says when it is missing.

    Raises:
        UnsupportedError: The layer exists in fluid 1.8.5.
        AttributeError: It does not.
    """
    if name not in MISSING:
        raise AttributeError(f"module fluid.layers has no attribute {name!r}")
    near = _INSTEAD.get(name)
    raise unsupported(
        f"fluid.layers.{name} is not implemented",
        f"use {near}" if near else "write it with the layers there are: fluid.layers.__all__ lists them",
    )
