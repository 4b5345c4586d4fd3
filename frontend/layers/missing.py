"""The layers of fluid 1.8.5 that fluidc does not have, so that a script hears of it by name."""

from __future__ import annotations

from ..missing import MissingName, missing_name

# What comes nearest, where something does.
_ALL_CLASSES = "softmax_with_cross_entropy over all classes"
_REGIONS = "crop_tensor for each region, and resize_bilinear or adaptive_pool2d"
_BOXES = "prior_box, box_coder, bipartite_match and target_assign with losses of your own"
_NMS = "multiclass_nms"
_DENSE = "the gradient as it is: gradients are dense here"
_INSTEAD = {
    "box_clip": "elementwise_max and elementwise_min with the picture's sides",
    "center_loss": "square_error_cost to an embedding of the classes' centres",
    "data_norm": "layer_norm, or scale the feeds by ranges known in advance",
    "deformable_conv": "conv2d",
    "detection_output": "box_coder and multiclass_nms",
    "get_tensor_from_selected_rows": _DENSE,
    "load": "fluid.io.load_vars(exe, dirname, vars=[out]); in Paddle 1.8.5 this layer fails, too",
    "locality_aware_nms": _NMS,
    "matrix_nms": _NMS,
    "merge_selected_rows": _DENSE,
    "multi_box_head": _BOXES,
    "prroi_pool": _REGIONS,
    "psroi_pool": _REGIONS,
    "retinanet_detection_output": "box_coder and multiclass_nms",
    "roi_align": _REGIONS,
    "roi_pool": _REGIONS,
    "sampled_softmax_with_cross_entropy": _ALL_CLASSES,
    "ssd_loss": _BOXES,
}
_OTHERWISE = "write it with the layers there are: fluid.layers.__all__ lists them"


def missing(name: str) -> MissingName:
    """What ``fluid.layers.NAME`` is where no layer is called so.

    Raises:
        AttributeError: Fluid 1.8.5 has no such layer either.
    """
    near = {layer: f"use {instead}" for layer, instead in _INSTEAD.items()}
    return missing_name("fluid.layers", name, near, _OTHERWISE)
