"""Boxes around objects: those of a grid, and how they are coded and compared."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, wrong_type
from ..framework import AttrValue
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType

_REALS = (VarType.FP32, VarType.FP64)
_VARIANCE = (0.1, 0.1, 0.2, 0.2)


def _numbers(values: float | Sequence[float]) -> list[float]:
    return [float(v) for v in values] if isinstance(values, list | tuple) else [float(values)]  # type: ignore[arg-type]


def _pair(layer: str, argument: str, values: Sequence[float] | None) -> list[float]:
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise invalid(f"{layer}: {argument} is {values!r}", "give a width and a height")
    return _numbers(values)


def _grid(layer: str, *images: Variable) -> tuple[int, int]:
    """Height and width of the first of images [N, C, H, W] of known size."""
    for image in images:
        if len(image.shape) != 4 or min(image.shape[2:]) < 1:
            raise invalid(
                f"{layer}: {image.name} has shape {list(image.shape)}", "give [N, C, H, W] of known height and width"
            )
    return images[0].shape[2], images[0].shape[3]


def _boxes(
    helper: LayerHelper,
    shape: Sequence[int],
    inputs: dict[str, list[Variable]],
    attrs: dict[str, AttrValue],
    first: str,
) -> tuple[Variable, Variable]:
    dtype = inputs["Input"][0].dtype
    boxes, variances = (helper.temporary(dtype, shape, stop_gradient=True) for _ in range(2))
    helper.op(helper.layer_type, inputs, {first: [boxes], "Variances": [variances]}, attrs)
    return boxes, variances


def prior_box(
    input: Variable,
    image: Variable,
    min_sizes: Sequence[float],
    max_sizes: Sequence[float] | None = None,
    aspect_ratios: Sequence[float] = (1.0,),
    variance: Sequence[float] = _VARIANCE,
    flip: bool = False,
    clip: bool = False,
    steps: Sequence[float] = (0.0, 0.0),
    offset: float = 0.5,
    name: str | None = None,
    min_max_aspect_ratios_order: bool = False,
) -> tuple[Variable, Variable]:
    """Boxes ``[H, W, P, 4]`` (left, top, right, bottom, of an image of size 1) of SSD, and their variances.

    (Liu et al., ECCV 2016.) Of each size one box for each aspect ratio and, with ``max_sizes``, one between both.
    """
    helper = LayerHelper("prior_box", name)
    height, width = _grid("prior_box", input, image)
    attrs: dict[str, AttrValue] = {
        "min_sizes": _numbers(min_sizes),
        "aspect_ratios": _numbers(aspect_ratios),
        "variances": _numbers(variance),
        "flip": flip,
        "clip": clip,
        "step_w": _pair("prior_box", "steps", steps)[0],
        "step_h": _pair("prior_box", "steps", steps)[1],
        "offset": float(offset),
        "min_max_aspect_ratios_order": min_max_aspect_ratios_order,
    }
    most = [] if max_sizes is None else _numbers(max_sizes)
    if most and most[0] > 0:
        if len(most) != len(attrs["min_sizes"]):
            raise invalid(f"prior_box: {len(most)} max_sizes for {len(attrs['min_sizes'])} min_sizes", "give as many")
        attrs["max_sizes"] = most
    number = len(attrs["min_sizes"]) * len(ratios_of(attrs["aspect_ratios"], flip)) + len(attrs.get("max_sizes", []))
    return _boxes(helper, [height, width, number, 4], {"Input": [input], "Image": [image]}, attrs, "Boxes")


def ratios_of(given: Sequence[float], flip: bool) -> list[float]:
    """1 and the ratios that differ from those before them, each with its inverse if ``flip``."""
    found = [1.0]
    for ratio in given:
        if all(abs(ratio - other) >= 1e-6 for other in found):
            found += [ratio, 1.0 / ratio] if flip else [ratio]
    return found


def density_prior_box(
    input: Variable,
    image: Variable,
    densities: Sequence[int] | None = None,
    fixed_sizes: Sequence[float] | None = None,
    fixed_ratios: Sequence[float] | None = None,
    variance: Sequence[float] = _VARIANCE,
    clip: bool = False,
    steps: Sequence[float] = (0.0, 0.0),
    offset: float = 0.5,
    flatten_to_2d: bool = False,
    name: str | None = None,
) -> tuple[Variable, Variable]:
    """Boxes of fixed sizes, ``densities[i] ** 2`` of each, evenly about every point: ``[H, W, P, 4]``, variances alike.

    (Zhang et al., FaceBoxes, 2017.) ``flatten_to_2d`` gives ``[H W P, 4]``.
    """
    layer = "density_prior_box"
    helper = LayerHelper(layer, name)
    height, width = _grid(layer, input, image)
    if not densities or not fixed_sizes or not fixed_ratios or len(densities) != len(fixed_sizes):
        raise invalid(
            f"{layer}: densities {densities}, fixed_sizes {fixed_sizes}, fixed_ratios {fixed_ratios}",
            "give a density for each size, and at least one ratio",
        )
    number = sum(len(fixed_ratios) * int(density) ** 2 for density in densities)
    attrs: dict[str, AttrValue] = {
        "variances": _numbers(variance),
        "clip": clip,
        "step_w": _pair(layer, "steps", steps)[0],
        "step_h": _pair(layer, "steps", steps)[1],
        "offset": float(offset),
        "densities": [int(density) for density in densities],
        "fixed_sizes": _numbers(fixed_sizes),
        "fixed_ratios": _numbers(fixed_ratios),
        "flatten_to_2d": flatten_to_2d,
    }
    shape = [height * width * number, 4] if flatten_to_2d else [height, width, number, 4]
    return _boxes(helper, shape, {"Input": [input], "Image": [image]}, attrs, "Boxes")


def anchor_generator(
    input: Variable,
    anchor_sizes: Sequence[float] | None = None,
    aspect_ratios: Sequence[float] | None = None,
    variance: Sequence[float] = _VARIANCE,
    stride: Sequence[float] | None = None,
    offset: float = 0.5,
    name: str | None = None,
) -> tuple[Variable, Variable]:
    """Anchors ``[H, W, A, 4]`` of Faster R-CNN (Ren et al., NIPS 2015) in pixels, and their variances."""
    layer = "anchor_generator"
    helper = LayerHelper(layer, name)
    helper.check_dtype("input", input, _REALS)
    height, width = _grid(layer, input)
    if not anchor_sizes or not aspect_ratios:
        raise invalid(f"{layer}: anchor_sizes {anchor_sizes}, aspect_ratios {aspect_ratios}", "give at least one each")
    sizes, ratios = _numbers(anchor_sizes), _numbers(aspect_ratios)
    attrs: dict[str, AttrValue] = {
        "anchor_sizes": sizes,
        "aspect_ratios": ratios,
        "variances": _numbers(variance),
        "stride": _pair(layer, "stride", stride),
        "offset": float(offset),
    }
    return _boxes(helper, [height, width, len(sizes) * len(ratios), 4], {"Input": [input]}, attrs, "Anchors")


def _rows_of_boxes(layer: str, argument: str, x: Variable, rank: int = 2) -> None:
    if len(x.shape) != rank or x.shape[-1] not in (4, -1):
        raise invalid(f"{layer}: {argument} {x.name} has shape {list(x.shape)}", "give boxes of four numbers each")


def iou_similarity(x: Variable, y: Variable, box_normalized: bool = True, name: str | None = None) -> Variable:
    """``[N, M]``: intersection over union of boxes ``[N, 4]`` and ``[M, 4]`` (left, top, right, bottom)."""
    helper = LayerHelper("iou_similarity", name)
    for argument, boxes in (("x", x), ("y", y)):
        helper.check_dtype(argument, boxes, _REALS)
        _rows_of_boxes("iou_similarity", argument, boxes)
    out = helper.temporary(x.dtype, [x.shape[0], y.shape[0]], stop_gradient=True)
    helper.op("iou_similarity", {"X": [x], "Y": [y]}, {"Out": [out]}, {"box_normalized": box_normalized})
    return out


def box_coder(
    prior_box: Variable,
    prior_box_var: Variable | Sequence[float] | None,
    target_box: Variable,
    code_type: str = "encode_center_size",
    box_normalized: bool = True,
    name: str | None = None,
    axis: int = 0,
) -> Variable:
    """Boxes as offsets from prior boxes ``[M, 4]``, or back.

    ``'encode_center_size'``: each target ``[N, 4]`` from each prior, ``[N, M, 4]``. ``'decode_center_size'``: offsets
    ``[N, M, 4]`` to boxes, the priors along axis 1 - ``axis``.
    """
    layer = "box_coder"
    helper = LayerHelper(layer, name)
    encodes = code_type == "encode_center_size"
    if not encodes and code_type != "decode_center_size":
        raise invalid(f"{layer}: code_type is {code_type!r}", "use 'encode_center_size' or 'decode_center_size'")
    for argument, boxes, rank in (("prior_box", prior_box, 2), ("target_box", target_box, 2 if encodes else 3)):
        helper.check_dtype(argument, boxes, _REALS)
        _rows_of_boxes(layer, argument, boxes, rank)
    inputs = {"PriorBox": [prior_box], "TargetBox": [target_box]}
    attrs: dict[str, AttrValue] = {"code_type": code_type, "box_normalized": box_normalized, "axis": axis}
    if isinstance(prior_box_var, Variable):
        inputs["PriorBoxVar"] = [prior_box_var]
    elif isinstance(prior_box_var, list | tuple):
        attrs["variance"] = _numbers(prior_box_var)
    else:
        raise wrong_type(f"{layer}: prior_box_var is {type(prior_box_var).__name__}", "give a Variable or four numbers")
    shape = [target_box.shape[0], prior_box.shape[0], 4] if encodes else target_box.shape
    out = helper.temporary(prior_box.dtype, shape, stop_gradient=True)
    helper.op(layer, inputs, {"OutputBox": [out]}, attrs)
    return out


def polygon_box_transform(input: Variable, name: str | None = None) -> Variable:
    """Offsets ``[N, 2 n, H, W]`` as places: 4 times the column less an even channel, the row less an odd one."""
    helper = LayerHelper("polygon_box_transform", name)
    helper.check_dtype("input", input, _REALS)
    _grid("polygon_box_transform", input)
    out = helper.temporary(input.dtype, input.shape, stop_gradient=True)
    helper.op("polygon_box_transform", {"Input": [input]}, {"Output": [out]})
    return out


def sigmoid_focal_loss(
    x: Variable, label: Variable, fg_num: Variable, gamma: float = 2.0, alpha: float = 0.25
) -> Variable:
    """The focal loss of scores ``[N, C]`` (Lin et al., ICCV 2017), element by element.

    ``label`` is int32 ``[N, 1]``: 0 for background, c for column c - 1, -1 for none; ``fg_num``, int32 [1], divides.
    """
    layer = "sigmoid_focal_loss"
    helper = LayerHelper(layer)
    helper.check_dtype("x", x, _REALS)
    helper.check_dtype("label", label, (VarType.INT32,))
    helper.check_dtype("fg_num", fg_num, (VarType.INT32,))
    if len(x.shape) != 2 or len(label.shape) != 2:
        raise invalid(f"{layer}: x {list(x.shape)}, label {list(label.shape)}", "give [N, C] and [N, 1]")
    out = helper.temporary(x.dtype, x.shape)
    attrs: dict[str, AttrValue] = {"gamma": float(gamma), "alpha": float(alpha)}
    helper.op(layer, {"X": [x], "Label": [label], "FgNum": [fg_num]}, {"Out": [out]}, attrs)
    return out


def yolo_box(
    x: Variable,
    img_size: Variable,
    anchors: Sequence[int],
    class_num: int,
    conf_thresh: float,
    downsample_ratio: int,
    clip_bbox: bool = True,
    name: str | None = None,
    scale_x_y: float = 1.0,
) -> tuple[Variable, Variable]:
    """Boxes ``[N, A H W, 4]`` in pixels and scores ``[N, A H W, class_num]`` of YOLOv3 (Redmon and Farhadi, 2018).

    Args:
        x: ``[N, A (5 + class_num), H, W]``.
        img_size: Height and width of each image, int32 ``[N, 2]``.
        anchors: Width and height of each of A anchors, one after the other.
        class_num: The number of classes.
        conf_thresh: Boxes of less confidence are zeros.
        downsample_ratio: Pixels of the network's input for one of ``x``.
        clip_bbox: Whether boxes end where the image does.
        name: The layer's name.
        scale_x_y: By how much a box may lie outside of its cell.
    """
    helper = LayerHelper("yolo_box", name)
    helper.check_dtype("x", x, _REALS)
    helper.check_dtype("img_size", img_size, (VarType.INT32,))
    height, width = _grid("yolo_box", x)
    count = len(anchors) // 2
    if not count or len(anchors) % 2 or x.shape[1] != count * (5 + class_num):
        raise invalid(
            f"yolo_box: x {x.name} has shape {list(x.shape)}, with {len(anchors)} anchors and {class_num} classes",
            "give a width and a height for each anchor, and 5 + class_num channels for each",
        )
    number = count * height * width
    boxes, scores = (helper.temporary(x.dtype, [x.shape[0], number, last]) for last in (4, class_num))
    attrs: dict[str, AttrValue] = {
        "anchors": [int(a) for a in anchors],
        "class_num": class_num,
        "conf_thresh": float(conf_thresh),
        "downsample_ratio": downsample_ratio,
        "clip_bbox": clip_bbox,
        "scale_x_y": float(scale_x_y),
    }
    helper.op("yolo_box", {"X": [x], "ImgSize": [img_size]}, {"Boxes": [boxes], "Scores": [scores]}, attrs)
    for out in (boxes, scores):
        out.stop_gradient = True
    return boxes, scores
